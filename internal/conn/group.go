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
	n        int             // guarded by mu; connections
	draining bool            // guarded by mu
	over     bool            // guarded by mu; gone is closed
	direct   map[*gconn]bool // guarded by mu; those on goroutines
}

func (e *Engine) newGroup(o Options) *group {
	o = o.filled()
	return &group{e: e, o: o, log: e.cfg.Log, gone: make(chan struct{}), direct: make(map[*gconn]bool)}
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
	if g.draining || !g.o.Places.Take(g.o.MaxConns) {
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
	g.o.Places.Give()
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

// count takes a place of c's source; false means that the source has its share.
func (g *group) count(c *Conn) bool {
	if !g.o.Places.takeFrom(c.source, g.o.MaxPerAddr) {
		return false
	}
	c.flags |= flagCounted
	return true
}

func (g *group) uncount(c *Conn) {
	if c.flags&flagCounted == 0 {
		return
	}
	c.flags &^= flagCounted
	g.o.Places.giveFrom(c.source)
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
