// Package storetest holds the contract of [mailbox.Store]: what every engine
// promises, as tests that each engine's own tests call, and as crashes.
//
// [Run] is the contract in ordinary life.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Engine is a store that can be told to apply its retention now, wholly.
type Engine interface {
	mailbox.Store
	Trim(ctx context.Context) error
}

// Options is what a test asks of the engine that is opened for it.
type Options struct {
	Retention mailbox.Retention
	Now       func() time.Time // never nil
}

// Open opens an empty engine. The test closes it; closing twice must do no harm.
type Open func(t *testing.T, o Options) Engine

// Run tests that the engines made by open keep the contract.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, f *fixture)
	}{
		{"Append", testAppend},
		{"AppendSeveralBoxes", testSeveralBoxes},
		{"OrderPerCaller", testOrder},
		{"Whole", testWhole},
		{"BigBody", testBigBody},
		{"Names", testNames},
		{"Duplicate", testDuplicate},
		{"DuplicateInOneAppend", testDuplicateInOneAppend},
		{"DuplicatesRace", testDuplicatesRace},
		{"Conflict", testConflict},
		{"IDsArePerSender", testScope},
		{"Fresh", testFresh},
		{"IDsExpire", testIDsExpire},
		{"Records", testRecords},
		{"Scan", testScan},
		{"Read", testRead},
		{"Tail", testTail},
		{"TailAgreesWithRead", testTailAgrees},
		{"Expiry", testExpiry},
		{"TrimCount", testTrimCount},
		{"TrimAge", testTrimAge},
		{"ClockSetBack", testClockBack},
		{"Cursor", testCursor},
		{"CursorInOrder", testCursorInOrder},
		{"CursorsExpire", testCursorsExpire},
		{"DropBox", testDropBox},
		{"Watch", testWatch},
		{"WatchCallsBack", testWatchCallsBack},
		{"Ready", testReady},
		{"Close", testClose},
		{"Stats", testStats},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fixture{T: t, open: open, clock: new(clock)}
			f.clock.set(day)
			f.Engine = open(t, Options{Now: f.clock.now})
			t.Cleanup(func() { f.Engine.Close() })
			c.test(t, f)
		})
	}
}

// day is when all tests begin.
var day = time.Date(2030, 5, 17, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test sets.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *clock) set(t time.Time)         { c.ms.Store(t.UnixMilli()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// fixture is an engine and what tests say to it.
type fixture struct {
	*testing.T
	Engine
	open  Open
	clock *clock
}

// keep replaces the engine by an empty one with retention r.
func (f *fixture) keep(r mailbox.Retention) {
	f.Helper()
	f.Engine.Close()
	f.Engine = f.open(f.T, Options{Retention: r, Now: f.clock.now})
}

// post makes a post from alice to boxes, with body as its id too.
func (f *fixture) post(body string, boxes ...string) *mailbox.Post {
	return &mailbox.Post{
		Message: mailbox.Message{ID: body, From: "alice@x", To: boxes[0], Time: f.clock.now(), Body: []byte(body)},
		Boxes:   boxes,
	}
}

// send appends posts and waits until they are done.
func (f *fixture) send(posts ...*mailbox.Post) {
	f.Helper()
	if err := Send(f.Engine, posts...); err != nil {
		f.Fatal(err)
	}
}

// fill sends n posts called 1, 2, … to box.
func (f *fixture) fill(box string, n int) {
	f.Helper()
	posts := make([]*mailbox.Post, n)
	for i := range posts {
		posts[i] = f.post(fmt.Sprint(i+1), box)
		posts[i].Fresh, posts[i].ID = true, box+posts[i].ID
	}
	f.send(posts...)
}

// Send appends posts and blocks until the last is done. It returns the first
// error of any.
func Send(s mailbox.Store, posts ...*mailbox.Post) error {
	var wg sync.WaitGroup
	wg.Add(len(posts))
	for _, p := range posts {
		p.Notify = mailbox.WakeFunc(wg.Done)
	}
	s.Append(posts...)
	wg.Wait()
	for _, p := range posts {
		if p.Err != nil {
			return p.Err
		}
	}
	return nil
}

// all reads box from after to its end in small steps.
func (f *fixture) all(box string, after mailbox.Seq) []mailbox.Entry {
	f.Helper()
	es, err := ReadAll(f.Context(), f.Engine, box, after)
	if err != nil {
		f.Fatal(err)
	}
	return es
}

// ReadAll reads box from after to its end, and checks that each entry names
// the one before.
func ReadAll(ctx context.Context, s mailbox.Store, box string, after mailbox.Seq) ([]mailbox.Entry, error) {
	var es []mailbox.Entry
	for {
		more, end, err := s.Read(ctx, nil, box, after, 100, 1<<20)
		if err != nil {
			return es, err
		}
		for _, e := range more {
			if e.Seq <= after || e.Seq > end || e.Prev >= e.Seq || e.Prev < after {
				return es, fmt.Errorf("%s: read after %d to %d gave seq %d prev %d", box, after, end, e.Seq, e.Prev)
			}
			after = e.Seq
		}
		es = append(es, more...)
		if end == after && len(more) == 0 {
			return es, nil
		}
		after = end
	}
}

// bodies is what es say.
func bodies(es []mailbox.Entry) []string {
	ss := make([]string, len(es))
	for i, e := range es {
		ss[i] = string(e.Body)
	}
	return ss
}

// wants checks what box holds.
func (f *fixture) wants(box string, want ...string) {
	f.Helper()
	if got := bodies(f.all(box, 0)); !slices.Equal(got, want) {
		f.Errorf("%s holds %q, want %q", box, got, want)
	}
}

// wantCursor checks where a device stands; zero means that it is not known.
func (f *fixture) wantCursor(box, device string, want mailbox.Seq) {
	f.Helper()
	c, ok, err := f.Cursor(f.Context(), box, device)
	if err != nil || c.Seq != want || ok != (want > 0) {
		f.Errorf("cursor of %s in %s is %d, %v, %v; want %d", device, box, c.Seq, ok, err, want)
	}
}

func (f *fixture) trim() {
	f.Helper()
	if err := f.Trim(f.Context()); err != nil {
		f.Fatal(err)
	}
}
