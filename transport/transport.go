// Package transport says what the server asks of every door, and what it gives
// them.
package transport

import (
	"context"
	"log/slog"
	"net"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
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
}
