package link_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/posthouse-im/posthouse/client"
	sdk "github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/link/quic"
	"github.com/posthouse-im/posthouse/internal/conn"
	connquic "github.com/posthouse-im/posthouse/internal/conn/quic"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// quic opens the house to QUIC.
func (h *house) quic(t *testing.T) *connquic.Listener {
	t.Helper()
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS() // for its certificate
	certs.Close()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := h.server.QUIC(pc, certs.TLS)
	if err != nil {
		t.Fatal(err)
	}
	h.serving.Go(func() { h.server.Serve(h.ctx, ln) })
	return ln.(*connquic.Listener)
}

// ways opens the house to TCP twice, WebSocket and QUIC, and returns how to come
// in by each.
func (h *house) ways(t *testing.T) []func(device string) (*sdk.Mailbox, error) {
	t.Helper()
	web := httptest.NewServer(h.server.WebSocket(h.ctx))
	t.Cleanup(web.Close)
	ln := h.quic(t)
	var ways []func(string) (*sdk.Mailbox, error)
	for _, o := range []client.Options{
		{Addr: h.listen(t, nil)},
		{Addr: h.listen(t, nil)},
		{Addr: strings.Replace(web.URL, "http", "ws", 1)},
		{Addr: ln.Addr().String(), TLS: &tls.Config{InsecureSkipVerify: true}},
	} {
		ways = append(ways, func(device string) (*sdk.Mailbox, error) {
			o.User, o.Password, o.Device = "alice", "secret", device
			cfg := sdk.Config{Options: o, Heartbeat: time.Minute} // which it need not look for
			if o.TLS != nil {
				cfg.Dial = quic.Dialer(quic.Config{Options: o})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return sdk.Open(ctx, cfg)
		})
	}
	return ways
}

// So many connections there may be, in all and from one address, by whichever
// ways they come.
func TestConnectionsAreBounded(t *testing.T) {
	for name, cfg := range map[string]link.Config{"MaxConns": {MaxConns: 2}, "MaxPerAddr": {MaxPerAddr: 2}} {
		h := newHouse(t, cfg, mem.Options{})
		ways := h.ways(t)
		for i, dial := range ways {
			var open []*sdk.Mailbox
			for n, dial := range []func(string) (*sdk.Mailbox, error){ways[(i+1)%len(ways)], ways[(i+2)%len(ways)]} {
				mb, err := dial(fmt.Sprint(n))
				for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); { // until the server has seen who left
					mb, err = dial(fmt.Sprint(n))
				}
				if err != nil {
					t.Fatalf("%s: connection %d: %v", name, n, err)
				}
				open = append(open, mb)
			}
			if mb, err := dial("more"); err == nil {
				mb.Close()
				t.Errorf("%s: one more than there may be comes in by way %d", name, i)
			}
			for _, mb := range open {
				mb.Close()
			}
		}
		h.close()
	}
}

// Who asks and does not listen is cut off when so much waits for him: four
// messages at least, which are 300 kB here, and by default 4 MiB.
func TestUnsentIsBounded(t *testing.T) {
	for _, c := range []struct {
		most, bytes int
		cut         bool
	}{{1, 250_000, false}, {1, 350_000, true}, {500_000, 450_000, false}, {500_000, 600_000, true}, {0, 4_000_000, false}, {0, 4_500_000, true}} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, link.Config{MaxUnsent: c.most}, mem.Options{})
			defer h.close()
			ours, theirs := net.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- h.core.Engine.ServeConn(h.ctx, theirs, h.server.Options(h.ctx)) }() // ends with ours
			ours.Write(frame.Append(nil, &frame.Hello{Major: 1, User: "alice", Password: "secret"}))
			ours.Read(make([]byte, 4096))
			ping := frame.Append(nil, &frame.Ping{Payload: make([]byte, 32)})
			ours.SetWriteDeadline(time.Now().Add(time.Second))
			ours.Write(bytes.Repeat(ping, c.bytes/len(ping)))
			synctest.Wait()
			cut := len(ended) > 0
			ours.Close()
			if why := <-ended; cut != c.cut || cut != errors.Is(why, conn.ErrUnsent) {
				t.Errorf("MaxUnsent %d: with %d bytes for him he is cut off: %v, %v", c.most, c.bytes, cut, why)
			}
		})
	}
}

// A page of another origin opens a WebSocket only if the server says that it may.
func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origins []string
		want    int
	}{
		{nil, http.StatusForbidden},
		{[]string{"https://other.example.org"}, http.StatusForbidden},
		{[]string{"https://other.example.org", "https://chat.example.org"}, http.StatusSwitchingProtocols},
		{[]string{"*"}, http.StatusSwitchingProtocols},
	} {
		h := newHouse(t, link.Config{Origins: c.origins}, mem.Options{})
		web := httptest.NewServer(h.server.WebSocket(h.ctx))
		req, err := http.NewRequest(http.MethodGet, web.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]string{
			"Origin": "https://chat.example.org", "Connection": "Upgrade", "Upgrade": "websocket",
			"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			req.Header.Set(name, v)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != c.want {
			t.Errorf("origins %q: %d, want %d", c.origins, resp.StatusCode, c.want)
		}
		web.Close()
		h.close()
	}
}

// QUIC connections in their handshake are few, and from so many on they have to
// show their address. One that opens no stream ends when HELLO is due.
func TestHandshakesAreBounded(t *testing.T) {
	dial := func(cfg link.Config) (*quicgo.Conn, func() (*quicgo.Conn, error), *connquic.Listener) {
		h := newHouse(t, cfg, mem.Options{})
		t.Cleanup(h.close)
		ln := h.quic(t)
		another := func() (*quicgo.Conn, error) {
			return quicgo.DialAddr(t.Context(), ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{frame.Protocol}}, nil)
		}
		qc, err := another()
		if err != nil {
			t.Fatal(err)
		}
		return qc, another, ln
	}

	_, another, at := dial(link.Config{Retry: 1})
	if _, retries, _ := at.Load(); retries != 0 {
		t.Errorf("the first had to show its address %d times", retries)
	}
	if _, err := another(); err != nil {
		t.Fatal(err)
	}
	if _, retries, _ := at.Load(); retries == 0 {
		t.Error("the second did not have to show its address")
	}

	_, another, at = dial(link.Config{Handshakes: 1})
	if _, err := another(); err == nil {
		t.Error("there is room for a second one")
	}
	if _, _, refused := at.Load(); refused == 0 {
		t.Error("it was not refused for that")
	}

	silent, _, _ := dial(link.Config{HelloTime: 100 * time.Millisecond})
	select {
	case <-silent.Context().Done():
	case <-time.After(5 * time.Second): // half of the default
		t.Error("one without a stream stays")
		return
	}
	var app *quicgo.ApplicationError
	if err := context.Cause(silent.Context()); !errors.As(err, &app) || frame.CloseCode(app.ErrorCode) != frame.CloseTimeout {
		t.Errorf("one without a stream ended with %v", err)
	}
}
