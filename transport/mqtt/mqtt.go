// Package mqtt is the MQTT door: a broker for 3.1, 3.1.1 and 5.0.
//
// There are two kinds of topics. Those under im/ are the way into the mailbox
// and never meet a subscription of anybody else:
//
//	im/to/{address}     publish: a message to a user
//	im/inbox/{from}     receive: what came, the body as it is
//	im/sent/{to}        receive: what the user's other devices sent, by who
//	                    receives under im/inbox, too
//
//	im/signal-to/{address}/{kind}   publish: a word of the moment, kept nowhere
//	im/signal/{from}/{kind}         receive: what others say of the moment
//
// All other topics are a plain broker. What a message costs depends on who
// wants it:
//
//	publisher ─▶ matching subscriptions
//	               │ QoS 0 ─────────────▶ bytes to the connection, shared by all receivers
//	               │ QoS 1, 2, session ends with the connection ─▶ the same, and a packet identifier
//	               │ QoS 1, 2, session is kept ─▶ a box; PUBACK waits until it is on disk
//	               └ retained ─▶ a record
//
// So a session that is kept is a box and a cursor, like a device of a user, and
// what nobody durable needs is not written. Packet identifiers of what comes
// from a box follow from its seq, so that a message has the same one after a
// restart of the server.
//
// A [client] is one connection and owns its [session] while it lives; another
// client may take the session over only after the first has let it go. State
// that few connections need hangs off pointers.
package mqtt

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Config bounds the MQTT door. A zero field means its default.
type Config struct {
	// MaxPacket is the greatest packet taken, in bytes. Told to MQTT 5 clients
	// as Maximum Packet Size. Default: the limit on a message's body and
	// 128 KiB more.
	MaxPacket int
	// ReceiveMaximum is how many QoS 1 and 2 messages a client may have in
	// flight to the server. A 3.1.1 client is not read from while it has more.
	// Default 1024.
	ReceiveMaximum int
	// MaxInflight is how many QoS 1 and 2 messages are in flight to one client
	// at most, whatever its own Receive Maximum. At most 1024. Default 1024.
	MaxInflight int
	// SignalRate is how many words of the moment (im/signal-to/…) a client may
	// say in a second; four seconds' worth may come at once. Default 5.
	SignalRate int
	// MaxQueue and MaxQueueBytes are how many QoS 1 and 2 messages, and bytes
	// of them, wait in memory for a client whose session ends with its
	// connection. What comes beyond that is dropped and counted. Default 1000
	// and 16 MiB.
	MaxQueue, MaxQueueBytes int
	// MaxKeptMessages and MaxKeptBytes are how many QoS 1 and 2 messages, and
	// bytes of them, wait on disk for a session that is kept. What comes beyond
	// that is dropped and counted; a publisher that nobody could take a message
	// from is told Quota exceeded (0x97, MQTT 5). Default 1000000 and 256 MiB.
	MaxKeptMessages, MaxKeptBytes int
	// MaxKeptAge is how long a message waits at most in the queue of a kept
	// session. Default: as long as the mailboxes keep messages.
	MaxKeptAge time.Duration
	// MaxUnsent is how many bytes may wait in memory for a client that reads
	// slowly; QoS 0 messages beyond that are dropped and counted. The longest
	// message fits always. Default 2 MiB.
	MaxUnsent int
	// MaxKeepalive is the longest keep alive that a client may have; MQTT 5
	// clients are told it as Server Keep Alive. Default: what is known of
	// the client's network, at least 30s and at most 10m.
	MaxKeepalive time.Duration
	// MaxSessionExpiry is how long a session is kept at most after its
	// connection has ended. Default 720h.
	MaxSessionExpiry time.Duration
	// MaxSubscriptions is how many filters one session may have. Those with
	// wildcards may have ten times as many levels, all together. Default 10000.
	MaxSubscriptions int
	// MaxClientID is the greatest length of a client identifier. Default 1024.
	MaxClientID int
	// MaxQoS is the greatest QoS there is here: 0, 1 or 2. Clients that publish
	// with more are disconnected, 0x9B, and subscriptions are granted no more. A
	// subscription from before has what it was granted. At 0 nothing is
	// acknowledged, messages to im/to/… neither. Default 2.
	MaxQoS *int `config:"max_qos"`
	// RetainAvailable says whether there are retained messages. Without them,
	// clients that publish one are disconnected, 0x9A, and what was retained
	// before is not sent, but still there when they are allowed again.
	// Default true.
	RetainAvailable *bool
	// TopicAliasMaximum is how many topic aliases a client may set. Default 64.
	TopicAliasMaximum int
	// MaxRetained and MaxRetainedBytes are how many topics may have a retained
	// message, and how many bytes of them there may be: they are in memory.
	// Default 1000000 and 256 MiB.
	MaxRetained, MaxRetainedBytes int
	// MaxSessions is how many sessions are kept. Who would need one more is
	// refused with 0x97, or 0x03 in 3.1.1. Default 1000000.
	MaxSessions int
	// ConnectTimeout is how long a new connection may take to send CONNECT.
	// Default 10s.
	ConnectTimeout time.Duration
	// MaxConns and MaxPerAddr bound connections in all and from one address.
	// Default unlimited and 20,000.
	MaxConns, MaxPerAddr int
	// Origins are the web origins that may open a WebSocket, beside the
	// server's own; "*" is any.
	Origins []string
	// Anonymous lets clients in that give no user name, or no password; and
	// while the server has no account, whatever they give. They may use the
	// plain topics that AnonymousTopics names, and no others.
	Anonymous bool
	// AnonymousTopics are the filters that clients without a user name may
	// publish and subscribe to. Default: none.
	AnonymousTopics []string
	// ACL are rules for plain topics; the first that fits decides. With no
	// rules an account may use every plain topic; with rules, none that no
	// rule allows. Those that are set by the API or the command line come behind.
	ACL []acl.Rule
	// MaxRules is how many rules may be set by the API or the command line.
	// Default 1000.
	MaxRules int
	// Proxies are the load balancers that begin every connection with a header
	// of the PROXY protocol, version 1 or 2: addresses or networks. What they
	// say of the client counts: where it comes from, that it came by TLS, and
	// the common name in its certificate, so that they alone should be able to
	// connect from there. Default: none.
	Proxies []netip.Prefix
	// Refused are filters that nobody may subscribe to, whatever the rules. The
	// answer is 0x80, in MQTT 5 too; what a rule forbids is answered with 0x87.
	Refused []string
	// Bridges are connections to other brokers.
	Bridges []Bridge
	// SysInterval is how often the topics under $SYS/broker are published.
	// Default 10s.
	SysInterval time.Duration
	// Redirect sends clients to another server.
	Redirect Redirect
	// SN is the gateway for sensors that speak MQTT-SN.
	SN SN
	// Insecure takes passwords on connections that others can read along.
	// Set by the server.
	Insecure bool `config:"-"`
}

