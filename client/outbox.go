package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// letter is a message that the server has not stored yet. Its fields but the
// first three are guarded by the client's mu.
type letter struct {
	Draft
	key     string
	expires time.Time // zero is never

	kept     bool          // it is in the store
	with     *live         // the connection that has it
	again    time.Time     // not before
	answered bool          // no connection will get it again
	receipt  Receipt       // if answered
	err      error         // if answered
	done     chan struct{} // closed when it is answered and gone from the store
}

// kept is a letter in the store.
type kept struct {
	ID      string    `json:"id"`
	To      string    `json:"to"`
	Type    string    `json:"type,omitempty"`
	Body    []byte    `json:"body"`
	Urgency string    `json:"urgency,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Attrs   []Attr    `json:"attrs,omitempty"`
}

const outbox = "out/" // and sixteen digits that put the letters in order

func (l *letter) change() (Change, error) {
	v, err := json.Marshal(kept{l.ID, l.To, l.Type, l.Body, l.Urgency, l.expires, l.Attrs})
	return Change{l.key, v}, err
}

// restore reads what an earlier program left.
func (c *Client) restore() error {
	return c.cfg.Store.Range(outbox, func(key string, value []byte) error {
		var k kept
		if err := json.Unmarshal(value, &k); err != nil {
			return fmt.Errorf("client: %s in the store: %w", key, err)
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(key, outbox), 16, 64)
		if err != nil {
			return fmt.Errorf("client: %s in the store: %w", key, err)
		}
		c.number = n
		c.letters = append(c.letters, &letter{
			Draft: Draft{ID: k.ID, To: k.To, Type: k.Type, Body: k.Body, Urgency: k.Urgency, Attrs: k.Attrs},
			key:   key, expires: k.Expires, kept: true, done: make(chan struct{}),
		})
		return nil
	})
}

// Queue takes d into the store and returns its id. It will be sent when there
// is a connection, also by the next program on this store; OnStored and
// OnRefused tell what became of it. Messages go out in the order of the calls.
// An error means that it was not taken: it has no recipient, the store failed,
// or the client has ended.
func (c *Client) Queue(d Draft) (id string, err error) {
	l, err := c.enqueue(d)
	if err != nil {
		return "", err
	}
	return l.ID, nil
}

// Send is Queue, and waits until the server has the message on disk. A *Refused
// is the server's answer, or ErrExpired. With any other error, ctx's among them,
// the message stays in the queue, and the receipt has its ID.
func (c *Client) Send(ctx context.Context, d Draft) (Receipt, error) {
	l, err := c.enqueue(d)
	if err != nil {
		return Receipt{}, err
	}
	select {
	case <-l.done:
		return l.receipt, l.err
	case <-ctx.Done():
		return Receipt{ID: l.ID}, ctx.Err()
	case <-c.over:
		select {
		case <-l.done:
			return l.receipt, l.err
		default:
			return Receipt{ID: l.ID}, c.reason()
		}
	}
}

// Pending is how many messages the server is not known to have.
func (c *Client) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.letters)
}

func (c *Client) enqueue(d Draft) (*letter, error) {
	if d.To == "" {
		return nil, &Refused{Code: "invalid", Text: "a message needs a recipient"}
	}
	l := &letter{Draft: d, done: make(chan struct{})}
	l.Body = append([]byte(nil), d.Body...)
	l.Attrs = append([]Attr(nil), d.Attrs...)
	if d.Expires > 0 {
		l.expires = time.Now().Add(d.Expires)
	}
	c.mu.Lock()
	if c.why != nil {
		defer c.mu.Unlock()
		return nil, c.why
	}
	c.number++
	l.key = fmt.Sprintf("%s%016x", outbox, c.number)
	if l.ID == "" {
		c.ids++
		l.ID = fmt.Sprint(c.prefix, ".", c.ids)
	}
	c.letters = append(c.letters, l)
	c.mu.Unlock()

	change, err := l.change()
	if err == nil {
		err = c.cfg.Store.Apply(change) // without the lock: many share one write
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.dropLocked(l)
		return nil, fmt.Errorf("client: keep a message: %w", err)
	}
	l.kept = true
	ring(c.work)
	return l, nil
}

func (c *Client) dropLocked(l *letter) {
	for i, o := range c.letters {
		if o == l {
			c.letters = append(c.letters[:i:i], c.letters[i+1:]...)
			return
		}
	}
}

// nextLocked is the oldest letter that v does not have yet, if it may be sent
// now; else at is when to look again, or zero. What may not be sent yet holds
// up what is behind it.
func (c *Client) nextLocked(v *live, now time.Time) (l *letter, at time.Time) {
	for _, l := range c.letters {
		switch {
		case l.answered || l.with == v:
			continue
		case !l.kept:
			return nil, time.Time{}
		case !l.expires.IsZero() && !now.Before(l.expires):
			c.answerLocked(l, Receipt{ID: l.ID}, ErrExpired)
			continue
		case now.Before(l.again):
			return nil, l.again
		}
		return l, time.Time{}
	}
	return nil, time.Time{}
}

// answerLocked takes note of what became of a letter; settle does the rest.
func (c *Client) answerLocked(l *letter, r Receipt, err error) {
	if l.answered {
		return
	}
	l.answered, l.receipt, l.err = true, r, err
	c.settled = append(c.settled, l)
	ring(c.answers)
}

// settle removes what was answered from the store, many at once, and then says
// so. It ends with c.stopped, when nothing is left to do.
func (c *Client) settle() {
	for last := false; ; {
		c.mu.Lock()
		done := c.settled
		c.settled = nil
		c.mu.Unlock()
		if len(done) > 0 {
			c.forget(done)
			continue
		}
		if last {
			return
		}
		select {
		case <-c.answers:
		case <-c.stopped:
			last = true
		}
	}
}

func (c *Client) forget(done []*letter) {
	changes := make([]Change, len(done))
	for i, l := range done {
		changes[i] = Change{Key: l.key}
	}
	if err := c.cfg.Store.Apply(changes...); err != nil {
		// The next program sends them again, and the server knows their ids.
		c.cfg.Log.Warn("client: what was sent is not forgotten", "err", err)
	}
	gone := make(map[*letter]bool, len(done))
	for _, l := range done {
		gone[l] = true
	}
	c.mu.Lock()
	left := c.letters[:0:0]
	for _, l := range c.letters {
		if !gone[l] {
			left = append(left, l)
		}
	}
	c.letters = left
	c.mu.Unlock()
	for _, l := range done {
		close(l.done)
		var no *Refused
		switch {
		case l.err == nil && c.cfg.OnStored != nil:
			c.cfg.OnStored(l.receipt)
		case errors.As(l.err, &no) && c.cfg.OnRefused != nil:
			c.cfg.OnRefused(l.ID, no)
		}
	}
}
