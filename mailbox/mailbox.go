// Package mailbox is the core: durable, ordered logs of messages, called
// boxes, and for every device a cursor that says how far it has read.
//
// Everything else is built on two facts. A message exists once its [Post] is
// done, and not before. A device has a message once its cursor has passed it,
// and not before. Live delivery, catching up after a tunnel, a second device,
// a poll once an hour and a broadcast to everybody are therefore one
// operation: read from your cursor.
//
//	box alice@example.org
//
//	seq      1     2     3     4     5     6
//	       [ m ] [ m ] [ m ] [ m ] [ m ] [ m ]
//	                ^                 ^     ^
//	             cursor            cursor  last
//	             phone             laptop
//
// A message that goes to several boxes is one [Post] and one promise: it is in
// all of them or in none, also after a crash. Posting again with the same
// sender and id returns the first result; with another payload it is a
// conflict.
//
// [Mail] is the service that the rest of the server talks to; it checks a post
// and hands it to a [Store], which makes it durable. Mail never waits for the
// disk on the caller's goroutine unless the method's comment says that it
// blocks, so that an event loop may use it.
//
// This package imports nothing of ours. Who may write to which box, and which
// devices are connected, is for others to say.
package mailbox

import (
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Seq is a place in a box. The first message has 1, each later one a greater
// number. Zero stands before the first message.
type Seq uint64

// Message is what somebody sent, whatever boxes it was put in. Once posted it
// is shared by every reader and must not be changed.
type Message struct {
	// ID was chosen by the sender and is unique among his messages.
	ID string
	// From is the sender's bare address, alice@example.org.
	From string
	// Device is the sender's device, "phone". Empty if it had none.
	Device string
	// To is the address that the sender gave, in canonical form.
	To string
	// Time is when the server took the message, in UTC to the millisecond.
	Time time.Time
	// Expires is when the message loses its worth, in UTC to the millisecond;
	// after that no reader gets it. Zero means never.
	Expires time.Time
	// Type is the media type of Body. Empty means text/plain; charset=utf-8.
	Type string
	// Urgency is the sender's word on whether a sleeping device should be woken.
	Urgency Urgency
	// Attrs are further properties in the sender's order. Names beginning with
	// a door's name and a colon ("xmpp:") belong to that door alone.
	Attrs []Attr
	// Body is opaque to the server.
	Body []byte
}

// TypeText is the media type of a message that names none.
const TypeText = "text/plain; charset=utf-8"

// Attr is one property of a message: text that the server passes on without
// knowing what it means. A message may have several of one name.
type Attr struct{ Name, Value string }

// Properties that mean the same at every door: where an answer is wanted, and
// what it should carry so that the asker knows what it answers. They are those
// of a request in MQTT 5.0, section 4.10.
const (
	// AttrResponse is a topic in MQTT's way: im/to/alice is alice's mailbox.
	AttrResponse = "response-topic"
	// AttrCorrelation is the asker's own; AttrCorrelation64 the same in base64
	// if it is not text.
	AttrCorrelation   = "correlation-data"
	AttrCorrelation64 = "correlation-data64"
)

// Attr returns the value of the first property called name.
func (m *Message) Attr(name string) (value string, ok bool) {
	i := slices.IndexFunc(m.Attrs, func(a Attr) bool { return a.Name == name })
	if i < 0 {
		return "", false
	}
	return m.Attrs[i].Value, true
}

// Expired reports whether m has lost its worth at now.
func (m *Message) Expired(now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}

// Digest is a hash of what makes m this message and not another: To, Type,
// Body, and Attrs but for those that belong to one door. Two posts by one
// sender with one ID and another digest are in conflict. It is stored by
// engines and never changes. It is not proof against a sender who seeks a
// collision; he would deceive only himself.
func (m *Message) Digest() uint64 {
	typ := m.Type
	if typ == "" {
		typ = TypeText
	}
	const prime = 0x9e3779b97f4a7c15
	h := xxhash.Sum64(m.Body)
	h = h*prime ^ xxhash.Sum64String(m.To)
	h = h*prime ^ xxhash.Sum64String(typ)
	for _, a := range m.Attrs {
		if strings.IndexByte(a.Name, ':') < 0 {
			h = h*prime ^ xxhash.Sum64String(a.Name)
			h = h*prime ^ xxhash.Sum64String(a.Value)
		}
	}
	return h
}

// Size is how many bytes m counts for in limits and caches.
func (m *Message) Size() int {
	n := len(m.ID) + len(m.From) + len(m.Device) + len(m.To) + len(m.Type) + len(m.Body)
	for _, a := range m.Attrs {
		n += len(a.Name) + len(a.Value)
	}
	return n
}

// Urgency is one of RFC 8030's words (section 5.3), in ascending order. The
// zero value is normal.
type Urgency int8

const (
	UrgencyVeryLow Urgency = iota - 2
	UrgencyLow
	UrgencyNormal
	UrgencyHigh
)

var urgencyWords = [...]string{"very-low", "low", "normal", "high"}

// String returns RFC 8030's word.
func (u Urgency) String() string {
	if u < UrgencyVeryLow || u > UrgencyHigh {
		return "normal"
	}
	return urgencyWords[u-UrgencyVeryLow]
}

// ParseUrgency reads one of RFC 8030's words; the empty string is normal.
func ParseUrgency(s string) (u Urgency, ok bool) {
	if s == "" {
		return UrgencyNormal, true
	}
	i := slices.Index(urgencyWords[:], s)
	return Urgency(i) + UrgencyVeryLow, i >= 0
}

// Entry is a message at its place in one box.
type Entry struct {
	Seq Seq
	// Prev is the Seq of the entry that stands before this one in the box,
	// zero if none ever did. A reader who has not had Prev, nor anything
	// later, has missed something.
	Prev Seq
	*Message
}

// Cursor is a device's place in a box.
type Cursor struct {
	Device string
	Seq    Seq
	// Moved is when the device last acknowledged or attached.
	Moved time.Time
}

// BoxInfo describes a box. A box nobody wrote to is all zero.
type BoxInfo struct {
	// First and Last are the oldest and newest Seq kept. First > Last when
	// everything was trimmed; both are zero in a box that was never written.
	First, Last Seq
}
