// Package mem is a storage engine in memory. It keeps the whole contract of
// [mailbox.Store] except that nothing outlives the process: the tests of every
// other package run on it, and storetest compares the other engines with it.
//
// It has no goroutine: a post is done when Append returns, on the caller's
// goroutine, unless a test holds it back with [Store.Hold] to see that nobody
// acknowledges too early.
package mem

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Options configures a Store. The zero value keeps everything for ever.
type Options struct {
	// Retention says what is trimmed: at every append to a box, and everywhere
	// by [Store.Trim].
	Retention mailbox.Retention
	// Tail is how many of a box's newest entries Tail answers from; for older
	// ones it sends the caller to Read, as an engine on a disk would. Zero
	// means all of them.
	Tail int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Store is the engine. Its zero value is not usable; see [New].
type Store struct {
	o    Options
	ring func(box string, last mailbox.Seq)

	mu      sync.RWMutex
	boxes   map[string]*box
	ids     map[id]*first
	records map[string][]byte
	stats   mailbox.StoreStats
	hits    mailbox.StoreStats // only TailHits and TailMisses; guarded by tailMu
	broken  error
	closed  bool
	held    int      // how many Holds are not released
	waiting []func() // what to do then, each with mu held, in order
	done    []*mailbox.Post
	news    []string // boxes to ring

	delivering bool

	tailMu sync.Mutex // a leaf, taken with mu held for reading: Tail's counters
}

// box is one log and its readers.
type box struct {
	first   mailbox.Seq // seq of log[0], or of the next entry if log is empty
	log     []*mailbox.Message
	cursors map[string]mailbox.Cursor
}

func (b *box) last() mailbox.Seq { return b.first + mailbox.Seq(len(b.log)) - 1 }

// id is what makes a post known again.
type id struct{ from, id string }

// first is what became of a post the first time.
type first struct {
	digest uint64
	time   time.Time
	seqs   []mailbox.Seq
}

var _ mailbox.Store = (*Store)(nil)

// New returns an empty store.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{
		o:       o,
		ring:    func(string, mailbox.Seq) {},
		boxes:   map[string]*box{},
		ids:     map[id]*first{},
		records: map[string][]byte{},
	}
}

// Watch implements [mailbox.Store].
func (s *Store) Watch(ring func(box string, last mailbox.Seq)) { s.ring = ring }

// do carries out f, with mu held, or puts it behind what is held back; then it
// rings and finishes.
func (s *Store) do(f func()) {
	s.mu.Lock()
	if s.held > 0 {
		s.waiting = append(s.waiting, f)
	} else {
		f()
	}
	s.deliverLocked()
	s.mu.Unlock()
}

// deliverLocked rings and finishes, without mu while it does so, since a ring
// may call back. If it is under way already, on another goroutine or further
// down on this one, it is left to that: so everything happens in order.
func (s *Store) deliverLocked() {
	if s.delivering {
		return
	}
	s.delivering = true
	for len(s.done)+len(s.news) > 0 {
		done, news := s.done, s.news
		s.done, s.news = nil, nil
		lasts := make([]mailbox.Seq, len(news))
		for i, name := range news {
			lasts[i] = s.boxes[name].last()
		}
		s.mu.Unlock()
		for i, name := range news {
			s.ring(name, lasts[i])
		}
		for _, p := range done {
			p.Finish()
		}
		s.mu.Lock()
	}
	s.delivering = false
}

// Append implements [mailbox.Store].
func (s *Store) Append(posts ...*mailbox.Post) {
	s.do(func() {
		for _, p := range posts {
			p.Err = s.appendLocked(p)
			switch {
			case p.Err != nil:
				s.stats.Failed++
			case p.Duplicate:
				s.stats.Duplicates++
				fallthrough
			default:
				s.stats.Posts++
			}
			s.done = append(s.done, p)
		}
		s.stats.Commits++
		s.stats.MaxGroup = max(s.stats.MaxGroup, uint64(len(posts)))
	})
}