func (c Config) withDefaults(l mailbox.Limits) Config {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&c.MaxPacket, l.Body+128<<10)
	def(&c.ReceiveMaximum, 1024)
	c.ReceiveMaximum = min(c.ReceiveMaximum, 65535)
	def(&c.SignalRate, 5)
	def(&c.MaxInflight, maxWindow)
	c.MaxInflight = min(c.MaxInflight, maxWindow)
	def(&c.MaxQueue, 1000)
	def(&c.MaxQueueBytes, 16<<20)
	def(&c.MaxKeptMessages, 1_000_000)
	def(&c.MaxKeptBytes, 256<<20)
	def(&c.MaxUnsent, 2<<20)
	dur(&c.MaxSessionExpiry, 30*24*time.Hour)
	def(&c.MaxSubscriptions, 10000)
	def(&c.MaxClientID, 1024)
	def(&c.TopicAliasMaximum, 64)
	def(&c.MaxRetained, 1_000_000)
	def(&c.MaxRetainedBytes, 256<<20)
	def(&c.MaxSessions, 1_000_000)
	dur(&c.ConnectTimeout, 10*time.Second)
	dur(&c.SysInterval, 10*time.Second)
	c.SN = c.SN.withDefaults()
	return c
}

func (c *Config) maxQoS() byte {
	if c.MaxQoS == nil {
		return 2
	}
	return byte(*c.MaxQoS)
}

