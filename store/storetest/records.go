package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
)

func testRecords(t *testing.T, f *fixture) {
	get := func(key, want string) {
		t.Helper()
		if v, err := f.Get(t.Context(), key); err != nil || string(v) != want || (v == nil) != (want == "") {
			t.Errorf("%s = %q, %v; want %q", key, v, err, want)
		}
	}
	put := func(rs ...mailbox.Record) {
		t.Helper()
		f.send(&mailbox.Post{Records: rs})
	}
	get("k", "")
	put(mailbox.Record{Key: "k", Value: []byte("1")}, mailbox.Record{Key: "l", Value: []byte("2")})
	get("k", "1")
	get("l", "2")
	put(mailbox.Record{Key: "k", Value: []byte("3")}, mailbox.Record{Key: "l"})
	get("k", "3")
	get("l", "")
	put(mailbox.Record{Key: "m", Value: []byte("1")}, mailbox.Record{Key: "m", Value: []byte("2")})
	get("m", "2")
	put(mailbox.Record{Key: "empty", Value: []byte{}})
	if v, err := f.Get(t.Context(), "empty"); v == nil || len(v) != 0 || err != nil {
		t.Errorf("an empty record is %#v, %v", v, err)
	}

	// With a message, and with its retry.
	for i, want := range []string{"4", "5"} {
		p := f.post("x", "bob")
		p.Records = []mailbox.Record{{Key: "k", Value: []byte(want)}}
		if f.send(p); p.Duplicate != (i == 1) {
			t.Errorf("post %d: duplicate %v", i, p.Duplicate)
		}
		get("k", want)
	}
	f.wants("bob", "x")
}

func testScan(t *testing.T, f *fixture) {
	var rs []mailbox.Record
	for _, k := range []string{"b", "a/2", "a", "a/10", "a/1", "a0", "\U0010ffff", "\U0010ffff/x"} {
		rs = append(rs, mailbox.Record{Key: k, Value: []byte("=" + k)})
	}
	f.send(&mailbox.Post{Records: rs})
	for prefix, want := range map[string][]string{
		"":           {"a", "a/1", "a/10", "a/2", "a0", "b", "\U0010ffff", "\U0010ffff/x"},
		"a/":         {"a/1", "a/10", "a/2"},
		"c":          nil,
		"\U0010ffff": {"\U0010ffff", "\U0010ffff/x"},
	} {
		var got []string
		err := f.Scan(t.Context(), prefix, func(k string, v []byte) bool {
			if string(v) != "="+k {
				t.Errorf("%q = %q", k, v)
			}
			if got, err := f.Get(t.Context(), k); err != nil || string(got) != string(v) { // calling back is allowed
				t.Errorf("Get in Scan: %q, %v", got, err)
			}
			got = append(got, k)
			return true
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("scan %q: %q, %v; want %q", prefix, got, err, want)
		}
	}
	n := 0
	f.Scan(t.Context(), "a", func(string, []byte) bool { n++; return n < 2 })
	if n != 2 {
		t.Errorf("scan went on after false: %d calls", n)
	}
}

// testWatch: a ring comes after the entry can be read, and before its post is
// done, and the newest is never left out.
func testWatch(t *testing.T, f *fixture) {
	var rung, other atomic.Uint64
	f.Watch(func(box string, last mailbox.Seq) {
		if box == "alice" {
			other.Store(uint64(last))
			return
		}
		if box != "bob" {
			t.Errorf("rang for %q", box)
		}
		if es, _, err := f.Read(t.Context(), nil, box, last-1, 1, 1); err != nil || len(es) != 1 {
			t.Errorf("rang for %d: %d entries readable, %v", last, len(es), err)
		}
		for {
			old := rung.Load()
			if uint64(last) <= old || rung.CompareAndSwap(old, uint64(last)) {
				return
			}
		}
	})
	for i := range 50 {
		var posts []*mailbox.Post
		for j := range 10 {
			posts = append(posts, f.post(fmt.Sprintf("%d.%d", i, j), "bob", "alice"))
		}
		f.send(posts...)
		if want := uint64(posts[9].Seqs[0]); rung.Load() < want || other.Load() < want {
			t.Fatalf("%d is done, rung for %d and %d", want, rung.Load(), other.Load())
		}
	}
	before := rung.Load()
	f.send(f.post("0.0", "bob")) // a duplicate is no news
	if rung.Load() != before {
		t.Error("rang for a duplicate")
	}
}

// testWatchCallsBack: a ring may ask everything that does not wait.
func testWatchCallsBack(t *testing.T, f *fixture) {
	var tail atomic.Int64
	f.Watch(func(box string, last mailbox.Seq) {
		if es, ok := f.Tail(nil, box, last-1, 10); ok && len(es) > 0 {
			tail.Add(1)
		}
		f.MoveCursor(box, "phone", last)
		f.Stats()
	})
	f.send(f.post("a", "bob"))
	f.send(f.post("b", "bob"))
	if tail.Load() != 2 {
		t.Errorf("%d of 2 entries were in the tail when rung", tail.Load())
	}
	f.wantCursor("bob", "phone", 2)
}

func testReady(t *testing.T, f *fixture) {
	if err := f.Ready(); err != nil {
		t.Errorf("a new store is not ready: %v", err)
	}
	f.Close()
	if err := f.Ready(); !errors.Is(err, mailbox.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}

// testClose: what was queued is carried out, what comes later is refused.
func testClose(t *testing.T, f *fixture) {
	var posts []*mailbox.Post
	for i := range 500 {
		posts = append(posts, f.post(fmt.Sprint(i), "bob"))
	}
	f.Append(posts...)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range posts {
		if !p.Done() || p.Err != nil {
			t.Fatalf("post %s: done %v, %v", p.ID, p.Done(), p.Err)
		}
	}
	late := f.post("late", "bob")
	if err := Send(f.Engine, late); !errors.Is(err, mailbox.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	ctx := t.Context()
	_, _, err := f.Read(ctx, nil, "bob", 0, 1, 1)
	_, err2 := f.Info(ctx, "bob")
	_, _, err3 := f.Cursor(ctx, "bob", "phone")
	_, err4 := f.Cursors(ctx, "bob")
	_, err5 := f.Get(ctx, "k")
	err6 := f.Scan(ctx, "", func(string, []byte) bool { return true })
	err7 := f.DropBox(ctx, "bob")
	for i, err := range []error{err, err2, err3, err4, err5, err6, err7} {
		if !errors.Is(err, mailbox.ErrClosed) {
			t.Errorf("call %d after Close: %v", i+1, err)
		}
	}
	if _, ok := f.Tail(nil, "bob", 0, 1); ok {
		t.Error("Tail answers after Close")
	}
	f.MoveCursor("bob", "phone", 1)
	f.DropCursor("bob", "phone")
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
