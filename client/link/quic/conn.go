package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Conn is one connection: its one stream as a net.Conn, and a Move.
type Conn struct {
	*quic.Stream
	qc     *quic.Conn
	listen func(context.Context) (net.PacketConn, error)
	moving sync.Mutex // held by Move

	mu     sync.Mutex
	used   []transport // guarded by mu; the last one is in use
	path   *quic.Path  // guarded by mu; nil is the first one
	closed bool        // guarded by mu
}

// transport is a socket, and QUIC on it.
type transport struct {
	*quic.Transport
	s *socket
}

func (t transport) close() {
	t.Transport.Close()
	t.s.close()
}

func listenOn(ctx context.Context, listen func(context.Context) (net.PacketConn, error)) (transport, error) {
	pc, err := listen(ctx)
	if err != nil {
		return transport{}, err
	}
	s := newSocket(pc)
	return transport{&quic.Transport{Conn: s}, s}, nil
}

func dial(ctx context.Context, listen func(context.Context) (net.PacketConn, error), to net.Addr, t *tls.Config, q *quic.Config) (*Conn, error) {
	tr, err := listenOn(ctx, listen)
	if err != nil {
		return nil, err
	}
	qc, err := tr.Dial(ctx, to, t, q)
	if err != nil {
		tr.close()
		return nil, err
	}
	st, err := qc.OpenStream()
	if err != nil {
		qc.CloseWithError(0, "")
		tr.close()
		return nil, err
	}
	tr.s.lossy.Store(true)
	return &Conn{Stream: st, qc: qc, listen: listen, used: []transport{tr}}, nil
}

// LocalAddr and RemoteAddr are the two ends at present.
func (c *Conn) LocalAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used[len(c.used)-1].s.LocalAddr()
}
func (c *Conn) RemoteAddr() net.Addr { return c.qc.RemoteAddr() }

// Packets is how many packets have gone over the socket in use, QUIC's own too.
func (c *Conn) Packets() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used[len(c.used)-1].s.n.Load()
}

// Stats is the account of the connection, QUIC's own packets counted.
func (c *Conn) Stats() quic.ConnectionStats { return c.qc.ConnectionStats() }

// ConnectionState is that of TLS: whether the session was resumed, for example.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.qc.ConnectionState().TLS }

// maxMoves is how often a connection moves. What QUIC holds of each socket that
// it used it holds until the end, so one day a fresh connection is better.
const maxMoves = 64

// ErrMoves is returned by Move to a connection that has moved too often.
var ErrMoves = errors.New("link: quic: moved too often")

// farewell is how long a socket is still read that was left. The server needs a
// fresh connection ID for each path, and asks for it on the path that it knows
// (RFC 9000 section 9.5): if that was gone at once a few moves in a row would
// leave it without one.
const farewell = 3 * time.Second

// Move goes on over a new socket, as soon as the server has answered there
// (RFC 9000 section 9.1). What was under way is not lost. If it fails the
// connection is as it was.
func (c *Conn) Move(ctx context.Context) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	c.mu.Lock()
	n, closed := len(c.used), c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return net.ErrClosed
	case n > maxMoves:
		return ErrMoves
	}
	tr, err := listenOn(ctx, c.listen)
	if err != nil {
		return err
	}
	tr.s.lossy.Store(true)
	path, err := c.qc.AddPath(tr.Transport)
	if err != nil {
		tr.close()
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.qc.Context(), stop)()
	if err = path.Probe(ctx); err == nil {
		err = path.Switch()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && err == nil {
		err = net.ErrClosed
	}
	if err != nil {
		path.Close()
		// Closing the transport would close the connection as well.
		tr.s.letGo()
		if c.closed {
			tr.close()
		} else {
			c.used = append([]transport{tr}, c.used...)
		}
		return err
	}
	time.AfterFunc(farewell, c.used[len(c.used)-1].s.letGo)
	if c.path != nil {
		c.path.Close()
	}
	c.path = path
	c.used = append(c.used, tr)
	return nil
}

// Close ends the connection at once, and what was not sent is lost: who means
// to say something last waits for the server's end.
func (c *Conn) Close() error {
	c.mu.Lock()
	used, again := c.used, c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	c.qc.CloseWithError(0, "")
	for _, t := range used {
		t.close()
	}
	return nil
}
