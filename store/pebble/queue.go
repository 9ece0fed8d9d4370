package pebble

import (
	"context"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// op is one thing for the committer to do: a post, or else a trim or a drop.
type op struct {
	post *mailbox.Post
	trim *trim
	size int // bytes of the post's message, in all its boxes
}

// trim removes the entries of box up to floor; with drop, all of them and the
// cursors; or else keys, as far as their values are still old.
type trim struct {
	box   string
	floor mailbox.Seq
	drop  bool
	keys  [][]byte
	old   func(value []byte) bool
	done  chan error // capacity 1
}

// place names a cursor.
type place struct{ box, device string }

// move is what is to become of a cursor: first forgotten, then moved.
type move struct {
	drop, set bool
	seq       mailbox.Seq
	at        time.Time
}

// queue is what callers want done and the committer has not yet taken.
type queue struct {
	mu     sync.Mutex
	some   sync.Cond // on mu: there is something to take, or the end
	room   sync.Cond // on mu: ops is below bound
	bound  int
	ops    []op
	spare  []op // the array that the committer has worked off
	moves  map[place]move
	due    bool // moves have waited for company long enough
	armed  bool // a timer will set due
	closed bool

	// taken are the moves that the committer is working on, and version counts
	// when moves change hands: become taken, and then can be read from the
	// database. Who looks for a cursor looks here first.
	taken   map[place]move
	version uint64
}

// company is how long a cursor's move waits for a group that it can join.
const company = 50 * time.Millisecond

func newQueue(bound int) *queue {
	q := &queue{bound: bound, moves: map[place]move{}}
	q.some.L, q.room.L = &q.mu, &q.mu
	return q
}

// put adds posts, waiting for room. It returns those that it refuses since
// the queue is closed.
func (q *queue) put(posts []*mailbox.Post) (refused []*mailbox.Post) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, p := range posts {
		for len(q.ops) >= q.bound && !q.closed {
			q.some.Signal()
			q.room.Wait()
		}
		if q.closed {
			return posts[i:]
		}
		q.ops = append(q.ops, op{post: p, size: p.Size() * len(p.Boxes)})
	}
	q.some.Signal()
	return nil
}

// putTrim adds tr. It reports false if the queue is closed.
func (q *queue) putTrim(tr *trim) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if tr.drop {
		for p := range q.moves { // these were asked for before
			if p.box == tr.box {
				delete(q.moves, p)
			}
		}
	}
	q.ops = append(q.ops, op{trim: tr})
	q.some.Signal()
	return true
}

// change merges f into what is to become of a cursor.
func (q *queue) change(p place, f func(move) move) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.moves[p] = f(q.moves[p])
	if !q.armed && !q.due {
		q.armed = true
		time.AfterFunc(company, q.ripe)
	}
}

// ripe says that moves need wait no longer, if a group has not taken them yet.
func (q *queue) ripe() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed, q.due = false, len(q.moves) > 0
	q.some.Signal()
}

// take waits for something to do and takes it: as many ops as a group may hold,
// and, if these are all, the moves. It returns false at the end, or when over.
func (q *queue) take(over func() bool) (ops []op, moves map[place]move, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ops) == 0 && !q.due && !q.closed && !over() {
		q.some.Wait()
	}
	if over() || q.closed && len(q.ops) == 0 && len(q.moves) == 0 {
		return nil, nil, false
	}
	if most := q.groupLocked(); most < len(q.ops) {
		ops = append(q.spare[:0], q.ops[:most]...)
		n := copy(q.ops, q.ops[most:])
		clear(q.ops[n:])
		q.ops = q.ops[:n]
	} else {
		ops = q.ops
		q.ops = q.spare[:0]
		q.due = false
		if len(q.moves) > 0 {
			moves = q.moves
			q.taken, q.moves = moves, map[place]move{}
			q.version++
		}
	}
	q.spare = nil
	q.room.Broadcast()
	return ops, moves, true
}

// groupLocked is how many of ops go into one group: up to maxGroup, as far as
// they fit into maxBatch, and at least one.
func (q *queue) groupLocked() (n int) {
	for size := 0; n < min(len(q.ops), maxGroup); n++ {
		if size += q.ops[n].size; size > maxBatch && n > 0 {
			break
		}
	}
	return n
}

// drain takes all ops without waiting, to refuse them.
func (q *queue) drain() []op {
	q.mu.Lock()
	defer q.mu.Unlock()
	ops := q.ops
	q.ops = nil
	q.room.Broadcast()
	return ops
}

// wake makes take ask over.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.some.Broadcast()
}

// back returns the array of ops that were taken.
func (q *queue) back(ops []op) {
	clear(ops)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.spare == nil && cap(ops) <= 4*maxGroup {
		q.spare = ops[:0]
	}
}

// moved says that the moves taken can be read from the database.
func (q *queue) moved() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken = nil
	q.version++
}

// pending returns what is to become of a cursor, in order, and a number that
// changes when it does.
func (q *queue) pending(p place) (taken, waiting move, version uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken[p], q.moves[p], q.version
}

// pendingIn is pending for all cursors of box.
func (q *queue) pendingIn(box string) (ps [2]map[string]move, version uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, m := range []map[place]move{q.taken, q.moves} {
		for p, mv := range m {
			if p.box == box {
				if ps[i] == nil {
					ps[i] = map[string]move{}
				}
				ps[i][p.device] = mv
			}
		}
	}
	return ps, q.version
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
	q.room.Broadcast()
}

// Append implements [mailbox.Store]. A post whose error is ErrUnavailable
// because the disk failed while it was being written may turn out to have been
// stored when the disk is back; the same post again is then a duplicate.
func (s *Store) Append(posts ...*mailbox.Post) {
	for _, p := range s.q.put(posts) {
		s.failed.Add(1)
		p.Err = mailbox.ErrClosed
		p.Finish()
	}
}

// MoveCursor implements [mailbox.Store].
func (s *Store) MoveCursor(box, device string, seq mailbox.Seq) {
	now := s.o.Now()
	s.q.change(place{box, device}, func(m move) move {
		m.set, m.seq, m.at = true, max(m.seq, seq), now
		return m
	})
}

// DropCursor implements [mailbox.Store].
func (s *Store) DropCursor(box, device string) {
	s.q.change(place{box, device}, func(move) move { return move{drop: true} })
}

// DropBox implements [mailbox.Store].
func (s *Store) DropBox(ctx context.Context, box string) error {
	return s.trimBox(ctx, &trim{box: box, drop: true})
}

func (s *Store) trimBox(ctx context.Context, tr *trim) error {
	tr.done = make(chan error, 1)
	if !s.q.putTrim(tr) {
		return mailbox.ErrClosed
	}
	select {
	case err := <-tr.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
