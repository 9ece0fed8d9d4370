package pebble

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// TestMoveIsDurableByItself: a cursor's move waits for company, and not longer,
// also when the one before it found some.
func TestMoveIsDurableByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(10)
		taken := make(chan map[place]move)
		go func() { // ends when the queue is closed
			defer close(taken)
			for {
				_, moves, ok := q.take(func() bool { return false })
				if !ok {
					return
				}
				if moves != nil {
					taken <- moves
				}
			}
		}()
		phone := place{"bob", "phone"}
		to := func(seq mailbox.Seq) {
			q.change(phone, func(m move) move { m.set, m.seq = true, seq; return m })
		}
		to(1)
		q.put([]*mailbox.Post{{}}) // takes the move along, before its time
		if m := <-taken; m[phone].seq != 1 {
			t.Errorf("with a post: %+v", m)
		}
		time.Sleep(2 * company)
		to(2)
		select {
		case m := <-taken:
			if m[phone].seq != 2 {
				t.Errorf("alone: %+v", m)
			}
		case <-time.After(time.Minute):
			t.Error("a move waits for company for ever")
		}
		q.close()
		<-taken
	})
}

// TestPendingVersion: whoever looks for a cursor begins again when moves change
// hands, and not because others are moved meanwhile.
func TestPendingVersion(t *testing.T) {
	q := newQueue(10)
	_, _, before := q.pending(place{"bob", "phone"})
	q.change(place{"alice", "phone"}, func(m move) move { m.set, m.seq = true, 1; return m })
	if _, _, now := q.pending(place{"bob", "phone"}); now != before {
		t.Error("the move of another cursor is a change of hands")
	}
	q.put([]*mailbox.Post{{}})
	if _, moves, _ := q.take(func() bool { return false }); len(moves) != 1 {
		t.Fatalf("took %v", moves)
	}
	if _, _, now := q.pending(place{"bob", "phone"}); now == before {
		t.Error("taking moves is no change of hands")
	}
}

// TestTakeIsBounded: by the bytes of what is taken, and at least one.
func TestTakeIsBounded(t *testing.T) {
	q := newQueue(10)
	big := func() *mailbox.Post {
		return &mailbox.Post{Message: mailbox.Message{Body: make([]byte, maxBatch/2)}, Boxes: []string{"a", "b"}}
	}
	q.put([]*mailbox.Post{big(), big(), {}})
	q.change(place{"bob", "phone"}, func(m move) move { m.set = true; return m })
	var got []int
	for len(q.ops) > 0 {
		ops, moves, _ := q.take(func() bool { return false })
		if (moves != nil) != (len(q.ops) == 0) {
			t.Errorf("took %d moves, %d posts are left", len(moves), len(q.ops))
		}
		got = append(got, len(ops))
		q.back(ops)
	}
	if !slices.Equal(got, []int{1, 2}) {
		t.Errorf("took %d posts at a time", got)
	}
}
