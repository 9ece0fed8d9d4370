package poll_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/poll"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	door "github.com/posthouse-im/posthouse/transport/poll"
)

// house is a server whose listener can be closed and opened again.
type house struct {
	core *transport.Core
	addr string
	stop func()
	t    *testing.T
}

func newHouse(t *testing.T) *house {
	ctx, cancel := context.WithCancel(context.Background())
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob"} {
		if err := a.Add(ctx, user, "pw", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	h := &house{core: &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a}, addr: "127.0.0.1:0", t: t}
	h.start()
	t.Cleanup(func() { h.stop(); cancel(); a.Close() })
	return h
}

func (h *house) start() {
	ln, err := net.Listen("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- door.New(h.core, door.Config{}).Serve(ctx, ln) }()
	h.stop = func() {
		cancel()
		if err := <-served; err != nil {
			h.t.Error(err)
		}
		h.stop = func() {}
	}
}

func (h *house) dial(user, device string) client.Mailbox {
	h.t.Helper()
	m, err := poll.Dial(h.t.Context(), client.Options{Addr: h.addr, User: user, Password: "pw", Device: device})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { m.Close() })
	return m
}

func send(t *testing.T, m client.Mailbox, body string) client.Receipt {
	t.Helper()
	r, err := m.Send(t.Context(), client.Draft{To: "bob", ID: "id-" + body, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func receive(t *testing.T, m client.Mailbox, want string) client.Message {
	t.Helper()
	got, err := m.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Body) != want || got.From != "alice@localhost" || got.ID != "id-"+want {
		t.Fatalf("got %+v, want %s", got, want)
	}
	return got
}

func TestSendReceiveAck(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.dial("alice", ""), h.dial("bob", "phone")
	if r := send(t, alice, "one"); r.Seq != 1 || r.Duplicate {
		t.Errorf("%+v", r)
	}
	if r := send(t, alice, "one"); r.Seq != 1 || !r.Duplicate {
		t.Errorf("again: %+v", r)
	}
	send(t, alice, "two")
	send(t, alice, "three")
	one := receive(t, bob, "one")
	if one.Type != "text/plain; charset=utf-8" || one.Prev != 0 || one.Device != "http" {
		t.Errorf("%+v", one)
	}
	if err := bob.Ack(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	receive(t, bob, "two")
	receive(t, bob, "three")
	// Held for what comes now, although two and three are not acknowledged.
	go alice.Send(context.Background(), client.Draft{To: "bob", ID: "id-four", Body: []byte("four")})
	receive(t, bob, "four")
	bob.Close()
	// What was not acknowledged comes again.
	bob = h.dial("bob", "phone")
	receive(t, bob, "two")
	receive(t, bob, "three")
	if err := bob.Ack(t.Context(), receive(t, bob, "four")); err != nil {
		t.Fatal(err)
	}
	bob.Close()
	bob = h.dial("bob", "phone")
	send(t, alice, "five")
	receive(t, bob, "five")
}

func TestBinary(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.dial("alice", ""), h.dial("bob", "")
	for i, d := range []client.Draft{
		{Type: "image/png", Body: []byte{0, 255, 10}},
		{Type: "image/png", Body: []byte("text")},
		{Body: []byte("\xff")},
		{Body: []byte{}, Urgency: "high", Expires: time.Hour},
	} {
		d.To = "bob@localhost"
		if _, err := alice.Send(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		m, err := bob.Receive(t.Context())
		if err != nil || string(m.Body) != string(d.Body) || d.Type != "" && m.Type != d.Type {
			t.Errorf("%d: %+v, %v", i, m, err)
		}
	}
}

func TestRefused(t *testing.T) {
	h := newHouse(t)
	alice := h.dial("alice", "")
	for _, c := range []struct {
		d    client.Draft
		code string
	}{
		{client.Draft{To: "nobody", Body: []byte("x")}, "unknown-recipient"},
		{client.Draft{To: "bob@elsewhere.example", Body: []byte("x")}, "remote-domain"},
		{client.Draft{To: "bob", Body: make([]byte, 2<<20)}, "too-large"},
		{client.Draft{To: "bob", Urgency: "asap"}, "bad-field"},
	} {
		_, err := alice.Send(t.Context(), c.d)
		var no *client.Refused
		if !errors.As(err, &no) || no.Code != c.code {
			t.Errorf("%s: %v", c.code, err)
		}
	}
	_, err := poll.Dial(t.Context(), client.Options{Addr: h.addr, User: "alice", Password: "wrong"})
	var no *client.Refused
	if !errors.As(err, &no) || no.Code != "not-authorized" {
		t.Errorf("wrong password: %v", err)
	}
	for _, addr := range []string{"", "ftp://h", "http://", "http://h?x=1", "http://a:b@h"} {
		if _, err := poll.Dial(t.Context(), client.Options{Addr: addr}); err == nil {
			t.Errorf("%q was taken for an address", addr)
		}
	}
}

// The server goes down and comes back: nothing is lost, doubled or swapped.
func TestRestart(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.dial("alice", ""), h.dial("bob", "")
	const n = 40
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			body := fmt.Sprint(i)
			if _, err := alice.Send(t.Context(), client.Draft{To: "bob", ID: "id-" + body, Body: []byte(body)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i := range n {
		m := receive(t, bob, fmt.Sprint(i))
		if i%3 == 0 {
			if err := bob.Ack(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if i%15 == 10 {
			h.stop()
			h.start()
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func TestClose(t *testing.T) {
	h := newHouse(t)
	bob := h.dial("bob", "")
	got := make(chan error)
	go func() {
		_, err := bob.Receive(context.Background())
		got <- err
	}()
	for len(h.core.Router.Presence("bob@localhost")) == 0 {
		runtime.Gosched() // until it has asked
	}
	bob.Close()
	if err := <-got; !errors.Is(err, client.ErrClosed) {
		t.Error(err)
	}
	if _, err := bob.Send(t.Context(), client.Draft{To: "bob"}); !errors.Is(err, client.ErrClosed) {
		t.Error(err)
	}
	if _, err := bob.Receive(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Error(err)
	}
}
