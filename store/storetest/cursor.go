package storetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

func testCursor(t *testing.T, f *fixture) {
	f.fill("bob", 10)
	f.wantCursor("bob", "phone", 0)
	f.MoveCursor("bob", "phone", 3)
	f.wantCursor("bob", "phone", 3)
	f.MoveCursor("bob", "phone", 2)
	f.wantCursor("bob", "phone", 3)
	f.MoveCursor("bob", "laptop", 99)
	f.wantCursor("bob", "laptop", 10)
	f.MoveCursor("bob", "attached", 0)
	if c, ok, err := f.Cursor(t.Context(), "bob", "attached"); err != nil || !ok || c.Seq != 0 {
		t.Errorf("a device at zero: %+v, %v, %v", c, ok, err)
	}
	f.MoveCursor("nobody", "phone", 5)
	if c, _, err := f.Cursor(t.Context(), "nobody", "phone"); err != nil || c.Seq != 0 {
		t.Errorf("a cursor in a box nobody wrote to: %+v, %v", c, err)
	}
	for s := range 10 {
		f.MoveCursor("bob", "phone", mailbox.Seq(s))
	}
	cs, err := f.Cursors(t.Context(), "bob")
	want := []mailbox.Cursor{{Device: "attached", Seq: 0, Moved: day}, {Device: "laptop", Seq: 10, Moved: day}, {Device: "phone", Seq: 9, Moved: day}}
	if err != nil || !slices.Equal(cs, want) {
		t.Errorf("cursors %+v, %v; want %+v", cs, err, want)
	}
	f.DropCursor("bob", "laptop")
	f.wantCursor("bob", "laptop", 0)
	f.MoveCursor("bob", "laptop", 2)
	f.wantCursor("bob", "laptop", 2)
	f.MoveCursor("bob", "laptop", 5)
	f.DropCursor("bob", "laptop")
	f.send(f.post("after", "bob")) // with it, what stood before it in the queue is done
	f.wantCursor("bob", "laptop", 0)
	f.wantCursor("bob", "phone", 9)
}

// testCursorInOrder: a move to the place of a post, asked for before that post
// is done, gets there.
func testCursorInOrder(t *testing.T, f *fixture) {
	var wg sync.WaitGroup
	for _, box := range []string{"a", "b", "c"} {
		wg.Go(func() {
			for i := range 100 {
				p := f.post(box+string(rune('0'+i)), box)
				var done sync.WaitGroup
				done.Add(1)
				p.Notify = mailbox.WakeFunc(done.Done)
				f.Append(p)
				f.MoveCursor(box, "phone", mailbox.Seq(i+1))
				done.Wait()
			}
		})
	}
	wg.Wait()
	f.send(f.post("last", "d"))
	for _, box := range []string{"a", "b", "c"} {
		f.wantCursor(box, "phone", 100)
	}
}

func testCursorsExpire(t *testing.T, f *fixture) {
	f.keep(mailbox.Retention{Cursors: time.Hour})
	f.fill("bob", 2)
	f.MoveCursor("bob", "phone", 1)
	f.MoveCursor("bob", "laptop", 1)
	f.send(f.post("x", "alice"))
	f.clock.advance(40 * time.Minute)
	f.MoveCursor("bob", "phone", 1) // attached again, nothing new: it counts as a visit
	f.send(f.post("y", "alice"))
	f.clock.advance(40 * time.Minute)
	f.trim()
	f.wantCursor("bob", "phone", 1)
	f.wantCursor("bob", "laptop", 0)
}

func testDropBox(t *testing.T, f *fixture) {
	f.fill("bob", 3)
	f.fill("bob2", 1)
	f.MoveCursor("bob", "phone", 2)
	if err := f.DropBox(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	f.wantCursor("bob", "phone", 0)
	if info, err := f.Info(t.Context(), "bob"); err != nil || info != (mailbox.BoxInfo{First: 4, Last: 3}) {
		t.Errorf("info of a dropped box: %+v, %v", info, err)
	}
	f.wantTrimmed("bob", 1, 4)
	f.wants("bob2", "1")
	p := f.post("x", "bob")
	if f.send(p); p.Seqs[0] != 4 {
		t.Errorf("seq %d in a box of the same name, want 4", p.Seqs[0])
	}
	f.wantTrimmed("bob", 0, 4, "x")
	if err := f.DropBox(t.Context(), "nobody"); err != nil {
		t.Errorf("dropping a box nobody wrote to: %v", err)
	}
}
