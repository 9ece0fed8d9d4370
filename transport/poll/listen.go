package poll

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
)

// limited is a listener that closes at once what is over the limits.
type limited struct {
	net.Listener
	s *Server

	mu      sync.Mutex
	open    int
	perAddr map[netip.Addr]int
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a := network(addrOf(c.RemoteAddr().String()))
		if l.take(a) {
			l.s.count.conns.Add(1)
			return &limitedConn{Conn: c, free: sync.OnceFunc(func() { l.give(a) })}, nil
		}
		l.s.count.refused.Add(1)
		c.Close()
	}
}

func (l *limited) take(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.s.cfg.MaxConns || !l.s.trusts(a) && l.perAddr[a] >= l.s.cfg.MaxPerAddr {
		return false
	}
	l.open++
	l.perAddr[a]++
	return true
}

func (l *limited) give(a netip.Addr) {
	l.s.count.conns.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.perAddr[a]--; l.perAddr[a] == 0 {
		delete(l.perAddr, a)
	}
}

type limitedConn struct {
	net.Conn
	free func()
}

// NetConn is what was accepted. Who takes the connection over from HTTP may
// move it elsewhere, and then closes this one.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

func (c *limitedConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// network is what counts as one address: an IPv6 customer has a /64.
func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
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
