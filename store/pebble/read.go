package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/mailbox"
)

// open lets the caller read until done is called.
func (s *Store) open(ctx context.Context) (l *life, done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if s.closed {
		return nil, nil, mailbox.ErrClosed
	}
	s.readers++
	return s.life.Load(), s.unreadOne, nil
}

func (s *Store) unreadOne() {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if s.readers--; s.readers == 0 {
		s.unread.Signal()
	}
}

// Tail implements [mailbox.Store].
func (s *Store) Tail(buf []mailbox.Entry, box string, after mailbox.Seq, max int) ([]mailbox.Entry, bool) {
	if s.closing.Load() {
		return buf, false
	}
	buf, ok := s.life.Load().table.read(buf, box, after, max)
	if ok {
		s.hits.Add(1)
	} else {
		s.misses.Add(1)
	}
	return buf, ok
}

// load returns where a box begins and ends, from memory or, if it is not
// there, from the disk.
func (l *life) load(name string) (mailbox.BoxInfo, error) {
	for {
		info, gone, ok := l.table.find(name)
		if ok {
			return info, nil
		}
		found, err := l.look(name)
		if err != nil {
			return info, err
		}
		if info, ok := l.table.learn(name, found, gone); ok {
			return info, nil
		}
	}
}

// floor is up to where a box was trimmed or dropped, zero if it never was: the
// database knows it of groups under way, too.
func (l *life) floor(name string) (mailbox.Seq, error) {
	v, closer, err := l.db.Get(appendBoxKey(nil, name))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, errCorrupt
	}
	return mailbox.Seq(binary.BigEndian.Uint64(v)), nil
}

// look finds out on the disk where a box begins and ends.
func (l *life) look(name string) (info mailbox.BoxInfo, err error) {
	if info.Last, err = l.floor(name); err != nil {
		return info, fmt.Errorf("pebble: look at %s: %w", name, err)
	}
	if info.Last > 0 {
		info.First = info.Last + 1
	}
	prefix := appendPrefix(nil, kindEntry, name)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return info, fmt.Errorf("pebble: look at %s: %w", name, err)
	}
	if it.Last() {
		if _, seq, ok := splitEntryKey(it.Key()); ok && seq > info.Last {
			info.Last = seq
		}
	}
	if err := it.Close(); err != nil {
		return info, fmt.Errorf("pebble: look at %s: %w", name, err)
	}
	if info.Last > 0 && info.First == 0 {
		info.First = 1
	}
	return info, nil
}

// Info implements [mailbox.Store].
func (s *Store) Info(ctx context.Context, box string) (mailbox.BoxInfo, error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return mailbox.BoxInfo{}, err
	}
	defer done()
	return l.load(box)
}

// Read implements [mailbox.Store].
func (s *Store) Read(ctx context.Context, buf []mailbox.Entry, box string, after mailbox.Seq, max, maxBytes int) ([]mailbox.Entry, mailbox.Seq, error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return buf, after, err
	}
	defer done()
	info, err := l.load(box)
	if err != nil {
		return buf, after, err
	}
	if after >= info.Last {
		return buf, after, nil
	}
	trimmed := func(first mailbox.Seq) error {
		return &mailbox.TrimmedError{Box: box, After: after, First: first}
	}
	if after+1 < info.First {
		return buf, after, trimmed(info.First)
	}
	it, err := l.db.NewIter(&pebble.IterOptions{
		LowerBound: appendEntryKey(nil, box, after+1),
		UpperBound: appendEntryKey(nil, box, info.Last+1), // what is beyond is not durable yet
	})
	if err != nil {
		return buf, after, fmt.Errorf("pebble: read %s: %w", box, err)
	}
	defer it.Close()
	now, end := s.o.Now(), after
	for ok := it.First(); ok && max > 0 && maxBytes > 0; ok = it.Next() {
		_, seq, good := splitEntryKey(it.Key())
		if !good || seq != end+1 {
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return buf, end, fmt.Errorf("pebble: read %s: %w", box, err)
		}
		m, err := parseMessage(v)
		if err != nil {
			return buf, end, fmt.Errorf("pebble: read %s at %d: %w", box, seq, err)
		}
		end = seq
		if m.Expired(now) {
			continue
		}
		buf = append(buf, mailbox.Entry{Seq: seq, Prev: seq - 1, Message: m})
		max--
		maxBytes -= m.Size()
	}
	if err := it.Error(); err != nil {
		return buf, end, fmt.Errorf("pebble: read %s: %w", box, err)
	}
	if end == after && max > 0 && maxBytes > 0 {
		// What we came for was trimmed after we had looked.
		info, err := l.load(box)
		if err == nil && after+1 >= info.First {
			err = fmt.Errorf("pebble: read %s: entry %d is missing", box, after+1)
		} else if err == nil {
			err = trimmed(info.First)
		}
		return buf, after, err
	}
	return buf, end, nil
}

