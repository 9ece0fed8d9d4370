package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	door "github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// house is a server in memory with the users alice and bob.
type house struct {
	core   *transport.Core
	store  *mem.Store
	mu     sync.Mutex
	conns  []*wire // guarded by mu; those that were dialled, without probes
	refuse atomic.Bool
	server atomic.Pointer[running]
}

// running is a server between two restarts.
type running struct {
	*door.Server
	ctx  context.Context
	stop context.CancelFunc
}

func open(t *testing.T, o mem.Options) *house {
	t.Helper()
	return build(t, o, -1) // event loops wait in the kernel, where time is not virtual
}

func build(t *testing.T, o mem.Options, loops int) *house {
	t.Helper()
	h := &house{store: mem.New(o)}
	mail := mailbox.New(h.store, mailbox.Limits{})
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
	log := slog.New(slog.DiscardHandler)
	engine := conn.New(conn.Config{Loops: loops, Log: log})
	h.core = &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Keepalive: keepalive.Fixed(0), Engine: engine, Log: log}
	h.start()
	t.Cleanup(func() {
		h.server.Load().stop()
		engine.Close()
		a.Close()
		stop()
		mail.Close()
	})
	return h
}

func (h *house) start() {
	r := &running{Server: door.New(h.core, door.Config{})}
	r.ctx, r.stop = context.WithCancel(context.Background())
	h.server.Store(r)
}

// wire is a connection that can be cut, or lose everything.
type wire struct {
	net.Conn
	first  func(said []byte) // called once
	once   sync.Once
	hole   atomic.Bool  // what is written is lost
	budget atomic.Int64 // if positive: cut after so many bytes
}

func (w *wire) Write(p []byte) (int, error) {
	w.once.Do(func() { w.first(p) })
	if w.hole.Load() {
		return len(p), nil
	}
	if b := w.budget.Load(); b > 0 && w.budget.Add(-int64(len(p))) <= 0 {
		w.Conn.Write(p[:min(int(b), len(p))])
		w.Conn.Close()
		return 0, net.ErrClosed
	}
	return w.Conn.Write(p)
}

func (h *house) dial(context.Context) (net.Conn, error) {
	if h.refuse.Load() {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	r := h.server.Load()
	go h.core.Engine.ServeConn(r.ctx, theirs, r.Options(r.ctx)) // ends with the connection
	return h.wire(ours), nil
}

// wire is nc, and one of h.conns when it has said that it is no probe.
func (h *house) wire(nc net.Conn) *wire {
	w := &wire{Conn: nc}
	w.first = func(said []byte) {
		var hello frame.Hello
		if raw, _, err := frame.Next(said, 1<<20); err == nil && raw.Type == frame.TypeHello && hello.Decode(raw.Payload) == nil && hello.Probe != 0 {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.conns = append(h.conns, w)
	}
	return w
}

func (h *house) last() *wire {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns[len(h.conns)-1]
}

func (h *house) dialled() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

func (h *house) login(t *testing.T, user, device string, more ...func(*Config)) *Mailbox {
	t.Helper()
	cfg := Config{Options: client.Options{User: user, Password: "secret", Device: device}, Dial: h.dial}
	for _, f := range more {
		f(&cfg)
	}
	mb, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mb.Close() })
	return mb
}

func send(t *testing.T, mb *Mailbox, to, body string) client.Receipt {
	t.Helper()
	r, err := mb.Send(t.Context(), client.Draft{To: to, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func receive(t *testing.T, mb *Mailbox, want string) client.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	m, err := mb.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Body) != want {
		t.Fatalf("received %q, want %q", m.Body, want)
	}
	return m
}

func nothing(t *testing.T, mb *Mailbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if m, err := mb.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("received %q, %v", m.Body, err)
	}
}

func TestSendReceiveAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		alice, bob := h.login(t, "alice", "phone"), h.login(t, "bob", "pad")
		if r := send(t, alice, "bob", "one"); r.Seq != 1 || r.ID == "" || r.Duplicate {
			t.Errorf("%+v", r)
		}
		send(t, alice, "bob@localhost", "two")
		m := receive(t, bob, "one")
		if m.From != "alice@localhost" || m.To != "bob@localhost" || m.Device != "phone" || m.Seq != 1 || m.Time.IsZero() {
			t.Errorf("%+v", m)
		}
		bob.Ack(t.Context(), m)
		receive(t, bob, "two") // and not acknowledged
		bob.Close()
		if _, err := bob.Receive(t.Context()); err != client.ErrClosed {
			t.Error(err)
		}
		bob = h.login(t, "bob", "pad")
		receive(t, bob, "two")
		nothing(t, bob)

		var no *client.Refused
		if _, err := alice.Send(t.Context(), client.Draft{To: "nobody"}); !errors.As(err, &no) || no.Code != "unknown-recipient" {
			t.Error(err)
		}
		if _, err := alice.Send(t.Context(), client.Draft{To: "bob", Body: make([]byte, 3<<20)}); !errors.As(err, &no) || no.Code != "too-large" {
			t.Error(err)
		}
		send(t, alice, "bob", "still there")
	})
}

// A break after every few hundred bytes: everything is stored once, in order.
func TestExactlyOnceOverBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		const n = 500
		var breaks atomic.Int64
		alice := h.login(t, "alice", "phone", func(c *Config) {
			c.Dial = func(ctx context.Context) (net.Conn, error) {
				nc, err := h.dial(ctx)
				if b := breaks.Add(1); err == nil && b < 30 {
					nc.(*wire).budget.Store(100 + 10*b)
				}
				return nc, err
			}
		})
		var done sync.WaitGroup
		var failed atomic.Int64
		done.Add(n)
		for i := range n {
			err := alice.SendAsync(client.Draft{To: "bob", Body: fmt.Append(nil, i)}, func(_ client.Receipt, err error) {
				if err != nil {
					failed.Add(1)
				}
				done.Done()
			})
			if err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 {
				time.Sleep(time.Second)
			}
		}
		done.Wait()
		if failed.Load() > 0 {
			t.Error(failed.Load(), "sends failed")
		}
		if breaks.Load() < 10 {
			t.Error("only", breaks.Load(), "connections")
		}
		bob := h.login(t, "bob", "pad")
		for i := range n {
			m := receive(t, bob, fmt.Sprint(i))
			if i%3 == 0 {
				bob.Ack(t.Context(), m)
			}
			if i%50 == 49 {
				h.last().Close()
			}
		}
		nothing(t, bob)
	})
}

// What was received before a break and is acknowledged after it is not given
// again, to this mailbox or the next.
func TestAckAfterBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		alice, bob := h.login(t, "alice", "phone"), h.login(t, "bob", "pad")
		send(t, alice, "bob", "one")
		send(t, alice, "bob", "two")
		receive(t, bob, "one")
		two := receive(t, bob, "two")
		h.last().Close()
		bob.Ack(t.Context(), two)
		nothing(t, bob)
		bob.Close()
		bob = h.login(t, "bob", "pad")
		nothing(t, bob)
		if err := bob.Ack(t.Context(), client.Message{Seq: 9}); err == nil {
			t.Error("acknowledged what was never received")
		}
	})
}

// A day of silence costs heartbeats, and no reconnect.
func TestIdleForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		bob := h.login(t, "bob", "pad", func(c *Config) { c.Heartbeat = 10 * time.Minute })
		time.Sleep(24 * time.Hour)
		if h.dialled() != 1 {
			t.Error(h.dialled(), "connections")
		}
		if n := h.server.Load().Stats().Heartbeats; n < 140 || n > 146 {
			t.Error(n, "heartbeats")
		}
		send(t, bob, "bob", "to myself")
		receive(t, bob, "to myself")
	})
}

