// Package quic makes of QUIC (RFC 9000) connections that a conn.Engine can
// serve: a [Listener] whose connections are each the one bidirectional stream
// that the client opens. Handshakes, TLS 1.3, congestion and migration are
// quic-go's.
//
//	UDP socket ─▶ Retry when loaded ─▶ handshake ─▶ the client's stream ─▶ Accept
//
// A client whose address changes keeps its connection (RFC 9000 section 9):
// the path is validated, and the stream above does not notice.
//
// What a stranger can make the server hold is bounded. Until an address is
// validated it is sent at most three times what it sent (RFC 9000 section
// 8.1), beyond Config.Retry handshakes nothing is kept for it at all, and
// beyond Config.Handshakes no one new is let in.
//
// There is no 0-RTT: a packet of 0-RTT can be replayed by whoever has seen it
// (RFC 9001 section 9.2), and what a client says first ends another
// connection and moves a cursor.
package quic

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Config says how a Listener works. A zero field means its default.
type Config struct {
	// TLS has the certificate. Version 1.3 is used whatever it says.
	TLS *tls.Config
	// Protocol is what is spoken above (ALPN, RFC 7301). A client that does not
	// offer it is refused.
	Protocol string
	// Idle is how long nothing may be heard from a peer. The protocol above
	// has a limit of its own, which should be shorter. Default 2 h.
	Idle time.Duration
	// Handshake is how long the handshake and then the client's stream may
	// take, each. Default 10 s.
	Handshake time.Duration
	// Handshakes is how many connections may be without a stream at once; one
	// more is refused. Default 1024.
	Handshakes int
	// Retry is how many may be before the next ones have to show that their
	// address is theirs, which costs them a round trip. Default 64.
	Retry int
	// Code, if not nil, is the application error code (RFC 9000 section 20.2)
	// of a connection that ends for that reason; nil is none.
	Code func(why error) uint64
}

func (c Config) filled() Config {
	if c.Idle <= 0 {
		c.Idle = 2 * time.Hour
	}
	if c.Handshake <= 0 {
		c.Handshake = 10 * time.Second
	}
	if c.Handshakes <= 0 {
		c.Handshakes = 1024
	}
	if c.Retry <= 0 {
		c.Retry = 64
	}
	if c.Code == nil {
		c.Code = func(error) uint64 { return 0 }
	}
	return c
}

// Listener is a net.Listener of connections over QUIC. Their Close ends them,
// and so does the socket after Close and the end of the last of them.
type Listener struct {
	cfg  Config
	pc   net.PacketConn
	tr   *quic.Transport
	ln   *quic.Listener
	ctx  context.Context // ends with Close
	stop context.CancelFunc

	ready   chan *Conn
	waiting sync.WaitGroup // those that wait for a connection, or for its stream
	shaking atomic.Int64   // connections without a stream
	retries atomic.Uint64
	refused atomic.Uint64

	mu     sync.Mutex
	open   int           // guarded by mu; connections accepted, not closed
	closed bool          // guarded by mu
	gone   chan struct{} // closed when the socket is
}