func appendSeq(b []byte, s mailbox.Seq) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(s))
}

func appendCursor(b []byte, s mailbox.Seq, moved time.Time) []byte {
	return binary.BigEndian.AppendUint64(appendSeq(b, s), uint64(moved.UnixMilli()))
}

func parseCursor(b []byte) (c mailbox.Cursor, err error) {
	if len(b) != 16 {
		return c, errCorrupt
	}
	c.Seq, c.Moved = mailbox.Seq(binary.BigEndian.Uint64(b)), unixMilli(binary.BigEndian.Uint64(b[8:]))
	return c, nil
}

// cursor reads a cursor from the database.
func (l *life) cursor(key []byte) (c mailbox.Cursor, ok bool, err error) {
	v, closer, err := l.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	defer closer.Close()
	c, err = parseCursor(v)
	return c, err == nil, err
}

// then is what a cursor becomes by m, in a box that ends at last.
func (m move) then(c mailbox.Cursor, ok bool, last mailbox.Seq) (mailbox.Cursor, bool) {
	if m.drop {
		c, ok = mailbox.Cursor{}, false
	}
	if m.set {
		c.Seq, c.Moved, ok = max(c.Seq, min(m.seq, last)), m.at.UTC().Truncate(time.Millisecond), true
	}
	return c, ok
}

// Cursor implements [mailbox.Store]. Moves that are not yet written count.
func (s *Store) Cursor(ctx context.Context, box, device string) (c mailbox.Cursor, ok bool, err error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return c, false, err
	}
	defer done()
	key := appendCursorKey(nil, box, device)
	for {
		taken, waiting, version := s.q.pending(place{box, device})
		info, err := l.load(box)
		if err == nil {
			c, ok, err = l.cursor(key)
		}
		if err != nil {
			return c, false, fmt.Errorf("pebble: cursor of %s in %s: %w", device, box, err)
		}
		c, ok = taken.then(c, ok, info.Last)
		c, ok = waiting.then(c, ok, info.Last)
		if _, _, now := s.q.pending(place{box, device}); now == version {
			if ok {
				c.Device = device
			}
			return c, ok, nil
		}
	}
}

// Cursors implements [mailbox.Store].
func (s *Store) Cursors(ctx context.Context, box string) ([]mailbox.Cursor, error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for {
		pending, version := s.q.pendingIn(box)
		info, err := l.load(box)
		if err != nil {
			return nil, err
		}
		found := map[string]mailbox.Cursor{}
		err = l.scan(appendPrefix(nil, kindCursor, box), func(k, v []byte) bool {
			_, device, ok := splitCursorKey(k)
			if c, err := parseCursor(v); ok && err == nil {
				c.Device = string(device)
				found[c.Device] = c
			}
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("pebble: cursors of %s: %w", box, err)
		}
		for _, ms := range pending {
			for device, m := range ms {
				c, ok := found[device]
				if c, ok = m.then(c, ok, info.Last); ok {
					c.Device = device
					found[device] = c
				} else {
					delete(found, device)
				}
			}
		}
		if _, now := s.q.pendingIn(box); now == version {
			return sorted(found), nil
		}
	}
}

// sorted lists cursors by device.
func sorted(found map[string]mailbox.Cursor) []mailbox.Cursor {
	var cs []mailbox.Cursor
	for _, c := range found {
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b mailbox.Cursor) int { return cmp.Compare(a.Device, b.Device) })
	return cs
}

// scan calls yield for each key that begins with prefix, until it says false.
func (l *life) scan(prefix []byte, yield func(k, v []byte) bool) error {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			it.Close()
			return err
		}
		if !yield(it.Key(), v) {
			break
		}
	}
	return it.Close()
}

// Get implements [mailbox.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	l, done, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	v, closer, err := l.db.Get(appendRecordKey(nil, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pebble: get %s: %w", key, err)
	}
	defer closer.Close()
	return append([]byte{}, v...), nil
}

// Scan implements [mailbox.Store].
func (s *Store) Scan(ctx context.Context, prefix string, yield func(key string, value []byte) bool) error {
	l, done, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = l.scan(appendRecordKey(nil, prefix), func(k, v []byte) bool { return yield(string(k[1:]), v) })
	if err != nil {
		return fmt.Errorf("pebble: scan %s: %w", prefix, err)
	}
	return nil
}