// A mapping that has vanished is noticed by the next heartbeat, and by a
// message sooner.
func TestVanishedMapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		bob := h.login(t, "bob", "pad", func(c *Config) { c.Heartbeat = 4 * time.Minute })
		h.last().hole.Store(true)
		time.Sleep(4*time.Minute + 31*time.Second) // a beat, its answer, the longest back-off
		if h.dialled() != 2 {
			t.Error(h.dialled(), "connections after a beat")
		}
		h.last().hole.Store(true)
		begin := time.Now()
		send(t, bob, "alice", "anybody?")
		if d := time.Since(begin); d > 20*time.Second {
			t.Error("took", d)
		}
	})
}

func TestServerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		alice, bob := h.login(t, "alice", "phone"), h.login(t, "bob", "pad")
		h.refuse.Store(true)
		h.server.Load().stop()
		synctest.Wait()
		done := make(chan error, 1)
		if err := alice.SendAsync(client.Draft{To: "bob", Body: []byte("while it was down")}, func(_ client.Receipt, err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		h.start()
		h.refuse.Store(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		receive(t, bob, "while it was down")
	})
}

func TestReplacedDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		fixed := func(c *Config) { c.Heartbeat = time.Minute }
		first := h.login(t, "bob", "pad", fixed)
		second := h.login(t, "bob", "pad", fixed)
		_, err := first.Receive(t.Context())
		var no *Closed
		if !errors.As(err, &no) || no.Code != "replaced" {
			t.Error(err)
		}
		if _, err := first.Send(t.Context(), client.Draft{To: "bob"}); !errors.As(err, &no) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if h.dialled() != 2 {
			t.Error(h.dialled(), "connections")
		}
		send(t, second, "bob", "still me")
		_, err = Open(t.Context(), Config{Options: client.Options{User: "bob", Password: "wrong"}, Dial: h.dial})
		if !errors.As(err, &no) || no.Code != "denied" {
			t.Error(err)
		}
	})
}

func TestTokensAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		var asked atomic.Int64
		bob := h.login(t, "bob", "pad", func(c *Config) {
			c.Password, c.Heartbeat = "", time.Minute
			c.Tokens = func(ctx context.Context) (string, error) {
				asked.Add(1)
				token, _, err := h.core.Auth.IssueToken(ctx, "bob", "pad", time.Hour)
				return token, err
			}
		})
		time.Sleep(90 * time.Minute)
		if asked.Load() != 2 || h.dialled() != 1 {
			t.Error("asked for", asked.Load(), "tokens and dialled", h.dialled(), "times")
		}
		time.Sleep(24 * time.Hour)
		if h.dialled() != 1 {
			t.Error(h.dialled(), "connections")
		}
		send(t, bob, "bob", "still in")
	})
}

func TestTrimmedIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{Retention: mailbox.Retention{Count: 2}})
		alice := h.login(t, "alice", "phone")
		bob := h.login(t, "bob", "pad")
		send(t, alice, "bob", "1")
		bob.Ack(t.Context(), receive(t, bob, "1"))
		bob.Close()
		for i := 2; i <= 6; i++ {
			send(t, alice, "bob", fmt.Sprint(i))
		}
		var gaps [][2]uint64
		bob = h.login(t, "bob", "pad", func(c *Config) {
			c.OnGap = func(after, before uint64) { gaps = append(gaps, [2]uint64{after, before}) }
		})
		receive(t, bob, "5")
		m := receive(t, bob, "6")
		if len(gaps) != 1 || gaps[0] != [2]uint64{1, 5} || m.Prev != 5 {
			t.Error(gaps, m.Prev)
		}
	})
}

// A program that does not acknowledge is given what the window holds.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		alice := h.login(t, "alice", "phone")
		bob := h.login(t, "bob", "pad", func(c *Config) { c.Window = 2000 })
		for i := range 20 {
			send(t, alice, "bob", strings.Repeat(fmt.Sprint(i%10), 500))
		}
		var m client.Message
		for i := range 4 {
			m = receive(t, bob, strings.Repeat(fmt.Sprint(i%10), 500))
		}
		nothing(t, bob)
		bob.Ack(t.Context(), m)
		for i := range 16 {
			m = receive(t, bob, strings.Repeat(fmt.Sprint((i+4)%10), 500))
			bob.Ack(t.Context(), m)
		}
		nothing(t, bob)
	})
}

