// Package router knows which devices are connected now, and rings them.
//
// It carries no messages. A session is rung and then reads its box from its
// own cursor, at the pace its connection can take, so a slow phone costs the
// server a cursor and not a queue.
//
//	door ── Submit ──▶ Mail.Post ──▶ store ── Watch ──▶ router ── Wake ──▶ door
//	                                                                        │
//	door ◀──────────────────────── Session.Next ◀───────────────────────────┘
//
// One device has one session. When it attaches again, by whatever door, the
// older session is ended with [Replaced].
package router

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Door is one of the ways in and out.
type Door uint8

const (
	Poll Door = iota
	XMPP
	MQTT
	Link
	doors
)

var doorNames = [doors]string{"poll", "xmpp", "mqtt", "link"}

// Doors lists all of them.
func Doors() []Door { return []Door{Poll, XMPP, MQTT, Link} }

func (d Door) String() string { return doorNames[d] }

// Private reports whether a property of that name belongs to a door alone:
// "names beginning with a door's name and a colon" (mailbox.Message). No client
// may set one, and none of another door sees it.
func Private(name string) bool {
	before, _, ok := strings.Cut(name, ":")
	return ok && slices.Contains(doorNames[:], before)
}

// Reason says why the server ends a session. Each door has its own words for
// it: an XMPP stream error, an MQTT reason code, a link CLOSE.
type Reason string

const (
	Replaced Reason = "replaced" // the same device attached again
	Draining Reason = "draining" // the server is going down; come back
	Expired  Reason = "expired"  // the token has ended
	Removed  Reason = "removed"  // the account was removed, or its password changed
)

// Errors of Submit and Signal. An address that is none is address.ErrInvalid.
var (
	// ErrNoRecipient: there is no such user here.
	ErrNoRecipient = errors.New("router: no such recipient")
	// ErrNoSender: the account was removed while it was connected.
	ErrNoSender = errors.New("router: the sender's account is gone")
	// ErrRemote: the address is at another server, and this one does not federate.
	ErrRemote = errors.New("router: recipient is at another server")
)

// Client is the connection behind a session. Its methods must not block and
// may be called from any goroutine.
type Client interface {
	// Wake says that Next may have something.
	mailbox.Waker
	// End asks the connection to say goodbye and to Close the session.
	End(Reason)
}

// Accounts is what the router needs to know of accounts.
type Accounts interface {
	// Exists reports whether user, a canonical bare address, is one of ours.
	// It must not block.
	Exists(user string) bool
}

// Router connects sessions to boxes.
type Router struct {
	mail     *mailbox.Mail
	accounts Accounts
	domain   string

	seed   maphash.Seed
	shards [256]shard
	behind backlog // sessions whose Next must be read from the disk
	forgot func(user, device string)

	live    [doors]atomic.Int64
	posted  [doors]atomic.Uint64
	handed  [doors]atomic.Uint64
	signals [doors]atomic.Uint64
}

// shard is a part of the table of live sessions.
type shard struct {
	mu sync.RWMutex
	// live has the sessions that follow a box, linked by Session.peer.
	live map[string]*Session
	// devices is how many a user has at most: those of the last count, and those
	// that came since.
	devices map[string]int
}

// readers is how many goroutines read the disk for sessions that catch up.
const readers = 4

// New returns a router for the users of domain and starts to watch the store.
// Its goroutines end with ctx.
func New(ctx context.Context, mail *mailbox.Mail, accounts Accounts, domain string) *Router {
	r := &Router{mail: mail, accounts: accounts, domain: domain, seed: maphash.MakeSeed()}
	r.behind.some.L = &r.behind.mu
	for i := range r.shards {
		r.shards[i].live, r.shards[i].devices = map[string]*Session{}, map[string]int{}
	}
	mail.Watch(r.ring)
	for range readers {
		go r.reader(ctx) // ends when the backlog does
	}
	context.AfterFunc(ctx, r.behind.end)
	return r
}

