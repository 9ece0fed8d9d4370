// Package conn runs connections. A protocol is a state machine without I/O,
// a [Protocol]: bytes in, wake in, alarm in; bytes out. An [Engine] runs it. It
// owns the socket, TLS, WebSocket framing, buffers, deadlines, coalesced
// writes, the limit on unsent bytes, and the account of bytes, packets and
// wake-ups.
//
//	        ┌────────── Engine ──────────┐
//	socket ─▶ TLS ─▶ WebSocket ─▶ Data ──▶ Protocol
//	socket ◀─ TLS ◀─ WebSocket ◀─ Write ◀─ Protocol ◀── Wake, Alarm
//	        └────────────────────────────┘
//
// On Linux a TCP connection is served by an epoll loop per core: while idle it
// has no goroutine and no buffer, and with TLS after the handshake it has no
// goroutine either. Elsewhere, and for a net.Conn that is not a TCP socket (a
// pipe in a test), the same protocol runs on a goroutine of its own. A protocol
// cannot tell which.
//
// All methods of a Protocol are called one at a time, never two at once, and
// must not block: they run on a loop that serves thousands of others. What has
// to wait is given to somebody else, who calls [Conn.Wake] when it is ready.
package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Protocol is one connection's state machine.
type Protocol interface {
	// Open is called once, before anything else, when bytes may be written:
	// after the TLS handshake and the WebSocket upgrade.
	Open(c *Conn) error

	// Data is handed what was received and not yet consumed, and returns how
	// many bytes of it it consumed. The rest is kept, and handed in again
	// with more behind it. P is valid during the call only. It is not called
	// while reading is paused.
	Data(p []byte) (n int, err error)

	// Wake is called after Conn.Wake, once for any number of them, and when
	// Room has become positive again after Write filled it.
	Wake() error

	// Alarm is called when the time given to SetAlarm has come.
	Alarm() error

	// Goodbye is called when the server drains: say so in the protocol's own
	// words and Close. It may be called before Open has been; then it is not
	// called and the connection is closed.
	Goodbye()

	// Closed is called last, once, with why the connection ended: io.EOF when
	// the peer closed it, the error that a method returned, what Close was
	// given. Nothing may be written any more.
	Closed(why error)
}

// An error returned by Open, Data, Wake or Alarm closes the connection after
// what was written has been sent. A panic in a method is logged with its stack
// and ends that connection alone.

// Secured may be implemented by a Protocol that calls StartTLS.
type Secured interface {
	// Secured is called when the handshake has succeeded.
	Secured(tls.ConnectionState) error
}

// Why a connection ends, besides io.EOF and errors of the network and of the
// protocol.
var (
	ErrUnsent    = errors.New("conn: peer does not read: too many unsent bytes")
	ErrInput     = errors.New("conn: incomplete input is over the limit")
	ErrHandshake = errors.New("conn: handshake failed")
	ErrDrain     = errors.New("conn: server is draining")
	ErrTimeout   = errors.New("conn: timed out")
)

// Conn is one connection, as its Protocol sees it. Wake and Send may be called
// from any goroutine; everything else only from the Protocol's own methods.
type Conn struct{ out []byte }

// Write queues p to be sent; it copies p, never blocks and never fails. What a
// round of methods wrote goes out in one write. A connection whose unsent
// bytes go over Options.MaxUnsent is closed with ErrUnsent: ask Room first.
func (c *Conn) Write(p []byte) (int, error) { c.out = append(c.out, p...); return len(p), nil }

// Out returns the buffer of bytes to be sent, for appending to; SetOut gives
// it back. Nothing else of Conn may be called in between.
func (c *Conn) Out() []byte     { return c.out }
func (c *Conn) SetOut(b []byte) { c.out = b }

// Send is Write for any goroutine, for bytes that are the same for many
// receivers. It copies p. It reports whether p was taken: if that would bring
// the unsent bytes over Options.MaxUnsent p is dropped.
func (c *Conn) Send(p []byte) bool { return false }

