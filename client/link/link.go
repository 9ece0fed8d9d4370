// Package link is the Go SDK for the long connection, the way we recommend.
//
//	box, err := link.Dial(ctx, client.Options{Addr: "localhost:7400", User: "alice", Password: "secret", Device: "laptop"})
//	receipt, err := box.Send(ctx, client.Draft{To: "bob", Body: []byte("hello")})
//	m, err := box.Receive(ctx)
//	... store m ...
//	err = box.Ack(ctx, m)
//
// A mailbox stays usable while the connection comes and goes. When it breaks
// the SDK comes back by itself, after a random wait that grows from half a
// second to twenty, or when the server said. What was sent and not answered is
// sent again with its id, and is stored once. What was received is not given
// to the program again; what it has not acknowledged when it ends, the next
// one is given.
//
// How often it speaks while nothing is said it finds out for each network
// (Config.Network, NetworkChanged), by silent connections beside the live one,
// which is never deaf for that. A program on a phone says when it sleeps
// (SetBackground), and keeps what was found over its restarts
// (Config.Findings).
//
// The server lets a client leave so many bytes unacknowledged (a megabyte by
// default). A program that receives and never calls Ack is given nothing more
// after that.
package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/inbox"
	"github.com/posthouse-im/posthouse/client/internal/stream"
	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Config is client.Options and what only this way has. A zero field means its
// default.
type Config struct {
	client.Options
	// Tokens, if not nil, is asked for a token before each connection, and
	// for a fresh one before the last has ended. Options.Token is not used.
	Tokens func(context.Context) (string, error)
	// Network names the network that the device is on, in any words that tell
	// it from others ("carrier 310-260 lte", a hash of the access point). What
	// is learned about heartbeats is learned by network.
	Network string
	// NetworkName, if not nil, is asked for it before each connection instead.
	NetworkName func() string
	// Heartbeat is how often to speak at least, within what the server allows,
	// 1 s to 1 h. Default: it is learned, if the server helps, and else as the
	// server advises.
	Heartbeat time.Duration
	// Learn bounds what is learned. By default it is looked for between 15 s,
	// which is used until more is known, and 30 min.
	Learn learn.Config
	// Findings keeps what was learned. Default in memory, for this mailbox.
	Findings Findings
	// Window is how many bytes of messages the server may send before the
	// program acknowledges. Default as the server says.
	Window int
	// MaxMessage is the longest message to take, in bytes; a longer one comes
	// without its body. Default 16 MiB.
	MaxMessage int
	// OnGap, if not nil, is told of messages that will not come since the
	// server no longer had them: those behind after and before before. It
	// must not block.
	OnGap func(after, before uint64)
	// Hold is how long, in the background, the server may hold messages of the
	// urgencies very-low and low, for the next heartbeat or whatever else wakes
	// the device; places stay in order. Default and at most as the server
	// allows, which is 10 min if nobody changed it; negative is not at all.
	Hold time.Duration
	// HoldNormal lets it hold messages of normal urgency, too.
	HoldNormal bool
	// OnSignal, if not nil, is told what others say of the moment: see Signal.
	// It must not block. Without it the mailbox neither hears nor says such
	// words.
	OnSignal func(Signal)
	// ShowTo, if not nil, is asked whether a user who wants to know may know
	// that this device is online; if so it is as if Show were called. It must
	// not block.
	ShowTo func(address string) bool
	// Answer is how long the server may take to answer a heartbeat before the
	// connection is given up and a new one made. Default twice as long as an
	// answer takes at most, by those of late, within 1.5 and 10 s.
	Answer time.Duration
	// Dial, if not nil, makes the connection instead of Addr.
	Dial func(context.Context) (net.Conn, error)
}

const (
	defaultMaxMessage = 16 << 20
	connectTime       = 15 * time.Second // for the network and the welcome
	firstTime         = 4 * time.Second  // the same, when it has just been there; doubles
	goodbyeTime       = 5 * time.Second  // for the last acknowledgement
	agent             = "posthouse-go 1.0"
)

// Closed is why the server does not want the client back.
type Closed = client.Closed

// Dial connects and logs in, once. When it has returned a mailbox it is the
// SDK that reconnects. A *Closed is the server's no; any other error may pass.
func Dial(ctx context.Context, o client.Options) (client.Mailbox, error) {
	return Open(ctx, Config{Options: o})
}

