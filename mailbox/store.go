package mailbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that a post, a read or a move can end with. Doors turn them into
// their protocols' words; test with errors.Is.
var (
	// ErrConflict: the sender has used this id before, for another payload.
	ErrConflict = errors.New("mailbox: id was used before with another payload")
	// ErrTooLarge: the message is larger than the configured maximum.
	ErrTooLarge = errors.New("mailbox: message too large")
	// ErrUnavailable: the store cannot write at present, for example because
	// the disk is full. Trying again later may work, with the same id: a post
	// caught in the middle may turn out to have been stored.
	ErrUnavailable = errors.New("mailbox: store cannot write at present")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("mailbox: store is closed")
	// ErrInvalid: the post lacks something or holds what may not be in it.
	ErrInvalid = errors.New("mailbox: invalid post")
)

// TrimmedError says that entries after the reader's place are gone by
// retention. Reading on from First-1 is right; the reader must be told.
type TrimmedError struct {
	Box   string
	After Seq // the place asked for
	First Seq // the oldest entry kept
}

func (e *TrimmedError) Error() string {
	return fmt.Sprintf("mailbox: %s: entries %d to %d have been trimmed", e.Box, e.After+1, e.First-1)
}

// Retention says how long entries are kept, by age and by count, whichever
// bites first. Zero means without limit.
type Retention struct {
	// Age is how long an entry is kept. Zero means for ever.
	Age time.Duration
	// Count is how many entries a box keeps. Zero means all.
	Count int
	// IDs is how long the id of a message is remembered, so that a retry is
	// known as one. Zero means what age says.
	IDs time.Duration
	// Cursors is how long the cursor of a device that never comes is kept.
	// Zero means for ever.
	Cursors time.Duration
}

// Store is a storage engine. store/storetest holds the contract that every
// engine keeps. All methods may be called from any goroutine.
//
// Box, device and key names are non-empty UTF-8 of at most 1024 bytes without
// U+0000.
type Store interface {
	// Append takes posts, makes them durable in order, and finishes each. It
	// does not wait for the disk; it blocks only while more is queued than
	// the engine's configured bound. An engine rings Watch's function for a
	// box after the new entry can be read and before the post is finished.
	// The posts' messages and byte slices belong to the store from now on.
	Append(posts ...*Post)

	// Tail appends to buf up to max entries of box after after, if memory
	// knows that they are the next ones, or that there are none. If it does
	// not, ok is false and Read must be asked. Entries whose time is over are
	// not left out. It never touches the disk.
	Tail(buf []Entry, box string, after Seq, max int) (entries []Entry, ok bool)

	// Read appends to buf up to max entries with Seq > after, in order, and
	// stops early after maxBytes of message size (at least one entry is
	// returned if there is one). The answer is complete up to end: reading on
	// from there misses nothing, and end == after means that there is nothing
	// more. Entries whose time is over may be left out. If entries after
	// after were trimmed the error is a *TrimmedError. It may read the disk.
	Read(ctx context.Context, buf []Entry, box string, after Seq, max, maxBytes int) (entries []Entry, end Seq, err error)

	// Info describes a box. It may read the disk.
	Info(ctx context.Context, box string) (BoxInfo, error)

	// Cursor returns a device's place; ok is false for a device never seen.
	// It may read the disk.
	Cursor(ctx context.Context, box, device string) (c Cursor, ok bool, err error)

	// Cursors returns every device's place in box, by device. It may read the disk.
	Cursors(ctx context.Context, box string) ([]Cursor, error)

	// MoveCursor moves a device's place forward to s; moving back does
	// nothing, beyond the box's last entry stops there. It does not wait: the
	// move is durable a moment later, in order with the caller's posts. A
	// crash may forget the last moves and never invents one; the device is
	// then given those entries again.
	MoveCursor(box, device string, s Seq)

	// DropCursor forgets a device's place, in order with MoveCursor.
	DropCursor(box, device string)

	// DropBox removes a box with its entries and cursors. It blocks until
	// that is durable. Numbers are not used again: a box of the same name
	// begins after the last Seq of the dropped one.
	DropBox(ctx context.Context, box string) error

	// Get returns the value of a record, nil if there is none. It may read
	// the disk.
	Get(ctx context.Context, key string) ([]byte, error)

	// Scan calls yield for every record whose key begins with prefix, in key
	// order, until yield returns false. Value is valid during the call only.
	Scan(ctx context.Context, prefix string, yield func(key string, value []byte) bool) error

	// Watch makes ring be called after appends, with the box that has news
	// and its newest Seq. One Append to a box may be merged with the next; no
	// last one is left out. Ring must not block. Call Watch once, before the
	// first Append.
	Watch(ring func(box string, last Seq))

	// Ready returns nil while the store can write, else why not.
	Ready() error

	// Stats returns counters since the store was opened.
	Stats() StoreStats

	// Close finishes what was queued and closes.
	Close() error
}

// StoreStats counts what a store did since it was opened.
type StoreStats struct {
	Posts      uint64        // posts finished without error
	Duplicates uint64        // of these, were there already
	Failed     uint64        // posts finished with an error
	Bytes      uint64        // message bytes appended, each box counted
	Commits    uint64        // groups made durable
	CommitTime time.Duration // time spent in those commits
	MaxGroup   uint64        // most posts in one group
	TailHits   uint64        // calls of Tail answered from memory
	TailMisses uint64        // calls of Tail that were not
	TailBytes  uint64        // message bytes held in memory now
	Trimmed    uint64        // entries removed by retention
}
