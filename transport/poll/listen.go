package poll

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/internal/ledger"
	"github.com/posthouse-im/posthouse/router"
)

// limited is a listener that closes at once what is over the limits.
type limited struct {
	net.Listener
	s    *Server
	seam bool // there will be TLS on its connections
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a := addrOf(c.RemoteAddr().String())
		if free := l.s.admit(a); free != nil {
			if tc, ok := c.(*net.TCPConn); ok {
				// Go has the system send something each 15 s, which would wake a
				// phone that waits for the answer to a long poll.
				tc.SetKeepAlive(false)
			}
			lc := &limitedConn{Conn: c, free: sync.OnceFunc(free)}
			if l.seam {
				lc.seam = conn.NewSeam(c)
				lc.Conn = lc.seam
			}
			return lc, nil
		}
		l.s.count.refused.Add(1)
		c.Close()
	}
}

// admit takes a place for a connection from a, and returns how to give it back;
// nil if there is none. Proxies are not counted by address.
func (s *Server) admit(a netip.Addr) (free func()) {
	if !s.places.Take(s.cfg.MaxConns) {
		return nil
	}
	counted := !s.trusts(a)
	if counted && !s.places.TakeFrom(a, s.cfg.MaxPerAddr) {
		s.places.Give()
		return nil
	}
	s.count.conns.Add(1)
	return func() {
		s.count.conns.Add(-1)
		if counted {
			s.places.GiveFrom(a)
		}
		s.places.Give()
	}
}

// limitedConn counts besides what goes over it, TLS included.
type limitedConn struct {
	net.Conn
	seam  *conn.Seam // Conn, if there is TLS above: a WebSocket may go, and take TLS along
	free  func()
	meter atomic.Pointer[cost.Meter] // of the device that made the last request
	early cost.Meter                 // until there was one
	ahead atomic.Int32               // bytes read that are not counted yet
}

// connKey finds in a request's context the connection that it came by.
type connKey struct{}

// withConn is for [http.Server.ConnContext].
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// charge has what goes over the connection counted for a device.
func (c *limitedConn) charge(l *ledger.Ledger, user, device string) {
	m := l.Meter(user, device, router.Poll.String())
	if old := c.meter.Swap(m); old == m {
		return
	} else if old == nil {
		l.Book(user, device, router.Poll.String(), &c.early)
	}
	m.Connect()
}

// beat counts a heartbeat: something that was sent so that the connection lasts.
func (s *Server) beat(who auth.Who) {
	s.core.Costs.Meter(who.User, who.Device, router.Poll.String()).Beat()
}

func (c *limitedConn) counter() *cost.Meter {
	if m := c.meter.Load(); m != nil {
		return m
	}
	return &c.early
}

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case c.moved():
	case n == 1 && len(p) == 1:
		c.ahead.Add(1) // net/http looks whether the client is there: the packet's rest is read next
	case n > 0:
		c.counter().Up(n+int(c.ahead.Swap(0)), time.Now(), cost.Quiet)
	}
	return n, err
}

func (c *limitedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 && !c.moved() {
		c.counter().Down(n, time.Now(), cost.Quiet)
	}
	return n, err
}

// moved reports whether the connection is HTTP's no more, and counted by others.
func (c *limitedConn) moved() bool { return c.seam != nil && c.seam.Moved() }

// NetConn is what was accepted. Who takes the connection over from HTTP may
// move it elsewhere, and then closes this one.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

func (c *limitedConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// addrOf returns the address in host:port, or the zero Addr.
func addrOf(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// trusts reports whether a is a proxy whose word on a request counts.
func (s *Server) trusts(a netip.Addr) bool {
	for _, p := range s.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// remote is where the request comes from: the peer, or whom the nearest
// trusted proxy names.
func (s *Server) remote(r *http.Request) netip.Addr {
	a := addrOf(r.RemoteAddr)
	if !s.trusts(a) {
		return a
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		next, err := netip.ParseAddr(hop)
		if err != nil {
			if next = addrOf(hop); !next.IsValid() {
				break // what stands before that was written by anybody
			}
		}
		if a = next.Unmap().WithZone(""); !s.trusts(a) {
			break
		}
	}
	return a
}

// secure reports whether nobody on the way can read along: the connection has
// TLS, a trusted proxy says that its own has, or both ends are on this machine.
// A proxy on this machine that is not trusted, or does not say, is neither.
func (s *Server) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	peer := addrOf(r.RemoteAddr)
	if forwarded(r) {
		return s.trusts(peer) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	tcp, ok := local.(*net.TCPAddr)
	return ok && peer.IsLoopback() && tcp.IP.IsLoopback()
}

// forwarded reports whether r has come through a proxy that says so.
func forwarded(r *http.Request) bool {
	for _, name := range [...]string{"X-Forwarded-Proto", "X-Forwarded-For", "Forwarded"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}
