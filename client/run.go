package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// stagger is how long a way may take before the next is tried beside it.
	stagger = 2 * time.Second
	// shortLife is of a connection that something on the way has cut, and
	// shortLives so many in a row are a reason to try another way first.
	shortLife  = 10 * time.Second
	shortLives = 3
	// While on a worse way it is looked for a better one, ever more seldom.
	firstKnock = 5 * time.Second
	lastKnock  = 10 * time.Minute
	// sleepy is up to what pauses between attempts grow while the device sleeps.
	sleepy = 2 * time.Minute
)

var (
	// errPlace ends a connection that does not begin where we are.
	errPlace = errors.New("begin where the program is")
	// errBack is the end of a better way that did not hold.
	errBack = errors.New("back to the way that holds")
)

// runner is the state of run.
type runner struct {
	sure   bool      // the stored place is of this account
	tries  int       // attempts in a row that failed
	knocks int       // looks for a better way in a row that failed
	short  int       // short lives in a row
	shun   int       // way to be tried last, or -1
	beside time.Time // when we last made a connection beside another
	begun  time.Time // when the program began; zero once a connection of its has ended
	looked int       // what Client.looks was when it was looked last

	jitter func(time.Duration) time.Duration // how much of a bound to wait
}

// run connects, again and again.
func (c *Client) run(ctx context.Context) {
	defer close(c.stopped)
	c.r.shun = -1
	c.r.begun = time.Now()
	for {
		c.become(State{Phase: Connecting})
		v, err := c.round(ctx)
		online := v != nil
		for v != nil {
			v, err = c.serve(ctx, v)
		}
		if ctx.Err() != nil {
			err = ErrClosed
		} else if !c.final(err) {
			err = c.pause(ctx, err, online)
			if err == nil {
				continue
			}
		}
		c.end(err)
		c.become(State{Phase: Ended, Err: err})
		return
	}
}

// final says whether there is no use in coming back.
func (c *Client) final(err error) bool {
	var no *Closed
	if !errors.As(err, &no) {
		return false
	}
	if no.Code == "replaced" {
		// Two of our own connections may have met at the server, or one of the
		// program before this one has come there late.
		if time.Since(c.r.beside) < shortLife {
			return false
		}
		if time.Since(c.r.begun) < shortLife {
			return false
		}
	}
	return no.Code != "expired" || c.cfg.Tokens == nil
}

// pause waits before the next round. Its error is that of ctx.
func (c *Client) pause(ctx context.Context, why error, online bool) error {
	c.mu.Lock()
	background := c.background
	c.mu.Unlock()
	if online {
		c.r.tries, c.r.begun = 0, time.Time{}
	}
	most := maxBackoff
	if background {
		most = sleepy
	}
	wait := c.r.jitter(bound(c.r.tries, most))
	var later *Later
	switch {
	case errors.As(why, &later):
		wait += later.After
	case errors.Is(why, ErrMoved), errors.Is(why, errPlace), errors.Is(why, errBack), online && errors.Is(why, ErrSilent):
		wait = 0 // the network is believed to be there
	}
	if !online {
		c.r.tries++
	}
	c.become(State{Phase: Waiting, Again: time.Now().Add(wait), Err: why})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-c.hurry:
			if c.hurried() {
				c.r.tries, c.r.knocks, c.r.short = 0, 0, 0
				return nil
			}
		case <-ctx.Done():
			return ErrClosed
		}
	}
}

// hurried reports whether the program wants it to be looked at once, and it has
// not been looked since. Its bell may be heard late, when what it was rung for
// has been done.
func (c *Client) hurried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.looks == c.r.looked
	c.r.looked = c.looks
	return !late
}

// order says which way is tried when.
func (c *Client) order(network string) []int {
	best, err := c.read(worked + network)
	if err != nil {
		c.cfg.Log.Warn("client: what worked is not known", "err", err)
	}
	var first, rest, last []int
	for i, w := range c.cfg.Ways {
		switch {
		case i == c.r.shun:
			last = append(last, i)
		case w.Name == best:
			first = append(first, i)
		default:
			rest = append(rest, i)
		}
	}
	c.r.shun = -1
	return append(append(first, rest...), last...)
}

