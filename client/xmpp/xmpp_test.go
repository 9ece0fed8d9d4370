package xmpp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	xmppclient "github.com/posthouse-im/posthouse/client/xmpp"
	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/xmpp"
)

type server struct {
	addr, tlsAddr string
	core          *transport.Core
	restart       func()
}

func serve(t *testing.T) *server {
	ctx, stop := context.WithCancel(context.Background())
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(ctx, u, "secret", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	src, err := certs.Open(certs.Options{Dir: t.TempDir(), Domain: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	e := conn.New(conn.Config{Log: log})
	core := &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Keepalive: keepalive.Fixed(0), Engine: e, Log: log}
	s := &server{core: core}
	listen := func(addr string) net.Listener {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	var end context.CancelFunc
	var done chan error
	s.restart = func() {
		if end != nil {
			end()
			for range cap(done) {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			done = nil
		}
		door := xmpp.New(core, xmpp.Config{TLS: src.Config()})
		var serving context.Context
		serving, end = context.WithCancel(ctx)
		if s.addr == "" {
			s.addr, s.tlsAddr = "127.0.0.1:0", "127.0.0.1:0"
		}
		l1, l2 := listen(s.addr), listen(s.tlsAddr)
		s.addr, s.tlsAddr = l1.Addr().String(), l2.Addr().String()
		done = make(chan error, 2)
		go func(c chan error) { c <- door.Serve(serving, l1) }(done)
		go func(c chan error) { c <- door.ServeTLS(serving, l2) }(done)
	}
	s.restart()
	t.Cleanup(func() {
		end()
		<-done
		<-done
		e.Close()
		a.Close()
		stop()
		mail.Close()
	})
	return s
}

func dial(t *testing.T, o client.Options) client.Mailbox {
	t.Helper()
	o.Password = "secret"
	o.StartTLS = &tls.Config{InsecureSkipVerify: true}
	mb, err := xmppclient.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mb.Close() })
	return mb
}

func send(t *testing.T, mb client.Mailbox, d client.Draft) {
	t.Helper()
	if r, err := mb.Send(t.Context(), d); err != nil || d.ID != "" && r.ID != d.ID {
		t.Fatal(r, err)
	}
}

func receive(t *testing.T, mb client.Mailbox, body string) client.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := mb.Receive(ctx)
	if err != nil || string(m.Body) != body {
		t.Fatalf("received %+v, %v; want %q", m, err, body)
	}
	return m
}

func TestSendAndReceive(t *testing.T) {
	s := serve(t)
	alice := dial(t, client.Options{Addr: s.addr, User: "alice", Device: "phone"})
	bob := dial(t, client.Options{Addr: s.tlsAddr, User: "bob@localhost", Device: "pc", TLS: &tls.Config{InsecureSkipVerify: true}})
	send(t, alice, client.Draft{ID: "m1", To: "bob", Body: []byte("hi <bob> & all\r\n😀")})
	m := receive(t, bob, "hi <bob> & all\r\n😀")
	if m.Seq != 1 || m.ID != "m1" || m.From != "alice@localhost" || m.Device != "phone" || m.To != "bob@localhost" || m.Type != "" {
		t.Errorf("%+v", m)
	}
	binary := string([]byte{0, 1, 0xff, '<'})
	send(t, alice, client.Draft{ID: "m2", To: "bob@localhost", Type: "image/png", Body: []byte(binary)})
	if m := receive(t, bob, binary); m.Type != "image/png" || m.Prev != 1 {
		t.Errorf("%+v", m)
	}
	send(t, alice, client.Draft{ID: "m3", To: "bob", Body: []byte("no\x00text")})
	receive(t, bob, "no\x00text")
	send(t, alice, client.Draft{ID: "m4", To: "bob"})
	m = receive(t, bob, "")
	if err := bob.Ack(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	// The same once more is harmless; another payload is not.
	send(t, alice, client.Draft{ID: "m1", To: "bob", Body: []byte("hi <bob> & all\r\n😀")})
	refused(t, alice, client.Draft{ID: "m1", To: "bob", Body: []byte("else")}, "conflict")
	refused(t, alice, client.Draft{To: "nobody", Body: []byte("x")}, "service-unavailable")
	refused(t, alice, client.Draft{To: "bob@example.org", Body: []byte("x")}, "remote-server-not-found")
	refused(t, alice, client.Draft{To: "bob", Body: []byte(strings.Repeat("x", 300_000))}, "policy-violation")
	// A sent message comes to the sender's other devices.
	pad := dial(t, client.Options{Addr: s.addr, User: "alice", Device: "pad"})
	if m := receive(t, pad, "hi <bob> & all\r\n😀"); m.From != "alice@localhost" || m.To != "bob@localhost" || m.ID != "m1" {
		t.Errorf("%+v", m)
	}
}

func refused(t *testing.T, mb client.Mailbox, d client.Draft, code string) {
	t.Helper()
	var r *client.Refused
	if _, err := mb.Send(t.Context(), d); !errors.As(err, &r) || r.Code != code {
		t.Errorf("%s to %s: %v, want %s", d.ID, d.To, err, code)
	}
}

func TestReconnect(t *testing.T) {
	s := serve(t)
	alice := dial(t, client.Options{Addr: s.addr, User: "alice", Device: "phone"})
	bob := dial(t, client.Options{Addr: s.addr, User: "bob", Device: "pc"})
	const n = 300
	failed := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := alice.Send(t.Context(), client.Draft{ID: fmt.Sprint(i), To: "bob", Body: fmt.Append(nil, "message ", i)}); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for i := range n {
		m := receive(t, bob, fmt.Sprint("message ", i))
		if i%7 == 0 {
			if err := bob.Ack(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if i == n/3 {
			s.restart()
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	// What was not acknowledged comes to the next program.
	bob.Close()
	again := dial(t, client.Options{Addr: s.addr, User: "bob", Device: "pc"})
	receive(t, again, fmt.Sprint("message ", (n-1)/7*7+1))
}

func TestWrongPassword(t *testing.T) {
	s := serve(t)
	_, err := xmppclient.Dial(t.Context(), client.Options{Addr: s.addr, User: "alice", Password: "wrong", StartTLS: &tls.Config{InsecureSkipVerify: true}})
	var r *client.Refused
	if !errors.As(err, &r) || r.Code != "not-authorized" {
		t.Error(err)
	}
}

func TestUnknownCertificate(t *testing.T) {
	s := serve(t)
	var bad *tls.CertificateVerificationError
	if _, err := xmppclient.Dial(t.Context(), client.Options{Addr: s.addr, User: "alice", Password: "secret"}); !errors.As(err, &bad) {
		t.Error(err)
	}
}
