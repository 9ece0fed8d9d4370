package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

func testAppend(t *testing.T, f *fixture) {
	a, b := f.post("a", "bob"), f.post("b", "bob")
	f.send(a)
	f.send(b)
	if a.Seqs[0] != 1 || b.Seqs[0] != 2 {
		t.Errorf("seqs %d and %d, want 1 and 2", a.Seqs, b.Seqs)
	}
	f.wants("bob", "a", "b")
	es := f.all("bob", 0)
	if es[0].Prev != 0 || es[1].Prev != 1 {
		t.Errorf("prev %d and %d, want 0 and 1", es[0].Prev, es[1].Prev)
	}
	info, err := f.Info(t.Context(), "bob")
	if want := (mailbox.BoxInfo{First: 1, Last: 2}); err != nil || info != want {
		t.Errorf("info %+v, %v; want %+v", info, err, want)
	}
	if info, err := f.Info(t.Context(), "nobody"); err != nil || info != (mailbox.BoxInfo{}) {
		t.Errorf("info of a box nobody wrote to: %+v, %v", info, err)
	}
}

func testSeveralBoxes(t *testing.T, f *fixture) {
	f.send(f.post("x", "alice"))
	p := f.post("y", "bob", "alice", "carol")
	f.send(p)
	if want := []mailbox.Seq{1, 2, 1}; !slices.Equal(p.Seqs, want) {
		t.Errorf("seqs %d, want %d", p.Seqs, want)
	}
	f.wants("alice", "x", "y")
	f.wants("bob", "y")
	f.wants("carol", "y")
}

// testOrder: each of several goroutines finds its own posts in its order, done
// in that order, while all write to one box.
func testOrder(t *testing.T, f *fixture) {
	const callers, each = 8, 200
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			var next atomic.Int64
			var posts sync.WaitGroup
			posts.Add(each)
			for i := range each {
				p := f.post(fmt.Sprintf("%d/%d", c, i), "all", fmt.Sprintf("own%d", c))
				p.Notify = mailbox.WakeFunc(func() {
					if n := next.Add(1) - 1; n != int64(i) {
						t.Errorf("post %d of caller %d was done as number %d", i, c, n)
					}
					posts.Done()
				})
				f.Append(p)
			}
			posts.Wait()
		})
	}
	wg.Wait()
	var next [callers]int
	es := f.all("all", 0)
	for i, e := range es {
		var c, n int
		fmt.Sscanf(string(e.Body), "%d/%d", &c, &n)
		if e.Seq != mailbox.Seq(i+1) || n != next[c] {
			t.Fatalf("entry %d has seq %d and is number %d of caller %d, want %d", i+1, e.Seq, n, c, next[c])
		}
		next[c]++
	}
	if len(es) != callers*each {
		t.Errorf("%d entries, want %d", len(es), callers*each)
	}
	for c := range callers {
		if got := len(f.all(fmt.Sprintf("own%d", c), 0)); got != each {
			t.Errorf("own%d has %d entries, want %d", c, got, each)
		}
	}
}

// testWhole: every field of a message comes back.
func testWhole(t *testing.T, f *fixture) {
	for i, m := range []mailbox.Message{
		{ID: "1", From: "alice@x", To: "bob@x"},
		{
			ID: "2", From: "alice@x", Device: "phone", To: "bob@x/tablet", Expires: day.Add(time.Hour),
			Type: "application/octet-stream", Urgency: mailbox.UrgencyVeryLow,
			Attrs: []mailbox.Attr{{Name: "a", Value: "1"}, {Name: "xmpp:b", Value: ""}, {Name: "a", Value: "ü\x00"}},
			Body:  []byte{0, 255, 128},
		},
		{ID: "3", From: "", To: "", Urgency: mailbox.UrgencyHigh, Body: []byte("x")},
	} {
		m.Time = day.Add(time.Duration(i) * time.Millisecond)
		want := m
		f.send(&mailbox.Post{Message: m, Boxes: []string{"bob"}})
		es, _, err := f.Read(t.Context(), nil, "bob", mailbox.Seq(i), 1, 1)
		if err != nil || len(es) != 1 {
			t.Fatalf("read: %d entries, %v", len(es), err)
		}
		got := *es[0].Message
		if len(got.Body) == 0 && len(want.Body) == 0 {
			got.Body = want.Body
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("message came back as\n%+v\nwant\n%+v", got, want)
		}
	}
}

