// Package stream makes streams of bytes to a server: over TCP, TLS or
// WebSocket.
package stream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"

	"github.com/coder/websocket"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/carrier"
)

// Dialer connects to o.Addr: host:port, with TLS if o has it, or a ws:// or
// wss:// URL, with a subprotocol in binary messages. TLS sessions are resumed.
func Dialer(o client.Options, subprotocol string) func(context.Context) (net.Conn, error) {
	if strings.HasPrefix(o.Addr, "ws://") || strings.HasPrefix(o.Addr, "wss://") {
		return webSocket(o, subprotocol)
	}
	if o.TLS == nil {
		return func(ctx context.Context) (net.Conn, error) { return carrier.Dial(ctx, "tcp", o.Addr) }
	}
	cfg := carrier.Sessions(o.TLS)
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := carrier.Dial(ctx, "tcp", o.Addr)
		if err != nil {
			return nil, err
		}
		return handshake(ctx, nc, cfg, o.Addr)
	}
}

// handshake begins TLS on nc, with the name in addr unless cfg says another.
func handshake(ctx context.Context, nc net.Conn, cfg *tls.Config, addr string) (net.Conn, error) {
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			nc.Close()
			return nil, err
		}
		cfg = cfg.Clone() // and the same place for sessions
		cfg.ServerName = host
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

func webSocket(o client.Options, subprotocol string) func(context.Context) (net.Conn, error) {
	opts := &websocket.DialOptions{
		// It keeps no connection of its own.
		HTTPClient: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: carrier.Sessions(o.TLS),
			DisableKeepAlives: true, DialContext: carrier.Dial}},
		Subprotocols: []string{subprotocol}, CompressionMode: websocket.CompressionDisabled,
	}
	return func(ctx context.Context) (net.Conn, error) {
		var under net.Conn
		trace := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { under = i.Conn }})
		ws, _, err := websocket.Dial(trace, o.Addr, opts)
		if err != nil {
			return nil, err
		}
		ws.SetReadLimit(-1) // the protocol above has a limit of its own
		// The connection ends by Close; ctx is for the dialling.
		return framed{websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), under}, nil
	}
}

// framed is a WebSocket.
type framed struct {
	net.Conn
	under net.Conn
}

// NetConn returns the connection underneath, as that of a tls.Conn does.
func (f framed) NetConn() net.Conn { return f.under }
