package link

import (
	"context"
	"crypto/tls"
	"hash/maphash"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Config says what a client may do. A zero field means its default.
type Config struct {
	// HelloTime is how long a new connection may take to say who it is.
	// Default 10 s.
	HelloTime time.Duration
	// MaxHello is how many bytes a client may send before it is known, in one
	// frame. Default 16 KiB.
	MaxHello int
	// MinInterval and MaxInterval bound how often a client promises to speak.
	// Default 1 s and 1 h.
	MinInterval, MaxInterval time.Duration
	// Margin is how much longer than one and a half intervals a silent client
	// is kept. Default 5 s.
	Margin time.Duration
	// Window is how many bytes of messages a client may leave
	// unacknowledged. Default 1 MiB.
	Window int
	// Inflight is how many messages a client may send before the first of
	// them is answered. Default 4096.
	Inflight int
	// Peers is how many recipients a client may give a number. Default 64.
	Peers int
	// MaxProbes is how many probes of the network one account may have at
	// once. Default 2.
	MaxProbes int
	// MaxProbesInAll bounds them for all accounts. Default 10,000.
	MaxProbesInAll int
	// SignalRate is how many words of the moment (typing, presence) a session
	// may say in a second, four times as many at once; more are dropped.
	// Default 5.
	SignalRate int
	// MaxShown is to how many others a session may say that it is online, and
	// have it said that it is gone. Default 256.
	MaxShown int
	// MaxHold is how long messages that can wait may be held for a client in
	// the background, so that they go along with its next heartbeat. Default
	// 10 min.
	MaxHold time.Duration
	// Spread is over how long the clients' return is spread when the server
	// restarts. Default 30 s.
	Spread time.Duration
	// MaxUnsent is how many bytes may wait for a client that does not read.
	// Default 4 MiB, and never less than four messages.
	MaxUnsent int
	// MaxConns and MaxPerAddr bound connections in all and from one address, by
	// whichever way they come. Default unlimited and 20,000.
	MaxConns, MaxPerAddr int
	// Handshakes is how many QUIC connections may be in their handshake at
	// once. Default 1024.
	Handshakes int
	// Retry is how many of them there may be before the next ones have to show
	// that their address is theirs (QUIC's Retry), which costs them a round
	// trip. Default 64.
	Retry int
	// Origins are the web origins that may open a WebSocket, beside the
	// server's own; "*" is any.
	Origins []string
}

func (c Config) withDefaults() Config {
	set(&c.HelloTime, 10*time.Second)
	set(&c.MaxHello, 16<<10)
	set(&c.MinInterval, time.Second)
	set(&c.MaxInterval, time.Hour)
	set(&c.Margin, 5*time.Second)
	set(&c.Window, 1<<20)
	set(&c.Inflight, 4096)
	set(&c.Peers, 64)
	set(&c.MaxProbes, 2)
	set(&c.MaxProbesInAll, 10_000)
	set(&c.SignalRate, 5)
	set(&c.MaxShown, 256)
	set(&c.MaxHold, 10*time.Minute)
	set(&c.Spread, 30*time.Second)
	set(&c.MaxUnsent, 4<<20)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server is the link door.
type Server struct {
	core     *transport.Core
	cfg      Config
	maxFrame int
	traces   bool // frames are logged
	bodies   bool // with what is in them
	stats    stats
	account  conn.Account
	places   conn.Places // of the connections of all listeners
	probes   probes
	shown    shown
	deflated deflated
	runs     runs
}

var _ transport.Server = (*Server)(nil)

// New returns a door to core. It starts nothing.
func New(core *transport.Core, cfg Config) *Server {
	s := &Server{core: core, cfg: cfg.withDefaults()}
	s.deflated.seed = maphash.MakeSeed()
	s.traces = core.Log.Enabled(context.Background(), levelTrace)
	s.bodies = core.Log.Enabled(context.Background(), levelBody)
	// Room for the greatest message, and for its id, type and recipient.
	l := core.Mail.Limits()
	s.maxFrame = l.Body + l.Attrs + 8<<10
	s.cfg.MaxUnsent = max(s.cfg.MaxUnsent, 4*s.maxFrame)
	return s
}

// Serve accepts connections from ln, a TCP or TLS listener or one of pipes,
// until ctx is cancelled. It then tells the clients when to come back, waits
// for them to go, and returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.core.Engine.Serve(ctx, ln, s.Options(ctx))
}

// ServeTLS is Serve for connections that begin with a TLS handshake.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, cfg *tls.Config) error {
	o := s.Options(ctx)
	o.TLS = cfg
	return s.core.Engine.Serve(ctx, ln, o)
}

// Account is that of all connections of this door.
func (s *Server) Account() *conn.Account { return &s.account }

// WebSocket is an HTTP handler that speaks the protocol over WebSocket, in
// binary messages. Their boundaries mean nothing.
func (s *Server) WebSocket(ctx context.Context) http.Handler {
	return s.core.Engine.WebSocket(ctx, s.Options(ctx))
}

// Options are what an engine needs to serve the protocol until ctx is
// cancelled.
func (s *Server) Options(ctx context.Context) conn.Options {
	d := &door{Server: s, background: func(f func(context.Context) error, then func(error)) bool {
		return s.core.Auth.Go(func() error { return f(ctx) }, then)
	}}
	return conn.Options{
		New:          func() conn.Protocol { return &link{d: d} },
		MaxUnsent:    s.cfg.MaxUnsent,
		MaxInput:     s.maxFrame + 64<<10,
		MaxConns:     s.cfg.MaxConns,
		MaxPerAddr:   s.cfg.MaxPerAddr,
		Places:       &s.places,
		Origins:      s.cfg.Origins,
		Subprotocols: []string{frame.Protocol},
		Account:      &s.account,
	}
}

// door is a Server that runs.
type door struct {
	*Server
	// background runs what may block, and then with its error; false means that
	// too much waits. See [auth.Auth.Go].
	background func(f func(context.Context) error, then func(error)) bool
}

// Stats counts what the door did since it was made.
type Stats struct {
	Sessions   int64  // live now
	Opened     uint64 // connections
	Welcomed   uint64 // logins that succeeded
	Denied     uint64 // logins that did not
	Sends      uint64 // messages received from clients
	Refused    uint64 // of these, not stored
	Messages   uint64 // messages delivered to clients, repetitions counted
	Heartbeats uint64
	Broken     uint64 // connections ended since the peer broke the protocol
	Probes     uint64 // of the network, welcomed
	Findings   uint64 // that clients reported
	Signals    uint64 // words of the moment delivered to clients
	Dropped    uint64 // and those that were not: too many, or the client too slow
}

type stats struct {
	sessions                                                                                                   atomic.Int64
	opened, welcomed, denied, sends, refused, messages, heartbeats, broken, probes, findings, signals, dropped atomic.Uint64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{c.sessions.Load(), c.opened.Load(), c.welcomed.Load(), c.denied.Load(), c.sends.Load(), c.refused.Load(),
		c.messages.Load(), c.heartbeats.Load(), c.broken.Load(), c.probes.Load(), c.findings.Load(), c.signals.Load(), c.dropped.Load()}
}