// A message longer than the program takes comes without its body, and says so.
func TestLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		alice := h.login(t, "alice", "phone")
		bob := h.login(t, "bob", "watch", func(c *Config) { c.MaxMessage = 1000 })
		send(t, alice, "bob", strings.Repeat("x", 2000))
		if m := receive(t, bob, ""); m.Left != 2000 {
			t.Errorf("%+v", m)
		}
		send(t, alice, "bob", "")
		if m := receive(t, bob, ""); m.Left != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// The same over real sockets.
func TestCarriers(t *testing.T) {
	h := build(t, mem.Options{}, 0)
	r := h.server.Load()
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	defer serving.Wait()
	defer stop()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	certs := httptest.NewTLSServer(nil) // for its certificate
	defer certs.Close()
	clientTLS := certs.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	clientTLS.ServerName = "example.com"
	plain, secure := listen(), listen()
	serving.Go(func() { r.Serve(ctx, plain) })
	serving.Go(func() { r.ServeTLS(ctx, secure, certs.TLS) })
	web := httptest.NewServer(r.WebSocket(ctx))
	defer web.Close()
	webs := httptest.NewTLSServer(r.WebSocket(ctx))
	defer webs.Close()
	for _, way := range []client.Options{
		{Addr: plain.Addr().String()},
		{Addr: secure.Addr().String(), TLS: clientTLS},
		{Addr: "ws" + strings.TrimPrefix(web.URL, "http")},
		{Addr: "ws" + strings.TrimPrefix(webs.URL, "http"), TLS: webs.Client().Transport.(*http.Transport).TLSClientConfig},
	} {
		way.User, way.Password, way.Device = "bob", "secret", "d-"+way.Addr[:3]
		mb, err := Dial(t.Context(), way)
		if err != nil {
			t.Fatal(way.Addr, err)
		}
		body := strings.Repeat(way.Addr, 20000)
		if _, err := mb.Send(t.Context(), client.Draft{To: "bob", Body: []byte(body), Type: "text/markdown", Urgency: "high"}); err != nil {
			t.Error(way.Addr, err)
		}
		for {
			m, err := mb.Receive(t.Context())
			if err != nil {
				t.Fatal(way.Addr, err)
			}
			mb.Ack(t.Context(), m)
			if string(m.Body) == body && m.Type == "text/markdown" {
				break
			}
		}
		if err := mb.Close(); err != nil {
			t.Error(way.Addr, err)
		}
	}
}

// A server may say anything: the client neither panics nor hangs.
func FuzzServer(f *testing.F) {
	welcome := frame.Append(nil, &frame.Welcome{Major: 1, Address: "bob@localhost", Time: 1e12, Interval: 1000, MaxFrame: 1000, Inflight: 4, Peers: 2})
	for _, text := range []string{
		"MSG +1 0=alice@localhost,phone,k +0ms :hello", "STORED 1+1", "STORED 4000000000+1", "REFUSED conflict", "TRIMMED +100",
		"PING #01", "SET interval=1ms expires=2026-01-01T00:00:00.000Z", "CLOSE code=idle back=0s", "CLOSE code=denied", "0x10 :typing",
	} {
		fr, _, err := frame.Parse(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Append(nil, fr))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		var dialled atomic.Bool
		go io.Copy(io.Discard, theirs) // ends with the connection
		go func() {                    // ends with the connection
			theirs.Write(welcome)
			theirs.Write(said)
			theirs.Close()
		}()
		mb, err := Open(t.Context(), Config{Dial: func(context.Context) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errors.New("no more")
			}
			return ours, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		mb.SendAsync(client.Draft{To: "alice"}, func(client.Receipt, error) {})
		if err := mb.Close(); err != nil {
			t.Error(err)
		}
	})
}
