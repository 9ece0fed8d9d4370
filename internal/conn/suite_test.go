package conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"github.com/posthouse-im/posthouse/internal/cost"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines consumes whole lines and gives each to f.
func lines(f func(p *probe, line string) error) func(*probe, []byte) (int, error) {
	return func(p *probe, b []byte) (n int, err error) {
		for {
			i := bytes.IndexByte(b[n:], '\n')
			if i < 0 {
				return n, nil
			}
			if err = f(p, string(b[n:n+i])); err != nil {
				return n, err
			}
			n += i + 1
		}
	}
}

func TestEcho(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, nil)
		c, p := r.open()
		for range 3 {
			io.WriteString(c, "hello")
			expect(t, c, "hello")
		}
		big := strings.Repeat("0123456789abcdef", 100_000/16)
		go io.WriteString(c, big)
		expect(t, c, big)
		c.Close()
		if err := <-p.ended; err != io.EOF && w.layer != "ws" {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestPipelinedAndPartial(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		var calls int
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: lines(func(p *probe, s string) error {
				calls++
				p.c.Write([]byte(strings.ToUpper(s)))
				return nil
			})}
		})
		c, _ := r.open()
		io.WriteString(c, "one\ntwo\nthr")
		expect(t, c, "ONETWO")
		io.WriteString(c, "ee\n")
		expect(t, c, "THREE")
		for _, b := range []byte("byte by byte\n") {
			c.Write([]byte{b})
		}
		expect(t, c, "BYTE BY BYTE")
	})
}

func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, nil)
		c, p := r.open()
		io.WriteString(c, "last words")
		c.(interface{ CloseWrite() error }).CloseWrite()
		expect(t, c, "last words")
		closed(t, c)
		if err := <-p.ended; err != io.EOF {
			t.Errorf("ended with %v", err)
		}
	}, "tcp", "tls")
}

func TestErrorClosesAfterWhatWasWritten(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		no := errors.New("no")
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: func(p *probe, b []byte) (int, error) {
				p.c.Write([]byte("error: no"))
				return 0, no
			}}
		})
		c, p := r.open()
		io.WriteString(c, "please"+strings.Repeat("x", 100_000))
		expect(t, c, "error: no")
		if err := <-p.ended; err != no {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestMaxInput(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{MaxInput: 1000}, func() *probe {
			return &probe{data: func(*probe, []byte) (int, error) { return 0, nil }}
		})
		c, p := r.open()
		for range 11 {
			c.Write(make([]byte, 100))
		}
		if err := <-p.ended; err != ErrInput {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestPeerThatDoesNotRead(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		piece := make([]byte, 64<<10)
		r := w.start(t, Options{MaxUnsent: 1 << 20}, func() *probe {
			return &probe{
				data: func(p *probe, b []byte) (int, error) { p.c.Wake(); return len(b), nil },
				wake: func(p *probe) error {
					p.c.Write(piece) // without asking Room
					p.c.Wake()
					return nil
				},
			}
		})
		c, p := r.open()
		_, other := r.open()
		io.WriteString(c, "go")
		if err := <-p.ended; err != ErrUnsent {
			t.Errorf("ended with %v", err)
		}
		select {
		case err := <-other.ended:
			t.Errorf("the other ended too: %v", err)
		default:
		}
	})
}

// A protocol that asks Room is stalled by a slow reader, alone, and goes on.
func TestRoom(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		const total = 20 << 20
		r := w.start(t, Options{MaxUnsent: 1 << 20}, func() *probe {
			left := total
			fill := func(p *probe) error {
				for left > 0 && p.c.Room() > 0 {
					n := min(left, 10_000)
					p.c.Write(make([]byte, n))
					left -= n
				}
				if n := p.c.Unsent(); n > 64<<10+10_000 {
					t.Errorf("%d bytes wait for a peer that does not read", n)
				}
				return nil
			}
			return &probe{wake: fill, data: lines(func(p *probe, s string) error {
				if s == "go" {
					return fill(p)
				}
				p.c.Write([]byte("pong"))
				return nil
			})}
		})
		slow, _ := r.open()
		quick, _ := r.open()
		io.WriteString(slow, "go\n")
		for range 10 {
			io.WriteString(quick, "ping\n")
			expect(t, quick, "pong")
		}
		if n, err := io.CopyN(io.Discard, slow, total); err != nil {
			t.Fatal(n, err)
		}
	})
}

