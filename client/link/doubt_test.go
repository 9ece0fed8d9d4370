package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/store/mem"
)

// When an answer is overdue, and when it does not come any more.
func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name        string
		took        []time.Duration
		late        int
		doubt, dead time.Duration
	}{
		{"nothing known", nil, 0, 500 * ms, 1500 * ms},
		{"near", []time.Duration{20 * ms}, 0, 500 * ms, 1500 * ms},
		{"far", []time.Duration{400 * ms}, 0, 500 * ms, 1350 * ms},
		{"always far", []time.Duration{400 * ms, 400 * ms, 400 * ms, 400 * ms}, 0, 500 * ms, 1350 * ms},
		{"farther", []time.Duration{1200 * ms}, 0, 1500 * ms, 3 * time.Second},
		{"near, once not", []time.Duration{20 * ms, 1020 * ms}, 0, 1149 * ms, 2298 * ms},
		{"not answered once", []time.Duration{20 * ms}, 1, 500 * ms, 3 * time.Second},
		{"not for an hour", []time.Duration{20 * ms}, 40, 500 * ms, 10 * time.Second},
		{"on the moon", []time.Duration{5 * time.Second}, 0, 6250 * ms, 10 * time.Second},
	} {
		p := pace{late: c.late}
		for _, d := range c.took {
			p.answered(d)
		}
		if p.doubt().Round(ms/2) != c.doubt || p.dead().Round(ms) != c.dead {
			t.Errorf("%s: doubt after %v, dead after %v", c.name, p.doubt(), p.dead())
		}
	}
}

// far is a network between a phone and a house.
type far struct {
	h      *house
	way    time.Duration // of a byte, one way
	wakes  time.Duration // a radio that has slept, to take a byte up
	shakes int           // round trips until a connection is there
	dials  atomic.Int64
	open   atomic.Int64
	mu     sync.Mutex
	gone   []*atomic.Bool // guarded by mu; of each connection
}

// forget has all connections vanish.
func (f *far) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.gone {
		g.Store(true)
	}
}

func (f *far) dial(ctx context.Context) (net.Conn, error) {
	f.dials.Add(1)
	select {
	case <-time.After(time.Duration(2*f.shakes) * f.way):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	server, err := f.h.dial(ctx)
	if err != nil {
		return nil, err
	}
	f.open.Add(1)
	ours, theirs := net.Pipe()
	gone := new(atomic.Bool)
	f.mu.Lock()
	f.gone = append(f.gone, gone)
	f.mu.Unlock()
	up, down := make(chan []byte, 100), make(chan []byte, 100)
	last := time.Now() // that the radio was awake
	go func() {        // ends when the phone closes
		defer close(up)
		for {
			b := make([]byte, 4096)
			n, err := theirs.Read(b)
			if err != nil {
				f.open.Add(-1)
				return
			}
			if time.Since(last) > 5*time.Second {
				time.Sleep(f.wakes)
			}
			last = time.Now()
			if !gone.Load() {
				up <- b[:n]
			}
		}
	}()
	go func() { // ends when the server closes
		defer close(down)
		for {
			b := make([]byte, 4096)
			n, err := server.Read(b)
			if err != nil {
				return
			}
			if !gone.Load() {
				down <- b[:n]
			}
		}
	}()
	carry := func(from chan []byte, to io.WriteCloser) {
		for b := range from {
			time.Sleep(f.way)
			to.Write(b)
		}
		if !gone.Load() {
			to.Close()
		}
	}
	go carry(up, server) // both end with what they carry from
	go carry(down, theirs)
	return ours, nil
}

// A message into a mapping that has vanished is there within two seconds of the
// next beat, also where a packet takes 200 ms: the connection has been opened
// when it is needed.
func TestVanishedFarAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{h: open(t, mem.Options{}), way: 200 * time.Millisecond, shakes: 2}
		bob := f.h.login(t, "bob", "pad", func(c *Config) { c.Heartbeat, c.Dial = time.Minute, f.dial })
		begin := time.Now()
		alice := f.h.login(t, "alice", "pad", func(c *Config) { c.Heartbeat = time.Hour })
		time.Sleep(10 * time.Second)
		f.forget()
		send(t, alice, "bob", "hello")
		receive(t, bob, "hello")
		if late := time.Since(begin) - time.Minute; late > 2*time.Second {
			t.Errorf("%v after the beat", late)
		}
		if f.dials.Load() != 2 || f.open.Load() != 1 {
			t.Errorf("%d dialled, %d open", f.dials.Load(), f.open.Load())
		}
	})
}

