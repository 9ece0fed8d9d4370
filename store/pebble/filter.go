package pebble

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// filter knows of ids that were never seen: it may take a new one for an old
// one, never the other way round. Asking the tree of files for an id that is
// not there cost two thirds of all the time of a post.
//
// It is a chain of Bloom filters, each twice as large as the one before. A
// filter that has reached its budget goes on, wrong more and more often, which
// costs time only.
type filter struct {
	parts []filterPart
	bytes int
}

// filterPart is one Bloom filter. All bits of an id are in one block, a line
// of the processor's cache.
type filterPart struct {
	blocks [][8]uint64
	room   int // ids until it is full
}

const (
	filterLeast  = 1 << 16  // ids in the first part
	filterBudget = 64 << 20 // bytes: about 32 million ids
	filterBits   = 16       // for each id; one in some hundreds is taken wrongly
	filterProbes = 6
)

func hashID(key []byte) uint64 { return xxhash.Sum64(key) }

// probes returns the block of h, and a number whose 9-bit pieces are the bits.
func (p *filterPart) probes(h uint64) (block *[8]uint64, rest uint64) {
	i, _ := bits.Mul64(h, uint64(len(p.blocks)))
	return &p.blocks[i], h * 0x9e3779b97f4a7c15 >> 10
}

func (f *filter) add(h uint64) {
	if f.wants() && !f.full() {
		ids := filterLeast << len(f.parts)
		f.parts = append(f.parts, filterPart{make([][8]uint64, ids*filterBits/512), ids})
		f.bytes += ids * filterBits / 8
	}
	p := &f.parts[len(f.parts)-1]
	p.room--
	b, rest := p.probes(h)
	for range filterProbes {
		b[rest>>6&7] |= 1 << (rest & 63)
		rest >>= 9
	}
}

// may reports whether h may have been added.
func (f *filter) may(h uint64) bool {
next:
	for i := range f.parts {
		b, rest := f.parts[i].probes(h)
		for range filterProbes {
			if b[rest>>6&7]&(1<<(rest&63)) == 0 {
				continue next
			}
			rest >>= 9
		}
		return true
	}
	return false
}

// wants reports whether f needs another part.
func (f *filter) wants() bool { return len(f.parts) == 0 || f.parts[len(f.parts)-1].room <= 0 }

// full reports whether f needs another part and may not have it.
func (f *filter) full() bool {
	next := filterLeast << len(f.parts) * filterBits / 8
	return f.wants() && f.bytes+next > filterBudget
}

// remember makes a filter of the ids that it has, which were there when the
// database was opened. Until it is done, the database is asked.
func (l *life) remember(it *pebble.Iterator) {
	defer l.s.unreadOne()
	defer it.Close()
	f := new(filter)
	for ok := it.First(); ok; ok = it.Next() {
		f.add(hashID(it.Key()))
		if f.full() || l.over() || l.s.closing.Load() {
			return // too many to tell them apart from others
		}
	}
	if it.Error() == nil {
		l.old.Store(f)
	}
}
