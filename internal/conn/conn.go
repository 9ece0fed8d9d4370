package conn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/cost"
)

// Protocol is one connection's state machine. An error returned by Open, Data,
// Wake or Alarm closes the connection after what was written has been sent. A
// panic in a method is logged with its stack and ends that connection alone.
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

	// Alarm is called when the time given to SetAlarm has come. That alarm is
	// then cleared.
	Alarm() error

	// Goodbye is called when the server drains: say so in the protocol's own
	// words and Close. It may be called before Open has been; then it is not
	// called and the connection is closed.
	Goodbye()

	// Closed is called last, once, with why the connection ended: io.EOF when
	// the peer closed it, the error that a method returned, what Close was
	// given. It comes as soon as the method that decided it has returned,
	// while the engine still sends what was written. It is also called for a
	// connection that ended before Open, in a handshake. Nothing may be
	// written any more.
	Closed(why error)
}

// Secured may be implemented by a Protocol that calls StartTLS.
type Secured interface {
	// Secured is called when the handshake has succeeded.
	Secured(tls.ConnectionState) error
}

// Why a connection ends, besides io.EOF and errors of the network and of the
// protocol. They may be wrapped: use errors.Is.
var (
	ErrUnsent    = errors.New("conn: peer does not read: too many unsent bytes")
	ErrInput     = errors.New("conn: incomplete input is over the limit")
	ErrHandshake = errors.New("conn: handshake failed")
	ErrDrain     = errors.New("conn: server is draining")
	ErrTimeout   = errors.New("conn: timed out")
	ErrPanic     = errors.New("conn: internal error")
)

// Conn is one connection, as its Protocol sees it. Wake and Send may be called
// from any goroutine; everything else only from the Protocol's own methods.
//
// Everything an idle connection holds of ours is in this struct, so its fields
// are counted: what is rare is in extra, what can be asked of the kernel is
// not kept.
type Conn struct {
	// These belong to the driver, which runs on one goroutine at a time.
	proto Protocol // nil once Closed has been called
	d     driver
	g     *group
	x     *extra // nil while there is nothing unusual
	out   *buf   // written and not yet sent or, with framing, not yet encoded
	in    *buf   // received and not consumed
	alarm int64  // Unix nanoseconds; 0 is none

	next, prev *Conn // ring in the wheel's slot
	slot       int32 // of the wheel; -1 is none
	fd         int32 // of a connection on a loop

	meter cost.Meter

	source source // the peer
	port   uint16
	phase  phase
	framed bool // speaks WebSocket; never changes, so that Send may ask
	flags  flags

	behind  atomic.Int32  // bytes that the last round left unsent, for Send
	pending atomic.Uint32 // what the driver has to do; see signal

	mu   sync.Mutex
	side *buf // guarded by mu; from Send, encoded for the peer
	deaf bool // guarded by mu; Send takes nothing any more
}

// extra is what most connections do not have most of the time.
type extra struct {
	why      error
	deadline int64  // the engine's own alarm: handshake, linger; Unix nanoseconds
	wire     *buf   // encoded and not yet sent
	ws       *wsock // WebSocket framing
	starting *tls.Config
	crypt    *tls.Conn
	sealed   sealed    // what was accepted, if it has TLS of its own
	pipe     any       // what crypt sits on, on a loop
	declared *declared // by a load balancer
}

// phase is how far a connection has come.
type phase uint8

const (
	phaseNew       phase = iota
	phaseProxy           // a header of the PROXY protocol is due
	phaseHello           // the first byte of a TLS handshake is due
	phaseHandshake       // TLS handshake on a goroutine
	phaseOpen
	phaseOver // the socket is closed
)

type flags uint16

const (
	flagOpened  flags = 1 << iota // Open has been called
	flagPaused                    // the protocol wants no Data
	flagFull                      // Room was used up; Wake is due when there is some
	flagClosing                   // Closed is due or has been called
	flagAbort                     // and there is no use in sending the rest
	flagEOF                       // the peer will send nothing more
	flagShut                      // we have told the peer that we send nothing more
	flagDirty                     // in the loop's list for the end of the round
	flagOut                       // EPOLLOUT is armed
	flagQuiet                     // EPOLLIN is not armed
	flagCounted                   // in the account of its address
	flagHeld                      // a Wake or Send waits for the end of a handshake
)

// What pending may hold.
const (
	bitWake   = 1 << iota // Conn.Wake was called
	bitSend               // side has become not empty
	bitStart              // the connection is new
	bitInput              // c.in is to be looked at again
	bitShaken             // the TLS handshake is over
	bitWrite              // the handshake has something to send
	bitBye                // the server drains
)

// driver is what Conn asks of the engine that runs it.
type driver interface {
	post(c *Conn)      // from any goroutine: c.pending is not zero
	touch(c *Conn)     // c is to be settled at the end of the round
	clock() time.Time  // when the round began
	rearm(c *Conn)     // a deadline has changed
	interest(c *Conn)  // reading was paused or resumed
	startTLS(c *Conn)  // begin the handshake of c.x.starting
	inFlight() int     // bytes taken from out that are not sent
	ends(c *Conn) ends // addresses of the socket itself
	userTimeout(c *Conn, d time.Duration)
}

