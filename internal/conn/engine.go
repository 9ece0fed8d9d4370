package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/cost"
)

// Config says how an [Engine] works. The zero value is good.
type Config struct {
	// Loops is how many event loops serve TCP connections on Linux. Zero is
	// one per core; negative is none: every connection has its goroutines.
	Loops int
	// Tick is the resolution of alarms on a loop. Default 50 ms.
	Tick time.Duration
	// Handshakes is how many TLS handshakes may be under way at once on
	// loops; further ones wait. Default 4096.
	Handshakes int
	// Log hears of panics and of failures to accept. Default slog.Default.
	Log *slog.Logger
}

// Engine runs connections. Its zero value is an engine with the zero Config.
type Engine struct {
	cfg   Config
	ready sync.Once
	start sync.Once
	end   sync.Once
	loops atomic.Pointer[loops] // nil where there are none, or none yet

	mu     sync.Mutex
	closed bool            // guarded by mu
	groups map[*group]bool // guarded by mu; those of WebSocket endpoints
}

// New makes an engine. It starts nothing before the first connection.
func New(cfg Config) *Engine { return &Engine{cfg: cfg} }

// init fills in what the Config leaves open.
func (e *Engine) init() {
	e.ready.Do(func() {
		if e.cfg.Loops == 0 {
			e.cfg.Loops = runtime.GOMAXPROCS(0)
		}
		if e.cfg.Tick <= 0 {
			e.cfg.Tick = 50 * time.Millisecond
		}
		if e.cfg.Handshakes <= 0 {
			e.cfg.Handshakes = 4096
		}
		if e.cfg.Log == nil {
			e.cfg.Log = slog.Default()
		}
	})
}

// looped returns the loops, which the first connection for them starts: who
// only serves pipes, in virtual time perhaps, has none.
func (e *Engine) looped() *loops {
	e.start.Do(func() {
		if e.cfg.Loops < 0 {
			return
		}
		l, err := startLoops(e.cfg)
		if err != nil {
			e.cfg.Log.Warn("conn: no event loops, goroutines serve instead", "err", err)
			return
		}
		e.loops.Store(l)
	})
	return e.loops.Load()
}

// Close drains what WebSocket has opened, waits, and stops the loops. Serve
// must have returned. It may be called again, and waits for the same.
func (e *Engine) Close() error {
	e.init()
	e.end.Do(e.close)
	return nil
}

func (e *Engine) close() {
	e.mu.Lock()
	e.closed = true
	groups := e.groups
	e.groups = nil
	e.mu.Unlock()
	for g := range groups {
		g.drain()
	}
	for g := range groups {
		<-g.gone
	}
	if l := e.loops.Load(); l != nil {
		l.stop()
	}
}

