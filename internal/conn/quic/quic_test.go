package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

const protocol = "echo.1"

// certificates are those of the servers, made once.
var certificates = sync.OnceValue(func() *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS
})

func listen(t *testing.T, cfg Config) *Listener {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listenOn(t, pc, cfg)
}

func listenOn(t *testing.T, pc net.PacketConn, cfg Config) *Listener {
	t.Helper()
	cfg.TLS, cfg.Protocol = certificates(), protocol
	l, err := Listen(pc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}
}

func dial(t *testing.T, addr net.Addr) (*quic.Conn, error) {
	t.Helper()
	qc, err := quic.DialAddr(t.Context(), addr.String(), clientTLS(), nil)
	if err == nil {
		t.Cleanup(func() { qc.CloseWithError(0, "") })
	}
	return qc, err
}

// enter dials, opens the stream and says something on it.
func enter(t *testing.T, l *Listener) (*quic.Conn, *quic.Stream, *Conn) {
	t.Helper()
	qc, err := dial(t, l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	st, err := qc.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	st.Write([]byte("hello"))
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(nc, b); err != nil || string(b) != "hello" {
		t.Fatalf("%q, %v", b, err)
	}
	return qc, st, nc.(*Conn)
}

// waitFor waits for what another goroutine is about to do.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen: ", what)
		}
	}
}

// Who has no stream yet is one of few. The next one has to show that his address
// is his, and beyond that nobody is let in, until others have gone on.
func TestHandshakesAreBounded(t *testing.T) {
	l := listen(t, Config{Handshakes: 2, Retry: 1})
	first, err := dial(t, l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, retries, _ := l.Load(); retries != 0 {
		t.Errorf("the first had to show its address %d times", retries)
	}
	if _, err := dial(t, l.Addr()); err != nil {
		t.Fatal(err)
	}
	if shaking, retries, refused := l.Load(); shaking != 2 || retries == 0 || refused != 0 {
		t.Errorf("%d without a stream, %d retries, %d refused", shaking, retries, refused)
	}
	var no *quic.TransportError
	if _, err := dial(t, l.Addr()); !errors.As(err, &no) || no.ErrorCode != quic.ConnectionRefused {
		t.Errorf("a third: %v", err)
	}
	if _, _, refused := l.Load(); refused == 0 {
		t.Error("nobody was refused")
	}
	st, err := first.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	st.Write([]byte{0})
	if nc, err := l.Accept(); err != nil {
		t.Fatal(err)
	} else {
		defer nc.Close()
	}
	waitFor(t, "a place is given back", func() bool { shaking, _, _ := l.Load(); return shaking < 2 })
	if _, err := dial(t, l.Addr()); err != nil {
		t.Errorf("when there was room: %v", err)
	}
}

// A connection without a stream ends in time.
func TestStreamIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(air)
		l := listenOn(t, a.listen(), Config{Handshake: 10 * time.Second, Code: func(err error) uint64 {
			if errors.Is(err, context.DeadlineExceeded) {
				return 15
			}
			return 0
		}})
		begin := time.Now()
		qc, err := a.dial(t.Context(), t, l.Addr())
		if err != nil {
			t.Fatal(err)
		}
		<-qc.Context().Done()
		var app *quic.ApplicationError
		if err := context.Cause(qc.Context()); !errors.As(err, &app) || app.ErrorCode != 15 {
			t.Errorf("ended with %v", err)
		}
		if d := time.Since(begin); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("after %v", d)
		}
		synctest.Wait()
		if shaking, _, _ := l.Load(); shaking != 0 {
			t.Error("its place is not given back")
		}
	})
}

// There is one stream.
func TestOneStream(t *testing.T) {
	l := listen(t, Config{})
	qc, _, nc := enter(t, l)
	defer nc.Close()
	if _, err := qc.OpenStream(); err == nil {
		t.Error("a second stream")
	}
	if _, err := qc.OpenUniStream(); err == nil {
		t.Error("a unidirectional one")
	}
}

// What is said before the end is heard by a peer that waits for the end.
func TestLastWords(t *testing.T) {
	l := listen(t, Config{Code: func(error) uint64 { return 9 }})
	qc, st, nc := enter(t, l)
	st.Close()
	if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the peer's end: %v", err)
	}
	nc.Write([]byte("goodbye"))
	go nc.CloseWith(nil) // it waits for the peer
	if b, err := io.ReadAll(st); err != nil || string(b) != "goodbye" {
		t.Errorf("%q, %v", b, err)
	}
	qc.CloseWithError(0, "")
}

