package client_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/poll"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	linkdoor "github.com/posthouse-im/posthouse/transport/link"
	polldoor "github.com/posthouse-im/posthouse/transport/poll"
)

const tokenKey = "01234567890123456789012345678901"

// house is a server in memory with the users alice and bob, its link door and
// its HTTP door, and the network before it.
type house struct {
	core  *transport.Core
	mail  *mailbox.Mail
	links atomic.Pointer[linkdoor.Server]
	ctx   context.Context

	refuse  atomic.Bool // nothing can be reached
	hostile atomic.Bool // nothing but plain HTTP requests, and none longer than limit
	noLink  atomic.Bool // the link door's own port is closed
	upgrade atomic.Bool // hostile as it is, it lets WebSockets begin

	mu    sync.Mutex
	pipes map[net.Conn]bool // guarded by mu; the client's ends
	conns chan net.Conn     // to the HTTP server
}

// limit is how long a hostile proxy leaves a connection.
const limit = 5 * time.Second

func newHouse(t *testing.T) *house { return newHouseOn(t, mem.New(mem.Options{})) }

func newHouseOn(t *testing.T, store *mem.Store) *house {
	t.Helper()
	h := &house{mail: mailbox.New(store, mailbox.Limits{}), pipes: map[net.Conn]bool{}, conns: make(chan net.Conn)}
	var stop context.CancelFunc
	h.ctx, stop = context.WithCancel(context.Background())
	a, err := auth.Open(h.ctx, h.mail, auth.Config{Domain: "localhost", Iterations: 4096,
		Tokens: auth.TokenConfig{Keys: []auth.TokenKey{{ID: "k", Algorithm: "HS256", Key: tokenKey}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(h.ctx, u, "secret", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	engine := conn.New(conn.Config{Loops: -1, Log: log}) // event loops wait in the kernel, where time is not virtual
	h.core = &transport.Core{Mail: h.mail, Router: router.New(h.ctx, h.mail, a, "localhost"), Auth: a, Keepalive: keepalive.Fixed(0), Engine: engine, Log: log}
	h.links.Store(linkdoor.New(h.core, linkdoor.Config{}))
	mux := http.NewServeMux()
	mux.Handle("/link", h.links.Load().WebSocket(h.ctx))
	web := polldoor.New(h.core, polldoor.Config{})
	mux.Handle("/v1/", web.Handler())
	srv := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return h.ctx }}
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(listener{h}) })
	t.Cleanup(func() {
		h.cut()
		stop()
		srv.Close()
		serving.Wait()
		engine.Close()
		a.Close()
		h.mail.Close()
	})
	return h
}

// listener is the HTTP server's.
type listener struct{ h *house }

func (l listener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.h.conns:
		return nc, nil
	case <-l.h.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// local makes a pipe look like a connection on this machine, where passwords
// are taken without TLS.
type local struct{ net.Conn }

func (local) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }
func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }

// pipe connects through the network to what accept does with the other end.
func (h *house) pipe(plain bool, accept func(net.Conn)) (net.Conn, error) {
	if h.refuse.Load() || !plain && h.noLink.Load() {
		return nil, io.ErrClosedPipe
	}
	ours, front := net.Pipe()
	back, theirs := net.Pipe()
	h.mu.Lock()
	h.pipes[ours] = true
	h.mu.Unlock()
	go h.carry(front, back) // ends with either end
	accept(local{theirs})
	return ours, nil
}

// carry is the proxy.
func (h *house) carry(front, back net.Conn) {
	hostile := h.hostile.Load()
	var ends *time.Timer
	if hostile {
		ends = time.AfterFunc(limit, func() { front.Close(); back.Close() })
	}
	var both sync.WaitGroup
	both.Go(func() {
		defer front.Close()
		io.Copy(front, back)
	})
	both.Go(func() {
		defer back.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := front.Read(buf)
			if err != nil {
				return
			}
			if hostile && !h.upgrade.Load() && bytes.Contains(bytes.ToLower(buf[:n]), []byte("\r\nupgrade: websocket")) {
				io.WriteString(front, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				return
			}
			if _, err := back.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	both.Wait()
	if ends != nil {
		ends.Stop()
	}
}

// cut ends all connections.
func (h *house) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := range h.pipes {
		p.Close()
	}
	clear(h.pipes)
}

func (h *house) tcp(context.Context) (net.Conn, error) {
	return h.pipe(false, func(nc net.Conn) {
		go h.core.Engine.ServeConn(h.ctx, nc, h.links.Load().Options(h.ctx)) // ends with the connection
	})
}

func (h *house) http(context.Context, string, string) (net.Conn, error) {
	return h.pipe(true, func(nc net.Conn) {
		select {
		case h.conns <- nc:
		case <-h.ctx.Done():
			nc.Close()
		}
	})
}

func (h *house) websocket(ctx context.Context) (net.Conn, error) {
	tr := &http.Transport{DialContext: h.http, DisableKeepAlives: true}
	ws, _, err := websocket.Dial(ctx, "ws://localhost/link", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{"posthouse.link.1"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

// ways are link, link over WebSocket, and poll.
func (h *house) ways() []client.Way {
	return []client.Way{
		link.Way("link", link.Config{Dial: h.tcp}),
		link.Way("websocket", link.Config{Dial: h.websocket}),
		poll.Way(poll.Config{Options: client.Options{Addr: "localhost"}, Transport: &http.Transport{DialContext: h.http}}),
	}
}