// Room is how many bytes may be written before the connection is behind:
// half of MaxUnsent less what is unsent. When it is not positive, stop writing
// what can wait; Wake is called when it is again.
func (c *Conn) Room() int { return 0 }

// Unsent is how many bytes wait to be sent.
func (c *Conn) Unsent() int { return 0 }

// SetAlarm sets the one alarm of the connection; the zero time clears it.
// Resolution is Options.Tick.
func (c *Conn) SetAlarm(at time.Time) {}

// Now is the time at the start of this round.
func (c *Conn) Now() time.Time { return time.Now() }

// Wake has Protocol.Wake called soon. It never blocks.
func (c *Conn) Wake() {}

// Close sends what was written, within Options.Linger, and closes. Data is not
// called any more. The first reason given is the one that Closed hears.
func (c *Conn) Close(why error) {}

// PauseRead stops or resumes reading, for a protocol that cannot take more.
func (c *Conn) PauseRead(pause bool) {}

// StartTLS sends what was written in the clear and then begins the server's
// side of a TLS handshake. Bytes that the peer sent behind the consumed ones
// in the clear make it fail (RFC 9051 and others name the attack). The
// Protocol hears of success by Secured, of failure by Closed.
func (c *Conn) StartTLS(cfg *tls.Config) error { return nil }

// TLS is the state of the connection's TLS, nil if there is none.
func (c *Conn) TLS() *tls.ConnectionState { return nil }

// Secure reports whether nobody on the way can read along: the connection has
// TLS, or both ends are on this machine.
func (c *Conn) Secure() bool { return false }

// Remote and Local are the addresses of the two ends; zero for a pipe.
func (c *Conn) Remote() netip.AddrPort { return netip.AddrPort{} }
func (c *Conn) Local() netip.AddrPort  { return netip.AddrPort{} }

// Cut ends a WebSocket message here; without it a round's bytes are one
// message. Elsewhere it does nothing.
func (c *Conn) Cut() {}

// Stats is the account of one connection.
type Stats struct {
	BytesIn, BytesOut     uint64 // as the protocol sees them, before TLS and framing
	PacketsIn, PacketsOut uint64 // reads and writes of the socket
	Wakeups               uint32 // bursts after at least Options.Quiet of silence
}

// Stats returns the account so far.
func (c *Conn) Stats() Stats { return Stats{} }

// Engine runs connections.
type Engine struct{}

// Options says how a listener's connections are treated. A zero field means
// its default.
type Options struct {
	// New makes the protocol of a new connection.
	New func() Protocol
	// TLS, if not nil, has connections begin with a handshake.
	TLS *tls.Config
	// Handshake is how long TLS and WebSocket handshakes may take. Default 10 s.
	Handshake time.Duration
	// MaxUnsent is how many bytes may wait to be sent. Default 4 MiB.
	MaxUnsent int
	// MaxInput is how many unconsumed bytes are kept. Default 2 MiB.
	MaxInput int
	// MaxConns and MaxPerAddr bound connections in all and from one address
	// (an IPv6 /64 counts as one). Default unlimited and 20,000.
	MaxConns, MaxPerAddr int
	// Linger is how long Close waits for the peer to take what was written,
	// and Serve for all connections to end. Default 5 s.
	Linger time.Duration
	// Text makes WebSocket messages text instead of binary.
	Text bool
	// Subprotocols are those of a WebSocket endpoint, best first.
	Subprotocols []string
	// Origins are the web origins that may open a WebSocket, beside the
	// server's own; "*" is any.
	Origins []string
}

// Serve accepts connections from ln until ctx is cancelled, then says Goodbye
// on each, waits for at most Linger, and returns nil with nothing left running.
func (e *Engine) Serve(ctx context.Context, ln net.Listener, o Options) error { return nil }

// WebSocket is an HTTP handler that upgrades to WebSocket (RFC 6455) and then
// serves the connection like Serve's, until ctx is cancelled.
func (e *Engine) WebSocket(ctx context.Context, o Options) http.Handler { return nil }
