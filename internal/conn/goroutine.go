package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// gconn runs one connection on goroutines: one that owns the Conn and calls
// the protocol, one that reads, and while there is something to send one that
// writes. It serves every net.Conn, in virtual time too.
type gconn struct {
	c    *Conn
	nc   net.Conn     // replaced by TLS over it
	raw  net.Conn     // what was accepted
	tcp  *net.TCPConn // its socket; nil if it has none
	now  time.Time
	bell chan struct{}
	time *time.Timer

	reads   chan gread
	goon    chan *tls.Config // to the reader: nil is read on, else shake hands first
	wrote   chan error
	reading bool // the reader is at work
	writing *buf // what the writer is at
	over    bool
}

// gread is what the reader has to tell.
type gread struct {
	p      []byte
	err    error
	shaken *tls.Conn // a handshake has succeeded
}

// sealed is a net.Conn that has TLS of its own, which a client cannot leave
// out: QUIC.
type sealed interface {
	net.Conn
	ConnectionState() tls.ConnectionState
}

// upgraded is a connection that began as HTTP.
type upgraded struct {
	reply []byte // to be sent first
	rest  []byte // was received behind the request
}

// serve runs nc to its end.
func (g *group) serve(nc net.Conn, up *upgraded) error {
	if !g.enter() {
		hangUp(nc, ErrFull)
		return ErrFull
	}
	defer g.leave()
	c := &Conn{g: g, proto: g.o.New(), slot: -1}
	d := &gconn{
		c: c, nc: nc, raw: nc, now: time.Now(),
		bell: make(chan struct{}, 1), time: time.NewTimer(time.Hour),
		reads: make(chan gread), goon: make(chan *tls.Config, 1), wrote: make(chan error, 1),
	}
	d.time.Stop()
	c.d = d
	if sock, _ := socketOf(nc); sock.tcp != nil {
		d.tcp = sock.tcp
		tune(d.tcp, g.o)
	}
	if s, ok := nc.(sealed); ok {
		c.more().sealed = s
	}
	if a := addrPort(nc.RemoteAddr()); a.IsValid() {
		c.source, c.port = a.Addr().As16(), a.Port()
	}
	g.mu.Lock()
	g.direct[d] = true
	late := g.draining
	g.mu.Unlock()
	if late {
		c.signal(bitBye)
	}
	defer func() {
		g.mu.Lock()
		delete(g.direct, d)
		g.mu.Unlock()
	}()
	go d.reader() // ends when goon is closed and nc with it
	d.run(up)
	return c.x.why
}

