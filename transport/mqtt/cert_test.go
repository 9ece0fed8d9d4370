package mqtt

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) make(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

func (a *authority) pair(name string, use ...x509.ExtKeyUsage) tls.Certificate {
	c, key := a.make(&x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, ExtKeyUsage: use})
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// socketHouse is a door on real sockets, on event loops where there are such.
func socketHouse(t *testing.T, cfg Config) (srv *Server, serve func(*tls.Config) string, web http.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	st := mem.New(mem.Options{})
	mail := mailbox.New(st, mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(ctx, u, "pw", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	e := conn.New(conn.Config{})
	srv = New(&transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: e}, cfg)
	over := make(chan error, 8)
	n := 0
	serve = func(cfg *tls.Config) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n++
		go func() { over <- srv.ServeTLS(ctx, ln, cfg) }()
		return ln.Addr().String()
	}
	t.Cleanup(func() {
		cancel()
		for range n {
			if err := <-over; err != nil {
				t.Error(err)
			}
		}
		e.Close()
		a.Close()
		st.Close()
	})
	return srv, serve, srv.WebSocket(ctx)
}

// ask sends a CONNECT and returns the first packet, as text.
func ask(t *testing.T, nc net.Conn, connect string) string {
	t.Helper()
	p := &peer{nc: nc, r: bufio.NewReader(nc), v: packet.V5}
	b, err := p.parse(connect)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := nc.Write(b); err != nil {
		return "--"
	}
	return p.read()
}

var certificateLogins = []struct{ cert, connect, want string }{
	{"alice", "CONNECT 5 clean id=a", "CONNACK 0x00 *"},
	{"alice", "CONNECT 4 clean id=a", "CONNACK 0x00"},
	{"alice", "CONNECT 5 clean id=a user=alice", "CONNACK 0x00 *"}, // and its password
	{"alice", "CONNECT 5 clean id=a user=bob", "CONNACK 0x00 *"},   // brings its password
	{"alice", "CONNECT 5 clean id=a user=bob pw=wrong", "CONNACK 0x87"},
	{"alice", "RAW 10 15 s4 'MQTT' 05 82 H0 00 s1 'a' s5 'alice'", "CONNACK 0x00 *"}, // a name and no password
	{"alice", "RAW 10 13 s4 'MQTT' 05 82 H0 00 s1 'a' s3 'bob'", "CONNACK 0x87"},
	{"carol", "CONNECT 5 clean id=a", "CONNACK 0x87"},
	{"carol", "CONNECT 4 clean id=a", "CONNACK 0x05"},
	{"carol", "CONNECT 5 clean id=a user=alice", "CONNACK 0x00 *"},
	{"", "CONNECT 5 clean id=a", "CONNACK 0x87"},
	{"", "CONNECT 5 clean id=a user=alice", "CONNACK 0x00 *"},
}

func like(got, want string) bool {
	head, any := strings.CutSuffix(want, "*")
	return got == want || any && strings.HasPrefix(got, head)
}

// A connection's certificate is a credential: of TLS over TCP, and of a
// WebSocket.
func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", x509.ExtKeyUsageServerAuth)}, ClientCAs: ca.pool(), ClientAuth: tls.VerifyClientCertIfGiven}
	_, serve, web := socketHouse(t, Config{})
	addr := serve(cfg)
	ws := httptest.NewUnstartedServer(web)
	ws.TLS = cfg.Clone()
	ws.StartTLS()
	defer ws.Close()
	client := func(name string) *tls.Config {
		c := &tls.Config{RootCAs: ca.pool(), ServerName: "localhost"}
		if name != "" {
			c.Certificates = []tls.Certificate{ca.pair(name, x509.ExtKeyUsageClientAuth)}
		}
		return c
	}
	for _, tt := range certificateLogins {
		nc, err := tls.Dial("tcp", addr, client(tt.cert))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, nc, tt.connect); !like(got, tt.want) {
			t.Errorf("TLS, certificate %q, %s: %s, want %s", tt.cert, tt.connect, got, tt.want)
		}
		nc.Close()
		nc, err = tls.Dial("tcp", ws.Listener.Addr().String(), client(tt.cert))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, dialWS(t, nc), tt.connect); !like(got, tt.want) {
			t.Errorf("WebSocket, certificate %q, %s: %s, want %s", tt.cert, tt.connect, got, tt.want)
		}
		nc.Close()
	}
	// One that nobody we know has signed does not get through the handshake.
	c := client("")
	c.Certificates = []tls.Certificate{other.pair("alice", x509.ExtKeyUsageClientAuth)}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.Certificates[0], nil }
	refused := func(addr string, c *tls.Config) {
		t.Helper()
		nc, err := tls.Dial("tcp", addr, c)
		if err != nil {
			return
		}
		defer nc.Close()
		if got := ask(t, nc, "CONNECT 5 clean id=a user=alice"); got != "--" {
			t.Errorf("got %s", got)
		}
	}
	refused(addr, c)
	must := cfg.Clone()
	must.ClientAuth = tls.RequireAndVerifyClientCert
	addr = serve(must)
	refused(addr, client(""))
	nc, err := tls.Dial("tcp", addr, client("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got := ask(t, nc, "CONNECT 5 clean id=a"); !like(got, "CONNACK 0x00 *") {
		t.Error(got)
	}
}

