// Package carrier makes the connections of all ways.
package carrier

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// again is how long a connection may take before it is tried a second time beside
// the first. "The RTO SHOULD be set to RTO <- 1 second", RFC 6298 section 2, for a
// SYN: the system asks again that late if it was lost, and the next time two
// seconds later.
const again = 500 * time.Millisecond

// Dial connects over TCP, without the system's keep-alives: Go has one sent
// each 15 s, which would wake a radio beside our heartbeats, and hide how long
// the network remembers.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	return twice(ctx, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, addr) })
}

// twice dials, and if that takes long once more. It returns the connection that
// is there first, or else the first error; the other one is not made, or closed.
func twice(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		nc  net.Conn
		err error
	}
	ctx, stop := context.WithCancel(ctx)
	results := make(chan result, 2)
	begin := func() {
		nc, err := dial(ctx)
		results <- result{nc, err}
	}
	go begin() // ends with ctx, as the other does
	late := time.NewTimer(again)
	defer late.Stop()
	var r result
	begun, ended := 1, 0
	for done := false; !done; {
		select {
		case r = <-results:
			ended++
			done = r.err == nil || ended == begun
		case <-late.C:
			begun++
			go begin()
		}
	}
	stop()
	for ; ended < begun; ended++ {
		if r := <-results; r.err == nil {
			r.nc.Close()
		}
	}
	return r.nc, r.err
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
