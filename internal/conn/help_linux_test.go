package conn

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Messages go from each connection to the next of a ring, whose connections
// are on different loops, while goroutines wake them. Most of the time a loop
// sleeps, falls asleep or is being helped. Nothing waits for ever.
func TestNoWorkIsForgotten(t *testing.T) {
	for _, loops := range []int{2, 4} {
		for _, ring := range []int{2, 9, 40} { // fewer than have a loop woken, and more
			w := way{"loop", loops, "tcp"}
			var conns []net.Conn
			var all []*probe
			var next sync.Map // of a probe, the connection behind it
			wakes := make(chan struct{})
			r := w.start(t, Options{}, func() *probe {
				return &probe{
					data: func(p *probe, b []byte) (int, error) {
						to, _ := next.Load(p)
						to.(*Conn).Send(b)
						return len(b), nil
					},
					wake: func(*probe) error { wakes <- struct{}{}; return nil },
				}
			})
			for range few { // they share a loop
				c, _ := r.open()
				conns = append(conns, c)
			}
			for range ring {
				c, p := r.open()
				conns, all = append(conns, c), append(all, p)
			}
			for i, p := range all {
				next.Store(p, all[(i+1)%ring].c)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range 2000 {
					all[i%ring].c.Wake()
					<-wakes
				}
			})
			for i, c := range conns[few:] {
				wg.Go(func() {
					if i == 0 {
						io.WriteString(c, "x")
					}
					one := make([]byte, 1)
					for n := range 2000 / ring {
						if _, err := io.ReadFull(c, one); err != nil {
							t.Error(err)
							return
						}
						if i > 0 || n < 2000/ring-1 { // the first has said one more before
							c.Write(one)
						}
					}
				})
			}
			wg.Wait()
			for _, c := range conns {
				c.Close()
			}
			r.stop()
		}
	}
}
