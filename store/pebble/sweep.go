package pebble

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/mailbox"
)

const (
	stepKeys  = 500                  // keys looked at, or deleted, in one step of a sweep
	stepPause = 2 * time.Millisecond // between two steps

	// fewEntries is up to how many entries are deleted one by one. A range is
	// less to write and dearer to read past.
	fewEntries = 64
)

// sweep applies the retention from time to time, in small steps.
func (s *Store) sweep(ctx context.Context) {
	t := time.NewTicker(s.o.Sweep)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := s.trim(ctx, stepPause); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("sweep of the store ended early", "err", err)
		}
	}
}

// Trim applies the retention to every box, cursor and id, now.
func (s *Store) Trim(ctx context.Context) error { return s.trim(ctx, 0) }

func (s *Store) trim(ctx context.Context, pause time.Duration) error {
	s.trimming.Lock()
	defer s.trimming.Unlock()
	r, now := s.o.Retention, s.o.Now()
	over := func(t time.Time, age time.Duration) bool { return now.Sub(t) > age }
	if r.Age > 0 || r.Count > 0 {
		if err := s.trimBoxes(ctx, pause, func(t time.Time) bool { return r.Age > 0 && over(t, r.Age) }); err != nil {
			return err
		}
	}
	if age := cmp.Or(r.IDs, r.Age); age > 0 {
		err := s.trimKeys(ctx, pause, kindID, func(v []byte) bool {
			rec, err := parseIDRecord(v)
			return err == nil && over(rec.time, age)
		})
		if err != nil {
			return err
		}
	}
	if r.Cursors > 0 {
		return s.trimKeys(ctx, pause, kindCursor, func(v []byte) bool {
			c, err := parseCursor(v)
			return err == nil && over(c.Moved, r.Cursors)
		})
	}
	return nil
}

// trimBoxes trims every box by count, and by age as old says.
func (s *Store) trimBoxes(ctx context.Context, pause time.Duration, old func(time.Time) bool) error {
	from := []byte{kindEntry}
	for steps := 0; ; steps++ {
		if steps%64 == 63 {
			if err := wait(ctx, pause); err != nil {
				return err
			}
		}
		box, floor, err := s.nextBox(ctx, from, old)
		if err != nil || box == "" {
			return err
		}
		from = after(appendPrefix(nil, kindEntry, box))
		if floor == 0 {
			continue
		}
		if err := s.trimBox(ctx, &trim{box: box, floor: floor}); err != nil {
			return err
		}
	}
}

// nextBox finds the first box whose entries begin at or after from, and up to
// where it has to go.
func (s *Store) nextBox(ctx context.Context, from []byte, old func(time.Time) bool) (box string, floor mailbox.Seq, err error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return "", 0, err
	}
	defer done()
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{kindEntry + 1}})
	if err != nil {
		return "", 0, err
	}
	defer it.Close()
	if !it.First() {
		return "", 0, it.Error()
	}
	name, first, ok := splitEntryKey(it.Key())
	if !ok {
		return "", 0, errCorrupt
	}
	box = string(name)
	info, _, known := l.table.find(box)
	if !known { // a box at rest is not worth a place in memory
		if info, err = l.look(box); err != nil {
			return "", 0, err
		}
	}
	if n := mailbox.Seq(s.o.Retention.Count); n > 0 && info.Last > n && first <= info.Last-n {
		floor = info.Last - n
	}
	for ok := it.SeekGE(appendEntryKey(nil, box, max(first, floor+1))); ok; ok = it.Next() {
		name, seq, good := splitEntryKey(it.Key())
		if !good || string(name) != box || seq > info.Last {
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return "", 0, err
		}
		if t, err := messageTime(v); err != nil || !old(t) {
			break
		}
		floor = seq
	}
	return box, floor, it.Error()
}

// trimKeys deletes the keys of one kind whose values are old.
func (s *Store) trimKeys(ctx context.Context, pause time.Duration, kind byte, old func(value []byte) bool) error {
	from := []byte{kind}
	for from != nil {
		var keys [][]byte
		var err error
		if keys, from, err = s.oldKeys(ctx, from, kind, old); err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := s.trimBox(ctx, &trim{keys: keys, old: old}); err != nil {
				return err
			}
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// oldKeys looks at some keys from from on, and says where to go on.
func (s *Store) oldKeys(ctx context.Context, from []byte, kind byte, old func([]byte) bool) (keys [][]byte, next []byte, err error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{kind + 1}})
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n > stepKeys {
			return keys, bytes.Clone(it.Key()), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, err
		}
		if old(v) {
			keys = append(keys, bytes.Clone(it.Key()))
		}
	}
	return keys, nil, it.Error()
}

// wait pauses, and reports whether ctx has ended.
func wait(ctx context.Context, d time.Duration) error {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// addKeys adds the removal of keys that are still old.
func (l *life) addKeys(g *group, tr *trim) {
	g.trims = append(g.trims, tr)
	for _, k := range tr.keys {
		v, closer, err := l.db.Get(k)
		if err != nil {
			continue // it is gone, or will be looked at again
		}
		if tr.old(v) {
			g.batch.Delete(k, nil)
		}
		closer.Close()
	}
}

// begins is where b begins when g is done. Readers may be told later: the
// groups before g need not be.
func (l *life) begins(g *group, b *box) (mailbox.Seq, error) {
	for _, e := range slices.Backward(g.effects) {
		if e.box == b && e.m == nil {
			return e.seq + 1, nil
		}
	}
	floor, err := l.floor(b.name)
	return floor + 1, err
}

// addTrim adds the removal of a box's oldest entries. Nothing is added if it
// returns an error.
func (l *life) addTrim(g *group, tr *trim) error {
	if tr.keys != nil {
		l.addKeys(g, tr)
		return nil
	}
	b, err := l.pin(g, tr.box)
	if err != nil {
		return err
	}
	from, err := l.begins(g, b)
	if err != nil {
		return unavailable(err)
	}
	g.trims = append(g.trims, tr)
	floor := min(tr.floor, b.next)
	if tr.drop {
		floor = b.next
		g.durable = true
		prefix := appendPrefix(nil, kindCursor, tr.box)
		g.batch.DeleteRange(prefix, after(prefix), nil)
	}
	if floor < from {
		return nil
	}
	if floor-from < fewEntries {
		for s := from; s <= floor; s++ {
			l.key = appendEntryKey(l.key[:0], tr.box, s)
			g.batch.Delete(l.key, nil)
		}
	} else {
		g.batch.DeleteRange(appendEntryKey(nil, tr.box, from), appendEntryKey(nil, tr.box, floor+1), nil)
	}
	l.key = appendBoxKey(l.key[:0], tr.box)
	g.batch.Set(l.key, appendSeq(nil, floor), nil)
	g.effects = append(g.effects, effect{b, nil, floor})
	return nil
}
