package inbox

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/posthouse-im/posthouse/client"
)

var errGone = errors.New("gone")

func TestOrderAndEnd(t *testing.T) {
	b := New()
	for i := range 3 {
		b.Put(client.Message{Seq: uint64(i + 1)})
	}
	b.End(errGone)
	b.End(errors.New("a second reason"))
	b.Put(client.Message{Seq: 4})
	for i := range 3 {
		if m, err := b.Take(t.Context()); err != nil || m.Seq != uint64(i+1) {
			t.Fatalf("message %d is %d, %v", i+1, m.Seq, err)
		}
	}
	for range 2 {
		if _, err := b.Take(t.Context()); err != errGone {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestCloseGivesNothingMore(t *testing.T) {
	b := New()
	b.Put(client.Message{Seq: 1})
	b.Close()
	if m, err := b.Take(t.Context()); err != client.ErrClosed {
		t.Errorf("after Close: %d, %v", m.Seq, err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Take(ctx); err != context.Canceled {
		t.Error(err)
	}
}

// Every reader that waits is woken, for a message or for the end.
func TestManyReaders(t *testing.T) {
	b := New()
	const readers, messages = 8, 1000
	var mu sync.Mutex
	seen := map[uint64]int{}
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for {
				m, err := b.Take(context.Background())
				if err != nil {
					return
				}
				mu.Lock()
				seen[m.Seq]++
				mu.Unlock()
			}
		})
	}
	for i := range messages {
		b.Put(client.Message{Seq: uint64(i)})
	}
	b.End(errGone)
	wg.Wait()
	if len(seen) != messages {
		t.Errorf("%d of %d messages were given", len(seen), messages)
	}
	for seq, n := range seen {
		if n != 1 {
			t.Errorf("message %d was given %d times", seq, n)
		}
	}
}