// ends are the two ends of a socket, and whether it never leaves the machine
// whatever its addresses: a pipe or a Unix socket.
type ends struct {
	remote, local netip.AddrPort
	inside        bool
	datagrams     bool // between them is UDP
}

func (c *Conn) more() *extra {
	if c.x == nil {
		c.x = new(extra)
	}
	return c.x
}

// Write queues p to be sent; it copies p, never blocks and never fails. What a
// round of methods wrote goes out in one write. A connection whose unsent
// bytes go over Options.MaxUnsent is closed with ErrUnsent: ask Room first.
func (c *Conn) Write(p []byte) (int, error) {
	if c.flags&flagClosing == 0 {
		addTo(&c.out, p)
		c.d.touch(c)
	}
	return len(p), nil
}

// Out returns the buffer of bytes to be sent, for appending to; SetOut gives
// it back. Nothing else of Conn may be called in between. Bytes before the
// length that Out returned are not the caller's.
func (c *Conn) Out() []byte {
	if c.out == nil {
		c.out = grab(1)
	}
	c.out.room(512) // so that append seldom has to allocate
	return c.out.b
}

// SetOut gives back what Out returned, longer.
func (c *Conn) SetOut(b []byte) {
	if c.flags&flagClosing != 0 {
		return
	}
	c.out.b = b
	c.d.touch(c)
}

// Send is Write for any goroutine, for bytes that are the same for many
// receivers. It copies p. It reports whether p was taken: if that would bring
// the unsent bytes over Options.MaxSend p is dropped.
//
// What is sent keeps its order, and so does what is written; between the two
// there is none, except that a p stays whole and is not put inside of what one
// method wrote. On a WebSocket every p is a message of its own.
func (c *Conn) Send(p []byte) bool {
	c.mu.Lock()
	if c.deaf || c.side.size()+int(c.behind.Load())+len(p) > c.g.o.MaxSend {
		c.mu.Unlock()
		return false
	}
	first := c.side == nil
	if c.framed {
		frame(&c.side, c.g.opcode(), p)
	} else {
		addTo(&c.side, p)
	}
	c.mu.Unlock()
	if first && len(p) > 0 {
		c.signal(bitSend)
	}
	return true
}

// signal has the driver look at c for what.
func (c *Conn) signal(what uint32) {
	if c.pending.Load()&what != 0 {
		return // it has not looked yet, and will see what we did before
	}
	if c.pending.Or(what) == 0 {
		c.d.post(c)
	}
}

// takeSide moves what Send has queued behind what Write has.
func (c *Conn) takeSide() {
	c.mu.Lock()
	side := c.side
	c.side = nil
	if side != nil {
		c.behind.Add(int32(side.size()))
	}
	c.mu.Unlock()
	if side == nil {
		return
	}
	c.encode()
	if c.encrypts() {
		c.encrypt(side.bytes())
		side.free()
		return
	}
	if c.framed {
		join(&c.x.wire, side)
		return
	}
	join(&c.out, side)
}

// Room is how many bytes may be written before the connection is behind:
// Options.Ahead less what is unsent. When it is not positive, stop writing
// what can wait; Wake is called when it is again.
func (c *Conn) Room() int { return c.g.o.Ahead - c.Unsent() }

// Unsent is how many bytes wait to be sent.
func (c *Conn) Unsent() int {
	n := c.out.size() + c.d.inFlight()
	if c.x != nil {
		n += c.x.wire.size()
	}
	return n
}

// SetAlarm sets the one alarm of the connection; the zero time clears it.
// Resolution is Config.Tick.
func (c *Conn) SetAlarm(at time.Time) {
	c.alarm = 0
	if !at.IsZero() {
		c.alarm = at.UnixNano()
	}
	c.d.rearm(c)
}

// due is when the connection has to be looked at again; 0 is never.
func (c *Conn) due() int64 {
	at := c.alarm
	if c.phase != phaseOpen || c.flags&flagClosing != 0 {
		at = 0 // the protocol's alarm waits
	}
	if c.x != nil && c.x.deadline != 0 && (at == 0 || c.x.deadline < at) {
		at = c.x.deadline
	}
	return at
}

// Now is the time at the start of this round.
func (c *Conn) Now() time.Time { return c.d.clock() }

// Wake has Protocol.Wake called soon. It never blocks.
func (c *Conn) Wake() { c.signal(bitWake) }

// Close sends what was written, within Options.Linger, and closes. No method
// but Closed is called any more. The first reason given is the one that Closed
// hears.
func (c *Conn) Close(why error) {
	if c.flags&flagClosing != 0 {
		return
	}
	c.flags |= flagClosing
	c.more().why = why
	if c.phase == phaseOpen && c.x.deadline != 0 {
		c.d.touch(c) // the server drains, and the time for that is running
	} else if c.phase != phaseOver {
		c.x.deadline = c.d.clock().Add(c.g.o.Linger).UnixNano()
		c.d.rearm(c)
		c.d.touch(c)
	}
}

