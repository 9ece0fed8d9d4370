package pebble

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/posthouse-im/posthouse/mailbox"
)

// box is what memory knows of one box: where it begins and ends, and, if it is
// busy, its newest entries. A box that is not here costs nothing.
type box struct {
	name string
	// first and last bound what can be read: last is durable. They are
	// guarded by the shard.
	first, last mailbox.Seq
	// next is the last Seq given out. It belongs to the committer.
	next mailbox.Seq
	// group is the number of the last group that pinned this box. It belongs
	// to the committer.
	group uint64
	tail  *tail  // nil unless something was appended of late; guarded by the shard
	used  uint32 // when it was last wanted, on the table's clock; guarded by the shard
	pins  uint8  // groups under way; while there are any the box stays; guarded by the shard
	news  bool   // something was appended that was not rung for; guarded by the shard
}

// tail holds the newest entries of a box, the last of which is the box's last.
type tail struct {
	entries []mailbox.Entry
	bytes   int
	place   int // in the shard's busy
}

const (
	shards = 64
	// overhead is what an entry in a tail costs beside the bytes of its
	// message.
	overhead = int(unsafe.Sizeof(mailbox.Entry{})+unsafe.Sizeof(mailbox.Post{})) + 64
	// tailMost is how many entries one tail holds, and tailBytes how much.
	tailMost  = 4096
	tailBytes = 8 << 20
	// sample is how many boxes are looked at to find one to let go: the least
	// recently used of some is nearly as good as of all, and needs no list.
	sample = 8
)

// table has the boxes that memory knows.
type table struct {
	seed   maphash.Seed
	clock  atomic.Uint32
	bytes  atomic.Int64 // in tails
	most   int          // boxes in a shard
	budget int64        // for bytes
	hand   atomic.Uint32
	shards [shards]shard
}

// shard is a part of the table. Its lock is a leaf.
type shard struct {
	mu    sync.Mutex
	boxes map[string]*box
	busy  []*box // those with a tail
	// gone counts boxes that were let go. Who read a box from the disk meanwhile
	// may have read too little, and must do it again.
	gone uint64
}

func newTable(boxes int, budget int64) *table {
	t := &table{seed: maphash.MakeSeed(), most: max(boxes/shards, 16), budget: budget}
	for i := range t.shards {
		t.shards[i].boxes = map[string]*box{}
	}
	return t
}

func (t *table) shard(name string) *shard {
	return &t.shards[maphash.String(t.seed, name)%shards]
}

// touch notes that b is wanted. The shard must be locked.
func (t *table) touch(b *box) { b.used = t.clock.Load() }

// find says where the box begins and ends, if memory knows it, and how many
// boxes its shard has let go: see learn.
func (t *table) find(name string) (info mailbox.BoxInfo, gone uint64, ok bool) {
	sh := t.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.boxes[name]
	if b == nil {
		return info, sh.gone, false
	}
	t.touch(b)
	return mailbox.BoxInfo{First: b.first, Last: b.last}, sh.gone, true
}

// learn adds a box as it was found on the disk, unless it is there or may have
// changed since gone was told. It returns what is true now.
func (t *table) learn(name string, found mailbox.BoxInfo, gone uint64) (info mailbox.BoxInfo, ok bool) {
	sh := t.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.boxes[name]
	if b == nil {
		if sh.gone != gone {
			return info, false
		}
		b = t.addLocked(sh, name, found)
	}
	return mailbox.BoxInfo{First: b.first, Last: b.last}, true
}

func (t *table) addLocked(sh *shard, name string, found mailbox.BoxInfo) *box {
	if len(sh.boxes) >= t.most {
		t.dropBoxLocked(sh)
	}
	b := &box{name: name, first: found.First, last: found.Last, next: found.Last}
	t.touch(b)
	sh.boxes[name] = b
	return b
}

