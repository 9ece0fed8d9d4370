package mailbox

import (
	"context"
	"sync/atomic"
)

// Waker is told that something it waits for has happened. Wake must not block
// and may be called from any goroutine, also more often than needed.
type Waker interface{ Wake() }

// WakeFunc adapts a function to [Waker].
type WakeFunc func()

// Wake calls f.
func (f WakeFunc) Wake() { f() }

// Record is a write to the small durable table that a [Store] keeps beside
// the boxes. A nil Value deletes the key.
type Record struct {
	Key   string
	Value []byte
}

// Post is one promise: a message into every box of Boxes, together with every
// record of Records, all of it or nothing.
//
// The caller fills in the first group of fields, gives the post to
// [Mail.Post] and leaves it alone until [Post.Done] says true; after that the
// second group is his to read. Posts given by one goroutine are made durable
// in the order given, and are done in that order.
type Post struct {
	Message
	// Boxes are the boxes to append to, at least one unless there are only
	// Records to write. The first is the one whose Seq the sender is told.
	Boxes []string
	// Records are written in the same batch as the message. They are written
	// again when the message turns out to be a duplicate.
	Records []Record
	// Fresh says that no earlier post can have had this ID, since the caller
	// has just made it up: the search for a duplicate is left out.
	Fresh bool
	// Notify, if not nil, is woken when the post is done.
	Notify Waker

	// Seqs has the place of the message in each of Boxes, in their order.
	Seqs []Seq
	// Duplicate says that the message was there already: Seqs, and Time, are
	// those of the first time, also if Boxes were others then.
	Duplicate bool
	// Err is why nothing was stored.
	Err error

	done atomic.Bool
}

// Done reports whether the post has been carried out or refused.
func (p *Post) Done() bool { return p.done.Load() }

// Finish marks p as done and wakes whoever waits. Only a [Store] or [Mail]
// calls it, once.
func (p *Post) Finish() {
	w := p.Notify  // p belongs to its owner again as soon as done is set
	p.Notify = nil // a store may keep p, and with it the message, for long
	p.done.Store(true)
	if w != nil {
		w.Wake()
	}
}

// wait blocks until p, whose Notify is bell, is done.
func (p *Post) wait(ctx context.Context, bell bellChan) error {
	for !p.Done() {
		select {
		case <-bell:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.Err
}

// bellChan is a Waker for one goroutine that waits.
type bellChan chan struct{}

func (b bellChan) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}
