package link

import (
	"hash/maphash"
	"sync"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// deflated remembers the deflated bodies of messages of late, so that one that
// goes to many is deflated once, and one that came so not at all. At worst it
// keeps 64 messages of 64 KiB, twice.
type deflated struct {
	seed  maphash.Seed
	slots [64]struct {
		mu   sync.Mutex
		of   *mailbox.Message // guarded by mu
		body []byte           // guarded by mu; nil if it does not pay
	}
}

// get returns m's body deflated, nil if that does not pay.
func (d *deflated) get(m *mailbox.Message) []byte {
	if len(m.Body) < frame.MinDeflate || len(m.Body) > frame.MaxDeflate {
		return nil
	}
	s := &d.slots[d.slot(m)]
	s.mu.Lock()
	if s.of == m {
		defer s.mu.Unlock()
		return s.body
	}
	s.mu.Unlock()
	z := frame.Deflate(m.Body, m.Type)
	d.put(m, z)
	return z
}

// put keeps what a sender has deflated.
func (d *deflated) put(m *mailbox.Message, z []byte) {
	s := &d.slots[d.slot(m)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of, s.body = m, z
}

func (d *deflated) slot(m *mailbox.Message) uint64 {
	return maphash.Comparable(d.seed, m) % uint64(len(d.slots))
}
