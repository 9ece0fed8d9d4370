package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

func testRead(t *testing.T, f *fixture) {
	f.fill("bob", 10)
	f.fill("bob2", 3)
	size := func() int { return f.all("bob", 0)[0].Size() }()
	for _, c := range []struct {
		after         mailbox.Seq
		max, maxBytes int
		want          []string
		end           mailbox.Seq
	}{
		{0, 3, 1 << 20, []string{"1", "2", "3"}, 3},
		{7, 100, 1 << 20, []string{"8", "9", "10"}, 10},
		{10, 100, 1 << 20, nil, 10},
		{99, 100, 1 << 20, nil, 99},
		{math.MaxUint64, 100, 1 << 20, nil, math.MaxUint64},
		{0, 100, 1, []string{"1"}, 1},
		{2, 100, 2 * size, []string{"3", "4"}, 4},
	} {
		es, end, err := f.Read(t.Context(), nil, "bob", c.after, c.max, c.maxBytes)
		if err != nil || end != c.end || !slices.Equal(bodies(es), c.want) {
			t.Errorf("read after %d, %d entries, %d bytes: %q to %d, %v; want %q to %d", c.after, c.max, c.maxBytes, bodies(es), end, err, c.want, c.end)
		}
	}
	es := make([]mailbox.Entry, 1, 10)
	es, _, err := f.Read(t.Context(), es, "bob", 0, 2, 1<<20)
	if err != nil || len(es) != 3 || es[1].Seq != 1 {
		t.Errorf("read does not append: %d entries, %v", len(es), err)
	}
	if es, end, err := f.Read(t.Context(), nil, "nobody", 0, 1, 1); len(es) != 0 || end != 0 || err != nil {
		t.Errorf("read of a box nobody wrote to: %v to %d, %v", es, end, err)
	}
}

func testTail(t *testing.T, f *fixture) {
	f.fill("bob", 10)
	es, ok := f.Tail(nil, "bob", 7, 2)
	if !ok || !slices.Equal(bodies(es), []string{"8", "9"}) || es[0].Prev != 7 {
		t.Errorf("tail after 7: %q, %v; want what was just written", bodies(es), ok)
	}
	if es, ok := f.Tail(es, "bob", 10, 2); !ok || len(es) != 2 {
		t.Errorf("tail after the last: %q, %v; want to know that there is nothing", bodies(es), ok)
	}
	if es, ok := f.Tail(nil, "bob", math.MaxUint64, 2); !ok || len(es) != 0 {
		t.Errorf("tail after what cannot be: %q, %v", bodies(es), ok)
	}
}

// testTailAgrees: while writers write, one reader goes by Tail wherever it
// answers, the other reads. Both see the same box, without a hole.
func testTailAgrees(t *testing.T, f *fixture) {
	const writers, each = 4, 300
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p := f.post(fmt.Sprintf("%d.%d", w, i), "bob", "alice")
				f.Append(p)
				if i%10 == 9 {
					f.send(f.post(fmt.Sprintf("%d.%d.", w, i), "carol"))
				}
			}
		})
	}
	var byTail, byRead []mailbox.Entry
	wg.Go(func() {
		for len(byTail) < writers*each && !t.Failed() {
			after := mailbox.Seq(len(byTail))
			es, ok := f.Tail(nil, "bob", after, 7)
			if !ok {
				var err error
				if es, _, err = f.Read(t.Context(), nil, "bob", after, 7, 1<<20); err != nil {
					t.Error(err)
				}
			}
			byTail = append(byTail, es...)
		}
	})
	wg.Go(func() {
		for len(byRead) < writers*each && !t.Failed() {
			es, _, err := f.Read(t.Context(), nil, "bob", mailbox.Seq(len(byRead)), 50, 1<<20)
			if err != nil {
				t.Error(err)
			}
			byRead = append(byRead, es...)
		}
	})
	wg.Wait()
	for i := range byRead {
		a, b := byTail[i], byRead[i]
		if a.Seq != mailbox.Seq(i+1) || b.Seq != a.Seq || a.Prev != b.Prev || a.ID != b.ID {
			t.Fatalf("entry %d: tail %d/%d %s, read %d/%d %s", i+1, a.Prev, a.Seq, a.ID, b.Prev, b.Seq, b.ID)
		}
	}
}