// abort closes without sending the rest.
func (c *Conn) abort(why error) {
	c.Close(why)
	c.flags |= flagAbort
	c.d.touch(c)
}

// PauseRead stops or resumes reading, for a protocol that cannot take more.
func (c *Conn) PauseRead(pause bool) {
	if pause == (c.flags&flagPaused != 0) {
		return
	}
	c.flags ^= flagPaused
	if !pause && c.in != nil {
		c.signal(bitInput)
	}
	c.d.interest(c)
}

// StartTLS sends what was written in the clear and then begins the server's
// side of a TLS handshake. Bytes that the peer sent behind the consumed ones
// in the clear make it fail (RFC 9051 and others name the attack). The
// Protocol hears of success by Secured, of failure by Closed. Until then no
// other method is called. It returns an error if there is TLS already, or
// WebSocket.
func (c *Conn) StartTLS(cfg *tls.Config) error {
	if c.framed || c.TLS() != nil || c.more().starting != nil {
		return fmt.Errorf("%w: TLS is not possible here", ErrHandshake)
	}
	c.x.starting = cfg
	c.d.touch(c)
	return nil
}

// TLS is the state of the connection's TLS, nil if there is none.
func (c *Conn) TLS() *tls.ConnectionState {
	var s tls.ConnectionState
	switch {
	case c.x == nil:
		return nil
	case c.x.crypt != nil:
		s = c.x.crypt.ConnectionState()
	case c.x.sealed != nil:
		s = c.x.sealed.ConnectionState()
	default:
		return nil
	}
	return &s
}

// ClientName is the common name in the client's certificate where a trusted
// load balancer has ended its TLS, checked the certificate, and says so; else
// empty.
func (c *Conn) ClientName() string {
	if c.x == nil || c.x.declared == nil {
		return ""
	}
	return c.x.declared.name
}

// Secure reports whether nobody on the way can read along: the connection has
// TLS, or a trusted load balancer says that the client came to it by TLS, or
// both ends are on this machine.
func (c *Conn) Secure() bool {
	if c.x != nil && (c.x.crypt != nil || c.x.sealed != nil || c.x.declared != nil && c.x.declared.sealed) {
		return true
	}
	e := c.ends()
	return e.inside || e.remote.Addr().IsLoopback() && e.local.Addr().IsLoopback()
}

// Remote and Local are the addresses of the two ends, as a trusted load
// balancer has declared them (Options.Proxy) or as the socket has them; zero
// for a pipe.
func (c *Conn) Remote() netip.AddrPort { return c.ends().remote }
func (c *Conn) Local() netip.AddrPort  { return c.ends().local }

// Datagrams reports whether the connection goes over UDP, whose mappings a NAT
// forgets sooner than those of TCP.
func (c *Conn) Datagrams() bool { return c.d.ends(c).datagrams }

func (c *Conn) ends() ends {
	if c.x != nil && c.x.declared != nil {
		return ends{remote: c.x.declared.remote, local: c.x.declared.local}
	}
	return c.d.ends(c)
}

// SetUserTimeout is Options.UserTimeout for this connection from now on. It
// does nothing to a pipe, and to TCP elsewhere than on Linux.
func (c *Conn) SetUserTimeout(d time.Duration) { c.d.userTimeout(c, d) }

// Cut ends a WebSocket message here; without it a round's bytes are one
// message. Elsewhere it does nothing.
func (c *Conn) Cut() {
	if c.framed {
		c.encode()
	}
}

// Meter counts what goes over the wire for this connection, TLS and framing
// included. It may be used from any goroutine.
func (c *Conn) Meter() *cost.Meter { return &c.meter }

// movedIn accounts for a packet of n bytes from the peer, movedOut for one to him.
func (c *Conn) movedIn(n int) {
	a := c.g.o.Account
	a.PacketsIn.Add(1)
	a.BytesIn.Add(uint64(n))
	if c.meter.Up(n, c.d.clock(), c.g.o.Quiet) {
		a.Wakeups.Add(1)
	}
}

func (c *Conn) movedOut(n int) {
	a := c.g.o.Account
	a.PacketsOut.Add(1)
	a.BytesOut.Add(uint64(n))
	if c.meter.Down(n, c.d.clock(), c.g.o.Quiet) {
		a.Wakeups.Add(1)
	}
}

// Account is the account of many connections together: those of all listeners
// and endpoints whose Options name it. It may be read at any time.
type Account struct {
	Conns                 atomic.Int64  // open now
	Accepted              atomic.Uint64 // ever let in
	BytesIn, BytesOut     atomic.Uint64 // of sockets, with what framing adds; on event loops also what TLS does
	PacketsIn, PacketsOut atomic.Uint64 // reads and writes of sockets
	Wakeups               atomic.Uint64 // bursts after at least Options.Quiet of silence
}

var _ io.Writer = (*Conn)(nil)
