package conn

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

// Carrier carries a connection that has no socket of its own: the datagrams of
// many peers come in by one, say.
type Carrier interface {
	// Ready is called, from any goroutine, when Step is to be called. It must
	// not block.
	Ready()
	// Take is handed what the protocol has written and not yet been taken of,
	// and returns how many bytes of it it takes. The rest counts as unsent.
	// It is valid during the call only, in which nothing of Carried but Moved
	// may be called. What is left when the connection is over is dropped.
	Take(p []byte) (n int)
}

// Carriage admits carried connections, and bounds how many there are.
type Carriage struct{ g *group }

// Carry begins to carry connections. Of the options those for sockets do nothing.
func (e *Engine) Carry(o Options) *Carriage {
	e.init()
	return &Carriage{e.newGroup(o)}
}

// Open opens a connection to remote. It fails with ErrFull or ErrSource when
// Options.MaxConns or MaxPerAddr are reached.
func (g *Carriage) Open(cr Carrier, p Protocol, remote, local netip.AddrPort) (*Carried, error) {
	if !g.g.enter() {
		return nil, ErrFull
	}
	c := &Conn{g: g.g, proto: p, slot: -1, source: remote.Addr().As16(), port: remote.Port()}
	d := &Carried{c: c, owner: cr, remote: remote, local: local, now: time.Now()}
	c.d = d
	if !g.g.count(c) {
		g.g.leave()
		return nil, ErrSource
	}
	c.open()
	d.settle()
	return d, nil
}

// Carried is a connection without a socket. Its methods are called by its
// owner, on one goroutine.
type Carried struct {
	c             *Conn
	owner         Carrier
	now           time.Time
	remote, local netip.AddrPort
	over          bool
}

// Input hands the protocol bytes from the peer.
func (d *Carried) Input(p []byte) {
	if d.over {
		return
	}
	d.now = time.Now()
	d.c.received(p)
	d.settle()
}

// Step does what Ready was called for, and has Take called if there is
// something to take.
func (d *Carried) Step() {
	if d.over {
		return
	}
	d.now = time.Now()
	d.c.wake(d.c.pending.Swap(0))
	d.settle()
}

// Idle reports whether Step has nothing to do that Ready was called for.
func (d *Carried) Idle() bool { return d.over || d.c.pending.Load() == 0 }

// Due is when Ring is to be called; the zero time is never.
func (d *Carried) Due() time.Time {
	if at := d.c.due(); at != 0 && !d.over {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Ring does what has become due.
func (d *Carried) Ring() {
	if d.over {
		return
	}
	d.now = time.Now()
	d.c.ring(d.now.UnixNano())
	d.settle()
}

// Drain has the protocol say goodbye and ends the connection.
func (d *Carried) Drain() {
	if !d.over {
		d.now = time.Now()
		d.c.goodbye()
		d.c.Close(ErrDrain)
		d.settle()
	}
}

// Close ends the connection as if the peer had closed it.
func (d *Carried) Close() {
	if !d.over {
		d.c.ended(io.EOF)
		d.settle()
	}
}

// Over reports whether the connection has ended.
func (d *Carried) Over() bool { return d.over }

// Moved accounts for bytes that came in and went out for this connection.
func (d *Carried) Moved(in, out int) {
	d.now = time.Now()
	if in > 0 {
		d.c.movedIn(in)
	}
	if out > 0 {
		d.c.movedOut(out)
	}
}

// settle is the end of a round.
func (d *Carried) settle() {
	c := d.c
	c.finish()
	if c.out.size() > 0 {
		n := d.owner.Take(c.out.bytes())
		if c.out.off += n; c.out.size() == 0 {
			c.out.free()
			c.out = nil
		}
	}
	c.sent()
	if c.flags&flagClosing != 0 {
		d.over = true
		c.phase = phaseOver
		c.out.free()
		c.out = nil
		c.g.uncount(c)
		c.g.leave()
	}
}

// The driver's side of Carried.

func (d *Carried) post(*Conn)       { d.owner.Ready() }
func (d *Carried) touch(*Conn)      {}
func (d *Carried) clock() time.Time { return d.now }
func (d *Carried) rearm(*Conn)      {}
func (d *Carried) interest(*Conn)   {}
func (d *Carried) inFlight() int    { return 0 }
func (d *Carried) ends(*Conn) ends  { return ends{remote: d.remote, local: d.local} }

func (d *Carried) startTLS(c *Conn) { c.abort(errors.New("conn: no TLS on a carried connection")) }

func (d *Carried) userTimeout(*Conn, time.Duration) {}
