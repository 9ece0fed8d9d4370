// Package quic carries the long connection over QUIC (RFC 9000), so that a
// device that changes from Wi-Fi to the mobile network keeps its session. It
// is a package of its own: a program that does not import it does not contain
// QUIC.
//
//	box, err := quic.Dial(ctx, client.Options{Addr: "quic://example.org:7443", User: "alice", Password: "secret"})
//
// With more to choose it is a Dial function of client/link:
//
//	box, err := link.Open(ctx, link.Config{Options: o, Dial: quic.Dialer(quic.Config{Options: o})})
//
// When the program says NetworkChanged the connection moves to a new socket,
// whose path is tried before it is used. Where the system gives the old socket
// another address by itself, or a NAT gives it another port, the server sees
// that and follows.
//
// Some networks let no UDP through. Then Dial fails when its time is up, and
// TLS or WebSocket is to be tried.
package quic

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Scheme is what the address of a server begins with, where others are possible.
const Scheme = "quic://"

// Config says where to connect.
type Config struct {
	// Options has the address, host:port with or without Scheme, and how the
	// server's certificate is checked; nil is against the system's roots. A
	// session is resumed by Options.TLS.ClientSessionCache, by default one in
	// memory.
	client.Options
	// Listen, if not nil, opens a UDP socket for each connection and each
	// move, perhaps one that is bound to a certain network.
	Listen func(context.Context) (net.PacketConn, error)
}

// Dial is link.Dial over QUIC.
func Dial(ctx context.Context, o client.Options) (client.Mailbox, error) {
	return link.Open(ctx, link.Config{Options: o, Dial: Dialer(Config{Options: o})})
}

// idle is how long QUIC itself would wait for the server. The heartbeat is
// what notices.
const idle = 3 * time.Hour

// Dialer makes connections for link.Config.Dial. They are of type *Conn.
func Dialer(cfg Config) func(context.Context) (net.Conn, error) {
	if cfg.Listen == nil {
		cfg.Listen = func(context.Context) (net.PacketConn, error) { return net.ListenUDP("udp", nil) }
	}
	t := cfg.TLS.Clone()
	if t == nil {
		t = new(tls.Config)
	}
	t.MinVersion = tls.VersionTLS13
	t.NextProtos = []string{frame.Protocol}
	if t.ClientSessionCache == nil {
		t.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	q := &quic.Config{
		MaxIdleTimeout:       idle,
		KeepAlivePeriod:      0, // link's heartbeats are enough
		HandshakeIdleTimeout: 5 * time.Second,
		MaxIncomingStreams:   -1, MaxIncomingUniStreams: -1,
		DisablePathMTUDiscovery: true, // it costs kilobytes on every network
		TokenStore:              quic.NewLRUTokenStore(4, 2),
	}
	return func(ctx context.Context) (net.Conn, error) {
		host, port, err := net.SplitHostPort(strings.TrimPrefix(cfg.Addr, Scheme))
		if err != nil {
			return nil, err
		}
		t := t
		if t.ServerName == "" {
			t = t.Clone()
			t.ServerName = host
		}
		addrs, err := resolve(ctx, host, port)
		if err != nil {
			return nil, err
		}
		var c *Conn
		for i, a := range addrs {
			try, stop := share(ctx, len(addrs)-i)
			c, err = dial(try, cfg.Listen, net.UDPAddrFromAddrPort(a), t, q)
			stop()
			if err == nil {
				return c, nil
			}
		}
		return nil, fmt.Errorf("link: quic to %s: %w", cfg.Addr, err)
	}
}

// resolve looks up the addresses of host.
func resolve(ctx context.Context, host, port string) ([]netip.AddrPort, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("link: quic: port %q is not a number", port)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(n))
	}
	return addrs, nil
}

// share gives one of n attempts its part of the time that is left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}