func TestWakeFromMany(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		woken := make(chan struct{}, 1)
		r := w.start(t, Options{}, func() *probe {
			return &probe{wake: func(*probe) error {
				select {
				case woken <- struct{}{}:
				default:
				}
				return nil
			}}
		})
		c, p := r.open()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 2000 {
					p.c.Wake()
				}
			})
		}
		wg.Wait()
		<-woken
		for len(woken) > 0 {
			<-woken
		}
		io.WriteString(c, "alive")
		expect(t, c, "alive")
		p.c.Wake() // never lost
		<-woken
	})
}

// Send from many goroutines, with Write between: each one's order is kept and
// every frame is whole.
func TestSendFromMany(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		const senders, each = 8, 500
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: func(p *probe, b []byte) (int, error) {
				for range b { // in two parts
					p.c.Write([]byte{senders, 0, 0})
					p.c.Write([]byte{0, 1, 'x'})
				}
				return len(b), nil
			}}
		})
		c, p := r.open()
		for id := range senders {
			go func() {
				for i := range each {
					f := binary.BigEndian.AppendUint16([]byte{byte(id)}, uint16(i))
					f = binary.BigEndian.AppendUint16(f, uint16(i%300))
					if !p.c.Send(append(f, bytes.Repeat([]byte{byte(i)}, i%300)...)) {
						t.Error("not taken")
					}
				}
			}()
		}
		go func() {
			for range each {
				c.Write([]byte{1})
			}
		}()
		var next [senders + 1]int
		h := make([]byte, 5)
		for range each * (senders + 1) {
			if _, err := io.ReadFull(c, h); err != nil {
				t.Fatal(err)
			}
			id, i := h[0], int(binary.BigEndian.Uint16(h[1:]))
			if id > senders || id < senders && i != next[id] {
				t.Fatalf("sender %d: got %d, want %d", id, i, next[id])
			}
			next[id]++
			body := make([]byte, binary.BigEndian.Uint16(h[3:]))
			io.ReadFull(c, body)
			if id < senders && len(body) != i%300 || bytes.Count(body, []byte{byte(i)}) != len(body) && id < senders {
				t.Fatalf("frame %d of %d is broken", i, id)
			}
		}
	})
}

func TestSendIsBounded(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{MaxUnsent: 1 << 20}, nil)
		_, p := r.open()
		piece := make([]byte, 1000)
		for n := 0; p.c.Send(piece); n++ {
			if n > 1_000_000 {
				t.Fatal("a gigabyte was taken for a peer that reads nothing")
			}
		}
	})
}

func TestStartTLS(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, startTLS)
		c, p := r.open()
		io.WriteString(c, "starttls\n")
		expect(t, c, "proceed\n")
		tc := tls.Client(c, clientTLS())
		expect(t, tc, "secured\n")
		io.WriteString(tc, "hello\n")
		expect(t, tc, "hello\n")
		tc.Close()
		if err := <-p.ended; err != io.EOF {
			t.Errorf("ended with %v", err)
		}
	}, "tcp")
}

// The peer begins the handshake while nothing was read in between.
func TestStartTLSFromWake(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			p := startTLS()
			p.wake = func(p *probe) error { return p.c.StartTLS(serverTLS()) }
			return p
		})
		c, p := r.open()
		io.WriteString(c, "hello\n")
		expect(t, c, "hello\n")
		p.c.Wake()
		tc := tls.Client(c, clientTLS())
		expect(t, tc, "secured\n")
		io.WriteString(tc, "hello\n")
		expect(t, tc, "hello\n")
	}, "tcp")
}

