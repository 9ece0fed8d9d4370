package conn

import (
	"fmt"
	"io"
	"runtime/debug"
)

// What happens to a connection between two looks at the network is the same on
// a loop and on a goroutine. It is here.

// open hands the connection to its protocol: handshakes are over.
func (c *Conn) open() {
	c.phase = phaseOpen
	if c.x != nil {
		c.x.deadline = 0
	}
	if c.flags&flagClosing != 0 {
		return
	}
	first := c.flags&flagOpened == 0
	c.flags |= flagOpened
	c.d.rearm(c)
	c.call(func(p Protocol) error {
		if first {
			return p.Open(c)
		}
		if s, ok := p.(Secured); ok {
			return s.Secured(*c.TLS())
		}
		return nil
	})
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		c.signal(bitWake)
		c.d.touch(c)
	}
}

// wake does what pending asks for, other than what is the driver's own.
func (c *Conn) wake(bits uint32) {
	if c.phase != phaseOpen && bits&(bitWake|bitSend) != 0 {
		c.flags |= flagHeld
	}
	if bits&bitBye != 0 {
		c.goodbye()
	}
	if bits&bitInput != 0 {
		c.again()
	}
	if bits&bitWake != 0 && c.listens() {
		c.call(Protocol.Wake)
	}
	if bits&bitSend != 0 {
		c.d.touch(c)
	}
}

// listens reports whether methods of the protocol may be called.
func (c *Conn) listens() bool { return c.phase == phaseOpen && c.flags&flagClosing == 0 }

// again calls Data with what is there already: reading has been resumed.
func (c *Conn) again() {
	if c.in != nil {
		c.input(nil)
	}
}

// goodbye begins the end of a connection since the server drains.
func (c *Conn) goodbye() {
	if c.flags&flagClosing != 0 {
		return
	}
	if !c.listens() {
		c.abort(ErrDrain)
		return
	}
	c.more().deadline = c.d.clock().Add(c.g.o.Linger).UnixNano()
	c.d.rearm(c)
	c.call(func(p Protocol) error { p.Goodbye(); return nil })
}

// ring is called when a deadline has come: whichever it was.
func (c *Conn) ring(now int64) {
	if c.x != nil && c.x.deadline != 0 && c.x.deadline <= now {
		c.x.deadline = 0
		switch {
		case c.flags&flagClosing != 0:
			c.flags |= flagAbort
			c.d.touch(c)
		case c.phase == phaseOpen:
			c.abort(ErrDrain) // Goodbye did not close it in time
		default:
			c.abort(fmt.Errorf("%w: %w", ErrHandshake, ErrTimeout))
		}
	}
	if c.alarm != 0 && c.alarm <= now && c.listens() {
		c.alarm = 0
		c.call(Protocol.Alarm)
	}
	c.d.rearm(c)
}

// received takes bytes from the wire, after TLS. It may change p.
func (c *Conn) received(p []byte) {
	if c.flags&flagClosing != 0 {
		return
	}
	if c.framed {
		ok := false
		if p, ok = c.unframe(p); !ok {
			return
		}
	}
	if len(p) > 0 {
		c.input(p)
	}
}

// input hands p, behind what was left of before, to the protocol.
func (c *Conn) input(p []byte) {
	if c.flags&flagPaused != 0 || !c.listens() {
		if c.listens() {
			addTo(&c.in, p)
		}
		return
	}
	held := c.in != nil
	if held {
		c.in.add(p)
		p = c.in.bytes()
	}
	n := c.callData(p)
	rest := p[n:]
	switch {
	case c.flags&flagClosing != 0 || len(rest) == 0:
		c.in.free()
		c.in = nil
	case len(rest) > c.g.o.MaxInput && c.flags&flagPaused == 0:
		c.Close(ErrInput)
	case held:
		c.in.off += n
	default:
		addTo(&c.in, rest)
	}
	c.after()
}

// callData is apart from call since it is what happens most.
func (c *Conn) callData(p []byte) (n int) {
	defer c.contain()
	got, err := c.proto.Data(p)
	if got < 0 || got > len(p) {
		panic(fmt.Sprintf("conn: Data consumed %d of %d bytes", got, len(p)))
	}
	if err != nil {
		c.Close(err)
	}
	return got
}

// call calls a method of the protocol.
func (c *Conn) call(method func(Protocol) error) {
	func() {
		defer c.contain()
		if err := method(c.proto); err != nil {
			c.Close(err)
		}
	}()
	c.after()
}

