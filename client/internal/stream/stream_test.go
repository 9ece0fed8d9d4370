package stream

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/carrier"
)

// Bytes go there and back over each carrier, and the second connection resumes
// the TLS session of the first.
func TestCarriers(t *testing.T) {
	echo := func(nc net.Conn) {
		io.Copy(nc, nc)
		nc.Close()
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo.1"}})
		if err != nil || ws.Subprotocol() != "echo.1" {
			t.Errorf("subprotocol %q, %v", ws.Subprotocol(), err)
			return
		}
		echo(websocket.NetConn(r.Context(), ws, websocket.MessageBinary))
	}))
	var resumed atomic.Int64
	web.TLS = &tls.Config{VerifyConnection: func(s tls.ConnectionState) error {
		if s.DidResume {
			resumed.Add(1)
		}
		return nil
	}}
	web.StartTLS()
	defer web.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.NewListener(ln, web.TLS)
	defer secure.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, l := range []net.Listener{secure, plain} {
		go func() { // ends with l
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				go echo(nc) // ends with nc
			}
		}()
	}
	trusts := web.Client().Transport.(*http.Transport).TLSClientConfig
	for _, c := range []struct {
		o       client.Options
		resumes int64
	}{
		{client.Options{Addr: plain.Addr().String()}, 0},
		{client.Options{Addr: secure.Addr().String(), TLS: trusts}, 1},
		{client.Options{Addr: "wss" + strings.TrimPrefix(web.URL, "https"), TLS: trusts}, 1},
	} {
		dial := Dialer(c.o, "echo.1")
		resumed.Store(0)
		for range 2 {
			nc, err := dial(t.Context())
			if err != nil {
				t.Fatal(c.o.Addr, err)
			}
			nc.Write([]byte("hello"))
			got := make([]byte, 5)
			if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, []byte("hello")) {
				t.Errorf("%s: %q, %v", c.o.Addr, got, err)
			}
			if n, ok := carrier.Packets(nc); ok != (runtime.GOOS == "linux" && runtime.GOARCH != "386" && runtime.GOARCH != "s390x") || ok && n < 4 {
				t.Errorf("%s: %d packets, %v", c.o.Addr, n, ok)
			}
			nc.Close()
		}
		if resumed.Load() != c.resumes {
			t.Errorf("%s: %d sessions resumed", c.o.Addr, resumed.Load())
		}
	}
}

// Who is not who the address says is not spoken to.
func TestWrongName(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	_, port, _ := net.SplitHostPort(web.Listener.Addr().String())
	trusts := web.Client().Transport.(*http.Transport).TLSClientConfig
	if nc, err := Dialer(client.Options{Addr: "localhost:" + port, TLS: trusts}, "")(t.Context()); err == nil {
		nc.Close()
		t.Error("its certificate is for example.com and 127.0.0.1")
	}
}
