// Package poll is the HTTP door: short poll, long poll and Server-Sent Events,
// for curl, for back ends, and for networks that let nothing else through.
//
//	POST /v1/messages     send one message or a batch
//	GET  /v1/inbox        read; with wait= hold until there is something
//	POST /v1/ack          move the device's cursor
//	GET  /v1/events       the inbox as a stream of events
//	POST /v1/signals      say a word of the moment: typing, …
//	GET  /v1/presence     which devices are connected
//	GET  /v1/devices      which there are; below it what each costs
//	GET  /v1/networks     what was found about networks
//	GET  /v1/mqtt/rules   who may use which topics; PUT replaces that
//	GET  /v1/openapi.json all of that, for programs
//
// A reader holds nothing but a string. Each answer of the inbox ends in a
// "next"; asking again with after=next says that everything before it has
// arrived, which moves the device's cursor, and reads on behind it. Whoever
// loses an answer asks again with the old one and gets it again.
//
//	GET /v1/inbox                    ▶ messages 1 2 3, next=A     cursor 0
//	GET /v1/inbox?after=A&wait=60    ▶ (held) message 4, next=B   cursor 3
//	GET /v1/inbox?after=B&wait=60    ▶ (held) nothing, next=B     cursor 4
//
// While a poll or a stream is held it is a session like any other door's: it
// is rung, it counts as presence, and a newer one of the same device ends it.
//
// Every error is a problem document (RFC 9457) whose type is stable and names
// what was wrong; package wire has the list. Nothing of a request that was
// refused has been stored, unless the store failed in the middle of it: then it
// is to be tried again with the same id.
package poll

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport"
)

// Config is what an operator may set. A zero field means its default.
type Config struct {
	// MaxRequest is the greatest length in bytes of a request's body. Default
	// eight times the limit on a message's body, which holds one however it is
	// escaped, and at least 8 MiB.
	MaxRequest int
	// MaxBatch is the greatest number of messages in one POST. Default 1000.
	MaxBatch int
	// MaxWait is how long a long poll is held at most, whatever it asks for.
	// It is held shorter where the network of the device is known to forget
	// silent connections sooner. Default 5 min.
	MaxWait time.Duration
	// Limit is how many messages one answer holds when the request does not
	// say, and MaxLimit how many at most. Default 100 and 1000.
	Limit, MaxLimit int
	// MaxAnswer is at how many bytes of messages an answer is full, though it
	// always holds one. Default 4 MiB.
	MaxAnswer int
	// SignalRate is how many words of the moment (POST /v1/signals) a user may
	// say in a second; four seconds' worth may come at once. Default 5.
	SignalRate int
	// MaxHeld is how many polls and event streams one user may have held at
	// the same time. Default 100.
	MaxHeld int
	// MaxHeader is the greatest length in bytes of a request's headers.
	// Default 32 KiB.
	MaxHeader int
	// HeaderTimeout is how long a request's headers may take to arrive.
	// Default 10 s.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a whole request may take to arrive. Default 30 s.
	BodyTimeout time.Duration
	// WriteTimeout is how long a peer may take to accept an answer, or one
	// event of a stream. Default 30 s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection between two requests is kept.
	// Default 2 min.
	IdleTimeout time.Duration
	// MaxConns and MaxPerAddr bound open connections in all and from one
	// address (an IPv6 /64 counts as one). TrustedProxies are not counted by
	// address. Default 100,000 and 20,000.
	MaxConns, MaxPerAddr int
	// Linger is how long requests under way may take to end when the server
	// goes down. Default 5 s.
	Linger time.Duration
	// Origins are the web origins, like https://app.example.org, whose pages
	// may use this API from a browser; "*" is any. Default none but its own.
	Origins []string
	// Rules are those of the MQTT door, which /v1/mqtt/rules shows and changes.
	// Set by the server; nil means that it has no such door.
	Rules *acl.Rules
	// TrustedProxies are the addresses of reverse proxies whose
	// X-Forwarded-For and X-Forwarded-Proto are believed. Default none.
	TrustedProxies []netip.Prefix
}

