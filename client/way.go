package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Way is one way to the server. The packages of the ways make them, so that a
// program carries only those that it names:
//
//	link.Way(…) poll.Way(…) mqtt.Way(…) xmpp.Way(…)
type Way struct {
	// Name is for people and for the memory of what worked: "link", "poll".
	// No two ways of a client share one.
	Name string
	// Open connects and logs in, once. The mailbox ends, with an error from
	// Receive, when its connection does: *Closed, *Later, or any other.
	Open func(ctx context.Context, a Attempt) (Mailbox, error)
}

// Attempt is what a Way is given to connect with.
type Attempt struct {
	User, Password string
	// Token, or for a way that can bring a fresh one to a live connection,
	// Tokens, which is asked for it.
	Token  string
	Tokens func(context.Context) (string, error)
	Device string
	// Prefix is what the ids of this program's messages begin with, before a
	// dot and a number.
	Prefix  string
	Network string
	// Background says that the device sleeps.
	Background bool
	// Better says that another way works meanwhile: this one is to show at once
	// that it does.
	Better bool
	// Place, if known, is behind what the program has: messages follow it.
	Place *uint64
	// Store is for what the way learns of networks, under keys that begin
	// with its own name and a slash.
	Store Store
	Log   *slog.Logger

	looks int // the client's, at that time
}

// What a Mailbox of a Way may have besides.
type (
	// greeter knows whose mailbox it is, and after which place messages
	// follow: less than was asked for if the server has lost them.
	greeter interface {
		Greeting() (address string, after uint64, known bool)
	}
	// mover can be told of a change of network: it ends, or survives it.
	mover interface{ NetworkChanged(name string) }
	// sleeper can be told that the device sleeps.
	sleeper interface{ SetBackground(on bool) }
	// signaler says words of the moment. It does not wait.
	signaler interface {
		Signal(to, kind string, body []byte) bool
	}
	// sender need not wait for one message to be stored to send the next.
	sender interface {
		SendAsync(d Draft, done func(Receipt, error)) error
	}
)

// Closed is the server's word that it does not want this client back.
type Closed struct {
	// Code is the protocol's word: denied, replaced, removed,
	// upgrade-required, insecure, expired; wrong-account is the Client's own.
	Code string
	Text string // for people
}

func (e *Closed) Error() string {
	if e.Text == "" {
		return "closed by the server: " + e.Code
	}
	return "closed by the server: " + e.Code + ": " + e.Text
}

// Later is the server's word when to come back.
type Later struct {
	Code  string        // the protocol's word: draining, idle, busy, …
	After time.Duration // not before that
}

func (e *Later) Error() string { return "closed by the server for now: " + e.Code }

var (
	// ErrSilent says that the server did not answer: the connection is dead,
	// the network perhaps not.
	ErrSilent = errors.New("no answer from the server")
	// ErrDeaf is ErrSilent of a connection that was asked when it began: nothing
	// came behind the welcome.
	ErrDeaf = fmt.Errorf("%w since the connection began", ErrSilent)
	// ErrMoved says that the device has changed networks.
	ErrMoved = errors.New("the network has changed")
	// ErrToken is in the reason when no token came from Tokens, or none that
	// the server took yet.
	ErrToken = errors.New("no valid token")
	// ErrExpired is why a message was not sent: its time was over before
	// there was a connection.
	ErrExpired = &Refused{Code: "expired"}
)

// Phase is how a client is connected.
type Phase string

const (
	Connecting Phase = "connecting"
	Online     Phase = "online"
	Waiting    Phase = "waiting" // offline, until the next attempt
	Ended      Phase = "closed"  // for good
)

// State is how a client is connected, and why.
type State struct {
	Phase Phase
	// Way is the name of the one that is used; empty unless Online.
	Way string
	// Again is when it will be tried again, if Waiting.
	Again time.Time
	// Err is why the last connection or attempt ended.
	Err error
}
