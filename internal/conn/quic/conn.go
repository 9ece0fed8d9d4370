package quic

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Conn is a net.Conn: a QUIC connection and its one stream.
type Conn struct {
	*quic.Stream
	qc   *quic.Conn
	l    *Listener
	once sync.Once
	eof  atomic.Bool // the peer has ended its side of the stream
	shut atomic.Bool // and we ours, before
	dead atomic.Bool // the user timeout has come

	mu    sync.Mutex
	limit time.Duration // guarded by mu; see SetUserTimeout
	watch *time.Timer   // guarded by mu; runs while something is to be heard
	known uint64        // guarded by mu; packets received when it began
}

var _ net.Conn = (*Conn)(nil)

// Read implements net.Conn. A peer that has closed the connection, for
// whatever reason, is at its end.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if err == io.EOF {
		c.eof.Store(true)
	}
	var gone *quic.ApplicationError
	if errors.As(err, &gone) && gone.Remote {
		err = io.EOF
	}
	if c.dead.Load() && err != nil {
		err = errVanished
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.expect()
	return c.Stream.Write(p)
}

// LocalAddr and RemoteAddr are the two ends; the remote one changes when the
// peer migrates.
func (c *Conn) LocalAddr() net.Addr  { return c.qc.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr { return c.qc.RemoteAddr() }

// ConnectionState is that of the connection's TLS.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.qc.ConnectionState().TLS }

// CloseWrite tells the peer that nothing more will come, behind what was
// written.
func (c *Conn) CloseWrite() error {
	c.shut.Store(!c.eof.Load())
	return c.Stream.Close()
}

// Close ends the connection at once, for no reason.
func (c *Conn) Close() error { return c.CloseWith(nil) }

// lastWords is how long a peer that has ended its side of the stream may take
// to receive ours.
const lastWords = time.Second

// CloseWith ends the connection and tells the peer Config.Code of why. What the
// peer has not acknowledged is lost, unless it has ended its side and so waits
// for the end of ours.
func (c *Conn) CloseWith(why error) error {
	c.once.Do(func() {
		if c.eof.Load() && !c.shut.Load() && c.qc.Context().Err() == nil && c.Stream.Close() == nil {
			select {
			case <-c.qc.Context().Done():
			case <-time.After(lastWords):
			}
		}
		c.mu.Lock()
		c.limit = 0
		if c.watch != nil {
			c.watch.Stop()
		}
		c.mu.Unlock()
		c.qc.CloseWithError(quic.ApplicationErrorCode(c.l.cfg.Code(why)), "")
		c.l.leave()
	})
	return nil
}

// SetUserTimeout is how long what was written may go without any packet from
// the peer before the connection is given up: QUIC itself would go on for as
// long as Config.Idle. A peer acknowledges within its max_ack_delay, 25 ms (RFC
// 9000 section 13.2.1). Zero is no limit, as it is in the beginning.
func (c *Conn) SetUserTimeout(d time.Duration) {
	c.mu.Lock()
	c.limit = d
	c.mu.Unlock()
}

// expect has something heard from the peer from now on.
func (c *Conn) expect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit <= 0 || c.watch != nil {
		return
	}
	c.known = c.qc.ConnectionStats().PacketsReceived
	c.watch = time.AfterFunc(c.limit, c.heard)
}

// errVanished is why a connection ends whose peer acknowledges nothing.
var errVanished = errors.New("quic: the peer acknowledges nothing")

func (c *Conn) heard() {
	c.mu.Lock()
	c.watch = nil
	vanished := c.limit > 0 && c.qc.ConnectionStats().PacketsReceived == c.known
	c.mu.Unlock()
	if vanished {
		c.dead.Store(true) // the owner closes when a Read has failed
		c.Stream.SetReadDeadline(time.Unix(1, 0))
	}
}