func (c *Config) retains() bool { return c.RetainAvailable == nil || *c.RetainAvailable }

// supported says whether a message may be published, or left as a will, with
// that QoS and retained.
//
//	"It is a Protocol Error if the Server receives a PUBLISH packet with a QoS
//	greater than the Maximum QoS it specified. In this case use DISCONNECT with
//	Reason Code 0x9B" MQTT 5.0 section 3.2.2.3.4, and the same with 0x9A for
//	RETAIN, section 3.2.2.3.5. 3.1.1 has no word for either: "the Server MUST
//	close the Network Connection" 3.1.1 [MQTT-4.8.0-1].
func (c *Config) supported(qos byte, retain bool) error {
	switch {
	case qos > c.maxQoS():
		return &packet.Error{Code: packet.QoSNotSupported, Text: "more than the maximum QoS"}
	case retain && !c.retains():
		return &packet.Error{Code: packet.RetainNotSupported, Text: "nothing is retained here"}
	}
	return nil
}

// Server is the MQTT door.
type Server struct {
	core *transport.Core
	cfg  Config
	log  *slog.Logger

	rules    *acl.Rules
	subs     topic.Tree[*session]
	retained topic.Names[*message]
	// retentions is how many messages were ever retained, retainedBytes the
	// size of those that are, and sysTopics how many of these are our own,
	// which no limit counts.
	retentions    atomic.Uint64
	retainedBytes atomic.Int64
	sysTopics     atomic.Int32
	// retaining is held from a change of retained to the post of its record.
	retaining sync.Mutex
	sessions  sessions
	clock     clock
	scales    scales
	fans      sync.Pool // *fanout
	count     counters

	work    sync.WaitGroup // of background
	loading sync.Mutex
	loaded  bool
	users   int // of Serve and WebSocket; guarded by loading
	started time.Time
	sys     sys // the clock's
	account conn.Account
	places  conn.Places
	bridges []*bridge
	node    string // the server's identifier
}

// Account is that of all connections of this door.
func (s *Server) Account() *conn.Account { return &s.account }

// New returns the door. It opens nothing.
func New(core *transport.Core, cfg Config) *Server {
	s := &Server{core: core, cfg: cfg.withDefaults(core.Mail.Limits()), log: core.Log, started: time.Now()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("door", "mqtt")
	s.rules = acl.New(core.Mail, core.Auth, cfg.Access(core.Router.Domain()))
	s.fans.New = func() any { return new(fanout) }
	s.sessions.init()
	s.clock.fire = s.due
	for i := range s.cfg.Bridges {
		b := &bridge{srv: s, cfg: &s.cfg.Bridges[i], dial: new(net.Dialer).DialContext}
		b.log = s.log.With("bridge", b.cfg.Name)
		s.bridges = append(s.bridges, b)
	}
	return s
}

// options are those of all connections.
func (s *Server) options() conn.Options {
	// The longest message fits where nothing waits, and behind what QoS 0 may
	// fill there is room for a batch of a box with one such message in it.
	l := s.core.Mail.Limits()
	longest := max(s.cfg.MaxPacket, l.Body+l.Attrs+64<<10)
	send := max(s.cfg.MaxUnsent, longest)
	return conn.Options{
		New:       func() conn.Protocol { return &client{srv: s} },
		MaxSend:   send,
		MaxUnsent: send + longest + router.Batch + 256<<10,
		MaxInput:  s.cfg.MaxPacket + 8,
		// MQTT 5.0 section 6: "The Client MUST include "mqtt" in the list of
		// WebSocket Sub Protocols" [MQTT-6.0.0-3]; mqttv3.1 is 3.1's.
		Subprotocols: []string{"mqtt", "mqttv3.1"},
		Account:      &s.account,
		Proxy:        s.cfg.Proxies,
	}
}

// listening is options for those who come from outside, by whichever way: they
// are bounded together.
func (s *Server) listening() conn.Options {
	o := s.options()
	o.Origins = s.cfg.Origins
	o.MaxConns, o.MaxPerAddr, o.Places = s.cfg.MaxConns, s.cfg.MaxPerAddr, &s.places
	return o
}

// Serve accepts connections from ln until ctx is cancelled, and then ends them.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, nil)
}

