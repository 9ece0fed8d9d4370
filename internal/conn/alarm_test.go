package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// piped runs p on one end of a pipe, in the bubble of a test, and returns the other.
func piped(ctx context.Context, p *probe, o Options) (net.Conn, chan error) {
	a, b := net.Pipe()
	p.ended = make(chan error, 1)
	o.New = func() Protocol { return p }
	done := make(chan error, 1)
	go func() { done <- New(Config{Log: silent}).ServeConn(ctx, a, o) }()
	return b, done
}

func TestAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var rung []time.Duration
		p := &probe{
			open: func(p *probe) error { p.c.SetAlarm(start.Add(time.Hour)); return nil },
			data: func(p *probe, b []byte) (int, error) {
				p.c.SetAlarm(start.Add(10 * time.Minute)) // sooner
				p.c.SetAlarm(start.Add(2 * time.Hour))    // later
				return len(b), nil
			},
			alarm: func(p *probe) error {
				rung = append(rung, p.c.Now().Sub(start))
				switch len(rung) {
				case 1:
					p.c.SetAlarm(p.c.Now().Add(time.Second))
				case 2:
					p.c.SetAlarm(p.c.Now().Add(time.Hour))
					p.c.SetAlarm(time.Time{})
				}
				return nil
			},
		}
		c, done := piped(t.Context(), p, Options{})
		time.Sleep(30 * time.Minute)
		io.WriteString(c, "x")
		time.Sleep(24 * time.Hour)
		c.Close()
		<-done
		if want := []time.Duration{2 * time.Hour, 2*time.Hour + time.Second}; !slices.Equal(rung, want) {
			t.Errorf("rung at %v, want %v", rung, want)
		}
	})
}

// In virtual time: a peer that takes nothing is given up after Linger.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		no := errors.New("no")
		p := &probe{data: func(p *probe, b []byte) (int, error) {
			p.c.Write([]byte("nobody reads this"))
			return len(b), no
		}}
		c, done := piped(t.Context(), p, Options{Linger: 7 * time.Second})
		io.WriteString(c, "x")
		if err := <-p.ended; err != no || time.Since(start) != 0 {
			t.Errorf("told %v after %v", err, time.Since(start))
		}
		if err := <-done; err != no || time.Since(start) != 7*time.Second {
			t.Errorf("ended with %v after %v", err, time.Since(start))
		}
	})
}

func TestHandshakeTimeoutOnPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, done := piped(t.Context(), new(probe), Options{TLS: serverTLS()})
		if err := <-done; !errors.Is(err, ErrTimeout) || time.Since(start) != 10*time.Second {
			t.Errorf("ended with %v after %v", err, time.Since(start))
		}
	})
}

// What is woken during a handshake is heard after it, and not before.
func TestWakeDuringStartTLS(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		var told []string
		r := w.start(t, Options{}, func() *probe {
			p := startTLS()
			p.wake = func(p *probe) error {
				if p.c.TLS() == nil {
					told = append(told, "early")
				}
				p.c.Write([]byte("woken\n"))
				return nil
			}
			return p
		})
		c, p := r.open()
		io.WriteString(c, "starttls\n")
		expect(t, c, "proceed\n")
		p.c.Wake()
		p.c.Send([]byte("sent\n"))
		tc := tls.Client(c, clientTLS())
		expect(t, tc, "secured\n")
		got := make([]byte, len("woken\nsent\n"))
		if _, err := io.ReadFull(tc, got); err != nil {
			t.Fatal(err)
		}
		if s := string(got); s != "woken\nsent\n" && s != "sent\nwoken\n" {
			t.Errorf("got %q", s)
		}
		if len(told) > 0 {
			t.Error("woken during the handshake")
		}
	}, "tcp")
}

func TestWheel(t *testing.T) {
	start := time.Unix(1000, 0)
	var w wheel
	w.init(10*time.Millisecond, start)
	now := start
	var rung []int
	d := &wheelDriver{w: &w, now: &now}
	g := New(Config{Log: silent}).newGroupForTest()
	add := func(id int, after time.Duration) *Conn {
		c := &Conn{d: d, g: g, slot: -1, phase: phaseOpen}
		c.proto = &probe{c: c, alarm: func(*probe) error { rung = append(rung, id); return nil }}
		c.SetAlarm(start.Add(after))
		return c
	}
	add(3, 300*time.Millisecond)
	add(1, time.Millisecond)
	moved := add(4, 20*time.Millisecond)
	moved.SetAlarm(start.Add(2 * time.Minute)) // beyond the ring
	sooner := add(2, time.Hour)
	sooner.SetAlarm(start.Add(50 * time.Millisecond))
	gone := add(9, 100*time.Millisecond)
	gone.SetAlarm(time.Time{})
	for id, want := range []time.Duration{0, 10 * time.Millisecond, 60 * time.Millisecond, 310 * time.Millisecond, 2*time.Minute + 10*time.Millisecond} {
		if id == 0 {
			continue
		}
		for len(rung) < id {
			next := w.next()
			if next.IsZero() {
				t.Fatalf("nothing is next; rung %v", rung)
			}
			now = next
			w.advance(now.UnixNano())
		}
		if rung[id-1] != id || now.Sub(start) != want {
			t.Errorf("rung %v at %v, want %d at %v", rung, now.Sub(start), id, want)
		}
	}
	if w.size != 0 || !w.next().IsZero() {
		t.Errorf("%d are left", w.size)
	}
}

// A clock that is set back holds up what was to come by then, and nothing that
// is asked for afterwards.
func TestWheelClockSetBack(t *testing.T) {
	now := time.Unix(100_000, 0)
	var w wheel
	w.init(10*time.Millisecond, now)
	d := &wheelDriver{w: &w, now: &now}
	g := New(Config{Log: silent}).newGroupForTest()
	var rung []string
	add := func(name string, after time.Duration) {
		c := &Conn{d: d, g: g, slot: -1, phase: phaseOpen}
		c.proto = &probe{c: c, alarm: func(*probe) error { rung = append(rung, name); return nil }}
		c.SetAlarm(now.Add(after))
	}
	pass := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(50 * time.Millisecond)
			w.advance(now.UnixNano())
		}
	}
	add("before", time.Minute)
	pass(time.Second)
	now = now.Add(-time.Hour)
	w.advance(now.UnixNano())
	add("after", time.Second)
	pass(2 * time.Second)
	if !slices.Equal(rung, []string{"after"}) {
		t.Errorf("two seconds later: %q", rung)
	}
	pass(time.Hour + time.Minute)
	if !slices.Equal(rung, []string{"after", "before"}) {
		t.Errorf("an hour later: %q", rung)
	}
}

// wheelDriver is a driver that has nothing but a wheel.
type wheelDriver struct {
	driver
	w   *wheel
	now *time.Time
}

func (d *wheelDriver) rearm(c *Conn)    { d.w.set(c) }
func (d *wheelDriver) clock() time.Time { return *d.now }
func (d *wheelDriver) inFlight() int    { return 0 }
func (d *wheelDriver) touch(*Conn)      {}

func (e *Engine) newGroupForTest() *group { return e.newGroup(Options{}) }
