package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Writers is how many senders a [Ledger] has. Each sends to everybody's box and
// to his own.
const Writers = 4

const everybody = "everybody@x"

// Ledger is what senders were told: it is compared with what a store holds
// after a crash. Number n of writer w is acknowledged when it is in acked.
type Ledger struct {
	mu    sync.Mutex
	acked [Writers][]mailbox.Seq // the place in everybody's box of each number
}

// Post makes number n of writer w.
func Post(w, n int) *mailbox.Post {
	size := 100
	if n%97 == 0 {
		size = 40 << 10 // more than a block of the log
	}
	body := fmt.Sprintf("%d %d ", w, n)
	from := fmt.Sprintf("writer%d@x", w)
	return &mailbox.Post{
		Message: mailbox.Message{ID: fmt.Sprint(n), From: from, To: everybody, Time: day, Body: []byte(body + strings.Repeat(".", size))},
		Boxes:   []string{everybody, from},
	}
}

// Ack notes that number n of writer w was acknowledged at seq. It is an error
// if it was before, at another place.
func (l *Ledger) Ack(w, n int, seq mailbox.Seq) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.acked[w]
	switch {
	case n < len(a) && a[n] != seq:
		return fmt.Errorf("writer %d number %d was acknowledged at %d, and again at %d", w, n, a[n], seq)
	case n > len(a):
		return fmt.Errorf("writer %d: number %d was acknowledged before %d", w, n, len(a))
	case n == len(a):
		l.acked[w] = append(a, seq)
	}
	return nil
}

// Next is the first number of w that was not acknowledged.
func (l *Ledger) Next(w int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked[w])
}

// Total is how many were acknowledged.
func (l *Ledger) Total() (n int) {
	for w := range Writers {
		n += l.Next(w)
	}
	return n
}

// Clone returns what is acknowledged now.
func (l *Ledger) Clone() *Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := new(Ledger)
	for w := range Writers {
		c.acked[w] = slices.Clone(l.acked[w])
	}
	return c
}

// Check compares s, opened again after a crash, with the ledger: nothing that
// was acknowledged is missing, nothing is there twice or out of order, what is
// in one of a post's boxes is in the other, and no cursor stands where nothing
// is.
func (l *Ledger) Check(ctx context.Context, s mailbox.Store) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := ReadAll(ctx, s, everybody, 0)
	if err != nil {
		return err
	}
	var next [Writers]int
	for i, e := range all {
		var w, n int
		if _, err := fmt.Sscan(string(e.Body), &w, &n); err != nil {
			return fmt.Errorf("entry %d holds %.40q", e.Seq, e.Body)
		}
		if e.Seq != mailbox.Seq(i+1) || n != next[w] {
			return fmt.Errorf("entry %d, at place %d, is number %d of writer %d, want %d", e.Seq, i+1, n, w, next[w])
		}
		if n < len(l.acked[w]) && l.acked[w][n] != e.Seq {
			return fmt.Errorf("number %d of writer %d is at %d, was acknowledged at %d", n, w, e.Seq, l.acked[w][n])
		}
		next[w]++
	}
	for w := range Writers {
		if next[w] < len(l.acked[w]) {
			return fmt.Errorf("writer %d: %d acknowledged, %d there", w, len(l.acked[w]), next[w])
		}
		own, err := ReadAll(ctx, s, fmt.Sprintf("writer%d@x", w), 0)
		if err != nil {
			return err
		}
		for i, e := range own {
			if want := fmt.Sprintf("%d %d ", w, i); !strings.HasPrefix(string(e.Body), want) {
				return fmt.Errorf("writer %d's own box has %.20q at %d", w, e.Body, e.Seq)
			}
		}
		if len(own) != next[w] {
			return fmt.Errorf("writer %d has %d in everybody's box and %d in his own", w, next[w], len(own))
		}
	}
	cs, err := s.Cursors(ctx, everybody)
	if err != nil {
		return err
	}
	for _, c := range cs {
		if c.Seq > mailbox.Seq(len(all)) {
			return fmt.Errorf("cursor of %s is at %d, of %d", c.Device, c.Seq, len(all))
		}
	}
	return nil
}

// Write sends from each writer, from the first number not acknowledged in
// from, with several on their way, until ctx ends or a post fails. It calls
// acked for each that is acknowledged, one at a time for each writer and in
// order. When it returns nothing is on its way.
func Write(ctx context.Context, s mailbox.Store, from [Writers]int, acked func(w, n int, seq mailbox.Seq)) {
	const inFlight = 32
	var wg sync.WaitGroup
	for w := range Writers {
		wg.Go(func() {
			bell := make(chan struct{}, inFlight)
			var out []*mailbox.Post
			done, failed := from[w], false
			for n := from[w]; ; {
				for len(out) < inFlight && ctx.Err() == nil && !failed {
					p := Post(w, n)
					p.Notify = mailbox.WakeFunc(func() { bell <- struct{}{} })
					s.Append(p)
					out = append(out, p)
					n++
				}
				if len(out) == 0 {
					return
				}
				<-bell
				for len(out) > 0 && out[0].Done() {
					p := out[0]
					out = out[1:]
					if failed = failed || p.Err != nil; failed {
						continue
					}
					acked(w, done, p.Seqs[0])
					done++
					s.MoveCursor(everybody, "phone", p.Seqs[0])
				}
			}
		})
	}
	wg.Wait()
}
