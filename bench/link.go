package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Link is Posthouse's long connection over plain TCP. A message is durable
// before it counts: into the receiver's box and into the sender's.
type Link struct{}

// Name is "link".
func (Link) Name() string { return "link" }

// Acked is always so.
func (Link) Acked(*Options) bool { return true }

// Target is the account of a lane's receivers.
func (Link) Target(o *Options, lane int) string {
	return o.account(2 * lane)
}

// linkConn is one connection. The sender's goroutine writes sends, the
// receiver's acknowledgements.
type linkConn struct {
	nc   net.Conn
	peer frame.Peer // the sender's: of its one receiver
	to   string

	mu  sync.Mutex
	out *bufio.Writer // guarded by mu

	in     []byte // the receiver's: bytes read and not yet whole frames
	msg    frame.Msg
	stored frame.Stored
	buf    []byte // the sender's
}

// maxFrame is the longest frame that the generator takes.
const maxFrame = 1 << 20

// Dial says hello and waits for the welcome.
func (l Link) Dial(ctx context.Context, o *Options, s Seat) (Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", o.Target)
	if err != nil {
		return nil, err
	}
	user := l.Target(o, s.Lane)
	if s.Role == Sender {
		user = o.account(2*s.Lane + 1)
	}
	c := &linkConn{nc: nc, out: bufio.NewWriterSize(nc, 64), peer: frame.Peer{New: true}}
	if s.Role != Idle {
		c.out = bufio.NewWriterSize(nc, 64<<10)
		c.in = make([]byte, 0, 64<<10)
	}
	hello := &frame.Hello{Major: frame.Major, Minor: frame.Minor, User: user, Password: o.Password,
		Device: fmt.Sprint("bench", s.Number), MaxFrame: maxFrame, Window: 16 << 20, Prefix: rand.Text()[:10]}
	if s.Role == Idle {
		hello.Interval = uint64(time.Hour / time.Millisecond)
	}
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	defer nc.SetDeadline(time.Time{})
	if _, err := nc.Write(frame.Append(nil, hello)); err != nil {
		nc.Close()
		return nil, err
	}
	if err := c.welcome(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// welcome reads the server's first frame; what follows it stays in c.in.
func (c *linkConn) welcome() error {
	b := make([]byte, 0, 512)
	for {
		n, err := c.nc.Read(b[len(b):cap(b)])
		if err != nil {
			return err
		}
		b = b[:len(b)+n]
		raw, used, err := frame.Next(b, maxFrame)
		if err != nil {
			return err
		}
		if used == 0 && len(b) < cap(b) {
			continue
		}
		f, err := frame.Decode(raw)
		if err != nil {
			return err
		}
		if _, ok := f.(*frame.Welcome); !ok {
			return fmt.Errorf("server answered %v", f)
		}
		c.in = append(c.in, b[used:]...)
		return nil
	}
}

// Subscribe is nothing to ask for: the account's box is read anyway.
func (c *linkConn) Subscribe(string) error { return nil }

// Send buffers a SEND.
func (c *linkConn) Send(name string, payload []byte) error {
	if c.to != name {
		c.to, c.peer = name, frame.Peer{New: true, Address: name}
	}
	c.buf = frame.Append(c.buf[:0], &frame.Send{To: c.peer, ID: frame.ID{Step: 1}, Media: "application/octet-stream", Body: payload})
	c.peer = frame.Peer{N: c.peer.N}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.out.Write(c.buf)
	return err
}

// Flush sends what is buffered.
func (c *linkConn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Flush()
}

// Receive reads once and takes every whole frame of it; what was delivered is
// acknowledged in one frame.
func (c *linkConn) Receive(got func([]byte), acked func(int)) error {
	if len(c.in) == cap(c.in) {
		c.in = append(c.in, make([]byte, max(4096, cap(c.in)))...)[:len(c.in)]
	}
	n, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
	if err != nil {
		return err
	}
	c.in = c.in[:len(c.in)+n]
	rest, places, stored := c.in, uint64(0), 0
	for {
		raw, used, err := frame.Next(rest, maxFrame)
		if err != nil {
			return err
		}
		if used == 0 {
			break
		}
		rest = rest[used:]
		switch raw.Type {
		case frame.TypeMsg:
			if err := c.msg.Decode(raw); err != nil {
				return err
			}
			places += c.msg.Step
			got(c.msg.Body)
		case frame.TypeStored:
			if err := c.stored.Decode(raw.Payload); err != nil {
				return err
			}
			for _, r := range c.stored.Runs {
				stored += int(r.Count)
			}
		case frame.TypeRefused, frame.TypeClose:
			f, err := frame.Decode(raw)
			return errors.Join(fmt.Errorf("link: server says %v", f), err)
		}
	}
	c.in = c.in[:copy(c.in[:cap(c.in)], rest)]
	if stored > 0 {
		acked(stored)
	}
	if places == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Write(frame.Append(c.out.AvailableBuffer(), &frame.Ack{Step: places}))
	return c.out.Flush()
}

// Close closes.
func (c *linkConn) Close() error { return c.nc.Close() }
