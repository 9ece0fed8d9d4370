package conn

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// hand is a carrier that takes at most room bytes at once.
type hand struct {
	room  int
	got   []byte
	ready int
}

func (h *hand) Ready() { h.ready++ }
func (h *hand) Take(p []byte) int {
	n := min(len(p), h.room)
	h.got = append(h.got, p[:n]...)
	h.room -= n
	return n
}

func carry(t *testing.T, h *hand, o Options, p Protocol) *Carried {
	t.Helper()
	d, err := New(Config{}).Carry(o).Open(h, p, netip.MustParseAddrPort("10.0.0.1:5"), netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Bytes go both ways, from the protocol's methods and from elsewhere; what is
// not taken counts as unsent, and room is told of.
func TestCarried(t *testing.T) {
	h := &hand{room: 4}
	var woken, room int
	ended := make(chan error, 1)
	p := &probe{ended: ended}
	p.data = func(p *probe, b []byte) (int, error) {
		if len(b) < 2 {
			return 0, nil
		}
		p.c.Write(b[:2])
		return 2, nil
	}
	p.wake = func(p *probe) error { woken++; room = p.c.Room(); return nil }
	var acc Account
	d := carry(t, h, Options{Ahead: 4, MaxUnsent: 16, Account: &acc}, p)
	if acc.Conns.Load() != 1 || p.c.Remote().Port() != 5 || p.c.Secure() {
		t.Error("open: account, remote or secure")
	}
	d.Input([]byte("a"))
	d.Input([]byte("b"))
	if string(h.got) != "ab" {
		t.Errorf("got %q", h.got)
	}
	for _, s := range []string{"cd", "ef", "gh"} {
		if !p.c.Send([]byte(s)) {
			t.Errorf("%s is not taken", s)
		}
	}
	if h.ready == 0 || string(h.got) != "ab" {
		t.Errorf("ready %d, got %q", h.ready, h.got)
	}
	d.Step()
	if string(h.got) != "abcd" || p.c.Unsent() != 4 {
		t.Errorf("got %q, %d unsent", h.got, p.c.Unsent())
	}
	if p.c.Send(make([]byte, 13)) {
		t.Error("more than MaxUnsent is taken")
	}
	p.c.Wake()
	d.Step()
	if woken != 1 || room != 0 {
		t.Errorf("woken %d, room %d", woken, room)
	}
	h.room = 100
	if !d.Idle() {
		t.Error("it is not idle, with a full buffer")
	}
	d.Step()
	if d.Idle() {
		t.Error("it is idle, and there is room again")
	}
	d.Step()
	if woken != 2 || !d.Idle() {
		t.Errorf("woken %d times", woken)
	}
	if string(h.got) != "abcdefgh" {
		t.Errorf("got %q", h.got)
	}
	d.Moved(10, 20)
	if acc.BytesIn.Load() != 10 || acc.BytesOut.Load() != 20 {
		t.Error("what moved is not accounted for")
	}
	d.Close()
	if why := <-ended; !d.Over() || why == nil || acc.Conns.Load() != 0 {
		t.Errorf("over %v, why %v, %d open", d.Over(), why, acc.Conns.Load())
	}
	d.Input([]byte("xx"))
	d.Step()
	d.Drain()
	if p.c.Send([]byte("x")) || string(h.got) != "abcdefgh" {
		t.Error("it lives on")
	}
}

// What Send may fill leaves room for what Write must say.
func TestSendLeavesRoomForWrite(t *testing.T) {
	p := &probe{ended: make(chan error, 1)}
	p.data = func(p *probe, b []byte) (int, error) { p.c.Write(b); return len(b), nil }
	h := new(hand)
	d := carry(t, h, Options{MaxUnsent: 16, MaxSend: 8}, p)
	for p.c.Send([]byte("side")) {
	}
	d.Step()
	d.Input([]byte("answer"))
	if d.Over() || p.c.Unsent() != 14 {
		t.Fatalf("over %v, with %d unsent", d.Over(), p.c.Unsent())
	}
	if p.c.Send(nil) {
		t.Error("it takes more")
	}
}

func TestCarriedEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		do   func(*Carried)
		want error
	}{
		"drain":   {(*Carried).Drain, ErrDrain},
		"error":   {func(d *Carried) { d.Input([]byte("x")) }, broken},
		"too big": {func(d *Carried) { d.Input([]byte("xx")) }, ErrUnsent},
	} {
		ended := make(chan error, 1)
		h := &hand{}
		p := &probe{ended: ended, bye: func(p *probe) { p.c.Write([]byte("bye")) }}
		p.data = func(p *probe, b []byte) (int, error) {
			if len(b) == 1 {
				return 0, broken
			}
			p.c.Write(make([]byte, 100))
			return len(b), nil
		}
		d := carry(t, h, Options{MaxUnsent: 16}, p)
		h.room = 1000
		c.do(d)
		if why := <-ended; !errors.Is(why, c.want) || !d.Over() {
			t.Errorf("%s: %v, want %v", name, why, c.want)
		}
		if name == "drain" && string(h.got) != "bye" {
			t.Errorf("goodbye is %q", h.got)
		}
	}
}

func TestCarriedAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rang := 0
		p := &probe{ended: make(chan error, 1)}
		p.open = func(p *probe) error { p.c.SetAlarm(p.c.Now().Add(time.Minute)); return nil }
		p.alarm = func(p *probe) error { rang++; return nil }
		d := carry(t, new(hand), Options{}, p)
		if want := time.Now().Add(time.Minute); !d.Due().Equal(want) {
			t.Errorf("due %v, want %v", d.Due(), want)
		}
		d.Ring()
		time.Sleep(time.Minute)
		d.Ring()
		if rang != 1 || !d.Due().IsZero() {
			t.Errorf("rang %d times, due %v", rang, d.Due())
		}
		d.Close()
	})
}

// Those that have the same places are bounded together.
func TestCarriageLimits(t *testing.T) {
	e, o := New(Config{}), Options{MaxConns: 2, MaxPerAddr: 1, Places: new(Places)}
	groups := []*Carriage{e.Carry(o), e.Carry(o)}
	open := func(addr string) (*Carried, error) {
		g := groups[0]
		slices.Reverse(groups)
		return g.Open(new(hand), &probe{ended: make(chan error, 1)}, netip.MustParseAddrPort(addr), netip.AddrPort{})
	}
	a, err := open("10.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("10.0.0.1:2"); !errors.Is(err, ErrSource) {
		t.Errorf("a second one from there: %v", err)
	}
	if _, err := open("10.0.0.2:1"); err != nil {
		t.Error(err)
	}
	if _, err := open("10.0.0.3:1"); !errors.Is(err, ErrFull) {
		t.Errorf("a third one: %v", err)
	}
	a.Close()
	if _, err := open("10.0.0.1:2"); err != nil {
		t.Error(err)
	}
}