// Who answers late, and in time, keeps the session: what was opened meanwhile is
// closed, and nobody has said HELLO there.
func TestLateAnswerKeepsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{h: open(t, mem.Options{}), way: 10 * time.Millisecond, wakes: 1200 * time.Millisecond, shakes: 2}
		bob := f.h.login(t, "bob", "phone", func(c *Config) { c.Heartbeat, c.Dial = time.Minute, f.dial })
		time.Sleep(90 * time.Second)
		if st := bob.Stats(); f.dials.Load() != 2 || f.open.Load() != 1 || st.Reconnects != 0 || f.h.dialled() != 1 {
			t.Errorf("%d dialled, %d open, %d said HELLO, %d reconnects", f.dials.Load(), f.open.Load(), f.h.dialled(), st.Reconnects)
		}
		before := f.dials.Load()
		time.Sleep(time.Hour) // and it is learned how long that radio takes
		if opened := f.dials.Load() - before; opened > 5 {
			t.Errorf("%d connections opened for nothing in an hour", opened)
		}
	})
}

// A radio that takes longer to wake than an answer may is found out, too.
func TestSlowRadio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{h: open(t, mem.Options{}), way: 10 * time.Millisecond, wakes: 2500 * time.Millisecond, shakes: 2}
		bob := f.h.login(t, "bob", "phone", func(c *Config) { c.Heartbeat, c.Dial = time.Minute, f.dial })
		time.Sleep(time.Hour)
		if st := bob.Stats(); st.Reconnects > 2 {
			t.Errorf("%d reconnects", st.Reconnects)
		}
	})
}

// What was opened in doubt is closed when the network is another, the mailbox is
// closed, or the connection that was in doubt ends.
func TestSpareIsNotLeftOpen(t *testing.T) {
	for name, end := range map[string]func(*far, *Mailbox){
		"moved":  func(_ *far, mb *Mailbox) { mb.NetworkChanged("wifi") },
		"closed": func(_ *far, mb *Mailbox) { mb.Close() },
		"ended":  func(f *far, _ *Mailbox) { f.h.last().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{h: open(t, mem.Options{}), way: 10 * time.Millisecond, wakes: 1200 * time.Millisecond, shakes: 2}
				bob := f.h.login(t, "bob", "phone", func(c *Config) { c.Heartbeat, c.Dial = time.Minute, f.dial })
				time.Sleep(time.Minute + 700*time.Millisecond)
				if f.open.Load() != 2 {
					t.Fatalf("%d open in doubt", f.open.Load())
				}
				end(f, bob)
				time.Sleep(10 * time.Second)
				want := int64(1)
				if name == "closed" {
					want = 0
				}
				if f.open.Load() != want {
					t.Errorf("%d open", f.open.Load())
				}
			})
		})
	}
}

// A way whose connection has died leaves the one that was opened to the next, for
// a moment, on the same network.
func TestSpareOfAWay(t *testing.T) {
	for name, c := range map[string]struct {
		after   time.Duration
		network string
		dials   int64
	}{
		"at once":            {0, "lte", 2},
		"on another network": {0, "wifi", 3},
		"too late":           {5 * time.Second, "lte", 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{h: open(t, mem.Options{}), way: 10 * time.Millisecond, shakes: 2}
				w := Way("link", Config{Heartbeat: time.Minute, Dial: f.dial})
				a := client.Attempt{User: "bob", Password: "secret", Device: "phone", Network: "lte", Prefix: "k",
					Store: new(client.Memory), Log: slog.New(slog.DiscardHandler)}
				box, err := w.Open(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				f.forget()
				if _, err := box.Receive(t.Context()); !errors.Is(err, client.ErrSilent) {
					t.Fatal(err)
				}
				time.Sleep(c.after)
				a.Network = c.network
				if box, err = w.Open(t.Context(), a); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if f.dials.Load() != c.dials || f.open.Load() != 1 {
					t.Errorf("%d dialled, %d open", f.dials.Load(), f.open.Load())
				}
				box.Close()
			})
		})
	}
}