func (c Config) withDefaults(l mailbox.Limits) Config {
	c.MaxRequest = cmp.Or(c.MaxRequest, max(8<<20, 8*l.Body))
	c.MaxBatch = cmp.Or(c.MaxBatch, 1000)
	c.MaxWait = cmp.Or(c.MaxWait, 5*time.Minute)
	c.MaxLimit = cmp.Or(c.MaxLimit, 1000)
	c.Limit = min(cmp.Or(c.Limit, 100), c.MaxLimit)
	c.MaxAnswer = cmp.Or(c.MaxAnswer, 4<<20)
	c.SignalRate = cmp.Or(c.SignalRate, 5)
	c.MaxHeld = cmp.Or(c.MaxHeld, 100)
	c.MaxHeader = cmp.Or(c.MaxHeader, 32<<10)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 10*time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, 30*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 30*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	c.MaxConns = cmp.Or(c.MaxConns, 100_000)
	c.MaxPerAddr = cmp.Or(c.MaxPerAddr, 20_000)
	c.Linger = cmp.Or(c.Linger, 5*time.Second)
	return c
}

// DefaultDevice is the device of whoever names none.
const DefaultDevice = "http"

// Server is the HTTP door, and the HTTP server that other handlers share.
type Server struct {
	core *transport.Core
	cfg  Config
	log  *slog.Logger
	mux  *http.ServeMux
	api  huma.API

	routes []*route // in the order of registration; fixed after New
	other  counters // requests that were for no route of ours
	count  counts
	places conn.Places // of the connections of all listeners

	speakers speakers

	heldMu sync.Mutex
	held   map[string]int // polls and streams held, by user
}

// New returns a server with the routes of the poll door.
func New(core *transport.Core, cfg Config) *Server {
	s := &Server{core: core, cfg: cfg.withDefaults(core.Mail.Limits()), log: core.Log, mux: http.NewServeMux(), held: map[string]int{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.api = humago.New(s.mux, apiConfig())
	s.register()
	return s
}

// Handle serves pattern, in the words of [http.ServeMux], by h on the same
// listener. Call it before Serve. H must end soon after its request's context
// does, or if it hijacks the connection by itself when the server goes down.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// drainKey finds in a request's context the channel that is closed when the
// server begins to go down.
type drainKey struct{}

// Serve answers requests on ln until ctx is cancelled: HTTP/1.1, and HTTP/2
// with and without TLS. Then polls and streams that are held are answered at
// once, requests under way are finished, within Config.Linger, and Serve
// returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.ServeTLS(ctx, ln, nil)
}

// ServeTLS is Serve on connections that begin with a TLS handshake, unless cfg
// is nil. Several listeners may be served at the same time.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, cfg *tls.Config) error {
	var handlers sync.WaitGroup // requests under way
	handler := s.Handler()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		ReadTimeout:       s.cfg.BodyTimeout, // lifted by whoever holds a request
		WriteTimeout:      s.cfg.BodyTimeout + s.cfg.WriteTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    s.cfg.MaxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, MaxReadFrameSize: 16 << 10},
		ConnContext:       withConn,
		// Requests outlive ctx: they are told to end, and end in order.
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), drainKey{}, ctx.Done())
		},
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	ln = &limited{Listener: ln, s: s, seam: cfg != nil}

	failed := make(chan error, 1)
	go func() { // ends when srv is closed
		if cfg == nil {
			failed <- srv.Serve(ln)
			return
		}
		srv.TLSConfig = cfg.Clone()
		failed <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-failed:
		srv.Close()
		handlers.Wait()
		return err
	case <-ctx.Done():
	}
	linger, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Linger)
	defer cancel()
	if srv.Shutdown(linger) != nil {
		srv.Close() // cancels the contexts of those that are left
	}
	<-failed
	handlers.Wait()
	return nil
}

// interval is how long the device at r may stay silent.
func (s *Server) interval(r *http.Request) time.Duration {
	return s.core.Interval("", s.remote(r))
}
