package conn

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
)

// group is the connections of one listener or endpoint.
type group struct {
	e    *Engine
	o    Options
	log  *slog.Logger
	gone chan struct{} // closed when the group drains and is empty

	mu       sync.Mutex
	n        int               // guarded by mu; connections
	draining bool              // guarded by mu
	over     bool              // guarded by mu; gone is closed
	per      map[uint64]uint32 // guarded by mu; connections by source
	direct   map[*gconn]bool   // guarded by mu; those on goroutines
}

func (e *Engine) newGroup(o Options) *group {
	o = o.filled()
	return &group{
		e: e, o: o, log: e.cfg.Log, gone: make(chan struct{}),
		per: make(map[uint64]uint32), direct: make(map[*gconn]bool),
	}
}

// opcode is the kind of WebSocket message that the group's protocol speaks.
func (g *group) opcode() byte {
	if g.o.Text {
		return opText
	}
	return opBinary
}

var (
	// ErrFull is why a connection beyond MaxConns or MaxPerAddr, or behind the
	// end, is not served.
	ErrFull = errors.New("conn: too many connections, or draining")
	// ErrSource is that ErrFull for one beyond MaxPerAddr.
	ErrSource = fmt.Errorf("%w: too many from there", ErrFull)
)

// enter admits a connection; leave must follow if it says yes.
func (g *group) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining || g.o.MaxConns > 0 && g.n >= g.o.MaxConns {
		return false
	}
	g.n++
	g.o.Account.Conns.Add(1)
	g.o.Account.Accepted.Add(1)
	return true
}

func (g *group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	g.o.Account.Conns.Add(-1)
	g.checkLocked()
}

func (g *group) checkLocked() {
	if g.draining && g.n == 0 && !g.over {
		g.over = true
		close(g.gone)
	}
}

// drain has every connection say goodbye. It does not wait.
func (g *group) drain() {
	g.mu.Lock()
	g.draining = true
	g.checkLocked()
	direct := make([]*gconn, 0, len(g.direct))
	for d := range g.direct {
		direct = append(direct, d)
	}
	g.mu.Unlock()
	for _, d := range direct {
		d.c.signal(bitBye)
	}
	if l := g.e.loops.Load(); l != nil {
		l.drain(g)
	}
}

// source is an address in 16 bytes, IPv4 as in IPv6.
type source [16]byte

func (s source) addr() netip.Addr { return netip.AddrFrom16(s).Unmap() }

// key is what counts as one source: an IPv4 address or an IPv6 /64, whose
// upper half it is. IPv4 stands in a part of IPv6 that is not assigned.
func (s source) key() uint64 {
	half := func(b []byte) (n uint64) {
		for _, x := range b {
			n = n<<8 | uint64(x)
		}
		return n
	}
	if a := netip.AddrFrom16(s); a.Is4In6() {
		return 0xffff<<32 | half(s[12:])
	}
	return half(s[:8])
}

// count takes c into the account of its source; false means that the source
// has its share.
func (g *group) count(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := c.source.key()
	if int(g.per[k]) >= g.o.MaxPerAddr {
		return false
	}
	g.per[k]++
	c.flags |= flagCounted
	return true
}

func (g *group) uncount(c *Conn) {
	if c.flags&flagCounted == 0 {
		return
	}
	c.flags &^= flagCounted
	g.mu.Lock()
	defer g.mu.Unlock()
	k := c.source.key()
	if g.per[k]--; g.per[k] == 0 {
		delete(g.per, k)
	}
}

// trusted reports whether a connection from a begins with a PROXY header.
func (g *group) trusted(a netip.Addr) bool {
	for _, p := range g.o.Proxy {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
