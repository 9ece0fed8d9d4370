// Package transport says what the server asks of every door, and what it gives
// them.
package transport

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/internal/ledger"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
)

// A Server speaks one protocol.
//
// Serve accepts from ln until ctx is cancelled. It then tells its clients to
// go, in the words of its protocol, waits for their connections to end, and
// returns nil. When Serve has returned, nothing it started is left.
type Server interface {
	Serve(ctx context.Context, ln net.Listener) error
}

// Core is what every door is given.
type Core struct {
	Mail      *mailbox.Mail
	Router    *router.Router
	Auth      *auth.Auth
	Keepalive keepalive.Advisor
	Engine    *conn.Engine
	Log       *slog.Logger
	// Costs has what each device costs. It may be nil, and counts nothing then.
	Costs *ledger.Ledger
}

// Meters yields the meters of the connections that have a session: those whose
// [router.Client] has a Meter. It is a [ledger.Source].
func (c *Core) Meters(user string, yield func(user, device, way string, m *cost.Meter)) {
	c.Router.Clients(user, func(who auth.Who, door router.Door, client router.Client) {
		if m, ok := client.(interface{ Meter() *cost.Meter }); ok {
			yield(who.User, who.Device, door.String(), m.Meter())
		}
	})
}

// Network names the network of a device that declares one, or else of one
// that comes from addr. All doors name it so, and share what is learned there.
func (c *Core) Network(declared string, addr netip.Addr) keepalive.Network {
	if l, ok := c.Keepalive.(keepalive.Learner); ok {
		return l.Name(declared, addr)
	}
	return keepalive.Network(declared)
}

// Interval is how long a device that declares a network, or else comes from
// addr, may stay silent.
func (c *Core) Interval(declared string, addr netip.Addr) time.Duration {
	if c.Keepalive == nil {
		return keepalive.Default
	}
	return c.Keepalive.Interval(c.Network(declared, addr))
}

// Certificate is what the client of c has proved by a certificate, to us or to a
// trusted load balancer; nil if nothing.
func Certificate(c *conn.Conn) *auth.Certificate {
	if cert := auth.CertificateOf(c.TLS()); cert != nil {
		return cert
	}
	if name := c.ClientName(); name != "" {
		return &auth.Certificate{CommonName: name}
	}
	return nil
}
