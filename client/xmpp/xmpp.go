// Package xmpp is the Go SDK over XMPP, for places where an XMPP server is all
// that can be reached, and for tests. It speaks RFC 6120 over TCP with
// STARTTLS, or over TLS from the first byte if Options.TLS is given, with
// stream management (XEP-0198): Send returns when the server has acknowledged
// the stanza, and Ack acknowledges what was received.
//
// A mailbox stays usable while the connection comes and goes: it connects
// again by itself, after a random wait that grows from half a second to
// twenty. What was sent and not answered is sent again with its id.
//
// XMPP has no words for a message's expiry and urgency; a draft with either is
// refused. Of a body larger than the server sends by XMPP comes a line of text
// that says what it is.
package xmpp

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/inbox"
)

const (
	connectTime = 20 * time.Second // for the network and the login
	goodbyeTime = 5 * time.Second
)

// Dial connects and logs in, once. When it has returned a mailbox, that
// reconnects by itself.
func Dial(ctx context.Context, o client.Options) (client.Mailbox, error) {
	return open(ctx, o, false)
}

// Way makes XMPP one of the ways of a client.Client, which brings the account
// and the device; o says where the server is.
func Way(o client.Options) client.Way {
	return client.Way{Name: "xmpp", Open: func(ctx context.Context, a client.Attempt) (client.Mailbox, error) {
		o := o
		o.User, o.Password, o.Token, o.Device, o.Log = a.User, a.Password, a.Token, a.Device, a.Log
		mb, err := open(ctx, o, true)
		if err != nil {
			return nil, forClient(err)
		}
		return mb, nil
	}}
}

// forClient puts the server's no into the client's words.
func forClient(err error) error {
	var end *Ended
	var no *client.Refused
	switch {
	case errors.As(err, &end) && end.Condition == "conflict":
		return &client.Closed{Code: "replaced", Text: end.Text}
	case errors.As(err, &end) && end.final():
		return &client.Closed{Code: "denied", Text: end.Text}
	case errors.As(err, &no) && no.Code == "not-authorized":
		return &client.Closed{Code: "denied", Text: no.Text}
	}
	return err
}

func open(ctx context.Context, o client.Options, once bool) (client.Mailbox, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mb := &Mailbox{o: o, once: once, over: make(chan struct{}), inbox: inbox.New()}
	s, err := mb.connect(ctx)
	if err != nil {
		return nil, err
	}
	under, stop := context.WithCancel(context.Background()) // ends with Close, not with Dial's ctx
	mb.stop = stop
	mb.running.Go(func() { mb.run(under, s) }) // ends with Close, or when the server does not want us back
	return mb, nil
}

// Mailbox is a client.Mailbox over XMPP.
type Mailbox struct {
	o       client.Options
	once    bool // the mailbox ends with its connection
	stop    context.CancelFunc
	running sync.WaitGroup
	over    chan struct{} // closed when why is set
	inbox   *inbox.Inbox  // received, not given to the program yet

	mu      sync.Mutex
	why     error      // guarded by mu; nothing works any more
	leaving bool       // guarded by mu; Close was called
	live    *session   // guarded by mu; nil while there is no connection
	queue   []*sending // guarded by mu; not answered, oldest first
	got     uint64     // guarded by mu; place of the last message received
	acked   uint64     // guarded by mu; place that the program acknowledged
}

var _ client.Mailbox = (*Mailbox)(nil)

// sending is a message that is not answered yet.
type sending struct {
	client.Draft
	num  uint32     // its number on the live connection
	done chan error // capacity 1
}

// Send implements client.Mailbox. The server's place of the message is not
// known by this way: Receipt.Seq is zero.
func (mb *Mailbox) Send(ctx context.Context, d client.Draft) (client.Receipt, error) {
	if d.Expires != 0 || d.Urgency != "" && d.Urgency != "normal" {
		return client.Receipt{}, &client.Refused{Code: "feature-not-implemented", Text: "XMPP has no words for expiry and urgency"}
	}
	if d.ID == "" {
		d.ID = rand.Text()
	}
	s := &sending{Draft: d, done: make(chan error, 1)}
	mb.mu.Lock()
	if mb.why != nil || mb.leaving {
		mb.mu.Unlock()
		return client.Receipt{}, mb.reason()
	}
	mb.queue = append(mb.queue, s)
	if mb.live != nil {
		mb.live.send(s)
	}
	mb.mu.Unlock()
	select {
	case err := <-s.done:
		return client.Receipt{ID: d.ID}, err
	case <-mb.over:
		select {
		case err := <-s.done:
			return client.Receipt{ID: d.ID}, err
		default:
		}
		return client.Receipt{}, mb.reason()
	case <-ctx.Done():
		mb.mu.Lock()
		defer mb.mu.Unlock()
		// What is on its way stays on its way: answers go by its number.
		mb.queue = inbox.Withdraw(mb.queue, 0, s)
		return client.Receipt{}, ctx.Err()
	}
}

// Receive implements client.Mailbox.
func (mb *Mailbox) Receive(ctx context.Context) (client.Message, error) { return mb.inbox.Take(ctx) }

// Ack implements client.Mailbox.
func (mb *Mailbox) Ack(_ context.Context, m client.Message) error {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.why != nil || mb.leaving {
		return client.ErrClosed
	}
	if m.Seq > mb.acked {
		mb.acked = m.Seq
		if mb.live != nil {
			mb.live.acknowledge(mb.acked)
		}
	}
	return nil
}

// Close implements client.Mailbox.
func (mb *Mailbox) Close() error {
	mb.mu.Lock()
	first := !mb.leaving
	mb.leaving = true
	s := mb.live
	mb.mu.Unlock()
	if first {
		if s != nil {
			s.goodbye()
		}
		mb.stop()
	}
	mb.running.Wait()
	return nil
}

func (mb *Mailbox) reason() error {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.why != nil {
		return mb.why
	}
	return client.ErrClosed
}

// run serves connections, one after the other.
func (mb *Mailbox) run(ctx context.Context, s *session) {
	tries := 0
	for {
		began := time.Now()
		why := s.serve()
		mb.mu.Lock()
		mb.live = nil
		leaving := mb.leaving
		mb.mu.Unlock()
		var end *Ended
		if leaving || ctx.Err() != nil {
			mb.fail(client.ErrClosed)
			return
		}
		if mb.once {
			mb.fail(forClient(why))
			return
		}
		if errors.As(why, &end) && end.final() {
			mb.fail(why)
			return
		}
		if time.Since(began) > time.Minute {
			tries = 0
		}
		for {
			pause := client.Backoff(tries)
			tries++
			mb.o.Log.Info("xmpp: connection lost", "why", why, "again", pause)
			select {
			case <-ctx.Done():
				mb.fail(client.ErrClosed)
				return
			case <-time.After(pause):
			}
			next, err := mb.connect(ctx)
			if err == nil {
				s = next
				break
			}
			var refused *client.Refused
			if errors.As(err, &refused) && refused.Code == "not-authorized" {
				mb.fail(err)
				return
			}
			why = err
		}
	}
}

func (mb *Mailbox) fail(why error) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.why == nil {
		mb.why = why
		close(mb.over)
		mb.inbox.End(why)
	}
}

// Ended is the server's stream error.
type Ended struct{ Condition, Text string }

func (e *Ended) Error() string {
	if e.Text == "" {
		return "xmpp: stream ended by the server: " + e.Condition
	}
	return "xmpp: stream ended by the server: " + e.Condition + ": " + e.Text
}

// final reports whether there is no use in coming back.
func (e *Ended) final() bool { return e.Condition == "conflict" || e.Condition == "not-authorized" }
