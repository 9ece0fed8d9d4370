package mem

import (
	"cmp"
	"context"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Trim applies the retention to every box, cursor and id, now.
func (s *Store) Trim(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return mailbox.ErrClosed
	}
	now, r := s.o.Now(), s.o.Retention
	for _, b := range s.boxes {
		s.trimLocked(b)
		for d, c := range b.cursors {
			if over(c.Moved, r.Cursors, now) {
				delete(b.cursors, d)
			}
		}
	}
	for k, f := range s.ids {
		if over(f.time, cmp.Or(r.IDs, r.Age), now) {
			delete(s.ids, k)
		}
	}
	return nil
}

// trimLocked removes from the front of b what is too old or too much.
func (s *Store) trimLocked(b *box) {
	now, r, n := s.o.Now(), s.o.Retention, 0
	for n < len(b.log) && (r.Count > 0 && len(b.log)-n > r.Count || over(b.log[n].Time, r.Age, now)) {
		b.log[n] = nil
		n++
	}
	b.log = b.log[n:]
	b.first += mailbox.Seq(n)
	s.stats.Trimmed += uint64(n)
}

// over reports whether more than age, if any, has gone by since t.
func over(t time.Time, age time.Duration, now time.Time) bool {
	return age > 0 && now.Sub(t) > age
}