// relay carries datagrams between one client and a server.
type relay struct {
	net.PacketConn
	only     atomic.Int64 // if not zero: this many of the client's, and no more
	up, down atomic.Int64 // bytes
}

func newRelay(t *testing.T, a *air, server net.Addr) *relay {
	t.Helper()
	listen := func() net.PacketConn {
		pc := a.listen()
		t.Cleanup(func() { pc.Close() })
		return pc
	}
	r := &relay{PacketConn: listen()}
	r.only.Store(1 << 40)
	out := listen()
	var from atomic.Pointer[net.Addr]
	go func() { // ends with the test
		for b := make([]byte, 2048); ; {
			n, a, err := r.ReadFrom(b)
			if err != nil {
				return
			}
			if r.only.Add(-1) >= 0 {
				from.Store(&a)
				r.up.Add(int64(n))
				out.WriteTo(b[:n], server)
			}
		}
	}()
	go func() { // ends with the test
		for b := make([]byte, 2048); ; {
			n, _, err := out.ReadFrom(b)
			if err != nil {
				return
			}
			r.down.Add(int64(n))
			if r.only.Load() > 0 {
				r.WriteTo(b[:n], *from.Load())
			}
		}
	}()
	return r
}

// "Prior to validating the client address, servers MUST NOT send more than three
// times as many bytes as the number of bytes they have received" (RFC 9000
// section 8.1): who forges an address has us send little to it.
func TestAmplification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(air)
		l := listenOn(t, a.listen(), Config{Handshake: time.Second})
		r := newRelay(t, a, l.Addr())
		r.only.Store(1)
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		if _, err := a.dial(ctx, t, r.LocalAddr()); err == nil {
			t.Fatal("connected without an answer")
		}
		if up, down := r.up.Load(), r.down.Load(); down == 0 || down > 3*up {
			t.Errorf("%d bytes for %d", down, up)
		}
		synctest.Wait()
		if shaking, _, _ := l.Load(); shaking != 0 {
			t.Error("its place is not given back")
		}
	})
}

// A peer that acknowledges nothing is given up when the user timeout says, and
// not after Config.Idle; one that is there is not.
func TestUserTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(air)
		l := listenOn(t, a.listen(), Config{})
		r := newRelay(t, a, l.Addr())
		qc, err := a.dial(t.Context(), t, r.LocalAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer qc.CloseWithError(0, "")
		st, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		st.Write([]byte{1})
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		nc := accepted.(*Conn)
		defer nc.Close()
		nc.Read(make([]byte, 1))
		nc.SetUserTimeout(10 * time.Second)
		for range 3 {
			nc.Write([]byte("are you there?"))
			nc.SetReadDeadline(time.Now().Add(15 * time.Second))
			var timeout net.Error
			if _, err := nc.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Fatalf("while the peer is there: %v", err)
			}
		}
		nc.SetReadDeadline(time.Time{})
		r.only.Store(0)
		begin := time.Now()
		nc.Write([]byte("are you there?"))
		if _, err := nc.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "acknowledges nothing") {
			t.Errorf("when it has gone: %v", err)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 30*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// The socket is open as long as there is a connection, and nobody new is let in
// after Close.
func TestClose(t *testing.T) {
	l := listen(t, Config{})
	_, st, nc := enter(t, l)
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	nc.Write([]byte("still there"))
	b := make([]byte, 11)
	if _, err := io.ReadFull(st, b); err != nil {
		t.Errorf("%q, %v", b, err)
	}
	nc.Close()
	if err := l.Close(); err != nil { // waits
		t.Error(err)
	}
	if _, err := l.pc.WriteTo([]byte{0}, l.Addr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket after the last connection: %v", err)
	}
}

// What is no QUIC costs nothing.
func TestGarbage(t *testing.T) {
	l := listen(t, Config{})
	nc, err := net.Dial("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, p := range [][]byte{{}, {0}, {0xc0}, make([]byte, 1200), []byte(strings.Repeat("\xc0\x00\x00\x00\x01", 240))} {
		for range 50 {
			nc.Write(p)
		}
	}
	_, _, ok := enter(t, l)
	defer ok.Close()
	if shaking, retries, refused := l.Load(); shaking != 0 || retries != 0 || refused != 0 {
		t.Errorf("%d, %d, %d", shaking, retries, refused)
	}
}
