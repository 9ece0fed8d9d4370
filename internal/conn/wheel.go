package conn

import (
	"math/bits"
	"time"
)

// wheel is the alarms of a loop: a ring of slots, one per tick.
//
//	slot  now  +1  +2  ...  +4095
//	       │        ╰─ conn ─ conn
//	       ╰─ conn
//
// It is lazy. A connection keeps its deadline itself and stands in some slot
// that is not later. Moving the deadline away, which is what happens with
// every packet of a connection with a keep-alive, touches nothing here: when
// the slot passes, the connection is looked at and put where it belongs now.
// What is farther away than the ring is long is looked at once a turn.
type wheel struct {
	tick int64 // nanoseconds
	cur  int64 // the tick that has passed last, counted from 1970
	size int   // connections in it
	head [wheelSize]*Conn
	some [wheelSize / 64]uint64 // a bit for each slot that is not empty
}

const wheelSize = 4096

func (w *wheel) init(tick time.Duration, now time.Time) {
	w.tick = int64(tick)
	w.cur = now.UnixNano() / w.tick
}

// set puts c into a slot that is not later than its deadline.
func (w *wheel) set(c *Conn) {
	at := c.due()
	if at == 0 {
		return // the slot will pass
	}
	// The slot passes when its tick has begun, so it is the one after.
	ahead := min(max(at/w.tick+1-w.cur, 1), wheelSize-1)
	slot := int32((w.cur + ahead) & (wheelSize - 1))
	if c.slot >= 0 {
		if has := (int64(c.slot) - w.cur) & (wheelSize - 1); has <= ahead && has > 0 {
			return
		}
		w.remove(c)
	}
	c.slot = slot
	c.next = w.head[slot]
	if c.next != nil {
		c.next.prev = c
	}
	w.head[slot] = c
	w.some[slot/64] |= 1 << (slot % 64)
	w.size++
}

func (w *wheel) remove(c *Conn) {
	if c.slot < 0 {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		w.head[c.slot] = c.next
		if c.next == nil {
			w.some[c.slot/64] &^= 1 << (c.slot % 64)
		}
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev, c.slot = nil, nil, -1
	w.size--
}

// advance rings those whose deadline has come, in the order of ticks.
func (w *wheel) advance(now int64) {
	end := now / w.tick
	switch {
	case end < w.cur:
		w.cur = end // the clock was set back: each slot comes again
	case end-w.cur > wheelSize:
		w.cur = end - wheelSize // each slot once is enough
	}
	for w.cur < end {
		w.cur++
		if w.size == 0 {
			w.cur = end
			return
		}
		slot := w.cur & (wheelSize - 1)
		for c := w.head[slot]; c != nil; c = w.head[slot] {
			w.remove(c)
			if at := c.due(); at != 0 && at <= now {
				c.ring(now)
			} else {
				w.set(c)
			}
		}
	}
}

// next is when the next slot passes that is not empty; zero if there is none.
func (w *wheel) next() time.Time {
	if w.size == 0 {
		return time.Time{}
	}
	first := int(w.cur+1) & (wheelSize - 1)
	for i := 0; i <= len(w.some); i++ {
		word := w.some[(first/64+i)%len(w.some)]
		if i == 0 {
			word &= ^uint64(0) << (first % 64)
		}
		if word != 0 {
			slot := (first/64+i)%len(w.some)*64 + bits.TrailingZeros64(word)
			ahead := (int64(slot) - w.cur) & (wheelSize - 1)
			return time.Unix(0, (w.cur+ahead)*w.tick)
		}
	}
	return time.Time{}
}
