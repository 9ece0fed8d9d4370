package mqtt

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
)

// remoteAddr is where the other broker is, and by what the bytes go there.
type remoteAddr struct {
	addr   string // host:port
	secure bool
	ws     string // URL of the WebSocket; empty over TCP
}

// bridgePorts are the ports of the schemes.
var bridgePorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

func (b *Bridge) remote() (remoteAddr, error) {
	u, err := url.Parse(b.Address)
	if err != nil || u.Hostname() == "" || bridgePorts[u.Scheme] == "" || u.User != nil {
		return remoteAddr{}, fmt.Errorf("%q is not of the form mqtt://host:port, mqtts://host:port, ws://host:port/path or wss://host:port/path", b.Address)
	}
	t := remoteAddr{
		addr:   net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), bridgePorts[u.Scheme])),
		secure: u.Scheme == "mqtts" || u.Scheme == "wss",
	}
	if strings.HasPrefix(u.Scheme, "ws") {
		u.Path = cmp.Or(u.Path, "/mqtt")
		t.ws = u.String()
	} else if strings.Trim(u.Path, "/")+u.RawQuery != "" {
		return remoteAddr{}, fmt.Errorf("%q: a path is for ws:// and wss://", b.Address)
	}
	return t, nil
}

// open connects to the other broker.
func (b *bridge) open(ctx context.Context) (net.Conn, error) {
	t, err := b.cfg.remote()
	if err != nil {
		return nil, err
	}
	tc, err := b.cfg.tls()
	if err != nil {
		return nil, err
	}
	if t.ws != "" {
		return b.openWebSocket(ctx, t, tc)
	}
	nc, err := b.dial(ctx, "tcp", t.addr)
	if err != nil || tc == nil {
		return nc, err
	}
	tlsConn := tls.Client(nc, tc)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tlsConn, nil
}

func (b *bridge) openWebSocket(ctx context.Context, t remoteAddr, tc *tls.Config) (net.Conn, error) {
	hc := &http.Client{Transport: &http.Transport{DialContext: b.dial, TLSClientConfig: tc, DisableKeepAlives: true}}
	// "The Client MUST include "mqtt" in the list of WebSocket Sub Protocols it
	// offers" [MQTT-6.0.0-3]
	ws, _, err := websocket.Dial(ctx, t.ws, &websocket.DialOptions{HTTPClient: hc, Subprotocols: []string{"mqtt"}})
	if err != nil {
		return nil, err
	}
	// "The WebSocket Subprotocol name selected and returned by the Server MUST
	// be "mqtt"" [MQTT-6.0.0-4]
	if ws.Subprotocol() != "mqtt" {
		ws.CloseNow()
		return nil, errors.New("mqtt: the other end of the WebSocket does not speak MQTT")
	}
	// ctx is for the dialling alone.
	return &webSocket{websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), ws}, nil
}

// webSocket closes at once, as TCP does: MQTT has its own goodbye, and nobody
// waits for a second one.
type webSocket struct {
	net.Conn
	ws *websocket.Conn
}

func (w *webSocket) Close() error { return w.ws.CloseNow() }
