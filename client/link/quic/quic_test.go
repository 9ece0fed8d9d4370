package quic_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/link/quic"
	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	door "github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// house is a server in memory with the users alice and bob, listening for QUIC.
type house struct {
	*door.Server
	core *transport.Core
	addr string
	stop func()
}

func open(t testing.TB, cfg door.Config) *house {
	t.Helper()
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	ctx, stop := context.WithCancel(context.Background())
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096,
		Tokens: auth.TokenConfig{Keys: []auth.TokenKey{{ID: "k", Algorithm: "HS256", Key: "01234567890123456789012345678901"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(ctx, u, "secret", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := certs.Open(certs.Options{Dir: t.TempDir(), Domain: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	core := &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Keepalive: keepalive.Fixed(0),
		Engine: conn.New(conn.Config{Log: log}), Log: log}
	h := &house{Server: door.New(core, cfg), core: core}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := h.QUIC(pc, cert.Config())
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	serving, drain := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- h.Serve(serving, ln) }() // ends with serving
	ended := false
	h.stop = func() {
		if ended {
			return
		}
		ended = true
		drain()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := pc.WriteTo([]byte{0}, pc.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the socket is open after Serve: %v", err)
		}
	}
	t.Cleanup(func() {
		h.stop()
		core.Engine.Close()
		a.Close()
		stop()
		mail.Close()
	})
	return h
}

func options(addr, user string) client.Options {
	return client.Options{Addr: quic.Scheme + addr, User: user, Password: "secret", Device: "phone", TLS: &tls.Config{InsecureSkipVerify: true}}
}

// from gives each connection and move the next of some local addresses.
func from(ips ...string) func(context.Context) (net.PacketConn, error) {
	var n atomic.Int64
	return func(context.Context) (net.PacketConn, error) {
		ip := ips[int(n.Add(1)-1)%len(ips)]
		return net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	}
}

func dial(t *testing.T, cfg quic.Config, network string) *link.Mailbox {
	t.Helper()
	cfg.Options.Log = slog.New(slog.NewTextHandler(t.Output(), nil)) // told when it fails
	mb, err := link.Open(t.Context(), link.Config{Options: cfg.Options, Dial: quic.Dialer(cfg), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mb.Close() })
	return mb
}

// exchange sends n messages each way, with many in flight, does each after
// every tenth, and looks whether all arrive once and in order.
func exchange(t *testing.T, alice, bob *link.Mailbox, n int, each func(i int)) {
	t.Helper()
	results := make(chan error, 4)
	receive := func(mb *link.Mailbox, name string) {
		for i := range n {
			m, err := mb.Receive(t.Context())
			if err == nil && string(m.Body) != fmt.Sprint(i) {
				err = fmt.Errorf("%s got %q instead of %d", name, m.Body, i)
			}
			if err == nil {
				err = mb.Ack(t.Context(), m)
			}
			if err != nil {
				results <- err
				return
			}
			if name == "alice" && i%10 == 9 {
				each(i / 10)
			}
		}
		results <- nil
	}
	send := func(mb *link.Mailbox, to string) {
		answers := make(chan error, n)
		for i := range n {
			if err := mb.SendAsync(client.Draft{To: to, Body: fmt.Append(nil, i)}, func(_ client.Receipt, err error) { answers <- err }); err != nil {
				results <- err
				return
			}
		}
		var err error
		for range n {
			err = errors.Join(err, <-answers)
		}
		results <- err
	}
	go receive(alice, "alice")
	go receive(bob, "bob")
	go send(alice, "bob")
	go send(bob, "alice")
	for range 4 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
}

// A phone goes from one network to another and back, ten times, while messages
// are under way each way: one login, nothing lost, nothing twice.
func TestMove(t *testing.T) {
	h := open(t, door.Config{})
	o := options(h.addr, "alice")
	alice := dial(t, quic.Config{Options: o, Listen: from("127.0.0.1", "127.0.0.2")}, "wifi")
	bob := dial(t, quic.Config{Options: options(h.addr, "bob")}, "")
	exchange(t, alice, bob, 100, func(i int) {
		alice.NetworkChanged([]string{"lte", "wifi"}[i%2])
		waitFor(t, func() bool { return alice.Stats().Moves == uint64(i+1) })
		answered(t, alice)
	})
	if s := h.Stats(); s.Welcomed != 2 || s.Sessions != 2 {
		t.Errorf("%d logins, %d sessions", s.Welcomed, s.Sessions)
	}
	if s := alice.Stats(); s.Reconnects != 0 || s.Network != "wifi" {
		t.Errorf("%+v", s)
	}
}

// Changes that come faster than a path can be tried: with so many a fresh
// connection may be needed, but nothing is lost, and nothing twice.
func TestManyChanges(t *testing.T) {
	h := open(t, door.Config{})
	alice := dial(t, quic.Config{Options: options(h.addr, "alice"), Listen: from("127.0.0.1", "127.0.0.2")}, "wifi")
	bob := dial(t, quic.Config{Options: options(h.addr, "bob")}, "")
	exchange(t, alice, bob, 100, func(i int) { alice.NetworkChanged([]string{"lte", "wifi"}[i%2]) })
	waitFor(t, func() bool { s := alice.Stats(); return s.Moves+s.Reconnects > 0 && s.Network == "wifi" })
	answered(t, alice)
}

// answered waits for the server's answer to a question.
func answered(t *testing.T, mb *link.Mailbox) {
	t.Helper()
	waitFor(t, func() bool { _, err := mb.Devices(t.Context()); return err == nil })
}

// waitFor waits for what another goroutine is about to do.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
		time.Sleep(time.Millisecond)
	}
}

// Each move is made and seen by the server, more often than a peer has
// connection IDs in stock.
func TestManyMoves(t *testing.T) {
	h := open(t, door.Config{})
	nc, err := quic.Dialer(quic.Config{Options: options(h.addr, "alice"), Listen: from("127.0.0.1", "127.0.0.2")})(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := nc.(*quic.Conn)
	token, _, err := h.core.Auth.IssueToken(t.Context(), "alice", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.Write(frame.Append(nil, &frame.Hello{Major: 1, Token: token, Prefix: "k"}))
	b := make([]byte, 1024)
	if n, err := c.Read(b); err != nil || frame.Type(b[0]) != frame.TypeWelcome {
		t.Fatalf("%x, %v", b[:n], err)
	}
	for i := range 20 {
		before := c.LocalAddr().String()
		if err := c.Move(t.Context()); err != nil {
			t.Fatalf("move %d: %v", i, err)
		}
		if c.LocalAddr().String() == before {
			t.Fatal("still at", before)
		}
		c.Write(frame.Append(nil, &frame.Ping{}))
		if n, err := c.Read(b); err != nil || frame.Type(b[0]) != frame.TypePong {
			t.Fatalf("after move %d: %x, %v", i, b[:n], err)
		}
	}
}

// A move that cannot be made leads to a fresh connection, and nothing is lost
// either.
func TestMoveFails(t *testing.T) {
	h := open(t, door.Config{})
	var fail atomic.Bool
	listen := func(context.Context) (net.PacketConn, error) {
		if fail.Swap(false) {
			return nil, errors.New("no such network")
		}
		return net.ListenPacket("udp", "127.0.0.1:0")
	}
	alice := dial(t, quic.Config{Options: options(h.addr, "alice"), Listen: listen}, "wifi")
	bob := dial(t, quic.Config{Options: options(h.addr, "bob")}, "")
	exchange(t, alice, bob, 30, func(i int) {
		if i == 0 {
			fail.Store(true)
			alice.NetworkChanged("lte")
		}
	})
	waitFor(t, func() bool { return alice.Stats().Reconnects == 1 })
	if s := alice.Stats(); s.Moves != 0 {
		t.Errorf("%+v", s)
	}
}

// nat is a NAT: what comes from inside goes out from a port of its own, which
// rebind changes.
type nat struct {
	inside net.PacketConn
	server net.Addr
	out    atomic.Pointer[mapping]
	rebind func()

	up, down, bytesUp, bytesDown atomic.Int64
}

type mapping struct{ net.PacketConn }

func newNAT(t *testing.T, server string) *nat {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{inside: pc, server: to}
	var from atomic.Pointer[net.Addr]
	back := func(out *mapping) {
		b := make([]byte, 2048)
		for {
			k, _, err := out.ReadFrom(b)
			if err != nil {
				return
			}
			n.down.Add(1)
			n.bytesDown.Add(int64(k))
			n.inside.WriteTo(b[:k], *from.Load())
		}
	}
	rebind := func() {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		m := &mapping{pc}
		if old := n.out.Swap(m); old != nil {
			old.Close()
		}
		go back(m) // ends when the next one takes its place
	}
	rebind()
	n.rebind = rebind
	go func() { // ends with the test
		b := make([]byte, 2048)
		for {
			k, a, err := n.inside.ReadFrom(b)
			if err != nil {
				return
			}
			from.Store(&a)
			n.up.Add(1)
			n.bytesUp.Add(int64(k))
			n.out.Load().WriteTo(b[:k], n.server)
		}
	}()
	t.Cleanup(func() {
		n.inside.Close()
		n.out.Load().Close()
	})
	return n
}

// A NAT that gives the phone another port, with messages under way: neither
// the phone nor its session notice.
func TestRebinding(t *testing.T) {
	h := open(t, door.Config{})
	n := newNAT(t, h.addr)
	alice := dial(t, quic.Config{Options: options(n.inside.LocalAddr().String(), "alice")}, "")
	bob := dial(t, quic.Config{Options: options(h.addr, "bob")}, "")
	exchange(t, alice, bob, 60, func(int) {
		n.rebind()
		answered(t, alice) // so that it has a connection ID for the next one
	})
	if s := h.Stats(); s.Welcomed != 2 || s.Sessions != 2 {
		t.Errorf("%d logins, %d sessions", s.Welcomed, s.Sessions)
	}
	if s := alice.Stats(); s.Reconnects != 0 {
		t.Errorf("%d reconnects", s.Reconnects)
	}
}

// TLS sessions are resumed, and the address that was validated once is known.
// There is no 0-RTT.
func TestResumption(t *testing.T) {
	h := open(t, door.Config{})
	d := quic.Dialer(quic.Config{Options: options(h.addr, "alice")})
	for i := range 2 {
		nc, err := d(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nc.Write(frame.Append(nil, &frame.Hello{Major: 1, User: "alice", Password: "secret", Prefix: "k"}))
		if _, err := nc.Read(make([]byte, 1024)); err != nil {
			t.Fatal(err)
		}
		if got := nc.(*quic.Conn).ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("connection %d resumed: %v", i, got)
		}
		nc.Close()
	}
	// The ticket itself says that the server takes no early data.
	cache := tls.NewLRUClientSessionCache(1)
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{frame.Protocol}, ClientSessionCache: cache, ServerName: "localhost"}
	for range 2 {
		qc, err := quicgo.DialAddrEarly(t.Context(), h.addr, cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-qc.HandshakeComplete()
		if qc.ConnectionState().Used0RTT {
			t.Error("0-RTT was taken")
		}
		st, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		st.Write(frame.Append(nil, &frame.Close{Code: frame.CloseDone})) // not a HELLO
		io.ReadAll(st)
		qc.CloseWithError(0, "")
	}
}

// Who speaks another protocol, or an older TLS, is told so in the handshake.
func TestWrongProtocol(t *testing.T) {
	h := open(t, door.Config{})
	for _, protos := range [][]string{{"h3"}, nil} {
		_, err := quicgo.DialAddr(t.Context(), h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protos}, nil)
		var refused *quicgo.TransportError
		if !errors.As(err, &refused) || !refused.ErrorCode.IsCryptoError() {
			t.Errorf("offered %q: %v", protos, err)
		}
	}
	if n := h.Stats().Opened; n != 0 {
		t.Errorf("%d connections", n)
	}
}

// The reason of a close is in the CLOSE frame, and behind it in the code of the
// connection.
func TestCloseCodes(t *testing.T) {
	h := open(t, door.Config{HelloTime: time.Second})
	open := func() (*quicgo.Conn, *quicgo.Stream) {
		qc, err := quicgo.DialAddr(t.Context(), h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{frame.Protocol}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		st, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		return qc, st
	}
	code := func(qc *quicgo.Conn) quicgo.ApplicationErrorCode {
		<-qc.Context().Done()
		var app *quicgo.ApplicationError
		if !errors.As(context.Cause(qc.Context()), &app) || !app.Remote {
			t.Errorf("ended with %v", context.Cause(qc.Context()))
			return 0
		}
		return app.ErrorCode
	}
	qc, st := open()
	st.Write(frame.Append(nil, &frame.Ping{}))
	st.Close()
	if b, err := io.ReadAll(st); err != nil || len(b) == 0 || frame.Type(b[0]) != frame.TypeClose {
		t.Errorf("%x, %v", b, err)
	}
	if c := code(qc); c != quicgo.ApplicationErrorCode(frame.CloseProtocol) {
		t.Errorf("no HELLO: code %d", c)
	}
	if qc, _ = open(); code(qc) != quicgo.ApplicationErrorCode(frame.CloseTimeout) {
		t.Error("no stream: another code")
	}
	qc, st = open()
	st.Write(frame.Append(nil, &frame.Hello{Major: 1, User: "alice", Password: "secret", Prefix: "k"}))
	if _, err := st.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	go func() {
		io.ReadAll(st) // CLOSE, and the end
		st.Close()
	}()
	h.stop()
	if c := code(qc); c != quicgo.ApplicationErrorCode(frame.CloseDraining) {
		t.Errorf("drained: code %d", c)
	}
}

// As one of the ways of a client it takes a change of network along, too: the
// client stays online.
func TestWayMoves(t *testing.T) {
	h := open(t, door.Config{})
	var states atomic.Int64
	c, err := client.Open(t.Context(), client.Config{User: "alice", Password: "secret", Device: "phone", Network: "wifi",
		Ways: []client.Way{link.Way("quic", link.Config{Dial: quic.Dialer(quic.Config{
			Options: options(h.addr, "alice"), Listen: from("127.0.0.1", "127.0.0.2")})})},
		OnState: func(client.State) { states.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 4 {
		if _, err := c.Send(t.Context(), client.Draft{To: "alice", Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		c.NetworkChanged([]string{"lte", "wifi"}[i%2])
		waitFor(t, func() bool {
			mb, ok := c.Live().(*link.Mailbox)
			return ok && mb.Stats().Moves == uint64(i+1)
		})
	}
	if n := states.Load(); n != 2 { // connecting, online
		t.Errorf("%d states", n)
	}
	if n := h.Stats().Welcomed; n != 1 {
		t.Errorf("%d logins", n)
	}
}