func (s *Store) appendLocked(p *mailbox.Post) error {
	if s.closed {
		return mailbox.ErrClosed
	}
	if s.broken != nil {
		return s.broken
	}
	if len(p.Boxes) > 0 {
		if err := s.storeLocked(p); err != nil {
			return err
		}
	}
	for _, r := range p.Records {
		if r.Value == nil {
			delete(s.records, r.Key)
		} else {
			s.records[r.Key] = slices.Clone(r.Value)
		}
	}
	return nil
}

func (s *Store) storeLocked(p *mailbox.Post) error {
	key, digest := id{p.From, p.ID}, p.Digest()
	if f := s.ids[key]; f != nil && !p.Fresh {
		if f.digest != digest {
			return fmt.Errorf("mem: %w: %q from %s", mailbox.ErrConflict, p.ID, p.From)
		}
		p.Duplicate, p.Time = true, f.time
		p.Seqs = append(p.Seqs[:0], f.seqs...)
		return nil
	}
	p.Seqs = p.Seqs[:0]
	for _, name := range p.Boxes {
		b := s.boxLocked(name)
		b.log = append(b.log, &p.Message)
		p.Seqs = append(p.Seqs, b.last())
		s.stats.Bytes += uint64(p.Size())
		s.trimLocked(b)
		if !slices.Contains(s.news, name) {
			s.news = append(s.news, name)
		}
	}
	if p.ID != "" {
		s.ids[key] = &first{digest, p.Time, slices.Clone(p.Seqs)}
	}
	return nil
}

// boxLocked returns the named box, making it if need be.
func (s *Store) boxLocked(name string) *box {
	b := s.boxes[name]
	if b == nil {
		b = &box{first: 1, cursors: map[string]mailbox.Cursor{}}
		s.boxes[name] = b
	}
	return b
}

// DropBox implements [mailbox.Store].
func (s *Store) DropBox(ctx context.Context, name string) error {
	done := make(chan error, 1)
	s.do(func() {
		err := s.broken
		if s.closed {
			err = mailbox.ErrClosed
		}
		if b := s.boxes[name]; b != nil && err == nil {
			b.first, b.log = b.last()+1, nil // the number stays, as a tombstone
			clear(b.cursors)
		}
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Get implements [mailbox.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, mailbox.ErrClosed
	}
	return slices.Clone(s.records[key]), nil
}

// Scan implements [mailbox.Store].
func (s *Store) Scan(ctx context.Context, prefix string, yield func(key string, value []byte) bool) error {
	s.mu.RLock()
	closed, records := s.closed, maps.Clone(s.records)
	s.mu.RUnlock() // yield may call us
	if closed {
		return mailbox.ErrClosed
	}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if strings.HasPrefix(key, prefix) && !yield(key, records[key]) {
			break
		}
	}
	return nil
}

// Hold keeps back every later post, move and drop, as a slow disk does, until
// release is called.
func (s *Store) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held--; s.held == 0 {
			s.flushLocked()
			s.deliverLocked()
		}
	})
}

func (s *Store) flushLocked() {
	for _, f := range s.waiting {
		f()
	}
	s.waiting = nil
}

// Fail makes every later post end with [mailbox.ErrUnavailable] because of
// why, as a full disk does. Nil ends it.
func (s *Store) Fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = nil
	if why != nil {
		s.broken = fmt.Errorf("mem: %w: %w", mailbox.ErrUnavailable, why)
	}
}

// Ready implements [mailbox.Store].
func (s *Store) Ready() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return mailbox.ErrClosed
	}
	return s.broken
}

// Stats implements [mailbox.Store].
func (s *Store) Stats() mailbox.StoreStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.tailMu.Lock()
	defer s.tailMu.Unlock()
	st := s.stats
	st.TailHits, st.TailMisses = s.hits.TailHits, s.hits.TailMisses
	return st
}

// Close implements [mailbox.Store]. What is held back is carried out first.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = 0
	s.flushLocked()
	s.closed = true
	s.deliverLocked()
	return nil
}