// Domain is the domain of our users.
func (r *Router) Domain() string { return r.domain }

func (r *Router) shard(box string) *shard {
	return &r.shards[maphash.String(r.seed, box)%uint64(len(r.shards))]
}

// ring wakes the sessions that follow box.
func (r *Router) ring(box string, last mailbox.Seq) {
	sh := r.shard(box)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for s := sh.live[box]; s != nil; s = s.peer {
		s.rung.Store(true)
		s.client.Wake() // does not block, takes no lock of ours
	}
}

// Submit sends p.Message from who to the user named by to. It fills in From,
// To and Boxes, and Device if that is empty, and hands p to
// [mailbox.Mail.Post]. The recipient's box comes first, so Seqs[0] is the place
// that a sender is told.
//
// An error means that nothing was posted and p is still the caller's.
func (r *Router) Submit(door Door, who auth.Who, to string, p *mailbox.Post) error {
	a, err := r.recipient(to)
	if err != nil {
		return err
	}
	bare := a.Bare()
	if !r.accounts.Exists(who.User) {
		return fmt.Errorf("%w: %s", ErrNoSender, who.User)
	}
	p.From, p.To = who.User, a.String()
	if p.Device == "" {
		p.Device = who.Device
	}
	p.Boxes = append(p.Boxes[:0], bare)
	if bare != who.User {
		p.Boxes = append(p.Boxes, who.User)
	}
	r.posted[door].Add(1)
	r.mail.Post(p)
	return nil
}

// recipient reads the address of one of our users.
func (r *Router) recipient(to string) (address.Address, error) {
	a, err := address.Parse(to, r.domain)
	switch {
	case err != nil:
		return a, err
	case a.Domain != r.domain:
		return a, fmt.Errorf("%w: %s", ErrRemote, a.Domain)
	case !r.accounts.Exists(a.Bare()):
		return a, fmt.Errorf("%w: %s", ErrNoRecipient, a.Bare())
	}
	return a, nil
}

// Presence is one live session of a user.
type Presence struct {
	Device string
	Door   Door
	Since  time.Time
}

// Presence lists the live sessions of user, a canonical bare address.
func (r *Router) Presence(user string) []Presence {
	sh := r.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var ps []Presence
	for s := sh.live[user]; s != nil; s = s.peer {
		if s.forgotten.Load() {
			continue // it is about to end
		}
		ps = append(ps, Presence{s.who.Device, s.door, time.UnixMilli(s.since).UTC()})
	}
	return ps
}

// Clients yields the live sessions of user, a canonical bare address, or
// everybody's if it is empty. Yield must not block nor call the router.
func (r *Router) Clients(user string, yield func(auth.Who, Door, Client)) {
	part := func(sh *shard, user string) {
		for s := sh.live[user]; s != nil; s = s.peer {
			yield(s.who, s.door, s.client)
		}
	}
	if user != "" {
		sh := r.shard(user)
		sh.mu.RLock()
		defer sh.mu.RUnlock()
		part(sh, user)
		return
	}
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.RLock()
		for user := range sh.live {
			part(sh, user)
		}
		sh.mu.RUnlock()
	}
}

// EndUser ends every session of user.
func (r *Router) EndUser(user string, why Reason) {
	sh := r.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for s := sh.live[user]; s != nil; s = s.peer {
		s.client.End(why)
	}
}

// Stats counts what went through one door.
type Stats struct {
	Sessions int64  // live now
	Posted   uint64 // messages handed to the mailbox
	Handed   uint64 // entries handed to sessions
	Signals  uint64 // words of the moment that came by it
}

// Stats returns the counters of door.
func (r *Router) Stats(door Door) Stats {
	return Stats{r.live[door].Load(), r.posted[door].Load(), r.handed[door].Load(), r.signals[door].Load()}
}