// startTLS makes a protocol that echoes lines, and knows one command.
func startTLS() *probe {
	return &probe{
		data: lines(func(p *probe, s string) error {
			if s == "starttls" {
				p.c.Write([]byte("proceed\n"))
				return p.c.StartTLS(serverTLS())
			}
			p.c.Write([]byte(s + "\n"))
			return nil
		}),
		secured: func(p *probe) error {
			if p.c.TLS() == nil || !p.c.Secure() {
				return errors.New("not secure")
			}
			p.c.Write([]byte("secured\n"))
			return nil
		},
	}
}

// Whatever a man in the middle puts behind the request for TLS must not be
// taken for what the client says under TLS.
func TestStartTLSPipelinedPlaintext(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: func(p *probe, b []byte) (int, error) {
				n := bytes.IndexByte(b, '\n') + 1
				if n == 0 {
					return 0, nil
				}
				return n, p.c.StartTLS(serverTLS())
			}}
		})
		c, p := r.open()
		io.WriteString(c, "starttls\nattack\n")
		if err := <-p.ended; !errors.Is(err, ErrHandshake) {
			t.Errorf("ended with %v", err)
		}
	}, "tcp")
}

func TestHandshakeTimeout(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		probes := make(chan *probe, 4)
		r := w.start(t, Options{Handshake: 50 * time.Millisecond}, func() *probe {
			p := &probe{ended: make(chan error, 1)}
			probes <- p
			return p
		})
		for _, first := range []string{"", "\x16\x03\x01"} {
			c := must(net.Dial("tcp", r.addr))
			defer c.Close()
			io.WriteString(c, first)
			io.ReadAll(c)
			if err := <-(<-probes).ended; !errors.Is(err, ErrHandshake) || !errors.Is(err, ErrTimeout) {
				t.Errorf("ended with %v", err)
			}
		}
	}, "tls")
}

func TestHandshakeGarbage(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		probes := make(chan *probe, 4)
		r := w.start(t, Options{}, func() *probe {
			p := &probe{ended: make(chan error, 1)}
			probes <- p
			return p
		})
		c := must(net.Dial("tcp", r.addr))
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
		io.ReadAll(c)
		if err := <-(<-probes).ended; !errors.Is(err, ErrHandshake) {
			t.Errorf("ended with %v", err)
		}
	}, "tls")
}

func TestPanicEndsItsConnectionAlone(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: lines(func(p *probe, s string) error {
				if s == "panic" {
					panic("as asked")
				}
				p.c.Write([]byte(s + "\n"))
				return nil
			}), wake: func(*probe) error { panic("woken") }}
		})
		good, _ := r.open()
		for _, how := range []func(net.Conn, *probe){
			func(c net.Conn, p *probe) { io.WriteString(c, "panic\n") },
			func(c net.Conn, p *probe) { p.c.Wake() },
		} {
			c, p := r.open()
			how(c, p)
			p.busy.Store(0)
			if err := <-p.ended; !errors.Is(err, ErrPanic) {
				t.Errorf("ended with %v", err)
			}
		}
		io.WriteString(good, "alive\n")
		expect(t, good, "alive\n")
	})
}

func TestPauseRead(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			return &probe{
				data: func(p *probe, b []byte) (int, error) {
					p.c.Write(b[:1])
					p.c.PauseRead(true)
					return 1, nil
				},
				wake: func(p *probe) error { p.c.PauseRead(false); return nil },
			}
		})
		c, p := r.open()
		io.WriteString(c, "abc")
		for _, s := range []string{"a", "b", "c"} {
			expect(t, c, s)
			p.c.Wake()
		}
		io.WriteString(c, "d")
		expect(t, c, "d")
		p.c.Wake() // so that a close is read
	})
}

func TestMaxConnsAndMaxPerAddr(t *testing.T) {
	for name, o := range map[string]Options{"all": {MaxConns: 2}, "address": {MaxPerAddr: 2}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w way) {
				r := w.start(t, o, nil)
				a, p := r.open()
				r.open()
				try := func() bool {
					c, err := net.Dial("tcp", r.addr)
					if err != nil {
						return false // reset before it was through
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(10 * time.Second))
					io.WriteString(c, "x")
					n, _ := c.Read(make([]byte, 1))
					return n == 1
				}
				if try() {
					t.Error("a third is served")
				}
				a.Close()
				<-p.ended
				for !try() { // the place is free once the socket is closed, a little later
				}
			}, "tcp")
		})
	}
}

