package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// dial connects to a target: host:port over TCP, or tls://, quic://, ws:// or
// wss:// and that. protocol is what is spoken there, for WebSocket and QUIC.
// Who measures does not look at certificates, and resumes no session.
func dial(ctx context.Context, target, protocol string, role Role) (net.Conn, error) {
	scheme, _, ok := strings.Cut(target, "://")
	if !ok {
		return new(net.Dialer).DialContext(ctx, "tcp", target)
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "tls":
		return dialTLS(ctx, u.Host)
	case "quic":
		return dialQUIC(ctx, u.Host, protocol)
	case "ws":
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return nil, err
		}
		return openWebSocket(nc, u, protocol, role)
	case "wss":
		nc, err := dialTLS(ctx, u.Host)
		if err != nil {
			return nil, err
		}
		return openWebSocket(nc, u, protocol, role)
	}
	return nil, fmt.Errorf("cannot connect by %s", scheme)
}

func dialTLS(ctx context.Context, addr string) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	return d.DialContext(ctx, "tcp", addr)
}

// socket is the one that all connections over QUIC share.
var socket = sync.OnceValues(func() (*quic.Transport, error) {
	pc, err := net.ListenPacket("udp", ":0")
	return &quic.Transport{Conn: pc}, err
})

// quicConn is a connection and its one stream.
type quicConn struct {
	*quic.Stream
	conn *quic.Conn
}

func (c quicConn) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c quicConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }
func (c quicConn) Close() error         { return c.conn.CloseWithError(0, "") }

func dialQUIC(ctx context.Context, addr, protocol string) (net.Conn, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	tr, err := socket()
	if err != nil {
		return nil, err
	}
	qc, err := tr.Dial(ctx, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, &quic.Config{MaxIdleTimeout: 3 * time.Hour})
	if err != nil {
		return nil, err
	}
	st, err := qc.OpenStream()
	if err != nil {
		qc.CloseWithError(0, "")
		return nil, err
	}
	return quicConn{st, qc}, nil
}