// contain turns a panic in a protocol into the end of its connection.
func (c *Conn) contain() {
	if r := recover(); r != nil {
		c.g.log.Error("conn: panic in a protocol", "panic", r, "stack", string(debug.Stack()))
		c.Close(fmt.Errorf("%w: %v", ErrPanic, r))
	}
}

// after looks at what a method has asked for.
func (c *Conn) after() {
	unsent := c.Unsent()
	if unsent > c.g.o.MaxUnsent {
		c.abort(ErrUnsent)
	}
	if unsent >= c.g.o.Ahead {
		c.flags |= flagFull
	}
	if c.x != nil && c.x.starting != nil && c.flags&flagClosing == 0 && c.phase == phaseOpen {
		if c.in != nil {
			c.Close(fmt.Errorf("%w: plaintext behind the request for TLS", ErrHandshake))
			return
		}
		// RFC 3207 section 6, RFC 9051 section 11.1: what was sent in the clear
		// behind the request must not be taken for something said under TLS.
		c.takeSide()
		c.phase = phaseHandshake
		c.x.deadline = c.d.clock().Add(c.g.o.Handshake).UnixNano()
		c.d.rearm(c)
		c.d.startTLS(c)
	}
}

// ended is called when the network has failed or the peer has gone.
func (c *Conn) ended(err error) {
	switch {
	case c.flags&flagClosing != 0:
		if err != io.EOF {
			c.flags |= flagAbort
		}
	case err == io.EOF && c.phase == phaseOpen:
		c.Close(io.EOF)
	case c.phase != phaseOpen:
		c.abort(fmt.Errorf("%w: %w", ErrHandshake, err))
	default:
		c.abort(err)
	}
	if err == io.EOF {
		c.flags |= flagEOF
	}
	c.d.touch(c)
}

// finish is the end of a round: it tells the protocol that the connection is
// closing, and makes what is to be sent ready for the wire.
func (c *Conn) finish() {
	if c.phase == phaseOpen {
		c.takeSide()
	}
	if c.flags&flagClosing != 0 && c.proto != nil {
		c.tell()
	}
	c.encode()
}

// tell says Closed, and lets go of the protocol.
func (c *Conn) tell() {
	p := c.proto
	c.proto = nil
	c.alarm = 0
	c.in.free()
	c.in = nil
	c.mu.Lock()
	c.deaf = true
	c.mu.Unlock()
	if c.framed && c.flags&flagAbort == 0 {
		c.encode()
		c.x.ws.bye(c, c.x.why)
	}
	defer c.contain()
	p.Closed(c.x.why)
}

// encode moves out to wire where there is something between them.
func (c *Conn) encode() {
	switch {
	case c.out == nil || c.phase == phaseHandshake:
		return
	case c.out.size() == 0: // Out was called and nothing appended
	case c.framed:
		if !c.x.ws.closed {
			c.x.ws.put(c, c.g.opcode(), c.out.bytes())
		}
	case c.x == nil:
		return
	case c.encrypts():
		c.encrypt(c.out.bytes())
	case c.x.wire != nil:
		c.x.wire.add(c.out.bytes())
	default:
		return
	}
	c.out.free()
	c.out = nil
}

// encrypts reports whether what goes to wire is to be encrypted before; where
// it is not, TLS is the driver's business, if there is any.
func (c *Conn) encrypts() bool { return c.x != nil && c.x.crypt != nil && c.x.pipe != nil }

// encrypt appends p to wire as TLS records.
func (c *Conn) encrypt(p []byte) {
	if _, err := c.x.crypt.Write(p); err != nil {
		c.ended(err)
	}
}

// sent is called after bytes have gone: it publishes how many wait, and wakes
// a protocol that waited for room.
func (c *Conn) sent() {
	unsent := c.Unsent()
	c.behind.Store(int32(min(unsent, 1<<30)))
	if c.flags&flagFull != 0 && unsent < c.g.o.Ahead {
		c.flags &^= flagFull
		c.signal(bitWake)
	}
}

// preface reads the header of the PROXY protocol that is due first. It returns
// what follows it, and whether it was complete.
func (c *Conn) preface(p []byte) (rest []byte, done bool) {
	addTo(&c.in, p)
	h, n, err := proxyHeader(c.in.bytes())
	if err != nil {
		c.abort(fmt.Errorf("%w: %w", ErrHandshake, err))
		return nil, false
	}
	if n == 0 {
		return nil, false
	}
	rest = append(rest, c.in.bytes()[n:]...)
	c.in.free()
	c.in = nil
	if h.remote.IsValid() {
		c.more().declared = &h
		c.source = h.remote.Addr().As16()
	}
	if !c.g.count(c) {
		c.abort(ErrSource)
		return nil, false
	}
	return rest, true
}