// ServeTLS is Serve where connections begin with a TLS handshake.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, cfg *tls.Config) error {
	return s.serve(ctx, ln, cfg)
}

func (s *Server) serve(ctx context.Context, ln net.Listener, cfg *tls.Config) error {
	if err := s.begin(ctx); err != nil {
		ln.Close()
		return err
	}
	defer s.end()
	o := s.listening()
	o.TLS = cfg
	return s.core.Engine.Serve(ctx, ln, o)
}

// WebSocket is the handler of /mqtt. It serves until ctx is cancelled.
func (s *Server) WebSocket(ctx context.Context) http.Handler {
	h := s.core.Engine.WebSocket(ctx, s.listening())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.begin(r.Context()); err != nil {
			s.log.Error("mqtt: cannot read sessions", "err", err)
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		defer s.end()
		h.ServeHTTP(w, r)
	})
}

// begin reads the sessions kept, the first time, and starts the clock.
func (s *Server) begin(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if !s.loaded {
		if err := s.rules.Load(ctx); err != nil {
			return err
		}
		if err := s.load(ctx); err != nil {
			return err
		}
		s.rules.OnChange(s.obeyRules)
		s.obeyRules() // those of the configuration may be new
		if err := s.loadNode(ctx); err != nil {
			return err
		}
		s.loaded = true
		s.clock.set(nil, taskSys, time.Now())
	}
	if s.users++; s.users == 1 {
		s.scales.stop.Store(false)
		s.clock.start()
	}
	return nil
}

// end stops the clock when nothing is served any more.
func (s *Server) end() {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.users--; s.users == 0 {
		s.clock.stop()
		s.scales.stop.Store(true)
		s.work.Wait()
	}
}

// background does work that nobody waits for, except the end of the server.
func (s *Server) background(work func()) { s.work.Go(work) }

// Stats counts what the door did.
type Stats struct {
	Clients       int64  // connected now
	Connected     uint64 // logins that succeeded
	Expired       uint64 // kept sessions that nobody came back for in time
	Sessions      int64  // kept, connected or not
	Away          int64  // kept, not connected
	Subscriptions int    // in the tree
	Retained      int    // topics that have a retained message
	Received      uint64 // PUBLISH packets taken
	Sent          uint64 // PUBLISH packets sent
	Dropped       uint64 // messages dropped since a client or its queue was full
	Refused       uint64 // connections, publishes and subscriptions refused
	TakenOver     uint64 // connections ended by a newer one of the same client
	Redirected    uint64 // clients told to use another server
	SN            SNStats
}

type counters struct {
	clients, sessions, away          atomic.Int64
	received, sent, dropped, refused atomic.Uint64
	redirected                       atomic.Uint64
	connected, expired               atomic.Uint64
	sn                               snCounters
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{
		Clients: s.count.clients.Load(), Connected: s.count.connected.Load(), Expired: s.count.expired.Load(), Sessions: s.count.sessions.Load(), Away: s.count.away.Load(),
		Subscriptions: s.subs.Len(), Retained: s.retained.Len(),
		Received: s.count.received.Load(), Sent: s.count.sent.Load(),
		Dropped: s.count.dropped.Load(), Refused: s.count.refused.Load(), TakenOver: s.sessions.takenOver.Load(),
		Redirected: s.count.redirected.Load(),
		SN:         s.count.sn.stats(),
	}
}
