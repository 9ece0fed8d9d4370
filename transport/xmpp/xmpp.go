// Package xmpp is the XMPP door: RFC 6120 and RFC 6121 for clients, over TCP
// with STARTTLS, over TLS from the first byte, and over WebSocket (RFC 7395).
//
// XMPP sits on the mailbox like this:
//
//	<message> with a body        a post; its id is the origin-id or the id
//	<message> received           the next entry behind the device's cursor,
//	                             stamped with its seq as stanza-id (XEP-0359)
//	<a h='…'/> (XEP-0198)        moves the cursor, and is answered by us only for
//	                             what is on disk
//	resource                     device
//	offline messages, carbons    nothing of their own: the same box, read by
//	                             another cursor
//	presence, chat states        memory only
//
// What XMPP wraps around a body (receipts, markers, encryption) is kept as the
// bytes that came and given as such to readers who come through this door; a
// reader at another door gets the body. A body that XML cannot carry is given
// as Bits of Binary (XEP-0231), and if it is too large for that as a line that
// says what it is and where to get it.
//
// A connection is a state machine, [client], run by internal/conn. What has to
// wait for the disk is done by workers, one at a time for each user.
package xmpp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// Config is what an operator may set of the XMPP door. The zero value works.
type Config struct {
	// TLS is the certificate for STARTTLS and direct TLS. Without it there is
	// no TLS, and nobody can log in unless Insecure is set.
	TLS *tls.Config `config:"-"`
	// Insecure allows logins without TLS when both ends are on this machine.
	Insecure bool `config:"-"`
	// ChannelBinding offers SCRAM-SHA-256-PLUS and SCRAM-SHA-1-PLUS, by which a
	// login is bound to its TLS connection, over TLS 1.3. It is off by default,
	// since clients that bind wrongly then fail with SCRAM altogether and send
	// the password: slixmpp before 1.9 uses a binding that TLS 1.3 lacks.
	ChannelBinding bool
	// MaxStanza is the greatest size of a stanza in bytes after login. Default
	// 256 KiB. Before login everything together may have 8 KiB.
	MaxStanza int
	// LoginTime is how long a client may take to log in. Default 30 s.
	LoginTime time.Duration
	// LoginTries is how many logins may fail on one connection. Default 3.
	LoginTries int
	// ResumeTime is how long a lost stream can be resumed (XEP-0198). Default
	// 5 minutes; negative means not at all.
	ResumeTime time.Duration
	// MaxQueue is how many bytes of presence and other passing things wait for
	// one connection before more of them is dropped. Default 256 KiB.
	MaxQueue int
	// MaxRoster is the greatest number of contacts of one user. Default 1000.
	MaxRoster int
	// MaxPosts is how many messages of one connection may wait for the disk
	// before nothing more is read from it. Default 256.
	MaxPosts int
	// MaxConns and MaxPerAddr bound connections in all and from one address.
	// Default unlimited and 20,000.
	MaxConns, MaxPerAddr int
	// Origins are the web origins that may open a WebSocket, beside the
	// server's own; "*" is any.
	Origins []string
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.MaxStanza, stream.After.Bytes)
	def(&c.LoginTries, 3)
	def(&c.MaxQueue, 256<<10)
	def(&c.MaxRoster, 1000)
	def(&c.MaxPosts, 256)
	if c.LoginTime == 0 {
		c.LoginTime = 30 * time.Second
	}
	if c.ResumeTime == 0 {
		c.ResumeTime = 5 * time.Minute
	}
	return c
}

// Server is the XMPP door.
type Server struct {
	core   *transport.Core
	cfg    Config
	domain string
	limits stream.Limits // after login

	mu    sync.RWMutex
	users map[string]*user // with at least one bound stream, by bare address

	lost  lost    // streams that can be resumed
	work  workers // for what waits for the disk
	stats counters

	account conn.Account
	places  conn.Places
}

// Account is that of all connections of this door.
func (s *Server) Account() *conn.Account { return &s.account }

// New returns the XMPP door of core.
func New(core *transport.Core, cfg Config) *Server {
	s := &Server{core: core, cfg: cfg.withDefaults(), domain: core.Router.Domain(), users: map[string]*user{}, work: workers{log: core.Log}}
	s.limits = stream.After
	s.limits.Bytes = s.cfg.MaxStanza
	s.lost.held, s.lost.dead = map[string]*held{}, map[string][]*held{}
	return s
}

// Serve accepts connections that begin in the clear and may go on with
// STARTTLS. See [transport.Server].
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.finish(ctx)
	return s.core.Engine.Serve(ctx, ln, s.options())
}

// ServeTLS is Serve for connections that begin with TLS (XEP-0368).
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener) error {
	if s.cfg.TLS == nil {
		return fmt.Errorf("xmpp: direct TLS needs a certificate")
	}
	defer s.finish(ctx)
	o := s.options()
	o.TLS = s.cfg.TLS.Clone()
	// "the ALPN protocol … 'xmpp-client'": XEP-0368 #alpn
	if !slices.Contains(o.TLS.NextProtos, "xmpp-client") {
		o.TLS.NextProtos = append(slices.Clone(o.TLS.NextProtos), "xmpp-client")
	}
	return s.core.Engine.Serve(ctx, ln, o)
}

// WebSocket is the HTTP handler for XMPP over WebSocket (RFC 7395), until ctx
// is cancelled.
func (s *Server) WebSocket(ctx context.Context) http.Handler {
	o := s.options()
	o.New = func() conn.Protocol { return newClient(s, true) }
	o.Text = true
	o.Subprotocols = []string{"xmpp"}
	o.Origins = s.cfg.Origins
	context.AfterFunc(ctx, func() { s.finish(ctx) })
	return s.core.Engine.WebSocket(ctx, o)
}

func (s *Server) options() conn.Options {
	return conn.Options{
		New:        func() conn.Protocol { return newClient(s, false) },
		MaxConns:   s.cfg.MaxConns,
		MaxPerAddr: s.cfg.MaxPerAddr,
		Places:     &s.places,
		Account:    &s.account,
		MaxInput:   s.cfg.MaxStanza + 64<<10,
		MaxUnsent:  2<<20 + 8*s.cfg.MaxStanza, // a body of that size, each character of it escaped, and a batch
	}
}

// finish waits for what connections left to be done.
func (s *Server) finish(ctx context.Context) {
	s.lost.dropAll(ctx.Err() != nil)
	s.work.wait()
}

// counters are the door's own account.
type counters struct {
	logins, failed, resumed, dropped, streamErrors, stanzasIn, stanzasOut atomic.Uint64
}

// Stats are counters since the door was made.
type Stats struct {
	Logins       uint64 // streams authenticated
	Failed       uint64 // logins refused
	Resumed      uint64 // streams resumed (XEP-0198)
	Dropped      uint64 // passing stanzas dropped because a connection was behind
	StreamErrors uint64 // streams ended by us with an error
	StanzasIn    uint64
	StanzasOut   uint64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{c.logins.Load(), c.failed.Load(), c.resumed.Load(), c.dropped.Load(), c.streamErrors.Load(), c.stanzasIn.Load(), c.stanzasOut.Load()}
}
