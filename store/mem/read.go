package mem

import (
	"cmp"
	"context"
	"slices"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Tail implements [mailbox.Store].
func (s *Store) Tail(buf []mailbox.Entry, name string, after mailbox.Seq, max int) ([]mailbox.Entry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.boxes[name]
	ok := !s.closed
	if b != nil && ok {
		from := b.first
		if s.o.Tail > 0 && len(b.log) > s.o.Tail {
			from = b.last() - mailbox.Seq(s.o.Tail) + 1
		}
		if after = min(after, b.last()); after+1 >= from {
			for seq := after + 1; seq <= b.last() && max > 0; seq++ {
				buf = append(buf, b.entry(seq))
				max--
			}
		} else {
			ok = false
		}
	}
	s.tailMu.Lock()
	defer s.tailMu.Unlock()
	if ok {
		s.hits.TailHits++
	} else {
		s.hits.TailMisses++
	}
	return buf, ok
}

// Read implements [mailbox.Store].
func (s *Store) Read(ctx context.Context, buf []mailbox.Entry, name string, after mailbox.Seq, max, maxBytes int) ([]mailbox.Entry, mailbox.Seq, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return buf, after, mailbox.ErrClosed
	}
	b := s.boxes[name]
	if b == nil || after >= b.last() {
		return buf, after, nil
	}
	if after+1 < b.first {
		return buf, after, &mailbox.TrimmedError{Box: name, After: after, First: b.first}
	}
	now, end := s.o.Now(), after
	for seq := after + 1; seq <= b.last() && max > 0 && maxBytes > 0; seq++ {
		e := b.entry(seq)
		end = seq
		if e.Expired(now) {
			continue
		}
		buf = append(buf, e)
		max--
		maxBytes -= e.Size()
	}
	return buf, end, nil
}

// entry returns the entry at seq, which the box holds.
func (b *box) entry(seq mailbox.Seq) mailbox.Entry {
	return mailbox.Entry{Seq: seq, Prev: seq - 1, Message: b.log[seq-b.first]}
}

// Info implements [mailbox.Store].
func (s *Store) Info(ctx context.Context, name string) (mailbox.BoxInfo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return mailbox.BoxInfo{}, mailbox.ErrClosed
	}
	b := s.boxes[name]
	if b == nil || b.last() == 0 {
		return mailbox.BoxInfo{}, nil
	}
	return mailbox.BoxInfo{First: b.first, Last: b.last()}, nil
}

// Cursor implements [mailbox.Store].
func (s *Store) Cursor(ctx context.Context, name, device string) (c mailbox.Cursor, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return c, false, mailbox.ErrClosed
	}
	if b := s.boxes[name]; b != nil {
		c, ok = b.cursors[device]
	}
	return c, ok, nil
}

// Cursors implements [mailbox.Store].
func (s *Store) Cursors(ctx context.Context, name string) ([]mailbox.Cursor, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, mailbox.ErrClosed
	}
	var cs []mailbox.Cursor
	if b := s.boxes[name]; b != nil {
		for _, c := range b.cursors {
			cs = append(cs, c)
		}
	}
	slices.SortFunc(cs, func(a, b mailbox.Cursor) int { return cmp.Compare(a.Device, b.Device) })
	return cs, nil
}

// MoveCursor implements [mailbox.Store].
func (s *Store) MoveCursor(name, device string, seq mailbox.Seq) {
	s.do(func() {
		if s.closed {
			return
		}
		b := s.boxLocked(name)
		seq := max(min(seq, b.last()), b.cursors[device].Seq)
		b.cursors[device] = mailbox.Cursor{Device: device, Seq: seq, Moved: s.o.Now().UTC()}
	})
}

// DropCursor implements [mailbox.Store].
func (s *Store) DropCursor(name, device string) {
	s.do(func() {
		if b := s.boxes[name]; b != nil && !s.closed {
			delete(b.cursors, device)
		}
	})
}
