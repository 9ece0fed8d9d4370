package conn

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many peers that do as they like, and protocols that use everything at once:
// each connection ends once, whole, and the place is free again.
func TestChaos(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		var opened atomic.Int32
		over := make(chan struct{})
		var live sync.Map // *Conn
		r := w.start(t, Options{MaxUnsent: 256 << 10, Linger: 200 * time.Millisecond}, func() *probe {
			rnd := rand.New(rand.NewPCG(1, uint64(opened.Load())))
			some := make([]byte, 30_000)
			p := new(probe)
			p.open = func(p *probe) error {
				opened.Add(1)
				live.Store(p.c, true)
				return nil
			}
			p.data = func(p *probe, b []byte) (int, error) {
				switch rnd.IntN(12) {
				case 0:
					p.c.PauseRead(true)
					p.c.SetAlarm(p.c.Now().Add(5 * time.Millisecond))
				case 1:
					p.c.Wake()
				case 2:
					if rnd.IntN(20) == 0 {
						return len(b) / 2, io.ErrNoProgress
					}
				case 3:
					if rnd.IntN(20) == 0 {
						panic("chaos")
					}
				case 4:
					live.Range(func(k, _ any) bool { k.(*Conn).Send(b[:min(len(b), 100)]); return rnd.IntN(4) > 0 })
				}
				if p.c.Room() > 0 {
					p.c.Write(some[:rnd.IntN(len(some))])
				}
				return len(b) - rnd.IntN(2), nil
			}
			p.wake = func(p *probe) error { p.c.PauseRead(false); p.c.Cut(); return nil }
			p.alarm = func(p *probe) error {
				p.c.PauseRead(false)
				p.c.SetAlarm(p.c.Now().Add(time.Duration(rnd.IntN(20)) * time.Millisecond))
				return nil
			}
			p.ended = make(chan error, 2)
			return p
		})
		var wg sync.WaitGroup
		for id := range 40 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(2, uint64(id)))
				for range 4 {
					c := r.dial()
					c.SetDeadline(time.Now().Add(20 * time.Second))
					some := make([]byte, 50_000)
					for range rnd.IntN(30) {
						if _, err := c.Write(some[:rnd.IntN(1000)+1]); err != nil {
							break
						}
						if rnd.IntN(3) > 0 {
							if _, err := c.Read(some); err != nil {
								break
							}
						}
					}
					leave(c, rnd.IntN(3))
				}
			})
		}
		go func() { // the rest of the server
			for {
				live.Range(func(k, _ any) bool { k.(*Conn).Wake(); k.(*Conn).Send([]byte("news")); return true })
				select {
				case <-over:
					return
				default:
					runtime.Gosched()
				}
			}
		}()
		wg.Wait()
		r.stop()
		close(over)
		close(r.probes)
		n := 0
		for p := range r.probes {
			n++
			select {
			case <-p.ended:
			default:
				t.Fatalf("connection %d of %d was not told that it has ended", n, opened.Load())
			}
			if len(p.ended) > 0 {
				t.Error("told twice")
			}
		}
		if n == 0 {
			t.Error("nothing was tried")
		}
	})
}

// leave ends the client's side in one of the ways there are.
func leave(c net.Conn, how int) {
	raw := c
	if tc, ok := c.(*tls.Conn); ok {
		raw = tc.NetConn()
	}
	tcp, ok := raw.(*net.TCPConn)
	switch {
	case how == 0 && ok:
		tcp.SetLinger(0)
		tcp.Close()
	case how == 1 && ok:
		tcp.CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	default:
		c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		c.Close()
	}
}