func testExpiry(t *testing.T, f *fixture) {
	a, b, c := f.post("a", "bob"), f.post("b", "bob"), f.post("c", "bob")
	a.Expires, b.Expires = day.Add(time.Minute), day.Add(time.Hour)
	f.send(a, b, c)
	f.wants("bob", "a", "b", "c")
	f.clock.advance(time.Minute)
	f.wants("bob", "b", "c")
	f.clock.advance(time.Hour)
	f.wants("bob", "c")
	// The answer is complete up to end although it is empty.
	d := f.post("d", "alice")
	d.Expires = day
	f.send(d)
	if es, end, err := f.Read(t.Context(), nil, "alice", 0, 10, 1000); len(es) != 0 || end != 1 || err != nil {
		t.Errorf("read over an expired entry: %v to %d, %v; want nothing to 1", es, end, err)
	}
}

// wantTrimmed checks that reading after after is answered by a TrimmedError,
// and that reading on behind the hole works.
func (f *fixture) wantTrimmed(box string, after, first mailbox.Seq, want ...string) {
	f.Helper()
	_, _, err := f.Read(f.Context(), nil, box, after, 100, 1<<20)
	var te *mailbox.TrimmedError
	if !errors.As(err, &te) || *te != (mailbox.TrimmedError{Box: box, After: after, First: first}) {
		f.Fatalf("read after %d: %v, want it trimmed to %d", after, err, first)
	}
	if es, ok := f.Tail(nil, box, after, 100); ok {
		f.Errorf("tail after %d skips what was trimmed: %q", after, bodies(es))
	}
	es := f.all(box, first-1)
	if got := bodies(es); !slices.Equal(got, want) {
		f.Errorf("after the hole: %q, want %q", got, want)
	}
	if len(es) > 0 && es[0].Prev != first-1 {
		f.Errorf("first after the hole has prev %d, want %d", es[0].Prev, first-1)
	}
}

func testTrimCount(t *testing.T, f *fixture) {
	f.keep(mailbox.Retention{Count: 3})
	f.fill("bob", 5)
	f.fill("alice", 3)
	f.MoveCursor("bob", "phone", 1)
	f.trim()
	f.wantTrimmed("bob", 0, 3, "3", "4", "5")
	f.wantTrimmed("bob", 1, 3, "3", "4", "5")
	f.wants("alice", "1", "2", "3")
	f.wantCursor("bob", "phone", 1) // it is not moved: its reader must be told
	if info, err := f.Info(t.Context(), "bob"); err != nil || info != (mailbox.BoxInfo{First: 3, Last: 5}) {
		t.Errorf("info %+v, %v", info, err)
	}
	if n := f.Stats().Trimmed; n != 2 {
		t.Errorf("%d trimmed, want 2", n)
	}
	f.send(f.post("6", "bob"))
	f.trim()
	f.wantTrimmed("bob", 2, 4, "4", "5", "6")
}

func testTrimAge(t *testing.T, f *fixture) {
	f.keep(mailbox.Retention{Age: time.Hour})
	f.send(f.post("a", "bob"))
	f.clock.advance(40 * time.Minute)
	f.send(f.post("b", "bob"))
	f.trim()
	f.wants("bob", "a", "b")
	f.clock.advance(40 * time.Minute)
	f.trim()
	f.wantTrimmed("bob", 0, 2, "b")
	f.clock.advance(40 * time.Minute)
	f.trim()
	if info, err := f.Info(t.Context(), "bob"); err != nil || info != (mailbox.BoxInfo{First: 3, Last: 2}) {
		t.Errorf("info of a box all trimmed: %+v, %v", info, err)
	}
	f.wantTrimmed("bob", 1, 3)
	p := f.post("c", "bob")
	f.send(p)
	if es := f.all("bob", 2); p.Seqs[0] != 3 || len(es) != 1 || es[0].Prev != 2 {
		t.Errorf("first after all was trimmed: seq %d, read %+v", p.Seqs[0], es)
	}
}

// testClockBack: a clock that is set back neither loses nor reorders anything.
func testClockBack(t *testing.T, f *fixture) {
	f.keep(mailbox.Retention{Age: time.Hour, IDs: time.Hour, Cursors: time.Hour})
	f.send(f.post("a", "bob"))
	f.clock.set(day.Add(-24 * time.Hour))
	f.send(f.post("b", "bob"))
	f.MoveCursor("bob", "phone", 1)
	f.trim()
	p := f.post("a", "bob")
	if f.send(p); !p.Duplicate {
		t.Error("an id was forgotten")
	}
	f.wants("bob", "a", "b")
	f.clock.set(day)
	f.send(f.post("c", "bob"))
	f.trim()
	if got := bodies(f.all("bob", 2)); !slices.Equal(got, []string{"c"}) {
		t.Errorf("after the clock was set right: %q", got)
	}
	if es := f.all("bob", 0); es[0].Seq != 1 || len(es) < 2 { // b is old, but behind a, which is not
		t.Errorf("kept: %q", bodies(es))
	}
}
