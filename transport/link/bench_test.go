package link_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// BenchmarkDurable posts messages of 256 bytes through the door into the
// recipient's and the sender's box, on disk, each acknowledged after the sync.
// The clients run in the same process and speak bare frames over TCP.
func BenchmarkDurable(b *testing.B) {
	for _, senders := range []int{64, 1} {
		b.Run(fmt.Sprintf("senders=%d/inflight=64", senders), func(b *testing.B) { benchDurable(b, senders, 64) })
	}
}

func benchDurable(b *testing.B, senders, inflight int) {
	log := slog.New(slog.DiscardHandler)
	store, err := pebble.Open(b.TempDir(), pebble.Options{Log: log})
	if err != nil {
		b.Fatal(err)
	}
	mail := mailbox.New(store, mailbox.Limits{})
	defer mail.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	engine := conn.New(conn.Config{Log: log})
	defer engine.Close()
	core := &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a,
		Keepalive: keepalive.Fixed(0), Engine: engine, Log: log}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer stop()
	serving.Go(func() { link.New(core, link.Config{}).Serve(ctx, ln) })

	var conns []*benchSender
	for i := range senders {
		for _, u := range []string{"s", "r"} {
			if err := a.Add(ctx, fmt.Sprint(u, i), "secret", auth.RoleUser); err != nil {
				b.Fatal(err)
			}
		}
		c, err := dialBench(ln.Addr().String(), fmt.Sprint("s", i), fmt.Sprint("r", i))
		if err != nil {
			b.Fatal(err)
		}
		defer c.nc.Close()
		conns = append(conns, c)
	}
	b.SetBytes(256)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range conns {
		n := b.N / senders
		if i < b.N%senders {
			n++
		}
		wg.Go(func() {
			if err := c.send(n, inflight); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
}

// benchSender is a client that speaks bare frames.
type benchSender struct {
	nc   net.Conn
	buf  []byte // read
	have []byte // of buf, not decoded
	one  []byte // a send
}

func dialBench(addr, user, to string) (*benchSender, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &benchSender{nc: nc, buf: make([]byte, 32<<10)}
	hello := frame.Append(nil, &frame.Hello{Major: 1, User: user, Password: "secret", Prefix: "b"})
	first := frame.Append(hello, &frame.Send{To: frame.Peer{New: true, Address: to}, ID: frame.ID{Step: 1}})
	if _, err := nc.Write(first); err != nil {
		return nil, err
	}
	c.one = frame.Append(nil, &frame.Send{ID: frame.ID{Step: 1}, Body: make([]byte, 256)})
	if n, err := c.answers(); n != 1 {
		return nil, fmt.Errorf("%d answers to the first send, %v", n, err)
	}
	return c, nil
}

// send sends n messages, inflight of them at a time.
func (c *benchSender) send(n, inflight int) error {
	var burst []byte
	for range inflight {
		burst = append(burst, c.one...)
	}
	open := 0
	for left := n; left > 0 || open > 0; {
		if k := min(inflight-open, left); k > 0 {
			if _, err := c.nc.Write(burst[:k*len(c.one)]); err != nil {
				return err
			}
			open += k
			left -= k
		}
		k, err := c.answers()
		if err != nil {
			return err
		}
		open -= k
	}
	return nil
}

// answers reads until some sends have been answered, and says how many.
func (c *benchSender) answers() (n int, err error) {
	var stored frame.Stored
	for n == 0 {
		for {
			raw, k, err := frame.Next(c.have, 1<<20)
			if err != nil {
				return n, err
			}
			if k == 0 {
				break
			}
			c.have = c.have[k:]
			switch raw.Type {
			case frame.TypeStored:
				if err := stored.Decode(raw.Payload); err != nil {
					return n, err
				}
				for _, r := range stored.Runs {
					n += int(r.Count)
				}
			case frame.TypeWelcome:
			default:
				f, err := frame.Decode(raw)
				return n, fmt.Errorf("the server says %v, %v", f, err)
			}
		}
		if n > 0 {
			return n, nil
		}
		rest := copy(c.buf, c.have)
		k, err := c.nc.Read(c.buf[rest:])
		if err != nil {
			return n, err
		}
		c.have = c.buf[:rest+k]
	}
	return n, nil
}
