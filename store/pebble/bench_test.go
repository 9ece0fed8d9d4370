package pebble

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// sender keeps a number of posts in flight.
type sender struct {
	s     *Store
	from  string
	boxes []string
	n     int
	left  *atomic.Int64
	body  []byte
	free  chan struct{}
}

func (d *sender) Wake() { d.free <- struct{}{} }

// next posts one more.
func (d *sender) next() {
	d.n++
	p := &mailbox.Post{Message: mailbox.Message{ID: fmt.Sprint(d.n), From: d.from, To: d.boxes[0], Body: d.body}, Boxes: d.boxes, Notify: d}
	d.s.Append(p)
}

func benchmarkAppend(b *testing.B, senders, inFlight, boxes int) {
	s := open(b, b.TempDir(), Options{Sweep: -1})
	body := make([]byte, 256)
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	used := cpu()
	b.ResetTimer()
	for i := range senders {
		from := fmt.Sprintf("alice%d@example.org", i)
		d := &sender{s: s, from: from, boxes: []string{fmt.Sprintf("bob%d@example.org", i), from}[:boxes], left: &left, body: body, free: make(chan struct{}, inFlight)}
		go func() {
			for range inFlight {
				d.free <- struct{}{}
			}
			out := 0
			for range d.free {
				if left.Add(-1) < 0 {
					break
				}
				out++
				d.next()
			}
			done <- struct{}{}
		}()
	}
	for range senders {
		<-done
	}
	s.Close()
	b.StopTimer()
	st := s.Stats()
	b.ReportMetric(float64(cpu()-used)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
	b.ReportMetric(float64(st.Posts)/float64(st.Commits), "posts/group")
}

// cpu is what this process has used so far, in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkAppend1x64(b *testing.B)     { benchmarkAppend(b, 1, 64, 1) }
func BenchmarkAppend64x64(b *testing.B)    { benchmarkAppend(b, 64, 64, 1) }
func BenchmarkAppend50x64Two(b *testing.B) { benchmarkAppend(b, 50, 64, 2) }

// filled opens a store with one box of 10,000 entries.
func filled(b *testing.B) *Store {
	s := open(b, b.TempDir(), Options{Sweep: -1})
	posts := make([]*mailbox.Post, 10000)
	for i := range posts {
		posts[i] = &mailbox.Post{Message: mailbox.Message{ID: fmt.Sprint(i), From: "alice@x", To: "bob@x", Body: make([]byte, 256)}, Boxes: []string{"bob@x"}}
	}
	if err := storetest.Send(s, posts...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return s
}

// BenchmarkTail is a live delivery: the last entry, from memory.
func BenchmarkTail(b *testing.B) {
	s := filled(b)
	var buf []mailbox.Entry
	for b.Loop() {
		var ok bool
		if buf, ok = s.Tail(buf[:0], "bob@x", 9999, 10); !ok || len(buf) != 1 {
			b.Fatal("not in the tail")
		}
	}
}

// BenchmarkTailNothing asks an idle box whether there is anything new.
func BenchmarkTailNothing(b *testing.B) {
	s := filled(b)
	for b.Loop() {
		if _, ok := s.Tail(nil, "bob@x", 10000, 10); !ok {
			b.Fatal("not known")
		}
	}
}

// BenchmarkRead reads 100 entries from the database.
func BenchmarkRead(b *testing.B) {
	s := filled(b)
	var buf []mailbox.Entry
	after := mailbox.Seq(0)
	for b.Loop() {
		var err error
		if buf, after, err = s.Read(b.Context(), buf[:0], "bob@x", after, 100, 1<<20); err != nil || len(buf) != 100 {
			b.Fatal(len(buf), err)
		}
		after %= 10000
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/entry")
}
