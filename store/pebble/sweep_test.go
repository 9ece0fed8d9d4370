package pebble

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// TestSweepMeetsDrop: a sweep that has seen a box before it was dropped does
// not give its numbers out again.
func TestSweepMeetsDrop(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "store", Options{FS: fs, Sweep: -1})
	const n = 5
	for i := range n {
		if err := storetest.Send(s, storetest.Post(0, i)); err != nil {
			t.Fatal(err)
		}
	}
	const box = "writer0@x"
	drop := &trim{box: box, drop: true, done: make(chan error, 1)}
	late := &trim{box: box, floor: 2, done: make(chan error, 1)}
	s.q.mu.Lock() // so that both are in one group
	s.q.ops = append(s.q.ops, op{trim: drop}, op{trim: late})
	s.q.some.Signal()
	s.q.mu.Unlock()
	if err := errors.Join(<-drop.done, <-late.done); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Trimmed != n {
		t.Errorf("%d trimmed, want %d", st.Trimmed, n)
	}
	s.Close()
	s = open(t, "store", Options{FS: fs, Sweep: -1})
	if info, err := s.Info(t.Context(), box); err != nil || info != (mailbox.BoxInfo{First: n + 1, Last: n}) {
		t.Errorf("after a restart: %+v, %v", info, err)
	}
}