// Open is Dial with more to choose.
func Open(ctx context.Context, cfg Config) (*Mailbox, error) {
	mb := newMailbox(cfg)
	if err := mb.open(ctx); err != nil {
		return nil, err
	}
	return mb, nil
}

func newMailbox(cfg Config) *Mailbox {
	if cfg.Findings == nil {
		cfg.Findings = new(MemoryFindings)
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = defaultMaxMessage
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = stream.Dialer(cfg.Options, frame.Protocol)
	}
	return &Mailbox{
		cfg:    cfg,
		prefix: strings.ToLower(rand.Text()[:10]),
		jitter: client.Backoff,
		inbox:  inbox.New(),
		work:   make(chan struct{}, 1),
		over:   make(chan struct{}),
		nudge:  make(chan struct{}, 1),
		moved:  make(chan struct{}, 1),
		nets:   map[string]*network{},
		net:    cfg.Network,
	}
}

// open connects, and begins to keep the connection.
func (mb *Mailbox) open(ctx context.Context) error {
	s, err := mb.connect(ctx, connectTime)
	if err != nil {
		return err
	}
	under, stop := context.WithCancel(context.Background()) // ends with Close, not with Dial's ctx
	mb.stop = stop
	mb.running.Go(func() { mb.probes(under) }) // ends with under
	mb.running.Go(func() { mb.run(under, s) }) // ends with Close, or when the server does not want us back
	return nil
}

// Mailbox is a client.Mailbox over the long connection.
type Mailbox struct {
	cfg     Config
	way     *way   // if not nil, the mailbox ends with its connection
	prefix  string // of the ids of this mailbox's messages
	jitter  func(tries int) time.Duration
	stop    context.CancelFunc
	running sync.WaitGroup

	inbox *inbox.Inbox  // received, not given to the program yet
	work  chan struct{} // bell: there is something to write
	over  chan struct{} // closed when why is set

	mu      sync.Mutex
	why     error        // guarded by mu; nothing works any more
	leaving bool         // guarded by mu; Close was called
	last    uint64       // guarded by mu; number of the last id
	queue   []*sending   // guarded by mu; not answered, oldest first
	written int          // guarded by mu; how many of queue went out on this connection
	placed  bool         // guarded by mu; received and acked mean something
	got     uint64       // guarded by mu; place of the last message received
	acked   uint64       // guarded by mu; place that the program acknowledged
	address string       // guarded by mu; whose mailbox the server says it is
	after   uint64       // guarded by mu; place after which messages followed
	sets    []*frame.Set // guarded by mu; to be written
	signals []signal     // guarded by mu; to be written

	asks []*ask // guarded by mu; questions for devices; the first may have been written

	shows  map[string]bool            // guarded by mu; whom Show was called for
	online map[string]map[string]bool // guarded by mu; who has said so, by user and device

	nudge chan struct{} // bell: perhaps there is something to probe
	moved chan struct{} // bell: the network has changed

	net         string                   // guarded by mu; the network
	nets        map[string]*network      // guarded by mu; by network
	reports     map[string]learn.Finding // guarded by mu; found, and not told to the server
	live        *session                 // guarded by mu; nil while there is none
	suspect     time.Duration            // guarded by mu; a silence that the last connection did not survive; zero is none
	background  bool                     // guarded by mu
	stopProbe   context.CancelFunc       // guarded by mu; nil while none runs
	stopConnect context.CancelFunc       // guarded by mu; of the last attempt
	pace        pace                     // guarded by mu; of the server's answers
	better      bool                     // another way works: this one is to show at once that it does
	spare       *spare                   // guarded by mu; nil while there is no doubt
	counts      Stats                    // guarded by mu
}

var _ client.Mailbox = (*Mailbox)(nil)

// sending is a message that is not answered yet.
type sending struct {
	client.Draft
	done func(client.Receipt, error)
}

// Send implements client.Mailbox. While there is no connection it waits for the
// next. Given up by ctx, the message is taken back if it has not been written.
func (mb *Mailbox) Send(ctx context.Context, d client.Draft) (client.Receipt, error) {
	type result struct {
		r   client.Receipt
		err error
	}
	done := make(chan result, 1)
	s, err := mb.enqueue(d, func(r client.Receipt, err error) { done <- result{r, err} })
	if err != nil {
		return client.Receipt{}, err
	}
	select {
	case r := <-done:
		return r.r, r.err
	case <-ctx.Done():
		mb.withdraw(s)
		return client.Receipt{ID: s.ID}, ctx.Err()
	}
}

