package xmpp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/store/mem"
)

// sockets is a house on real sockets.
type sockets struct {
	*house
	addr, tlsAddr string
}

func serveSockets(t *testing.T, cfg Config) *sockets {
	t.Helper()
	src, err := certs.Open(certs.Options{Dir: t.TempDir(), Domain: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS = src.Config()
	s := &sockets{house: newHouse(t, cfg, mem.Options{}, 0)}
	l1, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l2, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr, s.tlsAddr = l1.Addr().String(), l2.Addr().String()
	done := make(chan error, 2)
	go func() { done <- s.server.Serve(s.ctx, l1) }()
	go func() { done <- s.server.ServeTLS(s.ctx, l2) }()
	t.Cleanup(func() {
		s.stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		s.close()
	})
	return s
}

// wire is a client by hand.
type wire struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func dialWire(t *testing.T, addr string) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{t, nc, bufio.NewReader(nc)}
}

func (w *wire) say(s string) { io.WriteString(w.nc, s) }

// until reads until end has come, and returns what came.
func (w *wire) until(end string) string {
	w.t.Helper()
	var got strings.Builder
	for {
		s, err := w.r.ReadString('>')
		got.WriteString(s)
		if err != nil {
			w.t.Fatalf("%v after %.1000q, want %q", err, got.String(), end)
		}
		if all := got.String(); strings.HasSuffix(all, end) {
			return all
		}
	}
}

func (w *wire) startTLS(cfg *tls.Config) error {
	w.say(open)
	if f := w.until("</stream:features>"); !strings.Contains(f, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/>") || strings.Contains(f, "mechanism") {
		w.t.Errorf("features: %s", f)
	}
	w.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	w.until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	return w.handshake(cfg)
}

func (w *wire) handshake(cfg *tls.Config) error {
	cfg.InsecureSkipVerify = true
	tc := tls.Client(w.nc, cfg)
	w.nc, w.r = tc, bufio.NewReader(tc)
	return tc.Handshake()
}

// login carries out a SCRAM login and returns the failure or success element.
func (w *wire) login(h scram.HashGeneratorFcn, mechanism string, conv func(*scram.Client) *scram.ClientConversation) string {
	w.t.Helper()
	w.say(open)
	if f := w.until("</stream:features>"); !strings.Contains(f, "<mechanism>"+mechanism+"</mechanism>") {
		w.t.Fatalf("no %s in %s", mechanism, f)
	}
	c, err := h.NewClient("alice", "secret", "")
	if err != nil {
		w.t.Fatal(err)
	}
	cv := conv(c)
	out, _ := cv.Step("")
	w.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='" + mechanism + "'>" + base64.StdEncoding.EncodeToString([]byte(out)) + "</auth>")
	for {
		got := w.until(">")
		if !strings.HasPrefix(got, "<challenge") {
			return got + w.until(">")
		}
		text := strings.TrimSuffix(w.until("</challenge>"), "</challenge>")
		in, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			w.t.Fatal(err)
		}
		if out, err = cv.Step(string(in)); err != nil {
			w.t.Fatal(err)
		}
		w.say("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + base64.StdEncoding.EncodeToString([]byte(out)) + "</response>")
	}
}

func TestStartTLS(t *testing.T) {
	s := serveSockets(t, Config{})
	w := dialWire(t, s.addr)
	if err := w.startTLS(&tls.Config{}); err != nil {
		t.Fatal(err)
	}
	got := w.login(scram.SHA256, "SCRAM-SHA-256", (*scram.Client).NewConversation)
	if !strings.HasPrefix(got, "<success") {
		t.Fatal(got)
	}
	w.say(open + "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
	w.until("<jid>alice@localhost/xmpp</jid></bind></iq>")
	// TLS cannot begin twice.
	w.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	w.until("<unsupported-stanza-type xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
}

// What is sent in the clear behind <starttls/> may have been put in by
// somebody on the way: it is not taken for what comes inside TLS.
func TestPlaintextBehindStartTLS(t *testing.T) {
	s := serveSockets(t, Config{})
	w := dialWire(t, s.addr)
	w.say(open)
	w.until("</stream:features>")
	w.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + open + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>")
	if err := w.handshake(&tls.Config{}); err == nil {
		t.Error("the handshake succeeded")
	}
	if n := s.server.Stats().Logins; n != 0 {
		t.Error("logged in")
	}
}

func TestOldTLS(t *testing.T) {
	s := serveSockets(t, Config{})
	w := dialWire(t, s.tlsAddr)
	if err := w.handshake(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestDirectTLS(t *testing.T) {
	s := serveSockets(t, Config{})
	w := dialWire(t, s.tlsAddr)
	if err := w.handshake(&tls.Config{NextProtos: []string{"xmpp-client"}}); err != nil {
		t.Fatal(err)
	}
	if p := w.nc.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "xmpp-client" {
		t.Errorf("ALPN %q", p)
	}
	got := w.login(scram.SHA1, "SCRAM-SHA-1", (*scram.Client).NewConversation)
	if !strings.HasPrefix(got, "<success") {
		t.Fatal(got)
	}
}

func TestChannelBinding(t *testing.T) {
	s := serveSockets(t, Config{ChannelBinding: true})
	exporter := func(w *wire) scram.ChannelBinding {
		state := w.nc.(*tls.Conn).ConnectionState()
		b, err := scram.NewTLSExporterBinding(&state)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		mechanism, want string
		conv            func(*wire, *scram.Client) *scram.ClientConversation
	}{
		"bound": {"SCRAM-SHA-256-PLUS", "<success", func(w *wire, c *scram.Client) *scram.ClientConversation {
			return c.NewConversationWithChannelBinding(exporter(w))
		}},
		"not bound": {"SCRAM-SHA-256", "<success", func(_ *wire, c *scram.Client) *scram.ClientConversation { return c.NewConversation() }},
		"bound to another connection": {"SCRAM-SHA-1-PLUS", "<failure", func(w *wire, c *scram.Client) *scram.ClientConversation {
			b := exporter(w)
			b.Data[0]++
			return c.NewConversationWithChannelBinding(b)
		}},
		"somebody hid that we bind": {"SCRAM-SHA-256", "<failure", func(_ *wire, c *scram.Client) *scram.ClientConversation {
			return c.NewConversationAdvertisingChannelBinding()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, s.tlsAddr)
			if err := w.handshake(&tls.Config{}); err != nil {
				t.Fatal(err)
			}
			h := scram.SHA256
			if strings.Contains(c.mechanism, "SHA-1") {
				h = scram.SHA1
			}
			got := w.login(h, c.mechanism, func(cl *scram.Client) *scram.ClientConversation { return c.conv(w, cl) })
			if !strings.HasPrefix(got, c.want) {
				t.Error(got)
			}
		})
	}
}

// So many connections are served, by whichever listener they come.
func TestConnLimits(t *testing.T) {
	for _, cfg := range []Config{{MaxConns: 2}, {MaxPerAddr: 2}} {
		s := serveSockets(t, cfg)
		a := dialWire(t, s.addr)
		a.say(open)
		a.until("</stream:features>")
		if err := dialWire(t, s.tlsAddr).handshake(new(tls.Config)); err != nil {
			t.Error(err)
		}
		refused := func() bool {
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				return true // reset before it was through
			}
			defer nc.Close()
			io.WriteString(nc, open)
			n, _ := nc.Read(make([]byte, 1))
			return n == 0
		}
		if !refused() {
			t.Errorf("%+v: a third is served", cfg)
		}
		a.nc.Close()
		for refused() { // the place is free a little later
		}
	}
}

func TestOrigins(t *testing.T) {
	s := serveSockets(t, Config{Origins: []string{"https://app.example"}})
	h := httptest.NewServer(s.server.WebSocket(s.ctx))
	defer h.Close()
	for origin, want := range map[string]int{"https://app.example": 101, "https://evil.example": 403} {
		c, resp, err := websocket.Dial(t.Context(), h.URL, &websocket.DialOptions{
			Subprotocols: []string{"xmpp"}, HTTPHeader: http.Header{"Origin": {origin}},
		})
		if err == nil {
			defer c.CloseNow()
		}
		if resp == nil || resp.StatusCode != want {
			t.Errorf("%s: %v, want %d", origin, resp, want)
		}
	}
}

// Each stanza is a WebSocket message of its own, with its own namespace.
func TestWebSocket(t *testing.T) {
	s := serveSockets(t, Config{})
	h := httptest.NewServer(s.server.WebSocket(s.ctx))
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, h.URL, &websocket.DialOptions{Subprotocols: []string{"xmpp"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != "xmpp" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	say := func(m string) {
		if err := c.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want string) {
		t.Helper()
		kind, p, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageText || !strings.HasPrefix(string(p), want) {
			t.Fatalf("%v %q %v, want %q", kind, p, err, want)
		}
	}
	framed := "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>"
	say(framed)
	hear("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='localhost' id='")
	hear("<stream:features xmlns:stream='http://etherx.jabber.org/streams'><mechanisms")
	say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>")
	hear("<success")
	say(framed)
	hear("<open")
	hear("<stream:features")
	say("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>web</resource></bind></iq>")
	hear("<iq xmlns='jabber:client' type='result' id='b'><bind")
	say("<presence xmlns='jabber:client'/>")
	hear("<presence xmlns='jabber:client' from='alice@localhost/web'")
	say("<message xmlns='jabber:client' to='alice@localhost' id='1' type='chat'><body>to myself</body><x xmlns='urn:x'/></message>")
	hear("<message xmlns='jabber:client' from='alice@localhost/web' to='alice@localhost/web' type='chat' id='1'><body>to myself</body><x xmlns='urn:x'/>")
	say("<message to='alice@localhost'><body>without a namespace</body></message>")
	hear("<stream:error xmlns:stream='http://etherx.jabber.org/streams'><unsupported-stanza-type")
	hear("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
}

// A client that asks and does not listen is not read any more, and harms
// nobody else; when it listens again it has all its answers.
func TestClientThatDoesNotRead(t *testing.T) {
	s := serveSockets(t, Config{Insecure: true})
	w := dialWire(t, s.addr)
	w.say(open + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>" + open +
		"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>deaf</resource></bind></iq>")
	w.until("<jid>alice@localhost/deaf</jid></bind></iq>")
	const n = 20_000
	go func() {
		ask := strings.Repeat("<iq type='get' id='x' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", 100)
		for range n / 100 {
			w.say(ask)
		}
		w.say("<iq type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>")
	}()
	// Meanwhile somebody else is served.
	o := dialWire(t, s.addr)
	o.say(open)
	o.until("</stream:features>")
	got := w.until("id='last'/>")
	if c := strings.Count(got, "id='x'"); c != n {
		t.Errorf("%d answers, want %d", c, n)
	}
}
