package client

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is how Open connects. A zero field means its default.
type Config struct {
	// Ways are tried in this order, the best first; what worked last on a
	// network is tried first there.
	Ways []Way
	// User and Password, or Tokens, which is asked for a token before each
	// connection and, where the way can bring it to a live one, before the
	// last has ended. It may be called by several goroutines.
	User, Password string
	Tokens         func(context.Context) (string, error)
	// Token is one that nobody can renew, instead: when it has ended the
	// client is closed.
	Token string
	// Device names this reader of the mailbox; each has its place in it. Two
	// programs must not share one: each would end the other.
	Device string
	// Store keeps the place and the queue. One store belongs to one account
	// and device. Default: a Memory. Close closes it.
	Store Store
	// Network names the network that the device is on, in any words that tell
	// it from others.
	Network string
	// OnState, OnStored, OnRefused and OnGap, if not nil, are told what
	// happens: how the client is connected; what the server has stored, or
	// refused, of what an earlier program queued, too; and that messages
	// behind after and before before are gone from the server and will not
	// come. Each is called by one goroutine at a time. They must not block and
	// not call Close.
	OnState   func(State)
	OnStored  func(Receipt)
	OnRefused func(id string, why *Refused)
	OnGap     func(after, before uint64)
	// Log, if not nil, hears of connections that come and go.
	Log *slog.Logger
}

// Client is one device of a user, connected as well as the network allows. It
// is a Mailbox, whose messages are sent also by the next program, and received
// once. Its methods may be called from any goroutine.
type Client struct {
	cfg     Config
	prefix  string // of the ids of this program's messages
	stop    context.CancelFunc
	running sync.WaitGroup // run and settle
	retired sync.WaitGroup // mailboxes that say goodbye
	stopped chan struct{}  // closed when run has ended: no connection answers any more
	over    chan struct{}  // closed when why is set
	inbox   chan Message   // received, not given to the program yet
	work    chan struct{}  // bell: there is something to send
	acks    chan struct{}  // bell: there is something to acknowledge
	answers chan struct{}  // bell: there is something to settle
	hurry   chan struct{}  // bell: look at the network now

	placing sync.Mutex // held while the place is written; before mu

	mu         sync.Mutex
	why        error     // guarded by mu; it is over
	closed     bool      // guarded by mu; the store is closed
	state      State     // guarded by mu
	letters    []*letter // guarded by mu; in order
	settled    []*letter // guarded by mu; answered, still in the store
	number     uint64    // guarded by mu; of the last letter's key
	ids        uint64    // guarded by mu; number of the last id
	placed     bool      // guarded by mu; place means something
	place      uint64    // guarded by mu; the program has everything up to here
	got        uint64    // guarded by mu; received up to here
	network    string    // guarded by mu
	looks      int       // guarded by mu; how often the program wanted it to be looked at once
	background bool      // guarded by mu
	live       *live     // guarded by mu; nil while there is none

	r runner // run's own
}

var _ Mailbox = (*Client)(nil)

// room is how many messages wait for the program to receive them.
const room = 64

// Keys of the store; see also outbox and worked.
const (
	keyPlace   = "place"
	keyAddress = "address"
	keyDevice  = "device"
	keyLogin   = "login"
	worked     = "way/" // and the network
)

// Open takes up what the last program left in the store, and begins to
// connect. It does not wait for the network, and ctx is for Open alone. An
// error is of the configuration or of the store: it cannot be read, or is of
// another device. What goes wrong later State tells.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	c := newClient(cfg)
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func newClient(cfg Config) *Client {
	if cfg.Store == nil {
		cfg.Store = new(Memory)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		cfg: cfg, prefix: strings.ToLower(crand.Text()[:10]),
		stopped: make(chan struct{}), over: make(chan struct{}), inbox: make(chan Message, room),
		work: make(chan struct{}, 1), acks: make(chan struct{}, 1), answers: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		state: State{Phase: Connecting}, network: cfg.Network,
		r: runner{jitter: rand.N[time.Duration]},
	}
}

func (c *Client) open(ctx context.Context) error {
	if len(c.cfg.Ways) == 0 {
		return errors.New("client: no ways to connect")
	}
	if err := errors.Join(ctx.Err(), c.load()); err != nil {
		return err
	}
	under, stop := context.WithCancel(context.Background()) // ends with Close
	c.stop = stop
	c.running.Go(c.settle)                // ends with stopped
	c.running.Go(func() { c.run(under) }) // ends with Close, or when the server does not want us back
	return nil
}

