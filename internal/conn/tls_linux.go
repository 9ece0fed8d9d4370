package conn

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// TLS on a loop is the standard library's, over a net.Conn that is a pair of
// buffers. The handshake needs a goroutine, since tls.Conn cannot stop in the
// middle of one. Afterwards it can: a Read that fails with a temporary error
// changes nothing in it and may be repeated.
//
//	           handshake                         afterwards
//	loop ─ feed ─▶ in ─▶ Read, waits      loop ─ decrypt ─▶ Read, or errAgain
//	loop ◀ collect ─ out ◀─ Write         wire ◀─────────── Write

// pipe is what a tls.Conn on a loop sits on.
type pipe struct {
	c    *Conn
	tc   *tls.Conn
	live bool   // the handshake is over; set by the loop
	now  []byte // then: what the loop has read

	mu   sync.Mutex
	some sync.Cond // on mu: in or err has changed
	in   []byte    // guarded by mu, as is all below; during the handshake
	out  []byte
	err  error
	end  error // of the handshake
}

// maxHello bounds what a peer may send ahead of a handshake.
const maxHello = 256 << 10

// shake starts a handshake; p is what was read of it.
func (l *loop) shake(c *Conn, cfg *tls.Config, p []byte) {
	pi := &pipe{c: c, in: append([]byte(nil), p...)}
	pi.some.L = &pi.mu
	pi.tc = tls.Server(pi, cfg)
	c.more().pipe = pi
	l.all.shakes.add(pi)
}

// startTLS is called when what was written in the clear is complete.
func (l *loop) startTLS(c *Conn) {
	join(&c.x.wire, c.out)
	c.out = nil
	cfg := c.x.starting
	c.x.starting = nil
	l.shake(c, cfg, nil)
}

// shakes bounds how many handshakes are under way.
type shakes struct {
	max     int
	all     sync.WaitGroup // the goroutines
	mu      sync.Mutex
	running int     // guarded by mu
	waiting []*pipe // guarded by mu
}

func (s *shakes) add(p *pipe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running >= s.max {
		s.waiting = append(s.waiting, p)
		return
	}
	s.running++
	s.all.Add(1)
	go s.run(p) // ends when nobody waits; each handshake ends in time, or with its connection
}

func (s *shakes) run(p *pipe) {
	defer s.all.Done()
	for {
		err := p.tc.HandshakeContext(context.Background())
		p.mu.Lock()
		p.end = err
		p.mu.Unlock()
		s.mu.Lock()
		c := p.c
		p = nil
		if len(s.waiting) > 0 {
			p, s.waiting = s.waiting[0], s.waiting[1:]
		} else {
			s.running--
		}
		s.mu.Unlock()
		c.signal(bitShaken)
		if p == nil {
			return
		}
	}
}

// shaken is called on the loop when the handshake's goroutine is done with c.
func (l *loop) shaken(c *Conn) {
	p := c.x.pipe.(*pipe)
	p.collect()
	p.live = true
	if c.phase == phaseOver {
		c.g.leave()
		return
	}
	if p.end != nil {
		// What TLS has to say about it is sent.
		c.Close(fmt.Errorf("%w: %w", ErrHandshake, p.end))
		l.touch(c)
		return
	}
	if c.flags&flagClosing != 0 {
		return
	}
	in := p.in
	p.in = nil
	c.x.crypt = p.tc
	c.open()
	// The handshake may have read further than its end.
	l.decrypt(c, in)
	l.touch(c)
}

// decrypt hands what is in p, received by the loop, to the protocol.
func (l *loop) decrypt(c *Conn, p []byte) {
	pi := c.x.pipe.(*pipe)
	pi.now = p
	for c.flags&flagClosing == 0 {
		n, err := c.x.crypt.Read(l.plain)
		if n > 0 {
			c.received(l.plain[:n])
		}
		if err == errAgain {
			break
		}
		if err != nil {
			c.ended(err)
			break
		}
	}
	pi.now = nil
	l.touch(c)
}

// feed gives the handshake what was received; false means that it is too much.
func (p *pipe) feed(b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.in)+len(b) > maxHello {
		return false
	}
	p.in = append(p.in, b...)
	p.some.Signal()
	return true
}

// collect moves what the handshake has written to the wire.
func (p *pipe) collect() {
	p.mu.Lock()
	out := p.out
	p.out = nil
	p.mu.Unlock()
	addTo(&p.c.x.wire, out)
}

// fail ends the handshake.
func (p *pipe) fail(err error) {
	if err == nil {
		err = io.ErrClosedPipe
	}
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	p.some.Signal()
}

// again is the error of a Read that finds nothing.
type again struct{}

func (again) Error() string   { return "conn: nothing to read now" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

var errAgain error = again{}

func (p *pipe) Read(b []byte) (int, error) {
	if p.live {
		if len(p.now) == 0 {
			return 0, errAgain
		}
		n := copy(b, p.now)
		p.now = p.now[n:]
		return n, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.in) == 0 && p.err == nil {
		p.some.Wait()
	}
	if p.err != nil {
		return 0, p.err
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.live {
		addTo(&p.c.x.wire, b)
		return len(b), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	p.out = append(p.out, b...)
	p.c.signal(bitWrite)
	return len(b), nil
}

func (p *pipe) Close() error                     { return nil }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is not known here; nothing in TLS asks for it.
func (p *pipe) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr is for a tls.Config's callbacks.
func (p *pipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.c.source.addr(), p.c.port))
}
