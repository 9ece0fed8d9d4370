package link

import (
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// hold is what a connection has whose client has been in the background.
//
// Each packet wakes the device's radio, and that costs as much as the radio's
// staying awake for ten seconds. So messages that can wait do: for the client's
// next heartbeat, or whatever else wakes it, and then all of them go at once,
// in their order. What comes behind a held message and cannot wait takes it
// along.
type hold struct {
	most   int64 // milliseconds that a message may be held; zero in the foreground
	normal bool  // those of normal urgency, too
	until  int64 // Unix milliseconds, when what is held goes; zero if nothing is
	going  bool  // what there is goes, until there is no more
	err    error // of a read, behind what is held
}

// awake is how long a radio stays awake after a packet, at least.
const awake = 2000

// rest sets how long the client lets messages be held.
func (l *link) rest(ms uint64, normal bool) uint64 {
	ms = min(ms, uint64(l.d.cfg.MaxHold.Milliseconds()))
	if l.hold == nil {
		l.hold = new(hold)
	}
	l.hold.most, l.hold.normal = int64(ms), normal
	if l.signals != nil {
		l.signals.wants.Store(ms == 0) // no word of the moment wakes a device
	}
	return ms
}

// gather reads what is new and reports whether to send what there is now. If
// not, it waits in held, and the alarm is set.
func (l *link) gather() bool {
	h, now := l.hold, l.c.Now().UnixMilli()
	if h.going || h.most == 0 || now < l.heard+awake || h.until != 0 && now >= h.until {
		return l.release()
	}
	space := scratch.Get().(*[batch]mailbox.Entry)
	defer func() {
		clear(space[:])
		scratch.Put(space)
	}()
	for {
		es, err := l.s.Next(space[:0], batch-len(l.held))
		l.held = append(l.held, es...)
		if err != nil {
			h.err = err
			return l.release()
		}
		for i := range es {
			if !h.waits(&es[i], now) {
				return l.release()
			}
		}
		if len(l.held) == batch {
			return l.release()
		}
		if len(es) == 0 {
			break
		}
	}
	if h.until != 0 {
		l.arm()
	}
	return false
}

// waits reports whether e can wait, and takes note of how long.
func (h *hold) waits(e *mailbox.Entry, now int64) bool {
	if e.Urgency > mailbox.UrgencyNormal || e.Urgency == mailbox.UrgencyNormal && !h.normal {
		return false
	}
	until := now + h.most
	if !e.Expires.IsZero() { // it is to come before it has lost its worth
		until = min(until, e.Expires.UnixMilli()-time.Second.Milliseconds())
	}
	if h.until == 0 || until < h.until {
		h.until = until
	}
	return h.until > now
}

func (l *link) release() bool {
	l.hold.until, l.hold.going = 0, true
	return true
}

// next is the session's Next, with the error that gather met.
func (l *link) next(buf []mailbox.Entry) ([]mailbox.Entry, error) {
	if h := l.hold; h != nil && h.err != nil {
		err := h.err
		h.err = nil
		return nil, err
	}
	es, err := l.s.Next(buf, batch-int((l.out.Place+1)%runLength)) // and ends where runs do
	if l.hold != nil && len(es) == 0 && err == nil {
		l.hold.going = false
	}
	return es, err
}

// setHold takes what SET says of it.
func (l *link) setHold(f *frame.Set, answer *frame.Set) {
	if f.Hold == nil {
		return
	}
	ms := l.rest(*f.Hold, f.Normal != 0)
	answer.Hold = &ms
	if ms > 0 && f.Normal != 0 {
		answer.Normal = 1
	}
}
