// Package client is the Go SDK. Open keeps one device of a user connected, by
// the best way that the network allows, and keeps what must not be lost over
// the end of the program:
//
//	c, err := client.Open(ctx, client.Config{
//		Ways: []client.Way{
//			link.Way("link", link.Config{Options: client.Options{Addr: "push.example.org:7401", TLS: &tls.Config{}}}),
//			link.Way("websocket", link.Config{Options: client.Options{Addr: "wss://push.example.org/link"}}),
//			poll.Way(poll.Config{Options: client.Options{Addr: "https://push.example.org"}}),
//		},
//		Tokens: fetchToken, Device: "phone", Store: store,
//	})
//
// It tries the ways in their order, the next beside the last when that is slow,
// first of all the one that worked last on this network; it falls back behind a
// proxy that lets nothing but HTTP through, and comes up again when a better
// way is open. What is sent waits in the Store until the server has it on disk.
// What is received is received once: messages are known by their place, and
// what the program has acknowledged is in the Store as well.
//
// Each way is a package of its own, so that a program carries only what it
// uses, and can be used alone through its Dial:
//
//	client/link   our long connection, recommended
//	client/poll   HTTP
//	client/mqtt   MQTT 5
//	client/xmpp   XMPP
//
// All of them keep the same promises. Send returns when the server has the
// message on disk. A message received is given again after a reconnect until
// it has been acknowledged, and only then never again.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"
)

// Draft is a message to be sent.
type Draft struct {
	// ID makes a retry harmless: the same id is stored once. Empty means a
	// fresh one.
	ID string
	// To is an address, "bob" or "bob@example.org".
	To string
	// Type is the media type of Body; empty means text/plain; charset=utf-8.
	Type string
	Body []byte
	// Expires is how long the message is worth delivering; zero means for ever.
	Expires time.Duration
	// Urgency is very-low, low, normal or high (RFC 8030); empty means normal.
	Urgency string
	// Attrs are further properties, which go to the reader in this order.
	Attrs []Attr
}

// Attr is one property of a message. There may be several of one name.
type Attr struct{ Name, Value string }

// Properties that are MQTT's Response Topic, where an answer is wanted
// (im/to/alice is alice's mailbox), and its Correlation Data, which the answer
// repeats; or the latter in base64 where it is not text.
const (
	AttrResponse      = "response-topic"
	AttrCorrelation   = "correlation-data"
	AttrCorrelation64 = "correlation-data64"
)

// Receipt says that a message is durable.
type Receipt struct {
	ID string
	// Seq is its place in the recipient's box; zero where the protocol has no
	// word for it.
	Seq uint64
	// Duplicate says that the server had it already.
	Duplicate bool
}

// Message is a message received.
type Message struct {
	// Seq is its place in the box and Prev the place of the one before, as
	// this device sees it. Both are zero where the protocol has no word for
	// them (MQTT 3.1.1).
	Seq, Prev uint64
	// ID is the sender's; no other message of his has it.
	ID string
	// From and To are addresses: bob@example.org.
	From, To string
	Device   string // the sender's device, if told
	Time     time.Time
	// Type is the media type of Body; empty is text/plain; charset=utf-8.
	Type string
	Body []byte
	// Left, if not zero, is how many bytes Body would have, more than the
	// program takes: it was left out. See link.Config.MaxMessage.
	Left int
	// Expires is when the message loses its worth; zero is never, or not told
	// (XMPP).
	Expires time.Time
	// Urgency is very-low, low, normal or high; empty is not told (XMPP).
	Urgency string
	Attrs   []Attr // in the sender's order
}

// Attr returns the value of the first property called name.
func (m *Message) Attr(name string) (value string, ok bool) {
	for _, a := range m.Attrs {
		if a.Name == name {
			return a.Value, true
		}
	}
	return "", false
}

// Mailbox is one connected device of a user, by whatever way. Send, Receive
// and Ack may be called from different goroutines.
type Mailbox interface {
	// Send returns when the server has made d durable. An error of type
	// *Refused is the server's answer to the message, *Closed its word that it
	// does not want the client; anything else may be tried again with the same
	// ID.
	Send(ctx context.Context, d Draft) (Receipt, error)
	// Receive blocks until there is a message. Its error is ErrClosed after
	// Close, *Closed when the server does not want the client back, or ctx's.
	Receive(ctx context.Context) (Message, error)
	// Ack says that the application has stored m and everything before it.
	// Of a place that was not received it is an error.
	Ack(ctx context.Context, m Message) error
	// Close says goodbye and disconnects.
	Close() error
}

// Options says where and as whom to connect.
type Options struct {
	// Addr is host:port, or for poll and WebSockets a URL.
	Addr string
	// User and Password, or Token.
	User, Password string
	Token          string
	// Device names this reader of the mailbox: each name has its place in it.
	// Empty means the way's own default, "link", "http", "mqtt" or "xmpp".
	Device string
	// TLS, if not nil, is used from the first byte. Its sessions are resumed,
	// but for XMPP, by its ClientSessionCache or else by one in memory.
	TLS *tls.Config
	// StartTLS is how the server's certificate is checked where TLS begins
	// later: XMPP without TLS. Nil checks it against the system's roots.
	StartTLS *tls.Config
	// Log, if not nil, hears of reconnects.
	Log *slog.Logger
}

// Refused is the server's no to a message: nothing of it was stored, and the
// connection lives on.
type Refused struct {
	// Code is the protocol's own word. Link's, and those of a Client by
	// whatever way that has them, are unknown-recipient, too-large, conflict
	// (the ID was used for another message), invalid, forbidden, remote (the
	// recipient is at another server), unavailable and internal (both may pass:
	// a Client sends again by itself); expired is the Client's own.
	Code string
	Text string // for people
}

func (e *Refused) Error() string {
	if e.Text == "" {
		return "refused: " + e.Code
	}
	return "refused: " + e.Code + ": " + e.Text
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("client: closed")
