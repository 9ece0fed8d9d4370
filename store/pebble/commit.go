package pebble

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/mailbox"
)

const (
	maxGroup = 8192     // posts in one group
	maxBatch = 16 << 20 // bytes of their messages, unless it is one post alone
)

// group is what is made durable by one sync.
type group struct {
	batch   *pebble.Batch
	durable bool // somebody waits for the disk
	posts   []*mailbox.Post
	effects []effect
	pinned  []*box
	trims   []*trim
	moved   bool // has the moves taken from the queue
	given   bool // posts were given back with an error already; the finisher's
	result  chan error
	began   time.Time
}

// effect is what readers see of a group: m at seq, or, without m, all up to
// seq gone.
type effect struct {
	box *box
	m   *mailbox.Message
	seq mailbox.Seq
}

// idKey is what makes a post known again.
type idKey struct{ from, id string }

func (l *life) over() bool {
	select {
	case <-l.guard.dead:
		return true
	default:
		return false
	}
}

// commit takes what is queued, builds groups of it and applies them in order.
func (l *life) commit() {
	defer close(l.syncs)
	defer close(l.flight)
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.guard.dead:
			return
		}
		g := l.next()
		if g == nil {
			return
		}
		// The finisher knows of g before Pebble does, since Pebble may keep us
		// here for as long as the disk is full.
		if err := l.apply(g); err != nil {
			l.guard.fail(err)
			<-l.guard.dead
			return
		}
		if g.moved {
			l.s.q.moved()
		}
		l.syncs <- g
	}
}

// next waits for something to do, makes a group of it and puts that into
// flight. It returns nil at the end.
func (l *life) next() *group {
	l.building.Lock()
	defer l.building.Unlock()
	ops, moves, ok := l.s.q.take(l.over)
	if !ok {
		return nil
	}
	g := l.newGroup()
	l.build(g, ops)
	if moves != nil {
		l.buildMoves(g, moves)
	}
	l.s.q.back(ops)
	l.flight <- g // has room for as many as there are slots
	return g
}

// giveUp ends the writing of l, whatever the disk does, and returns the groups
// in flight. After that there are no others.
func (l *life) giveUp() (groups []*group) {
	l.guard.kill()
	l.s.q.wake()
	l.building.Lock() // the committer may be in the middle of one
	defer l.building.Unlock()
	for {
		select {
		case g, ok := <-l.flight:
			if !ok {
				return groups
			}
			groups = append(groups, g)
		default:
			return groups
		}
	}
}

func (l *life) newGroup() *group {
	l.groups++
	clear(l.known)
	return &group{
		batch:  l.db.NewBatch(pebble.WithInitialSizeBytes(64<<10), pebble.WithMaxRetainedSizeBytes(8<<20)),
		result: make(chan error, 1),
		began:  time.Now(),
	}
}

func (l *life) apply(g *group) error {
	if g.batch.Empty() {
		return nil
	}
	if g.durable {
		return l.db.ApplyNoSyncWait(g.batch, pebble.Sync)
	}
	return l.db.Apply(g.batch, pebble.NoSync)
}

// sync waits for the disk.
func (l *life) sync() {
	for g := range l.syncs {
		if g.durable && !g.batch.Empty() {
			g.result <- g.batch.SyncWait()
		} else {
			g.result <- nil
		}
	}
}

// build adds ops to g.
func (l *life) build(g *group, ops []op) {
	able := l.s.able(l)
	g.posts = make([]*mailbox.Post, 0, len(ops))
	g.effects = make([]effect, 0, 2*len(ops))
	for _, o := range ops {
		if o.trim != nil {
			if err := l.addTrim(g, o.trim); err != nil {
				o.trim.done <- err
			}
			continue
		}
		p := o.post
		p.Err = able
		if able == nil {
			p.Err = l.addPost(g, p)
		}
		g.posts = append(g.posts, p)
	}
}

// addPost adds one post. Nothing is added if it returns an error.
func (l *life) addPost(g *group, p *mailbox.Post) error {
	// Boxes first: after that nothing can fail.
	if len(p.Boxes) > 0 {
		if err := l.addMessage(g, p); err != nil {
			return err
		}
	}
	for _, r := range p.Records {
		g.durable = true
		l.key = appendRecordKey(l.key[:0], r.Key)
		if r.Value == nil {
			g.batch.Delete(l.key, nil)
		} else {
			g.batch.Set(l.key, r.Value, nil)
		}
	}
	return nil
}