func testBigBody(t *testing.T, f *fixture) {
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	var posts []*mailbox.Post
	for i := range 5 {
		p := f.post(fmt.Sprint(i), "bob", "alice")
		p.Body = big
		posts = append(posts, p)
	}
	f.send(posts...)
	var after mailbox.Seq
	for range 5 {
		es, end, err := f.Read(t.Context(), nil, "bob", after, 100, 1)
		if err != nil || len(es) != 1 || end != after+1 || !bytes.Equal(es[0].Body, big) {
			t.Fatalf("after %d: %d entries to %d, %v", after, len(es), end, err)
		}
		after = end
	}
}

// testNames: a name is any UTF-8, and no name runs into another.
func testNames(t *testing.T, f *fixture) {
	names := []string{"a", "ab", "a/b", "a\x01", "ü@x", "日本", "\U0001F4EE", "a b", "\xef\xbf\xbf", strings.Repeat("n", mailbox.MaxName)}
	for _, n := range names {
		p := f.post("to "+n, n)
		p.From, p.ID = n, n
		p.Records = []mailbox.Record{{Key: n, Value: []byte(n)}}
		f.send(p)
		f.MoveCursor(n, n, 1)
	}
	for _, n := range names {
		f.wants(n, "to "+n)
		f.wantCursor(n, n, 1)
		if cs, err := f.Cursors(t.Context(), n); err != nil || len(cs) != 1 || cs[0].Device != n {
			t.Errorf("cursors of %q: %v, %v", n, cs, err)
		}
		if v, err := f.Get(t.Context(), n); err != nil || string(v) != n {
			t.Errorf("record %q is %q, %v", n, v, err)
		}
	}
}

func testDuplicate(t *testing.T, f *fixture) {
	first := f.post("x", "bob", "alice")
	f.send(f.post("before", "alice"), first)
	f.clock.advance(time.Hour)
	again := f.post("x", "bob", "alice")
	f.send(f.post("between", "bob"), again)
	if !again.Duplicate || first.Duplicate || !slices.Equal(again.Seqs, first.Seqs) || !again.Time.Equal(day) {
		t.Errorf("again: duplicate %v, seqs %d, time %v; first: duplicate %v, seqs %d", again.Duplicate, again.Seqs, again.Time, first.Duplicate, first.Seqs)
	}
	f.wants("bob", "x", "between")
	f.wants("alice", "before", "x")
}

func testDuplicateInOneAppend(t *testing.T, f *fixture) {
	a, b, c := f.post("x", "bob"), f.post("x", "bob"), f.post("x", "bob")
	c.Body = []byte("other")
	if err := Send(f.Engine, a, b, c); !errors.Is(err, mailbox.ErrConflict) {
		t.Errorf("conflict in one Append: %v", err)
	}
	if a.Duplicate || !b.Duplicate || b.Seqs[0] != 1 || !errors.Is(c.Err, mailbox.ErrConflict) {
		t.Errorf("duplicates %v %v, second's seqs %d, third: %v", a.Duplicate, b.Duplicate, b.Seqs, c.Err)
	}
	f.wants("bob", "x")
}

