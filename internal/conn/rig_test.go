package conn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// probe is a Protocol made of functions; those that are nil do nothing.
type probe struct {
	c       *Conn
	open    func(p *probe) error
	data    func(p *probe, b []byte) (int, error)
	wake    func(p *probe) error
	alarm   func(p *probe) error
	bye     func(p *probe)
	secured func(p *probe) error
	ended   chan error // what Closed was told
	busy    atomic.Int32
}

// alone fails when two methods run at once.
func (p *probe) alone() func() {
	if p.busy.Add(1) != 1 {
		panic("two methods at once")
	}
	return func() { p.busy.Add(-1) }
}

func (p *probe) Open(c *Conn) error {
	defer p.alone()()
	p.c = c
	if p.open != nil {
		return p.open(p)
	}
	return nil
}

func (p *probe) Data(b []byte) (int, error) {
	defer p.alone()()
	if p.data != nil {
		return p.data(p, b)
	}
	p.c.Write(b)
	return len(b), nil
}

func (p *probe) Wake() error {
	defer p.alone()()
	if p.wake != nil {
		return p.wake(p)
	}
	return nil
}

func (p *probe) Alarm() error {
	defer p.alone()()
	if p.alarm != nil {
		return p.alarm(p)
	}
	return nil
}

func (p *probe) Secured(tls.ConnectionState) error {
	defer p.alone()()
	if p.secured != nil {
		return p.secured(p)
	}
	return nil
}

func (p *probe) Goodbye() {
	defer p.alone()()
	if p.bye != nil {
		p.bye(p)
		return
	}
	p.c.Write([]byte("bye\n"))
	p.c.Close(ErrDrain)
}

func (p *probe) Closed(why error) {
	defer p.alone()()
	p.ended <- why
}

// rig is a server on a free port.
type rig struct {
	t      *testing.T
	addr   string
	probes chan *probe // of connections, in order of Open
	dial   func() net.Conn
	stop   func() // and wait
}

// way is an engine and what lies between it and the peer.
type way struct {
	name  string
	loops int
	layer string // tcp, tls, ws, wss
}

var ways = func() (all []way) {
	for _, layer := range []string{"tcp", "tls", "ws", "wss"} {
		all = append(all, way{"goroutine/" + layer, -1, layer})
		if runtime.GOOS == "linux" {
			all = append(all, way{"loop/" + layer, 2, layer})
		}
	}
	return all
}()

// each runs f for every way whose layer is in layers (all if empty).
func each(t *testing.T, f func(t *testing.T, w way), layers ...string) {
	for _, w := range ways {
		if len(layers) == 0 || slices.Contains(strings.Fields(strings.Join(layers, " ")), w.layer) {
			t.Run(w.name, func(t *testing.T) { f(t, w) })
		}
	}
}

var testCert = sync.OnceValue(func() tls.Certificate {
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
})

func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{testCert()}} }
func clientTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

var silent = slog.New(slog.DiscardHandler)

// start serves o; each connection's protocol is what form makes.
func (w way) start(t *testing.T, o Options, form func() *probe) *rig {
	t.Helper()
	e := New(Config{Loops: w.loops, Log: silent, Tick: 10 * time.Millisecond})
	r := &rig{t: t, probes: make(chan *probe, 10000)}
	if form == nil {
		form = func() *probe { return new(probe) }
	}
	o.New = func() Protocol {
		p := form()
		if p.ended == nil {
			p.ended = make(chan error, 1)
		}
		open := p.open
		p.open = func(p *probe) error {
			r.probes <- p
			if open != nil {
				return open(p)
			}
			return nil
		}
		return p
	}
	if o.Linger == 0 {
		o.Linger = 2 * time.Second
	}
	if w.layer == "tls" {
		o.TLS = serverTLS()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	if w.layer == "ws" || w.layer == "wss" {
		r.web(ctx, &served, e, ln, o, w.layer)
	} else {
		served.Go(func() {
			if err := e.Serve(ctx, ln, o); err != nil {
				t.Error(err)
			}
		})
		r.dial = func() net.Conn {
			if w.layer == "tls" {
				return must(tls.Dial("tcp", r.addr, clientTLS()))
			}
			return must(net.Dial("tcp", r.addr))
		}
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		served.Wait()
		e.Close()
	})
	t.Cleanup(r.stop)
	return r
}

// web serves o as a WebSocket endpoint.
func (r *rig) web(ctx context.Context, served *sync.WaitGroup, e *Engine, ln net.Listener, o Options, scheme string) {
	srv := &http.Server{Handler: e.WebSocket(ctx, o), TLSConfig: serverTLS()}
	served.Go(func() {
		if scheme == "wss" {
			srv.ServeTLS(seams{ln}, "", "")
		} else {
			srv.Serve(ln)
		}
	})
	context.AfterFunc(ctx, func() { srv.Close() })
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS()}}
	r.dial = func() net.Conn {
		// What the client does with its context and read limits is not our test.
		c, _, err := websocket.Dial(context.Background(), scheme+"://"+r.addr, &websocket.DialOptions{HTTPClient: hc})
		if err != nil {
			panic(err)
		}
		c.SetReadLimit(-1)
		return websocket.NetConn(context.Background(), c, websocket.MessageBinary)
	}
}

// seams is a listener whose connections can be taken from under TLS.
type seams struct{ net.Listener }

func (l seams) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return NewSeam(c), nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// open dials and returns both ends.
func (r *rig) open() (net.Conn, *probe) {
	r.t.Helper()
	c := r.dial()
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, <-r.probes
}

// expect reads as many bytes as want has and compares.
func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(r, b); err != nil || string(b) != want {
		t.Fatalf("got %.80q (%d bytes of %d), %v, want %.80q", b[:n], n, len(b), err, want)
	}
}

// closed waits for the peer to be told the end.
func closed(t *testing.T, c io.Reader) {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil || len(b) > 0 {
		t.Fatalf("got %.80q, %v, want the end", b, err)
	}
}

// tlsEcho tries an echo through TLS on c.
func tlsEcho(c net.Conn) error {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(c, clientTLS())
	if _, err := io.WriteString(tc, "x"); err != nil {
		return err
	}
	_, err := io.ReadFull(tc, make([]byte, 1))
	return err
}
