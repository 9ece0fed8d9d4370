// Package carrier makes the connections of all ways.
package carrier

import (
	"context"
	"crypto/tls"
	"net"
)

// Dial connects over TCP, without the system's keep-alives: Go has one sent
// each 15 s, which would wake a radio beside our heartbeats, and hide how long
// the network remembers.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, network, addr)
}

// Sessions returns cfg with a place in memory for TLS sessions, if it has none:
// who comes back need not be sent the certificates again, which are most of a
// handshake's bytes. Nil is the default configuration.
func Sessions(cfg *tls.Config) *tls.Config {
	switch {
	case cfg == nil:
		cfg = new(tls.Config)
	case cfg.ClientSessionCache != nil:
		return cfg
	default:
		cfg = cfg.Clone() // it is the program's
	}
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	return cfg
}
