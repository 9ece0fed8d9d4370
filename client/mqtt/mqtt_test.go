package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/mqtt"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	server "github.com/posthouse-im/posthouse/transport/mqtt"
)

// house serves MQTT on the loopback interface.
type house struct {
	addr, ws string
	mu       sync.Mutex
	conns    []net.Conn
}

type counting struct {
	net.Listener
	h *house
}

func (c counting) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err == nil {
		c.h.mu.Lock()
		c.h.conns = append(c.h.conns, nc)
		c.h.mu.Unlock()
	}
	return nc, err
}

// cut breaks every connection.
func (h *house) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
	h.conns = nil
}

func open(t *testing.T) *house {
	ctx, cancel := context.WithCancel(context.Background())
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(ctx, u, "pw", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	e := conn.New(conn.Config{Loops: -1})
	srv := server.New(&transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: e}, server.Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{addr: ln.Addr().String()}
	over := make(chan error, 1)
	go func() { over <- srv.Serve(ctx, counting{ln, h}) }()
	mux := http.NewServeMux()
	mux.Handle("/mqtt", srv.WebSocket(ctx))
	hs := httptest.NewServer(mux)
	h.ws = strings.Replace(hs.URL, "http", "ws", 1) + "/mqtt"
	t.Cleanup(func() {
		cancel()
		<-over
		hs.CloseClientConnections()
		hs.Close()
		e.Close()
		a.Close()
	})
	return h
}

func dial(t *testing.T, addr, user, device string) client.Mailbox {
	t.Helper()
	mb, err := mqtt.Dial(t.Context(), client.Options{Addr: addr, User: user, Password: "pw", Device: device})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mb.Close() })
	return mb
}

func TestSendReceive(t *testing.T) {
	h := open(t)
	for i, addr := range []string{h.addr, h.ws} {
		alice, bob := dial(t, addr, "alice", fmt.Sprint("a", i)), dial(t, addr, "bob", fmt.Sprint("b", i))
		body := []byte{0, 1, 0xff}
		d := client.Draft{ID: fmt.Sprint("m", i), To: "bob", Type: "image/x", Body: body, Urgency: "high"}
		for range 2 { // a retry is stored once
			if r, err := alice.Send(t.Context(), d); err != nil || r.ID != d.ID {
				t.Fatal(r, err)
			}
		}
		for {
			m, err := bob.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := bob.Ack(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if m.ID != d.ID {
				continue // bob's second device has the first message too
			}
			if m.From != "alice@localhost" || m.To != "bob@localhost" || m.Type != "image/x" || !bytes.Equal(m.Body, body) || m.Seq == 0 || m.Time.IsZero() {
				t.Fatalf("%+v", m)
			}
			break
		}
		var no *client.Refused
		if _, err := alice.Send(t.Context(), client.Draft{To: "nobody"}); !errors.As(err, &no) {
			t.Fatal(err)
		}
		if _, err := alice.Send(t.Context(), client.Draft{To: "a/#"}); !errors.As(err, &no) {
			t.Fatal(err)
		}
		d.Body = []byte("another")
		if _, err := alice.Send(t.Context(), d); !errors.As(err, &no) {
			t.Fatal(err)
		}
		if _, err := alice.Send(t.Context(), client.Draft{To: "bob", Body: make([]byte, 3<<20)}); !errors.As(err, &no) {
			t.Fatal(err)
		}
	}
}

func TestDenied(t *testing.T) {
	h := open(t)
	var no *client.Refused
	_, err := mqtt.Dial(t.Context(), client.Options{Addr: h.addr, User: "alice", Password: "wrong"})
	if !errors.As(err, &no) || no.Code != "not authorized" {
		t.Fatal(err)
	}
}

// Connections are cut again and again while messages go both ways: all arrive,
// once, in order.
func TestCut(t *testing.T) {
	h := open(t)
	alice, bob := dial(t, h.addr, "alice", "a"), dial(t, h.addr, "bob", "b")
	const n = 300
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wg.Go(func() {
		for i := range n {
			if _, err := alice.Send(ctx, client.Draft{To: "bob", Body: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
				return
			}
			if i%100 == 50 {
				h.cut()
			}
		}
	})
	for i := range n {
		m, err := bob.Receive(ctx)
		if err != nil {
			t.Fatal(i, err)
		}
		if string(m.Body) != fmt.Sprint(i) {
			t.Fatalf("%d: got %s", i, m.Body)
		}
		if i%3 == 0 {
			if err := bob.Ack(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
}

// The same device elsewhere ends this one for good.
func TestReplaced(t *testing.T) {
	h := open(t)
	one := dial(t, h.addr, "alice", "phone")
	dial(t, h.addr, "alice", "phone")
	var no *client.Refused
	if _, err := one.Receive(t.Context()); !errors.As(err, &no) || no.Code != "session taken over" {
		t.Fatal(err)
	}
	one.Close()
	if _, err := one.Receive(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Fatal(err)
	}
}

// What was received and not acknowledged is there for the next one.
func TestAck(t *testing.T) {
	h := open(t)
	alice := dial(t, h.addr, "alice", "a")
	for i := range 5 {
		if _, err := alice.Send(t.Context(), client.Draft{To: "bob", Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	bob := dial(t, h.addr, "bob", "b")
	for i := range 5 {
		m, err := bob.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			bob.Ack(t.Context(), m)
		}
	}
	bob.Close()
	bob = dial(t, h.addr, "bob", "b")
	m, err := bob.Receive(t.Context())
	if err != nil || string(m.Body) != "3" {
		t.Fatal(m, err)
	}
}