// dropBoxLocked lets go of a box that was not used of late.
func (t *table) dropBoxLocked(sh *shard) {
	var oldest *box
	n := 0
	for _, b := range sh.boxes { // Go begins anywhere
		if b.pins == 0 && (oldest == nil || b.used < oldest.used) {
			oldest = b
		}
		if n++; n >= sample && oldest != nil || n >= 4*sample {
			break
		}
	}
	if oldest == nil {
		return
	}
	t.dropTailLocked(sh, oldest)
	delete(sh.boxes, oldest.name)
	sh.gone++
}

func (t *table) dropTailLocked(sh *shard, b *box) {
	if b.tail == nil {
		return
	}
	t.bytes.Add(-int64(b.tail.bytes))
	last := sh.busy[len(sh.busy)-1]
	sh.busy[b.tail.place] = last
	last.tail.place = b.tail.place
	sh.busy[len(sh.busy)-1] = nil
	sh.busy = sh.busy[:len(sh.busy)-1]
	b.tail = nil
}

// pin holds the box for a group. B is nil if memory does not know it; first says
// that the group had not pinned it before.
func (t *table) pin(name string, group uint64) (b *box, first bool) {
	sh := t.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if b = sh.boxes[name]; b != nil && b.group != group {
		b.group, first = group, true
		b.pins++
	}
	return b, first
}

// appendLocked makes m, at seq, the last entry of b.
func (t *table) appendLocked(sh *shard, b *box, seq mailbox.Seq, m *mailbox.Message) {
	b.last, b.news = seq, true
	if b.first == 0 {
		b.first = 1
	}
	t.touch(b)
	tl := b.tail
	if tl == nil {
		tl = &tail{place: len(sh.busy)}
		b.tail = tl
		sh.busy = append(sh.busy, b)
	}
	if len(tl.entries) >= tailMost || tl.bytes >= tailBytes {
		t.halveLocked(tl)
	}
	size := m.Size() + overhead
	tl.entries = append(tl.entries, mailbox.Entry{Seq: seq, Prev: seq - 1, Message: m})
	tl.bytes += size
	t.bytes.Add(int64(size))
}

// halveLocked lets go of the older half of a tail.
func (t *table) halveLocked(tl *tail) {
	freed := 0
	half := (len(tl.entries) + 1) / 2
	for _, e := range tl.entries[:half] {
		freed += e.Size() + overhead
	}
	// In place: readers have copies of the entries, not of the slice. What is
	// left behind would keep its messages.
	n := copy(tl.entries, tl.entries[half:])
	clear(tl.entries[n:])
	tl.entries = tl.entries[:n]
	tl.bytes -= freed
	t.bytes.Add(-int64(freed))
}

// trimLocked says that entries up to floor are gone.
func (t *table) trimLocked(sh *shard, b *box, floor mailbox.Seq) {
	b.first = max(b.first, floor+1)
	if b.tail != nil && b.tail.entries[0].Seq <= floor {
		t.dropTailLocked(sh, b)
	}
}

// fit lets go of tails until they are within the budget.
func (t *table) fit() {
	for n := 0; t.bytes.Load() > t.budget && n < 4*shards; n++ {
		sh := &t.shards[t.hand.Add(1)%shards]
		sh.mu.Lock()
		var oldest *box
		for range min(sample, len(sh.busy)) {
			b := sh.busy[rand.IntN(len(sh.busy))]
			if oldest == nil || b.used < oldest.used {
				oldest = b
			}
		}
		if oldest != nil {
			if len(oldest.tail.entries) > 64 {
				t.halveLocked(oldest.tail)
			} else {
				t.dropTailLocked(sh, oldest)
			}
		}
		sh.mu.Unlock()
	}
}

// read appends to buf what the tail has after after. It says no if it cannot
// know.
func (t *table) read(buf []mailbox.Entry, name string, after mailbox.Seq, max int) ([]mailbox.Entry, bool) {
	sh := t.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.boxes[name]
	if b == nil {
		return buf, false
	}
	t.touch(b)
	switch {
	case after >= b.last:
		return buf, true
	case b.tail == nil || after+1 < b.first || after+1 < b.tail.entries[0].Seq:
		return buf, false
	}
	es := b.tail.entries[after+1-b.tail.entries[0].Seq:]
	return append(buf, es[:min(max, len(es))]...), true
}