// testDuplicatesRace: of many equal posts one is stored, and when any of them
// is done the message is there.
func testDuplicatesRace(t *testing.T, f *fixture) {
	const ids, tries = 100, 8
	var stored atomic.Int64
	var wg sync.WaitGroup
	for range tries {
		wg.Go(func() {
			for i := range ids {
				p := f.post(fmt.Sprint(i), "bob", "alice")
				f.send(p)
				if !p.Duplicate {
					stored.Add(1)
				}
				es, _, err := f.Read(t.Context(), nil, "bob", p.Seqs[0]-1, 1, 1)
				if err != nil || len(es) != 1 || es[0].ID != p.ID {
					t.Errorf("%s is done and not at %d: %v, %v", p.ID, p.Seqs[0], es, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(f.all("bob", 0)); n != ids || stored.Load() != ids {
		t.Errorf("%d entries, %d posts were first; want %d", n, stored.Load(), ids)
	}
}

func testConflict(t *testing.T, f *fixture) {
	f.send(f.post("x", "bob"))
	for what, change := range map[string]func(*mailbox.Post){
		"body": func(p *mailbox.Post) { p.Body = []byte("y") },
		"to":   func(p *mailbox.Post) { p.To = "carol" },
		"type": func(p *mailbox.Post) { p.Type = "image/png" },
		"attr": func(p *mailbox.Post) { p.Attrs = []mailbox.Attr{{Name: "a", Value: "b"}} },
	} {
		p := f.post("x", "bob", "alice")
		p.Records = []mailbox.Record{{Key: "k", Value: []byte("v")}}
		change(p)
		if err := Send(f.Engine, p); !errors.Is(err, mailbox.ErrConflict) {
			t.Errorf("another %s: %v, want ErrConflict", what, err)
		}
	}
	f.wants("bob", "x")
	f.wants("alice")
	if v, err := f.Get(t.Context(), "k"); v != nil || err != nil {
		t.Errorf("a conflict wrote a record: %q, %v", v, err)
	}
	// What the sender does not choose may differ.
	p := f.post("x", "bob")
	p.Type, p.Device, p.Expires = mailbox.TypeText, "laptop", day.Add(time.Hour)
	p.Attrs = []mailbox.Attr{{Name: "xmpp:delay", Value: "1"}}
	if f.send(p); !p.Duplicate {
		t.Error("a retry from another device is not known as one")
	}
}

func testScope(t *testing.T, f *fixture) {
	a, b := f.post("x", "bob"), f.post("x", "bob")
	b.From, b.Body = "carol@x", []byte("y")
	f.send(a, b)
	f.wants("bob", "x", "y")
	// Nor does sender and id run together.
	a, b = f.post("", "dave"), f.post("", "dave")
	a.From, a.ID, a.Body = "s", "tu", []byte("1")
	b.From, b.ID, b.Body = "st", "u", []byte("2")
	f.send(a, b)
	f.wants("dave", "1", "2")
}

func testFresh(t *testing.T, f *fixture) {
	p := f.post("x", "bob")
	p.Fresh = true
	f.send(p)
	again := f.post("x", "bob")
	if f.send(again); !again.Duplicate {
		t.Error("the id of a fresh post was not kept")
	}
	f.wants("bob", "x")
}

func testIDsExpire(t *testing.T, f *fixture) {
	f.keep(mailbox.Retention{Age: 30 * 24 * time.Hour, IDs: time.Hour})
	f.send(f.post("x", "bob"))
	f.clock.advance(59 * time.Minute)
	f.trim()
	p := f.post("x", "bob")
	if f.send(p); !p.Duplicate {
		t.Error("forgotten too early")
	}
	f.clock.advance(2 * time.Minute)
	f.trim()
	p = f.post("x", "bob")
	if f.send(p); p.Duplicate {
		t.Error("not forgotten")
	}
	f.wants("bob", "x", "x")
}

func testStats(t *testing.T, f *fixture) {
	bad := f.post("a", "bob")
	bad.Body = []byte("other")
	f.send(f.post("a", "bob", "alice"), f.post("b", "bob"))
	f.send(f.post("a", "bob"))
	Send(f.Engine, bad)
	st := f.Stats()
	size := uint64(f.post("a", "bob").Size())
	if st.Posts != 3 || st.Duplicates != 1 || st.Failed != 1 || st.Bytes != 3*size || st.Commits == 0 || st.MaxGroup == 0 {
		t.Errorf("stats %+v; want 3 posts, 1 duplicate, 1 failed, %d bytes", st, 3*size)
	}
}