// Listen serves QUIC on pc, which then belongs to the Listener.
func Listen(pc net.PacketConn, cfg Config) (*Listener, error) {
	l := &Listener{cfg: cfg.filled(), pc: pc, ready: make(chan *Conn), gone: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t := l.cfg.TLS.Clone()
	t.NextProtos = []string{cfg.Protocol}
	t.MinVersion = tls.VersionTLS13
	l.tr = &quic.Transport{
		Conn: pc,
		// Long enough that guessing one, to have the server look up and trial
		// decrypt, is hopeless.
		ConnectionIDLength: 8,
		StatelessResetKey:  new(quic.StatelessResetKey),
		VerifySourceAddress: func(net.Addr) bool {
			if l.shaking.Load() < int64(l.cfg.Retry) {
				return false
			}
			l.retries.Add(1)
			return true
		},
		ConnContext: l.enter,
	}
	rand.Read(l.tr.StatelessResetKey[:])
	ln, err := l.tr.Listen(t, &quic.Config{
		HandshakeIdleTimeout: l.cfg.Handshake / 2, // quic-go allows twice that in all
		MaxIdleTimeout:       l.cfg.Idle,
		// The protocol above says when the peer speaks: a ping beside its own
		// would wake the peer's radio once more.
		KeepAlivePeriod:       0,
		MaxIncomingStreams:    1,
		MaxIncomingUniStreams: -1,
		// Messages are short. Searching for the largest packet would cost each
		// phone some kilobytes after each change of network.
		DisablePathMTUDiscovery:    true,
		InitialStreamReceiveWindow: 64 << 10, MaxStreamReceiveWindow: 1 << 20,
		InitialConnectionReceiveWindow: 64 << 10, MaxConnectionReceiveWindow: 1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("quic: listen on %s: %w", pc.LocalAddr(), err)
	}
	l.ln = ln
	l.waiting.Go(l.accept) // ends with Close
	return l, nil
}

// ticket is the place of a connection among the handshakes.
type ticket struct {
	l    *Listener
	once sync.Once
	keep func() bool // it is not given back at the end of the connection
}

func (t *ticket) giveBack() { t.once.Do(func() { t.l.shaking.Add(-1) }) }

type ticketKey struct{}

var errLoaded = errors.New("quic: too many handshakes")

// enter is asked for each first packet of a connection.
func (l *Listener) enter(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if l.shaking.Add(1) > int64(l.cfg.Handshakes) {
		l.shaking.Add(-1)
		l.refused.Add(1)
		return nil, errLoaded
	}
	t := &ticket{l: l}
	// It ends with the connection, also with one that never came to be.
	t.keep = context.AfterFunc(ctx, t.giveBack)
	return context.WithValue(ctx, ticketKey{}, t), nil
}

func (l *Listener) accept() {
	for {
		qc, err := l.ln.Accept(l.ctx)
		if err != nil {
			l.stop() // the socket has failed, or Close was called
			return
		}
		l.waiting.Go(func() { l.stream(qc) }) // ends with Close, or in time
	}
}

// stream waits for the stream of qc, and hands both over.
func (l *Listener) stream(qc *quic.Conn) {
	ctx, stop := context.WithTimeout(l.ctx, l.cfg.Handshake)
	defer stop()
	st, err := qc.AcceptStream(ctx)
	if err != nil {
		qc.CloseWithError(quic.ApplicationErrorCode(l.cfg.Code(err)), "")
		return
	}
	if t, ok := qc.Context().Value(ticketKey{}).(*ticket); ok {
		t.keep()
		t.giveBack()
	}
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	c := &Conn{Stream: st, qc: qc, l: l}
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		c.CloseWith(net.ErrClosed)
	}
}

// Accept returns the next connection whose client has opened its stream.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr is the address of the socket.
func (l *Listener) Addr() net.Addr { return l.pc.LocalAddr() }

// Load is how many connections are without a stream, how many were asked to
// show that their address is theirs, and how many were refused.
func (l *Listener) Load() (shaking int, retries, refused uint64) {
	return int(l.shaking.Load()), l.retries.Load(), l.refused.Load()
}

// Close lets nobody in any more. The connections go on, and the socket is
// closed with the last of them. Close waits for that if there is none left.
func (l *Listener) Close() error {
	l.stop()
	l.ln.Close()
	l.waiting.Wait()
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	idle := l.open == 0
	l.mu.Unlock()
	if idle {
		if first {
			l.shut()
		}
		<-l.gone
	}
	return nil
}

// leave is called by a connection that has ended.
func (l *Listener) leave() {
	l.mu.Lock()
	l.open--
	last := l.closed && l.open == 0
	l.mu.Unlock()
	if last {
		l.shut()
	}
}

// shut closes the socket. It is called once.
func (l *Listener) shut() {
	l.tr.Close()
	l.pc.Close()
	close(l.gone)
}
