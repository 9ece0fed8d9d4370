package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Link is Posthouse's long connection over plain TCP, or over WebSocket where
// the target is a ws:// URL. A message is durable before it counts: in the
// receiver's box and in the sender's.
type Link struct{}

// Name is "link".
func (Link) Name() string { return "link" }

// Acked is always so.
func (Link) Acked(*Options) bool { return true }

// Target is the account of a lane's receivers.
func (Link) Target(o *Options, lane int) string {
	return o.account(2 * lane)
}

// linkConn is one connection.
type linkConn struct {
	stream
	peer frame.Peer // the sender's: of its one receiver
	to   string
	buf  []byte // the sender's

	msg    frame.Msg    // the receiver's
	stored frame.Stored // the sender's listener's
	ack    []byte       // the receiver's
}

// maxFrame is the longest frame that the generator takes.
const maxFrame = 1 << 20

// Dial says hello and waits for the welcome.
func (l Link) Dial(ctx context.Context, o *Options, s Seat) (Conn, error) {
	nc, err := dial(ctx, o.Target, frame.Protocol, s.Role)
	if err != nil {
		return nil, err
	}
	user := l.Target(o, s.Lane)
	if s.Role == Sender {
		user = o.account(2*s.Lane + 1)
	}
	c := &linkConn{stream: newStream(nc, s.Role), peer: frame.Peer{New: true}}
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
	return c.write(c.buf)
}

// Receive reads once and takes every whole frame of it; what was delivered is
// acknowledged in one frame.
func (c *linkConn) Receive(got func([]byte), acked func(int)) error {
	rest, err := c.read()
	if err != nil {
		return err
	}
	places, stored := uint64(0), 0
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
	c.keep(rest)
	if stored > 0 {
		acked(stored)
	}
	if places == 0 {
		return nil
	}
	c.ack = frame.Append(c.ack[:0], &frame.Ack{Step: places})
	return c.answer(c.ack)
}

// Close closes.
func (c *linkConn) Close() error { return c.nc.Close() }