// hangUp closes nc, and says why where there is a place for that.
func hangUp(nc net.Conn, why error) {
	if q, ok := nc.(interface{ CloseWith(error) error }); ok {
		q.CloseWith(why)
		return
	}
	nc.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(interface{ AddrPort() netip.AddrPort }) // TCP and UDP
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

func (d *gconn) run(up *upgraded) {
	c := d.c
	d.begin(up)
	for d.settle(); !d.over; d.settle() {
		select {
		case r := <-d.reads:
			d.tick()
			d.reading = false
			d.read(r)
		case <-d.bell:
			d.tick()
			c.wake(c.pending.Swap(0))
		case err := <-d.wrote:
			d.tick()
			d.writing.free()
			d.writing = nil
			if err != nil {
				c.ended(fail(err))
			}
		case <-d.time.C:
			d.tick()
			c.ring(d.now.UnixNano())
		}
	}
	c.phase = phaseOver
	d.time.Stop()
	hangUp(d.raw, c.x.why)
	close(d.goon)
	if d.writing != nil {
		<-d.wrote
	}
	for range d.reads { // until the reader has ended
	}
	c.g.uncount(c)
}

// fail takes from a write's error that the peer has just closed.
func fail(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *gconn) tick() { d.now = time.Now() }

// begin takes the first step of a connection.
func (d *gconn) begin(up *upgraded) {
	c := d.c
	a := addrPort(d.nc.RemoteAddr())
	c.more().deadline = d.now.Add(c.g.o.Handshake).UnixNano()
	d.rearm(c)
	switch {
	case up != nil:
		c.framed = true
		c.x.ws = new(wsock)
		if t, ok := d.nc.(*tls.Conn); ok {
			c.x.crypt = t
		}
		addTo(&c.x.wire, up.reply)
		if d.count() {
			c.open()
			c.received(up.rest)
		}
	case a.IsValid() && c.g.trusted(a.Addr()):
		c.phase = phaseProxy
	default:
		if d.count() {
			d.hello(nil)
		}
	}
}

func (d *gconn) count() bool {
	if !addrPort(d.raw.RemoteAddr()).IsValid() || d.c.g.count(d.c) {
		return true
	}
	d.c.abort(ErrSource)
	return false
}

// hello begins the handshake if there is one to do; pre is what was read.
func (d *gconn) hello(pre []byte) {
	c := d.c
	if c.g.o.TLS != nil {
		if len(pre) > 0 {
			d.nc = &prefixed{d.nc, pre}
		}
		c.phase = phaseHandshake
		d.shake(c.g.o.TLS)
		return
	}
	c.open()
	if len(pre) > 0 {
		c.received(pre)
	}
}

// prefixed is a net.Conn of which something has been read already.
type prefixed struct {
	net.Conn
	pre []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.pre) > 0 {
		n := copy(b, p.pre)
		p.pre = p.pre[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// shake has the reader do a handshake.
func (d *gconn) shake(cfg *tls.Config) {
	d.reading = true
	d.goon <- cfg
}

// reader reads when told to, and shakes hands.
func (d *gconn) reader() {
	defer close(d.reads)
	nc := d.raw
	var p []byte
	for cfg := range d.goon {
		if cfg != nil {
			// The owner's deadline ends it: it closes the connection.
			tc := tls.Server(d.nc, cfg)
			err := tc.HandshakeContext(context.Background())
			nc = tc
			d.reads <- gread{err: err, shaken: tc}
			continue
		}
		if p == nil {
			p = make([]byte, 4<<10)
		}
		n, err := nc.Read(p)
		d.reads <- gread{p: p[:n], err: err}
	}
}

// read takes what the reader has.
func (d *gconn) read(r gread) {
	c := d.c
	if r.shaken != nil {
		switch {
		case c.flags&flagClosing != 0:
		case r.err != nil:
			c.ended(r.err)
		default:
			d.nc = r.shaken
			c.x.crypt, c.x.starting = r.shaken, nil
			c.open()
		}
		return
	}
	if len(r.p) > 0 {
		c.movedIn(len(r.p))
		switch c.phase {
		case phaseProxy:
			if rest, ok := c.preface(r.p); ok {
				d.hello(rest)
			}
		case phaseHandshake:
			// StartTLS was asked for while the reader waited already: this is
			// the beginning of the handshake, most likely.
			d.nc = &prefixed{d.nc, slices.Clone(r.p)}
		case phaseOpen:
			c.received(r.p)
		}
	}
	if r.err != nil {
		c.ended(r.err)
	}
}

// settle is the end of a round.
func (d *gconn) settle() {
	c := d.c
	c.finish()
	if d.writing == nil && c.flags&flagAbort == 0 {
		d.send()
	}
	c.sent()
	closing := c.flags&flagClosing != 0
	if closing && d.writing == nil && c.Unsent() == 0 || c.flags&flagAbort != 0 {
		d.finished()
	}
	// A handshake that StartTLS asked for waits for what goes before it.
	if c.phase == phaseHandshake && c.x.starting != nil && !d.reading && d.writing == nil && c.Unsent() == 0 && !closing {
		d.shake(c.x.starting)
	}
	if !d.over && !d.reading && c.flags&flagEOF == 0 && (closing || c.flags&flagPaused == 0) &&
		(c.phase == phaseOpen || c.phase == phaseProxy) {
		d.reading = true
		d.goon <- nil
	}
	d.rearm(c)
}

// send gives the writer what there is.
func (d *gconn) send() {
	c := d.c
	next := c.out
	if c.x != nil && c.x.wire != nil {
		next, c.x.wire = c.x.wire, nil
	} else {
		c.out = nil
	}
	if next == nil {
		return
	}
	if next.size() == 0 {
		next.free()
		return
	}
	c.movedOut(next.size())
	d.writing = next
	nc := d.nc
	go func() { // ends when the peer has taken it, or with the connection
		_, err := nc.Write(next.bytes())
		d.wrote <- err
	}()
}

// finished is called when everything has been sent, or nothing more will be.
func (d *gconn) finished() {
	c := d.c
	half, ok := d.nc.(interface{ CloseWrite() error })
	if c.flags&(flagAbort|flagEOF) != 0 || !ok || c.phase != phaseOpen {
		if d.tcp != nil && c.flags&flagAbort != 0 {
			d.tcp.SetLinger(0) // what the system still holds is of no use either
		}
		d.over = true
		return
	}
	// A close with unread input would have the system send a reset, which may
	// overtake what was written. So the peer closes first, or time is up.
	if c.flags&flagShut == 0 {
		c.flags |= flagShut
		d.raw.SetWriteDeadline(time.Now().Add(c.g.o.Linger))
		if err := half.CloseWrite(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			d.over = true
		}
	}
}

// The driver's side of gconn.

func (d *gconn) post(*Conn) {
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

func (d *gconn) touch(*Conn)      {}
func (d *gconn) clock() time.Time { return d.now }
func (d *gconn) interest(*Conn)   {}
func (d *gconn) startTLS(*Conn)   {}
func (d *gconn) inFlight() int    { return d.writing.size() }

func (d *gconn) rearm(c *Conn) {
	if at := c.due(); at != 0 {
		d.time.Reset(time.Until(time.Unix(0, at)))
	} else {
		d.time.Stop()
	}
}

func (d *gconn) ends(*Conn) ends {
	e := ends{remote: addrPort(d.raw.RemoteAddr()), local: addrPort(d.raw.LocalAddr())}
	switch a := d.raw.RemoteAddr(); {
	case a == nil:
	case a.Network() == "pipe" || a.Network() == "unix":
		e.inside = true
	case a.Network() == "udp":
		e.datagrams = true
	}
	return e
}

func (d *gconn) userTimeout(_ *Conn, t time.Duration) {
	if d.tcp != nil {
		setUserTimeout(d.tcp, t)
	} else if nc, ok := d.raw.(interface{ SetUserTimeout(time.Duration) }); ok {
		nc.SetUserTimeout(t)
	}
}

// String names the connection in logs.
func (c *Conn) String() string {
	if r := c.Remote(); r.IsValid() {
		return r.String()
	}
	return fmt.Sprintf("%p", c)
}
