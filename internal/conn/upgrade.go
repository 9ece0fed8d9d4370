package conn

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// WebSocket is an HTTP handler that upgrades to WebSocket (RFC 6455) and then
// serves the connection like Serve's, until ctx is cancelled: then each is told
// Goodbye. The handler returns at once; [Engine.Close] waits for the
// connections. On Linux a connection moves to a loop, with TLS if that sits on a
// [Seam].
func (e *Engine) WebSocket(ctx context.Context, o Options) http.Handler {
	e.init()
	g := e.newGroup(o)
	e.mu.Lock()
	if e.closed {
		g.draining = true
	} else {
		if e.groups == nil {
			e.groups = make(map[*group]bool)
		}
		e.groups[g] = true
	}
	e.mu.Unlock()
	context.AfterFunc(ctx, g.drain)
	return http.HandlerFunc(g.upgrade)
}

// upgrade is the server's side of RFC 6455 section 4.2.
func (g *group) upgrade(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, text string) { http.Error(w, text, status) }
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	switch {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		refuse(http.StatusMethodNotAllowed, "a WebSocket begins with GET")
		return
	case !names(r.Header, "Upgrade", "websocket") || !names(r.Header, "Connection", "upgrade"):
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		refuse(http.StatusUpgradeRequired, "this is a WebSocket endpoint")
		return
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		// "it MUST abort processing the WebSocket handshake and instead send an
		// appropriate HTTP error code (such as 426 Upgrade Required) and a
		// Sec-WebSocket-Version header field" section 4.2.2
		w.Header().Set("Sec-WebSocket-Version", "13")
		refuse(http.StatusUpgradeRequired, "WebSocket version 13 is what we speak")
		return
	case err != nil || len(key) != 16:
		refuse(http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64")
		return
	case !g.originAllowed(r):
		refuse(http.StatusForbidden, "this origin may not connect")
		return
	}
	proto, ok := g.subprotocol(r.Header)
	if !ok {
		refuse(http.StatusBadRequest, "subprotocol is not one of: "+strings.Join(g.o.Subprotocols, ", "))
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		refuse(http.StatusHTTPVersionNotSupported, "a WebSocket needs HTTP/1.1")
		return
	}
	if !g.open() {
		refuse(http.StatusServiceUnavailable, "too many connections")
		return
	}
	nc, rw, err := hijacker.Hijack()
	if err != nil {
		refuse(http.StatusInternalServerError, "cannot take over the connection")
		return
	}
	nc.SetDeadline(time.Time{})
	rest, _ := rw.Reader.Peek(rw.Reader.Buffered())
	up := &upgraded{reply: accept101(r.Header.Get("Sec-WebSocket-Key"), proto), rest: slices.Clone(rest)}
	if sock, moves := socketOf(nc); moves {
		if ls := g.e.looped(); ls != nil && ls.adopt(sock, g, up) == nil {
			if sock.crypt != nil {
				nc = sock.crypt.NetConn() // TLS itself goes on
			}
			nc.Close() // the loop has a descriptor of its own
			return
		}
	}
	go g.serve(nc, up) // ends with the connection; Engine.Close waits for it
}

// open reports whether a connection would be admitted now.
func (g *group) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.draining && !g.o.Places.full(g.o.MaxConns)
}

// accept101 is the answer that switches protocols.
func accept101(key, proto string) []byte {
	// "concatenating the value [of] /key/ with the string
	// 258EAFA5-E914-47DA-95CA-C5AB0DC85B11, taking the SHA-1 hash of this
	// concatenated value" section 4.2.2
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	b := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if proto != "" {
		b = append(b, "\r\nSec-WebSocket-Protocol: "+proto...)
	}
	return append(b, "\r\n\r\n"...)
}

// words are the tokens of a header that is a list.
func words(h http.Header, name string) (all []string) {
	for _, line := range h.Values(name) {
		for w := range strings.SplitSeq(line, ",") {
			if w = strings.TrimSpace(w); w != "" {
				all = append(all, w)
			}
		}
	}
	return all
}

func names(h http.Header, name, token string) bool {
	return slices.ContainsFunc(words(h, name), func(w string) bool { return strings.EqualFold(w, token) })
}

// subprotocol chooses our best among those that the client offers. A client
// that offers none gets none; one that offers only others is refused, since it
// would not understand us.
func (g *group) subprotocol(h http.Header) (string, bool) {
	offered := words(h, "Sec-WebSocket-Protocol")
	for _, p := range g.o.Subprotocols {
		if slices.Contains(offered, p) {
			return p, true
		}
	}
	return "", len(offered) == 0 || len(g.o.Subprotocols) == 0
}

// originAllowed keeps foreign web pages from using a browser's access to this
// server. A client that is not a browser sends no Origin. RFC 6455 section 10.2
func (g *group) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(g.o.Origins, "*") || slices.Contains(g.o.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