// Options says how a listener's connections are treated. A zero field means
// its default.
type Options struct {
	// New makes the protocol of a new connection.
	New func() Protocol
	// TLS, if not nil, has connections begin with a handshake.
	TLS *tls.Config
	// Handshake is how long TLS and WebSocket handshakes may take. Default 10 s.
	Handshake time.Duration
	// MaxUnsent is how many bytes may wait to be sent. Default 4 MiB.
	MaxUnsent int
	// MaxSend is the same for Send, which drops what is more. Default MaxUnsent;
	// less leaves room for what Write must say.
	MaxSend int
	// Ahead is how many bytes may wait to be sent before Room says that there
	// is none: it is what a peer that does not read costs, beside the system's
	// buffers, if its protocol can wait. Default 64 KiB, at most half of
	// MaxUnsent.
	Ahead int
	// MaxInput is how many unconsumed bytes are kept, and how long a
	// WebSocket message may be. Default 2 MiB.
	MaxInput int
	// MaxConns and MaxPerAddr bound connections in all and from one address
	// (an IPv6 /64 counts as one). Default unlimited and 20,000.
	MaxConns, MaxPerAddr int
	// Places, if not nil, has the connections bounded together with those of
	// other listeners and endpoints.
	Places *Places
	// Linger is how long Close waits for the peer to take what was written,
	// and Serve for all connections to end. Default 5 s.
	Linger time.Duration
	// Quiet is how long nothing must have gone over the wire for the next
	// packet to count as a wake-up: about as long as a phone's radio stays
	// awake. Default 10 s.
	Quiet time.Duration
	// UserTimeout is how long sent bytes may stay unacknowledged, or a peer
	// may advertise no window, before the system ends a TCP connection
	// (TCP_USER_TIMEOUT, RFC 5482). Default 30 s. Linux only.
	UserTimeout time.Duration
	// Proxy are the load balancers that begin every connection with a header
	// of the PROXY protocol, version 1 or 2, and are trusted in what it says.
	Proxy []netip.Prefix
	// Text makes WebSocket messages text instead of binary.
	Text bool
	// Subprotocols are those of a WebSocket endpoint, best first.
	Subprotocols []string
	// Origins are the web origins that may open a WebSocket, beside the
	// server's own; "*" is any.
	Origins []string
	// Account, if not nil, is where the connections are accounted for together.
	Account *Account
}

func (o Options) filled() Options {
	def := func(p *int, n int) {
		if *p <= 0 {
			*p = n
		}
	}
	wait := func(p *time.Duration, d time.Duration) {
		if *p <= 0 {
			*p = d
		}
	}
	def(&o.MaxUnsent, 4<<20)
	def(&o.MaxSend, o.MaxUnsent)
	def(&o.Ahead, 64<<10)
	def(&o.MaxInput, 2<<20)
	def(&o.MaxPerAddr, 20000)
	wait(&o.Handshake, 10*time.Second)
	wait(&o.Linger, 5*time.Second)
	wait(&o.Quiet, cost.Quiet)
	wait(&o.UserTimeout, 30*time.Second)
	o.MaxUnsent = min(o.MaxUnsent, 1<<30)
	o.MaxSend = min(o.MaxSend, o.MaxUnsent)
	o.Ahead = min(o.Ahead, o.MaxUnsent/2)
	if o.Account == nil {
		o.Account = new(Account)
	}
	if o.Places == nil {
		o.Places = new(Places)
	}
	return o
}

// Serve accepts connections from ln until ctx is cancelled, closes ln, says
// Goodbye on each connection, waits for at most Linger, and returns nil with
// nothing left running. It returns earlier with the error of a listener that
// fails.
func (e *Engine) Serve(ctx context.Context, ln net.Listener, o Options) error {
	e.init()
	defer ln.Close()
	g := e.newGroup(o)
	var err error
	var ls *loops
	tcp, ok := ln.(*net.TCPListener)
	if ok {
		ls = e.looped()
	}
	if ls != nil {
		err = ls.accept(ctx, tcp, g)
	} else {
		err = g.accept(ctx, ln)
	}
	g.drain()
	<-g.gone
	return err
}

// ServeConn runs one connection on goroutines, to its end or until ctx is
// cancelled and it has been told Goodbye. It returns what Closed was told.
func (e *Engine) ServeConn(ctx context.Context, nc net.Conn, o Options) error {
	e.init()
	g := e.newGroup(o)
	defer g.drain()
	stop := context.AfterFunc(ctx, g.drain)
	defer stop()
	return g.serve(nc, nil)
}

// accept is Serve's loop for listeners that are not for event loops.
func (g *group) accept(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	told := false
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			if !told {
				g.log.Error("conn: cannot accept, trying on", "addr", ln.Addr().String(), "err", err)
				told = true
			}
			select { // no file descriptor, most likely: others may end meanwhile
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		told = false
		go g.serve(nc, nil) // ends with the connection; drain waits for it
	}
}

// acceptPause is how long nothing is accepted after accepting has failed.
const acceptPause = 100 * time.Millisecond
