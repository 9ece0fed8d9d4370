package link

import (
	"slices"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

const (
	runLength = 16      // messages of a run, at most
	runBytes  = 4 << 10 // of its frames
)

// runs remembers the frames of late runs of messages. What goes to many devices
// of one box is the same to those that stand at the same place and know the
// same peers, and so is encoded once or twice. At worst it keeps 4 MiB of frames.
type runs struct {
	slots [1024]struct {
		seen atomic.Uint64 // a state in which a link was without finding its run
		run  atomic.Pointer[run]
	}
}

// run is what a writer in one state made of messages of one box. A place in a
// box is never given to another message, so places tell which they are.
type run struct {
	user          string
	places        []mailbox.Seq
	deflates      bool
	maxFrame      uint32
	before, after frame.Mark
	frames        []byte
}

// run sends the first entries, while there is room, and returns how many.
func (l *link) run(es []mailbox.Entry) (n int) {
	es = es[:together(es)]
	state := l.out.Hash()
	slot := &l.d.runs.slots[state%uint64(len(l.d.runs.slots))]
	if r := slot.run.Load(); r != nil && r.suits(l, es) && l.fits(len(r.frames)) {
		l.c.SetOut(append(l.c.Out(), r.frames...))
		l.out.Jump(&r.after)
		l.count(len(r.frames))
		return len(es)
	}
	// Others may come if one was here before. A device alone pays for nothing.
	var r *run
	if slot.seen.Swap(state) == state && ordered(es, l.out.Place) {
		r = &run{user: l.s.Who().User, deflates: l.deflates(), maxFrame: l.maxFrame, before: l.out.Mark()}
	}
	start := len(l.c.Out())
	for n < len(es) && l.room() {
		l.message(&es[n])
		n++
	}
	if frames := l.c.Out()[start:]; r != nil && n == len(es) && len(frames) <= runBytes {
		r.after, r.frames = l.out.Mark(), slices.Clone(frames)
		for i := range es {
			r.places = append(r.places, es[i].Seq)
		}
		slot.run.Store(r)
	}
	return n
}

// suits reports whether r is what l would make of es.
func (r *run) suits(l *link, es []mailbox.Entry) bool {
	return l.out.At(&r.before) && l.maxFrame == r.maxFrame && l.deflates() == r.deflates &&
		!l.d.traces && l.s.Who().User == r.user && ordered(es, l.out.Place) &&
		slices.EqualFunc(es, r.places, func(e mailbox.Entry, p mailbox.Seq) bool { return e.Seq == p })
}

// together is how many of es make a run. Runs end at the same places for all
// devices, whatever came at once to each of them.
func together(es []mailbox.Entry) int {
	return min(len(es), runLength-int(es[0].Seq%runLength))
}

// ordered reports that nothing is missing before or between es for one who is
// at place, so that no frame says so.
func ordered(es []mailbox.Entry, place uint64) bool {
	for i := range es {
		if uint64(es[i].Prev) > place {
			return false
		}
		place = uint64(es[i].Seq)
	}
	return true
}
