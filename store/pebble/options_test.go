package pebble

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// usage is what a store with 2048 boxes has used when each was read.
type usage struct{ queue, tail, boxes, cache, flushes int64 }

func use(t *testing.T, o Options) (u usage) {
	const boxes, body = 2048, 1 << 10
	o.FS, o.Sweep = vfs.NewMem(), -1
	s := open(t, "store", o)
	defer s.Close()
	name := func(i int) string { return fmt.Sprint("box", i) }
	for first := 0; first < boxes; first += 64 { // what is under way stays in memory: not all at once
		var posts []*mailbox.Post
		for i := first; i < first+64; i++ {
			p := storetest.Post(0, i)
			p.Boxes, p.Body = []string{name(i)}, noise(i, body)
			posts = append(posts, p)
		}
		if err := storetest.Send(s, posts...); err != nil {
			t.Fatal(err)
		}
	}
	l := s.life.Load()
	if err := l.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range boxes {
		if es, _, err := s.Read(t.Context(), nil, name(i), 0, 1, 1<<20); err != nil || len(es) != 1 {
			t.Fatalf("%d entries, %v", len(es), err)
		}
	}
	for i := range l.table.shards {
		sh := &l.table.shards[i]
		sh.mu.Lock()
		u.boxes += int64(len(sh.boxes))
		sh.mu.Unlock()
	}
	m := l.db.Metrics()
	u.cache, u.flushes = m.BlockCache.Size, m.Flush.Count
	u.queue, u.tail = int64(s.q.bound), int64(s.Stats().TailBytes)
	return u
}

// TestOptions: where an operator gives less, less is used.
func TestOptions(t *testing.T) {
	all := use(t, Options{})
	if u := use(t, Options{Queue: 7}); u.queue != 7 {
		t.Errorf("queue: %+v", u)
	}
	if u := use(t, Options{Tail: 64 << 10}); u.tail > 64<<10 || all.tail < 1<<20 {
		t.Errorf("tail: %+v, by default %+v", u, all)
	}
	if u := use(t, Options{Boxes: 1024}); u.boxes > 1024 || all.boxes != 2048 {
		t.Errorf("boxes: %+v, by default %+v", u, all)
	}
	if u := use(t, Options{MemTable: 256 << 10}); u.flushes < 4 || all.flushes > 1 {
		t.Errorf("mem_table: %+v, by default %+v", u, all)
	}
	disk := use(t, Options{Tail: 1}) // nothing can be read but from there
	if u := use(t, Options{Tail: 1, Cache: 256 << 10}); u.cache > 256<<10 || disk.cache < 1<<20 {
		t.Errorf("cache: %+v, by default %+v", u, disk)
	}
}

// TestSweepComesByItself: as often as is said.
func TestSweepComesByItself(t *testing.T) {
	s := open(t, "store", Options{FS: vfs.NewMem(), Sweep: time.Millisecond, Retention: mailbox.Retention{Count: 1}})
	if err := storetest.Send(s, storetest.Post(0, 0), storetest.Post(0, 1), storetest.Post(0, 2)); err != nil {
		t.Fatal(err)
	}
	for s.Stats().Trimmed < 2 {
		runtime.Gosched()
	}
}
