// Package mqtt reaches a mailbox over MQTT 5.
//
//	box, err := mqtt.Dial(ctx, client.Options{Addr: "localhost:1883", User: "alice", Password: "secret", Device: "laptop"})
//
// It publishes to im/to/{address} at QoS 1, and subscribes to im/inbox/# and
// im/sent/# at QoS 1; acknowledging a message sends PUBACK for it and for all
// before it. The server sends no more than Window messages that the program
// has not acknowledged.
//
// When the connection breaks the SDK comes back by itself, after a random wait
// that grows from half a second to twenty. What was sent and not answered is
// sent again with its id, and is stored once.
package mqtt

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
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

const (
	// Window is how many messages may be received and not acknowledged.
	Window = 1000

	keepAlive   = 4 * time.Minute  // the server may say less
	answerTime  = 10 * time.Second // for PINGRESP
	connectTime = 20 * time.Second // for the network and CONNACK
	goodbyeTime = 5 * time.Second

	defaultDevice = "mqtt"

	// "The Client MUST include "mqtt" in the list of WebSocket Sub Protocols it
	// offers" [MQTT-6.0.0-3].
	subprotocol = "mqtt"
)

// Mailbox is a client.Mailbox over MQTT.
type Mailbox struct {
	o       client.Options
	dial    func(context.Context) (net.Conn, error)
	once    bool   // the mailbox ends with its connection
	prefix  string // of the ids of this mailbox's messages
	stop    context.CancelFunc
	running sync.WaitGroup

	inbox *inbox.Inbox  // received, not given to the program yet
	work  chan struct{} // bell: there is something to write
	over  chan struct{} // closed when why is set

	mu      sync.Mutex
	why     error      // guarded by mu; nothing works any more
	leaving bool       // guarded by mu; Close was called
	last    uint64     // guarded by mu; number of the last id given
	nextID  uint16     // guarded by mu; of packets
	quota   int        // guarded by mu; what the server's receive maximum leaves
	queue   []*sending // guarded by mu; not answered, oldest first
	written int        // guarded by mu; how many of queue went out on this connection
	unacked []place    // guarded by mu; given to us on this connection, PUBACK not sent
	got     uint64     // guarded by mu; place of the last message received
	acked   uint64     // guarded by mu; place that the program acknowledged
}

var _ client.Mailbox = (*Mailbox)(nil)

// sending is a message that is not answered yet.
type sending struct {
	client.Draft
	packet uint16 // its identifier on this connection
	done   chan struct{}
	err    error // set before done is closed
}

// place ties a place in the mailbox to a packet identifier.
type place struct {
	seq uint64
	id  uint16
}

// Dial connects and logs in, once. When it has returned a mailbox it is the
// SDK that reconnects. A *client.Refused is the server's answer.
func Dial(ctx context.Context, o client.Options) (client.Mailbox, error) {
	return open(ctx, o, stream.Dialer(o, subprotocol), false)
}

// Way makes MQTT one of the ways of a client.Client, which brings the account
// and the device; o says where the server is.
func Way(o client.Options) client.Way {
	dial := stream.Dialer(o, subprotocol)
	return client.Way{Name: "mqtt", Open: func(ctx context.Context, a client.Attempt) (client.Mailbox, error) {
		o := o
		o.User, o.Password, o.Token, o.Device, o.Log = a.User, a.Password, a.Token, a.Device, a.Log
		mb, err := open(ctx, o, dial, true)
		if err != nil {
			return nil, forClient(err)
		}
		return mb, nil
	}}
}

func open(ctx context.Context, o client.Options, dial func(context.Context) (net.Conn, error), once bool) (client.Mailbox, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Device == "" {
		o.Device = defaultDevice
	}
	mb := &Mailbox{
		o: o, dial: dial, once: once, prefix: strings.ToLower(rand.Text()[:10]),
		inbox: inbox.New(), work: make(chan struct{}, 1), over: make(chan struct{}),
	}
	s, err := mb.connect(ctx)
	if err != nil {
		return nil, err
	}
	under, stop := context.WithCancel(context.Background()) // ends with Close, not with Dial's ctx
	mb.stop = stop
	mb.running.Go(func() { mb.run(under, s) }) // ends with Close, or when the server does not want us back
	return mb, nil
}

// forClient puts the server's no into the client's words.
func forClient(err error) error {
	var no *client.Refused
	if !errors.As(err, &no) {
		return err
	}
	switch no.Code {
	case packet.SessionTakenOver.String():
		return &client.Closed{Code: "replaced", Text: no.Text}
	case packet.NotAuthorized.String(), packet.BadUserNameOrPassword.String(), packet.Banned.String():
		return &client.Closed{Code: "denied", Text: no.Text}
	}
	return err
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

func (mb *Mailbox) errLocked() error {
	if mb.leaving {
		return client.ErrClosed
	}
	return mb.why
}

// Send implements client.Mailbox. MQTT has no word for the place of a message:
// the receipt's Seq is zero.
func (mb *Mailbox) Send(ctx context.Context, d client.Draft) (client.Receipt, error) {
	topic := "im/to/" + d.To
	if d.To == "" || !packet.ValidTopic([]byte(topic)) || !packet.ValidText([]byte(topic)) || len(topic) > 65535 {
		return client.Receipt{}, &client.Refused{Code: packet.TopicNameInvalid.String(), Text: "no such address"}
	}
	if err := checkAttrs(d.Attrs); err != nil {
		return client.Receipt{}, err
	}
	s := &sending{Draft: d, done: make(chan struct{})}
	mb.mu.Lock()
	if err := mb.errLocked(); err != nil {
		mb.mu.Unlock()
		return client.Receipt{}, err
	}
	if s.ID == "" {
		mb.last++
		s.ID = fmt.Sprint(mb.prefix, ".", mb.last)
	}
	mb.queue = append(mb.queue, s)
	mb.mu.Unlock()
	ring(mb.work)
	select {
	case <-s.done:
		return client.Receipt{ID: s.ID}, s.err
	case <-mb.over:
		mb.mu.Lock()
		defer mb.mu.Unlock()
		select {
		case <-s.done:
			return client.Receipt{ID: s.ID}, s.err
		default:
			return client.Receipt{}, mb.errLocked()
		}
	case <-ctx.Done():
		mb.withdraw(s)
		return client.Receipt{}, ctx.Err()
	}
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

// Close implements client.Mailbox. The last acknowledgement goes out first;
// what is not answered ends with ErrClosed.
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
		var no *client.Refused
		if ctx.Err() != nil {
			mb.fail(client.ErrClosed)
			return
		}
		if mb.once {
			mb.fail(forClient(err))
			return
		}
		if errors.As(err, &no) {
			mb.fail(err)
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
		mb.o.Log.Info("mqtt: connected again")
		err = mb.serve(ctx, s)
	}
}

// fail ends everything that waits.
func (mb *Mailbox) fail(err error) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.why = err
	mb.queue = nil
	close(mb.over)
	mb.inbox.End(err)
}
