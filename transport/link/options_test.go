package link_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/client"
	sdk "github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/link/quic"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link"
)

// ways opens the house to TCP twice, WebSocket and QUIC, and returns how to come
// in by each.
func (h *house) ways(t *testing.T) []func(device string) (*sdk.Mailbox, error) {
	t.Helper()
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS() // for its certificate
	certs.Close()
	web := httptest.NewServer(h.server.WebSocket(h.ctx))
	t.Cleanup(web.Close)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := h.server.QUIC(pc, certs.TLS)
	if err != nil {
		t.Fatal(err)
	}
	h.serving.Go(func() { h.server.Serve(h.ctx, ln) })
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