// attempt is what the ways are given.
func (c *Client) attempt(ctx context.Context) (Attempt, error) {
	a := Attempt{User: c.cfg.User, Password: c.cfg.Password, Token: c.cfg.Token, Tokens: c.cfg.Tokens, Device: c.cfg.Device, Prefix: c.prefix, Store: c.cfg.Store, Log: c.cfg.Log}
	if c.cfg.Tokens != nil {
		var err error
		if a.Token, err = c.cfg.Tokens(ctx); err != nil {
			return a, fmt.Errorf("%w: %w", ErrToken, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.Network, a.Background, a.looks = c.network, c.background, c.looks
	if c.placed && c.r.sure {
		place := c.place
		a.Place = &place
	}
	return a, nil
}

// opened is what came of an attempt.
type opened struct {
	way int
	mb  Mailbox
	err error
}

// round tries all ways, the next beside the last if that is slow or has
// failed. The first that is in wins.
func (c *Client) round(ctx context.Context) (*live, error) {
	under, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := c.attempt(under)
	if err != nil {
		return nil, err
	}
	c.r.looked = a.looks
	order := c.order(a.Network)
	results := make(chan opened, len(order)) // nobody waits to give one
	timer := time.NewTimer(0)
	defer timer.Stop()
	pending, failed := 0, make([]error, len(c.cfg.Ways))
	for next := 0; next < len(order) || pending > 0; {
		select {
		case <-timer.C:
			if next < len(order) {
				way := order[next]
				next++
				pending++
				c.retired.Go(func() { // ends with under
					mb, err := c.cfg.Ways[way].Open(under, a)
					results <- opened{way, mb, err}
				})
				timer.Reset(stagger)
			}
			continue
		case r := <-results:
			pending--
			if r.err == nil {
				cancel()
				c.collect(results, pending)
				return c.admit(newLive(ctx, r.mb, r.way, a))
			}
			c.cfg.Log.Info("client: this way is closed", "way", c.cfg.Ways[r.way].Name, "err", r.err)
			failed[r.way] = r.err
			if c.final(r.err) {
				cancel()
				c.collect(results, pending)
				return nil, r.err
			}
			timer.Reset(0)
		case <-c.hurry:
			if !c.hurried() {
				continue
			}
			cancel()
			c.collect(results, pending)
			c.r.tries, c.r.knocks, c.r.short = 0, 0, 0
			return nil, ErrMoved
		case <-ctx.Done():
			c.collect(results, pending)
			return nil, ErrClosed
		}
	}
	return nil, reason(failed)
}

// reason is what to tell of a round that failed: when to come back if the
// server said it, else what is wrong with the best way.
func reason(failed []error) error {
	for _, err := range failed {
		var later *Later
		if errors.As(err, &later) {
			return err
		}
	}
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return errPlace
}

// collect closes what attempts that were given up may still bring.
func (c *Client) collect(results <-chan opened, n int) {
	if n == 0 {
		return
	}
	c.r.beside = time.Now()
	c.retired.Go(func() {
		for range n {
			if r := <-results; r.err == nil {
				r.mb.Close()
			}
		}
	})
}

// admit looks whether v is of our account and begins where we are.
func (c *Client) admit(v *live) (*live, error) {
	address, after, known := "", uint64(0), false
	if g, ok := v.mb.(greeter); ok {
		address, after, known = g.Greeting()
	}
	err := c.account(address)
	if err == nil && known {
		err = c.begin(v, after)
	}
	if err != nil {
		v.fail(err)
		c.retire(v)
		return nil, err
	}
	return v, nil
}

func (c *Client) account(address string) error {
	if address == "" {
		return nil
	}
	stored, err := c.read(keyAddress)
	if err != nil {
		return err
	}
	if stored != "" && stored != address {
		return &Closed{Code: "wrong-account", Text: "the store is of " + stored + ", and this is " + address}
	}
	if stored == "" || !c.r.sure {
		if err := c.cfg.Store.Apply(Change{keyAddress, []byte(address)}, Change{keyLogin, []byte(c.login())}); err != nil {
			return fmt.Errorf("client: keep the address: %w", err)
		}
	}
	c.r.sure = true
	return nil
}

// begin compares where v begins with where we are.
func (c *Client) begin(v *live, after uint64) error {
	c.placing.Lock()
	defer c.placing.Unlock()
	c.mu.Lock()
	placed, place := c.placed, c.place
	c.mu.Unlock()
	switch {
	case placed && after == place:
		return nil
	case placed && !v.asked:
		return errPlace
	case placed && after >= v.brought:
		return nil // as it was asked; the program has acknowledged more while we connected
	case placed:
		c.cfg.Log.Warn("client: the server has gone back", "to", after, "from", place)
	}
	if err := c.keepPlace(after); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got, v.brought = after, after
	for placed && len(c.inbox) > 0 {
		<-c.inbox // of what the server has lost
	}
	return nil
}

// serve uses v until it ends, or a better way is found.
func (c *Client) serve(ctx context.Context, v *live) (better *live, why error) {
	c.have(v)
	defer c.retire(v)
	c.r.tries = 0
	name := c.cfg.Ways[v.way].Name
	if !v.better {
		c.remember(name)
	}
	c.become(State{Phase: Online, Way: name}) // before what it brings
	c.start(v)
	proven := time.NewTimer(shortLife)
	defer proven.Stop()
	knock := time.NewTimer(c.nextKnock())
	defer knock.Stop()
	under, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan *live, 1)
	looking := false
	look := func() {
		if c.mu.Lock(); v.way == 0 || looking || c.background {
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		looking = true
		c.r.beside = time.Now()
		c.retired.Go(func() { found <- c.better(under, ctx, v.way) }) // ends with under
	}
	for {
		select {
		case <-v.ended:
			c.discard(found, looking)
			return nil, c.lived(v)
		case <-ctx.Done():
			c.discard(found, looking)
			return nil, ErrClosed
		case <-proven.C:
			c.r.short = 0
			if v.way == 0 {
				c.r.knocks = 0
			}
			c.remember(name)
		case <-c.hurry:
			if c.hurried() {
				c.r.knocks = 0
				look()
				knock.Reset(c.nextKnock())
			}
		case <-knock.C:
			if look(); v.way > 0 {
				c.r.knocks++
			}
			knock.Reset(c.nextKnock())
		case b := <-found:
			looking = false
			if b == nil {
				continue
			}
			c.r.beside = time.Now()
			if b, err := c.admit(b); err == nil {
				return b, nil
			}
		}
	}
}

func (c *Client) nextKnock() time.Duration {
	return min(firstKnock<<min(c.r.knocks, 10), lastKnock)
}

// better opens a way that is better than one, or returns nil.
func (c *Client) better(under, ctx context.Context, than int) *live {
	a, err := c.attempt(under)
	a.Better = true
	for way := 0; way < than && err == nil && under.Err() == nil; way++ {
		mb, err := c.cfg.Ways[way].Open(under, a)
		if err == nil {
			v := newLive(ctx, mb, way, a)
			v.better = true
			return v
		}
		c.cfg.Log.Debug("client: a better way is closed", "way", c.cfg.Ways[way].Name, "err", err)
	}
	return nil
}

// discard closes what a look for a better way may still bring.
func (c *Client) discard(found <-chan *live, looking bool) {
	if looking {
		c.retired.Go(func() {
			if v := <-found; v != nil {
				v.cancel()
				v.mb.Close()
			}
		})
	}
}

// lived says what the end of v means for the next round.
func (c *Client) lived(v *live) error {
	why := v.why
	var later *Later
	cut := !errors.As(why, &later) && !c.final(why) && !errors.Is(why, ErrMoved) &&
		(time.Since(v.since) < shortLife || errors.Is(why, ErrDeaf))
	switch {
	case !cut:
		c.r.short = 0
	case v.better:
		c.r.shun = v.way // it does not hold: back to what did
		return fmt.Errorf("%w: %w", errBack, why)
	default:
		if c.r.short++; c.r.short >= shortLives {
			c.r.short, c.r.shun = 0, v.way
		}
	}
	return why
}

// remember keeps that a way works on this network.
func (c *Client) remember(way string) {
	c.mu.Lock()
	key := worked + c.network
	c.mu.Unlock()
	if known, err := c.read(key); err == nil && known == way {
		return
	}
	if err := c.cfg.Store.Apply(Change{key, []byte(way)}); err != nil {
		c.cfg.Log.Warn("client: what works is not kept", "err", err)
	}
}
