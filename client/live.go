package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// live is a mailbox that a Way has opened, and what runs on it.
type live struct {
	mb     Mailbox
	way    int
	since  time.Time
	better bool // found by looking for a better way
	asked  bool // it was told where to begin

	network string // where it was opened

	ctx     context.Context // of what runs on it
	cancel  context.CancelFunc
	running sync.WaitGroup
	ended   chan struct{} // closed when why is set
	once    sync.Once
	why     error

	// Guarded by the client's mu.
	brought uint64 // place of the last message that it has brought
	flying  int    // letters that it has
}

const (
	inFlight    = 256             // letters given to a connection at a time
	refusedWait = 5 * time.Second // before what could not be stored is sent again
	goodbyeTime = 5 * time.Second // for the last acknowledgement
)

func newLive(ctx context.Context, mb Mailbox, way int, a Attempt) *live {
	v := &live{mb: mb, way: way, since: time.Now(), asked: a.Place != nil, network: a.Network, ended: make(chan struct{})}
	if a.Place != nil {
		v.brought = *a.Place
	}
	v.ctx, v.cancel = context.WithCancel(ctx)
	return v
}

// fail says that the connection is of no more use; only the first reason counts.
func (v *live) fail(why error) {
	v.once.Do(func() {
		v.why = why
		close(v.ended)
	})
}

// networkChanged tells v that the device is on another network.
func (v *live) networkChanged(name string) {
	if m, ok := v.mb.(mover); ok {
		m.NetworkChanged(name)
	} else {
		v.fail(ErrMoved)
	}
}

// have makes v the connection that there is, and tells it what has changed while
// it was made.
func (c *Client) have(v *live) {
	c.mu.Lock()
	c.live = v
	background, network := c.background, c.network
	c.mu.Unlock()
	if s, ok := v.mb.(sleeper); ok {
		s.SetBackground(background)
	}
	if network != v.network {
		v.networkChanged(network)
	}
}

// start begins to use v. All of it ends with v.ctx.
func (c *Client) start(v *live) {
	ring(c.work)
	ring(c.acks)
	v.running.Go(func() { c.receive(v) })
	v.running.Go(func() { c.sends(v) })
	v.running.Go(func() { c.acknowledge(v) })
}

// retire lets go of v: nothing runs on it any more when retire has returned,
// and its goodbye is said beside.
func (c *Client) retire(v *live) {
	c.mu.Lock()
	if c.live == v {
		c.live = nil
	}
	c.mu.Unlock()
	v.cancel()
	v.running.Wait()
	c.retired.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), goodbyeTime) // the place is worth it
		defer cancel()
		select {
		case <-v.ended:
		default:
			if err := c.ackOnce(ctx, v); err != nil {
				c.cfg.Log.Debug("client: last acknowledgement", "err", err)
			}
		}
		if err := v.mb.Close(); err != nil {
			c.cfg.Log.Debug("client: close", "err", err)
		}
	})
}

// receive takes what v brings.
func (c *Client) receive(v *live) {
	for {
		m, err := v.mb.Receive(v.ctx)
		if err != nil {
			v.fail(err)
			return
		}
		c.take(v, m)
		if v.ctx.Err() != nil {
			return
		}
	}
}

// take gives m to the program unless it was given it before.
func (c *Client) take(v *live, m Message) {
	c.mu.Lock()
	before, known := c.got, c.placed || c.got > 0
	if m.Seq != 0 {
		if v.brought = max(v.brought, m.Seq); m.Seq <= before {
			c.mu.Unlock()
			ring(c.acks) // perhaps the server has not heard that we have it
			return
		}
		c.got = m.Seq
	}
	c.mu.Unlock()
	if known && m.Prev > before {
		c.cfg.Log.Warn("client: messages are missing", "after", before, "before", m.Prev+1)
		if c.cfg.OnGap != nil {
			c.cfg.OnGap(before, m.Prev+1)
		}
	}
	select {
	case c.inbox <- m:
	case <-v.ctx.Done():
		c.mu.Lock()
		c.got = before // the next connection brings it
		c.mu.Unlock()
	}
}

// acknowledge tells the server how far the program is.
func (c *Client) acknowledge(v *live) {
	acked := uint64(0)
	for {
		select {
		case <-c.acks:
		case <-v.ctx.Done():
			return
		}
		if to := c.ackable(v); to > acked {
			if err := c.ackOnce(v.ctx, v); err != nil {
				v.fail(err)
				return
			}
			acked = to
		}
	}
}

// ackable is how far v may be acknowledged: not beyond what it has brought,
// which the server would take for a mistake.
func (c *Client) ackable(v *live) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(c.place, v.brought)
}

func (c *Client) ackOnce(ctx context.Context, v *live) error {
	to := c.ackable(v)
	if to == 0 {
		return nil
	}
	err := v.mb.Ack(ctx, Message{Seq: to})
	var no *Refused
	if errors.As(err, &no) {
		c.cfg.Log.Warn("client: the server takes no acknowledgement", "seq", to, "err", err)
		return nil
	}
	return err
}

// sends gives v the letters, in order.
func (c *Client) sends(v *live) {
	async, _ := v.mb.(sender)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		var l *letter
		var at time.Time
		c.mu.Lock()
		if v.flying < inFlight {
			if l, at = c.nextLocked(v, now); l != nil {
				l.with = v
				v.flying++
			}
		}
		c.mu.Unlock()
		switch {
		case l == nil:
			if !at.IsZero() {
				timer.Reset(at.Sub(now))
			}
			select {
			case <-c.work:
			case <-timer.C:
			case <-v.ctx.Done():
				return
			}
			continue
		case async != nil:
			err := async.SendAsync(l.draft(now), func(r Receipt, err error) { c.answer(v, l, r, err) })
			if err != nil {
				c.answer(v, l, Receipt{}, err)
			}
		default:
			r, err := v.mb.Send(v.ctx, l.draft(now))
			c.answer(v, l, r, err)
		}
		if v.ctx.Err() != nil {
			return
		}
	}
}

func (l *letter) draft(now time.Time) Draft {
	d := l.Draft
	if !l.expires.IsZero() {
		d.Expires = l.expires.Sub(now)
	}
	return d
}

// passing are refusals that say nothing about the message.
var passing = map[string]bool{"unavailable": true, "internal": true, "busy": true}

// answer is what v has to say about l.
func (c *Client) answer(v *live, l *letter, r Receipt, err error) {
	var no *Refused
	refused := errors.As(err, &no)
	c.mu.Lock()
	v.flying--
	switch {
	case err == nil:
		c.answerLocked(l, r, nil)
	case refused && !passing[no.Code]:
		c.answerLocked(l, Receipt{ID: l.ID}, no)
	case l.with == v:
		l.with = nil
		if refused {
			l.again = time.Now().Add(refusedWait)
		}
	}
	c.mu.Unlock()
	ring(c.work)
	if err != nil && !refused {
		v.fail(err)
	}
}