// frames is a WebSocket of one message in each direction.
type frames struct {
	net.Conn
	r    *bufio.Reader
	left int
}

func dialWS(t *testing.T, nc net.Conn) net.Conn {
	t.Helper()
	io.WriteString(nc, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
	r := bufio.NewReader(nc)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return &frames{Conn: nc, r: r}
}

func (f *frames) Write(p []byte) (int, error) {
	b := append([]byte{0x82, 0x80 | byte(len(p)), 0, 0, 0, 0}, p...) // masked with zeros
	_, err := f.Conn.Write(b)
	return len(p), err
}

func (f *frames) Read(p []byte) (int, error) {
	if f.left == 0 {
		var h [2]byte
		if _, err := io.ReadFull(f.r, h[:]); err != nil {
			return 0, err
		}
		f.left = int(h[1])
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

// proxied is a header of the PROXY protocol, version 2, for a client that came
// by TLS, with a certificate of that name.
func proxied(flags byte, name string) string {
	v := string([]byte{flags, 0, 0, 0, 0}) + "\x22\x00" + string(rune(len(name))) + name
	ext := "\x20\x00" + string(rune(len(v))) + v
	return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00" + string(rune(12+len(ext))) + "\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x22\xb3" + ext
}

// A load balancer that has ended TLS says so, and whose certificate it was.
func TestProxyProtocol(t *testing.T) {
	_, serve, _ := socketHouse(t, Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	addr := serve(nil)
	for _, tt := range []struct{ header, connect, want string }{
		{proxied(7, "alice"), "CONNECT 5 clean id=a", "CONNACK 0x00 *"},
		{proxied(7, "carol"), "CONNECT 5 clean id=a", "CONNACK 0x87"},
		{proxied(7, "carol"), "CONNECT 5 clean id=a user=bob", "CONNACK 0x00 *"},
		{proxied(1, "alice"), "CONNECT 5 clean id=a", "CONNACK 0x87"},
		{proxied(1, ""), "CONNECT 5 clean id=a user=bob", "CONNACK 0x00 *"},
		// The way to the balancer was open.
		{proxied(0, ""), "CONNECT 5 clean id=a user=bob", "CONNACK 0x87"},
		{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "CONNECT 4 clean id=a user=bob", "CONNACK 0x05"},
		{"", "CONNECT 4 clean id=a user=bob", "--"}, // the header is due
	} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, tt.header)
		if got := ask(t, nc, tt.connect); !like(got, tt.want) {
			t.Errorf("%q, %s: %s, want %s", tt.header, tt.connect, got, tt.want)
		}
		nc.Close()
	}
}