// SendAsync does not wait: done is called with what Send would return, on a
// goroutine that must not be blocked. Messages are sent in the order of the
// calls. An error means that done will not be called.
func (mb *Mailbox) SendAsync(d client.Draft, done func(client.Receipt, error)) error {
	_, err := mb.enqueue(d, done)
	return err
}

func (mb *Mailbox) enqueue(d client.Draft, done func(client.Receipt, error)) (*sending, error) {
	if _, ok := frame.ParseUrgency(d.Urgency); !ok {
		return nil, &client.Refused{Code: frame.RefusedInvalid.String(), Text: "no such urgency: " + d.Urgency}
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if err := mb.errLocked(); err != nil {
		return nil, err
	}
	s := &sending{Draft: d, done: done}
	if d.ID == "" {
		mb.last++
		s.ID = fmt.Sprint(mb.prefix, ".", mb.last)
	}
	mb.queue = append(mb.queue, s)
	ring(mb.work)
	return s, nil
}

func (mb *Mailbox) errLocked() error {
	if mb.leaving {
		return client.ErrClosed
	}
	return mb.why
}

// withdraw takes s back if it has not been written. If it has, the server may
// store it.
func (mb *Mailbox) withdraw(s *sending) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.queue = inbox.Withdraw(mb.queue, mb.written, s)
}

// Receive implements client.Mailbox.
func (mb *Mailbox) Receive(ctx context.Context) (client.Message, error) { return mb.inbox.Take(ctx) }

// Ack implements client.Mailbox. It does not wait for the network: after a
// break the server is told again how far the program is.
func (mb *Mailbox) Ack(_ context.Context, m client.Message) error {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if err := mb.errLocked(); err != nil {
		return err
	}
	moved, err := inbox.Acknowledge(&mb.acked, mb.got, m.Seq)
	if moved {
		ring(mb.work)
	}
	return err
}

// Close implements client.Mailbox. The last acknowledgement goes out first, as
// does what Send was given; what is not answered ends with ErrClosed.
func (mb *Mailbox) Close() error {
	mb.mu.Lock()
	again := mb.leaving
	mb.leaving = true
	mb.mu.Unlock()
	if !again {
		mb.inbox.Close()
		mb.stop()
	}
	mb.running.Wait()
	return nil
}

// run keeps a connection until the program or the server ends it.
func (mb *Mailbox) run(ctx context.Context, s *session) {
	err := mb.serve(ctx, s)
	for tries := 0; ; {
		quiet, o := mb.ending(s)
		if ctx.Err() != nil {
			err = client.ErrClosed
		}
		if mb.way != nil {
			mb.way.ended(s.network, quiet, mb.takeSpare())
			mb.stop() // for the probes
			mb.fail(forClient(err))
			return
		}
		var no *Closed
		if errors.As(err, &no) || errors.Is(err, client.ErrClosed) {
			mb.fail(err)
			return
		}
		wait := mb.backOff(tries, err)
		if s != nil && o != learn.Unrelated || errors.Is(err, errMoved) {
			wait = 0 // the network is believed to be there
		}
		mb.cfg.Log.Info("link: connection lost", "err", err, "again", wait)
		select {
		case <-time.After(wait):
		case <-mb.moved:
			tries = 0
		case <-ctx.Done():
			continue
		}
		mb.mu.Lock()
		mb.suspect = quiet
		mb.mu.Unlock()
		if s, err = mb.connect(ctx, min(firstTime<<min(tries, 10), connectTime)); err != nil {
			s = nil
			tries++
			continue
		}
		tries = 0
		mb.mu.Lock()
		mb.counts.Reconnects++
		mb.mu.Unlock()
		mb.cfg.Log.Info("link: connected again", "cursor", s.in.Place)
		err = mb.serve(ctx, s)
	}
}

// backOff is how long to wait before the next attempt: "full jitter", between
// nothing and a bound that doubles, or when the server said.
func (mb *Mailbox) backOff(tries int, err error) time.Duration {
	jitter := mb.jitter(tries)
	var later *comeBack
	if errors.As(err, &later) {
		return later.after + jitter
	}
	return jitter
}

// fail ends everything that waits.
func (mb *Mailbox) fail(err error) {
	mb.mu.Lock()
	mb.why = err
	mb.dropLocked()
	queue := mb.queue
	mb.queue, mb.written = nil, 0
	mb.mu.Unlock()
	close(mb.over)
	mb.inbox.End(err)
	for _, s := range queue {
		s.done(client.Receipt{ID: s.ID}, err)
	}
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