func (c *Client) load() error {
	device, err := c.read(keyDevice)
	if err != nil {
		return err
	}
	if device == "" {
		err = c.cfg.Store.Apply(Change{keyDevice, []byte("device " + c.cfg.Device)})
	} else if device != "device "+c.cfg.Device {
		err = fmt.Errorf("client: the store is of %s, and this is device %s", device, c.cfg.Device)
	}
	if err != nil {
		return err
	}
	place, err := c.read(keyPlace)
	if err != nil {
		return err
	}
	if place != "" {
		if c.place, err = strconv.ParseUint(place, 10, 64); err != nil {
			return fmt.Errorf("client: the place in the store: %w", err)
		}
		c.placed, c.got = true, c.place
	}
	login, err := c.read(keyLogin)
	if err != nil {
		return err
	}
	c.r.sure = c.cfg.User != "" && login == c.login()
	return c.restore()
}

// login is whose the configuration says that the mailbox is.
func (c *Client) login() string {
	if c.cfg.User == "" {
		return ""
	}
	return "user " + c.cfg.User
}

// read returns what the store has under a key, or nothing.
func (c *Client) read(key string) (value string, err error) {
	err = c.cfg.Store.Range(key, func(k string, v []byte) error {
		if k == key {
			value = string(v)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("client: read the store: %w", err)
	}
	return value, nil
}

// Receive implements Mailbox. A message is received once, in order; what was
// received and not acknowledged when the program ends, the next one receives.
// While there is no connection it waits. An error ends the client, but for
// ctx's: ErrClosed after Close, *Closed when the server does not want it back.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	select {
	case m := <-c.inbox:
		return m, nil
	default:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	case <-c.over:
		return Message{}, c.reason()
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

// Ack implements Mailbox. When it has returned the place is in the store:
// neither this program nor the next one is given m or what is before it. The
// server is told when there is a connection.
func (c *Client) Ack(_ context.Context, m Message) error {
	c.placing.Lock()
	defer c.placing.Unlock()
	c.mu.Lock()
	why, got, place := c.why, c.got, c.place
	c.mu.Unlock()
	switch {
	case why == ErrClosed: // the store is closed, or will be
		return why
	case m.Seq > got:
		return fmt.Errorf("client: acknowledgement of %d, received up to %d", m.Seq, got)
	case m.Seq <= place:
		return nil
	}
	if err := c.keepPlace(m.Seq); err != nil {
		return err
	}
	ring(c.acks)
	return nil
}

// keepPlace is called with placing held.
func (c *Client) keepPlace(place uint64) error {
	if err := c.cfg.Store.Apply(Change{keyPlace, strconv.AppendUint(nil, place, 10)}); err != nil {
		return fmt.Errorf("client: keep the place: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.placed, c.place = true, place
	return nil
}

// State is how the client is connected.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Live is the connection that there is now, for what its way has besides: a
// *link.Mailbox can list devices and send signals. Nil while there is none. It
// is the client that receives, sends and closes.
func (c *Client) Live() Mailbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		return nil
	}
	return c.live.mb
}

// Signal says a word of the moment to a user, or to one of his devices
// ("bob/phone"): that this one is composing, paused, active, inactive or gone,
// or something of the application's own, of at most 64 bytes and with at most
// 1024 in body. It does not wait, and it is not repeated: without a connection,
// or on a way that has no word for it, it is lost. False says that it is lost
// already. Link's way hears what others say, with link.Config.OnSignal, without
// which it says nothing either; poll's says only.
func (c *Client) Signal(to, kind string, body []byte) bool {
	s, ok := c.Live().(signaler)
	return ok && s.Signal(to, kind, body)
}

// become is called by run alone.
func (c *Client) become(s State) {
	c.mu.Lock()
	c.state = s
	c.mu.Unlock()
	c.cfg.Log.Info("client: "+string(s.Phase), "way", s.Way, "err", s.Err)
	if c.cfg.OnState != nil {
		c.cfg.OnState(s)
	}
}

// NetworkChanged says that the device is on another network now, or, with the
// name that it had, may be: the client looks at once.
func (c *Client) NetworkChanged(name string) {
	c.mu.Lock()
	c.network = name
	c.looks++
	v := c.live
	c.mu.Unlock()
	if v != nil {
		v.networkChanged(name)
	}
	ring(c.hurry)
}

// SetBackground says whether the device sleeps. Then the client tries out
// nothing, and comes back more slowly; awake again, it looks at once.
func (c *Client) SetBackground(on bool) {
	c.mu.Lock()
	was := c.background
	c.background = on
	v := c.live
	c.mu.Unlock()
	if v != nil {
		if s, ok := v.mb.(sleeper); ok {
			s.SetBackground(on)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var l *Later
	if was && !on && !errors.As(c.state.Err, &l) {
		c.looks++
		ring(c.hurry)
	}
}

// Close says goodbye, disconnects and closes the store. What was not sent
// stays there for the next program.
func (c *Client) Close() error {
	c.end(ErrClosed)
	c.stop()
	c.running.Wait()
	c.retired.Wait()
	c.placing.Lock()
	defer c.placing.Unlock()
	c.mu.Lock()
	c.why = ErrClosed
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	return c.cfg.Store.Close()
}

// end says why nothing works any more; only the first reason counts.
func (c *Client) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why = why
		close(c.over)
	}
}

func (c *Client) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
