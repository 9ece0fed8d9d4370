// Package mqtt reaches a mailbox over MQTT 5.0: it publishes to im/to/{address}
// and reads im/inbox/# and im/sent/#.
//
// The device is the client id. Every connection begins with a clean start,
// since nothing of the mailbox is in an MQTT session: the server keeps the
// device's cursor, and a send that was not answered is published again with
// its id, which the server stores once.
package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

const (
	keepAlive  = 60 * time.Second // asked for; the server may say otherwise
	answerTime = 30 * time.Second // for CONNACK, SUBACK and PINGRESP
	window     = 1000             // messages received and not acknowledged
	maxPacket  = 16 << 20         // bytes
)

// Dial connects, and fails if the first attempt does. Later breaks are
// repaired behind the caller's back.
func Dial(ctx context.Context, o client.Options) (client.Mailbox, error) {
	o.Device = cmp.Or(o.Device, "mqtt")
	if o.Token != "" {
		o.Password = o.Token // with any user name
		o.User = cmp.Or(o.User, "token")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mb := &mailbox{o: o, over: make(chan struct{}), news: make(chan struct{}, 1)}
	s, err := mb.connect(ctx)
	if err != nil {
		return nil, err
	}
	under, stop := context.WithCancel(context.Background()) // ends with Close, not with Dial's ctx
	mb.stop = stop
	mb.running.Go(func() { mb.run(under, s) }) // ends with Close, or when the server does not want us back
	return mb, nil
}

// mailbox implements client.Mailbox.
type mailbox struct {
	o       client.Options
	stop    context.CancelFunc
	running sync.WaitGroup
	over    chan struct{} // closed when nothing more will come
	news    chan struct{} // rung when got has grown

	mu    sync.Mutex
	live  *session  // nil while there is no connection; guarded by mu
	sends []*send   // not answered, oldest first; guarded by mu
	got   []arrived // received and not given to Receive; guarded by mu
	given []arrived // given and not acknowledged; guarded by mu
	acked uint64    // guarded by mu
	why   error     // why it is over; guarded by mu
}

// send is a message on its way.
type send struct {
	p    packet.Publish
	done chan struct{}
	err  error // set before done is closed
}

// arrived is a message and the packet that brought it.
type arrived struct {
	m  client.Message
	s  *session
	id uint16
}

// Send implements client.Mailbox.
func (mb *mailbox) Send(ctx context.Context, d client.Draft) (client.Receipt, error) {
	w := &send{p: publish(&d), done: make(chan struct{})}
	r := client.Receipt{ID: d.ID}
	mb.mu.Lock()
	if mb.why != nil {
		defer mb.mu.Unlock()
		return r, mb.why
	}
	mb.sends = append(mb.sends, w)
	s := mb.live
	mb.mu.Unlock()
	if s != nil {
		s.push()
	}
	select {
	case <-w.done:
		return r, w.err
	case <-ctx.Done():
		return r, ctx.Err() // it is still sent; the same id may be tried again
	}
}

// Receive implements client.Mailbox.
func (mb *mailbox) Receive(ctx context.Context) (client.Message, error) {
	for {
		mb.mu.Lock()
		if len(mb.got) > 0 {
			a := mb.got[0]
			mb.got = mb.got[1:]
			mb.given = append(mb.given, a)
			if len(mb.got) > 0 {
				ring(mb.news) // for another who waits
			}
			mb.mu.Unlock()
			return a.m, nil
		}
		mb.mu.Unlock()
		select {
		case <-mb.news:
		case <-mb.over:
			return client.Message{}, mb.reason()
		case <-ctx.Done():
			return client.Message{}, ctx.Err()
		}
	}
}

// Ack implements client.Mailbox.
func (mb *mailbox) Ack(_ context.Context, m client.Message) error {
	mb.mu.Lock()
	var ids []uint16
	n := 0
	for n < len(mb.given) && mb.given[n].m.Seq <= m.Seq {
		if a := mb.given[n]; a.s == mb.live {
			ids = append(ids, a.id)
		}
		n++
	}
	mb.given = mb.given[n:]
	mb.acked = max(mb.acked, m.Seq)
	s, err := mb.live, mb.why
	mb.mu.Unlock()
	if err != nil {
		return err
	}
	if s != nil && len(ids) > 0 {
		s.puback(ids)
	}
	return nil // without a connection the messages come again, and are then acknowledged at once
}

// Close implements client.Mailbox.
func (mb *mailbox) Close() error {
	mb.stop()
	mb.running.Wait()
	return nil
}

func (mb *mailbox) reason() error {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.why
}

// arrive takes a message in. What was acknowledged already, on a connection
// that broke before the server heard of it, is acknowledged again.
func (mb *mailbox) arrive(s *session, m client.Message, id uint16) {
	mb.mu.Lock()
	known := m.Seq != 0 && m.Seq <= mb.acked
	if !known {
		mb.got = append(mb.got, arrived{m, s, id})
	}
	mb.mu.Unlock()
	if known {
		s.puback([]uint16{id})
		return
	}
	ring(mb.news)
}

// run serves connections, one after the other, until Close.
func (mb *mailbox) run(ctx context.Context, s *session) {
	for tries := 0; ; {
		err := mb.serve(ctx, s)
		var no *client.Refused
		for s = nil; s == nil; {
			if ctx.Err() != nil {
				mb.end(client.ErrClosed)
				return
			}
			if errors.As(err, &no) && final[no.Code] {
				mb.end(no)
				return
			}
			wait := client.Backoff(tries)
			mb.o.Log.Info("mqtt: connection lost", "err", err, "again", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				continue
			}
			if s, err = mb.connect(ctx); err != nil {
				tries++
				continue
			}
			tries = 0
		}
	}
}

// final are the server's reasons after which coming back is of no use.
var final = map[string]bool{
	packet.BadUserNameOrPassword.String(): true,
	packet.NotAuthorized.String():         true,
	packet.SessionTakenOver.String():      true,
	packet.Banned.String():                true,
	packet.ClientIDNotValid.String():      true,
}

// serve runs one connection to its end.
func (mb *mailbox) serve(ctx context.Context, s *session) error {
	mb.mu.Lock()
	mb.live = s
	// What was received and not acknowledged comes again on this connection.
	mb.got, mb.given = nil, nil
	mb.mu.Unlock()
	stop := context.AfterFunc(ctx, s.goodbye)
	defer stop()
	s.push()
	err := s.run()
	mb.mu.Lock()
	mb.live = nil
	mb.mu.Unlock()
	return err
}

// end fails whatever waits.
func (mb *mailbox) end(why error) {
	mb.mu.Lock()
	mb.why = why
	sends := mb.sends
	mb.sends = nil
	mb.mu.Unlock()
	for _, w := range sends {
		w.err = why
		close(w.done)
	}
	close(mb.over)
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// refused is the server's reason as an error.
func refused(c packet.Code, ps *packet.Properties) error {
	text := ""
	if ps != nil {
		text = ps.Text(packet.ReasonString)
	}
	return &client.Refused{Code: c.String(), Text: text}
}

func unexpected(first byte) error {
	return fmt.Errorf("mqtt: the server sent an unexpected %v", packet.Type(first>>4))
}