func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, nil)
		var conns []net.Conn
		var probes []*probe
		for range 10 {
			c, p := r.open()
			conns, probes = append(conns, c), append(probes, p)
		}
		done := make(chan struct{})
		go func() { r.stop(); close(done) }()
		for i, c := range conns {
			expect(t, c, "bye\n")
			closed(t, c)
			c.Close()
			if err := <-probes[i].ended; err != ErrDrain {
				t.Errorf("ended with %v", err)
			}
		}
		<-done
	})
}

// A protocol that does not close when told goodbye is closed.
func TestDrainOfOneThatStays(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{Linger: 50 * time.Millisecond}, func() *probe {
			return &probe{bye: func(*probe) {}}
		})
		_, p := r.open()
		r.stop()
		if err := <-p.ended; err != ErrDrain {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestResetByPeer(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			return &probe{
				data: func(p *probe, b []byte) (int, error) { p.c.Wake(); return len(b), nil },
				wake: func(p *probe) error {
					for p.c.Room() > 0 {
						p.c.Write(make([]byte, 10_000))
					}
					return nil
				},
			}
		})
		c, p := r.open()
		io.WriteString(c, "go")
		io.ReadFull(c, make([]byte, 100))
		nc := c
		if tc, ok := c.(*tls.Conn); ok {
			nc = tc.NetConn()
		}
		nc.(*net.TCPConn).SetLinger(0)
		nc.Close()
		if err := <-p.ended; err == nil {
			t.Error("no reason")
		}
		if p.c.Send([]byte("x")) {
			t.Error("taken after the end")
		}
		p.c.Wake()
	}, "tcp", "tls")
}

func TestMeterAndAddresses(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		asked := make(chan cost.Counts, 1)
		var account Account
		r := w.start(t, Options{Account: &account}, func() *probe {
			return &probe{wake: func(p *probe) error {
				if !p.c.Secure() || (p.c.TLS() != nil) != (w.layer == "tls" || w.layer == "wss") {
					t.Error("not secure on loopback")
				}
				if !p.c.Remote().Addr().IsLoopback() || p.c.Remote().Port() == 0 {
					t.Error("remote", p.c.Remote())
				}
				asked <- p.c.Meter().Take(time.Now())
				return nil
			}}
		})
		c, p := r.open()
		io.WriteString(c, "hello")
		expect(t, c, "hello")
		p.c.Wake()
		if s := <-asked; s.BytesUp < 5 || s.BytesDown < 5 || s.PacketsUp == 0 || s.PacketsDown == 0 || s.Wakeups != 1 {
			t.Errorf("%+v", s)
		}
		if account.Conns.Load() != 1 || account.Accepted.Load() != 1 || account.BytesIn.Load() < 5 || account.BytesOut.Load() < 5 ||
			account.PacketsIn.Load() == 0 || account.PacketsOut.Load() == 0 {
			t.Errorf("account: %+v", &account)
		}
	})
}

// Out and SetOut without anything between them send nothing, on no way.
func TestOut(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: func(p *probe, b []byte) (int, error) {
				p.c.SetOut(p.c.Out())
				for range 1000 {
					p.c.SetOut(append(p.c.Out(), b...))
				}
				p.c.Out()
				return len(b), nil
			}}
		})
		c, p := r.open()
		io.WriteString(c, "0123456789")
		expect(t, c, strings.Repeat("0123456789", 1000))
		p.c.Wake()
		io.WriteString(c, "x")
		expect(t, c, strings.Repeat("x", 1000))
	})
}

func TestServeConnOnPipe(t *testing.T) {
	a, b := net.Pipe()
	e := New(Config{Loops: -1, Log: silent})
	p := &probe{ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.ServeConn(ctx, a, Options{New: func() Protocol { return p }}) }()
	io.WriteString(b, "x")
	expect(t, b, "x")
	cancel()
	expect(t, b, "bye\n")
	closed(t, b)
	if err := <-done; err != ErrDrain {
		t.Error(err)
	}
}