func (l *life) addMessage(g *group, p *mailbox.Post) error {
	p.Duplicate = false
	id := idKey{p.From, p.ID}
	digest := p.Digest()
	if p.ID != "" {
		if !p.Fresh {
			if dup, err := l.duplicate(p, id, digest); dup || err != nil {
				return err
			}
		}
		l.known[id] = p
	}
	boxes := make([]*box, 0, 4)
	for _, name := range p.Boxes {
		b, err := l.pin(g, name)
		if err != nil {
			delete(l.known, id)
			return err
		}
		boxes = append(boxes, b)
	}
	if cap(p.Seqs) < len(boxes) {
		p.Seqs = make([]mailbox.Seq, 0, len(boxes))
	}
	p.Seqs = p.Seqs[:0]
	n := messageLen(&p.Message)
	var encoded []byte
	for _, b := range boxes {
		b.next++
		p.Seqs = append(p.Seqs, b.next)
		d := g.batch.SetDeferred(entryKeyLen(b.name), n)
		appendEntryKey(d.Key[:0], b.name, b.next)
		if encoded == nil {
			appendMessage(d.Value[:0], &p.Message)
			encoded = d.Value // stays readable also when the batch grows
		} else {
			copy(d.Value, encoded)
		}
		d.Finish()
		g.effects = append(g.effects, effect{b, &p.Message, b.next})
	}
	if p.ID != "" {
		d := g.batch.SetDeferred(1+len(p.From)+1+len(p.ID), idRecordLen(p.Seqs))
		appendIDKey(d.Key[:0], p.From, p.ID)
		appendIDRecord(d.Value[:0], digest, p.Time, p.Seqs)
		l.fresh.add(hashID(d.Key))
		d.Finish()
	}
	g.durable = true
	return nil
}

// duplicate looks for an earlier post of the same sender and id: in this
// group, or in the database, which has those that are not yet durable too. As
// groups are finished in order, p will not be done before that one.
func (l *life) duplicate(p *mailbox.Post, id idKey, digest uint64) (bool, error) {
	if first := l.known[id]; first != nil {
		if first.Digest() != digest {
			return false, conflict(p)
		}
		p.Seqs, p.Time, p.Duplicate = append(p.Seqs[:0], first.Seqs...), first.Time, true
		return true, nil
	}
	l.key = appendIDKey(l.key[:0], id.from, id.id)
	h := hashID(l.key)
	if old := l.old.Load(); old != nil && !old.may(h) && !l.fresh.may(h) {
		return false, nil
	}
	v, closer, err := l.db.Get(l.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	defer closer.Close()
	r, err := parseIDRecord(v)
	if err != nil {
		return false, unavailable(err)
	}
	if r.digest != digest {
		return false, conflict(p)
	}
	p.Seqs, p.Time, p.Duplicate = r.seqs, r.time, true
	return true, nil
}

func conflict(p *mailbox.Post) error {
	return fmt.Errorf("pebble: %w: %q from %s", mailbox.ErrConflict, p.ID, p.From)
}

// pin holds a box in memory until g is finished.
func (l *life) pin(g *group, name string) (*box, error) {
	for {
		b, first := l.table.pin(name, l.groups)
		if first {
			g.pinned = append(g.pinned, b)
		}
		if b != nil {
			return b, nil
		}
		if _, err := l.load(name); err != nil {
			return nil, unavailable(err)
		}
	}
}

// buildMoves adds what is to become of cursors.
func (l *life) buildMoves(g *group, moves map[place]move) {
	g.moved = true
	for p, m := range moves {
		key := appendCursorKey(l.key[:0], p.box, p.device)
		l.key = key
		if m.drop {
			g.batch.Delete(key, nil)
		}
		if !m.set {
			continue
		}
		b, err := l.pin(g, p.box)
		if err != nil {
			continue // a move may be forgotten
		}
		seq := min(m.seq, b.next)
		if !m.drop {
			old, ok, err := l.cursor(key)
			if err != nil {
				continue
			}
			if ok {
				seq = max(seq, old.Seq)
			}
		}
		g.batch.Set(key, appendCursor(nil, seq, m.at), nil)
	}
}

// refuse finishes ops with err.
func (s *Store) refuse(ops []op, err error) {
	for _, o := range ops {
		if o.trim != nil {
			o.trim.done <- err
			continue
		}
		s.failed.Add(1)
		o.post.Err = err
		o.post.Finish()
	}
}
