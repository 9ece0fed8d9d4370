package link

import (
	"errors"
	"sync"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// batch is how many entries are asked for at once.
const batch = 64

// scratch is space for entries, so that an idle session holds none.
var scratch = sync.Pool{New: func() any { return new([batch]mailbox.Entry) }}

// deliver sends what there is, as far as the connection and the client's
// window have room. What is left over of a batch waits in held.
func (l *link) deliver() {
	space := scratch.Get().(*[batch]mailbox.Entry)
	defer func() {
		clear(space[:])
		scratch.Put(space)
	}()
	l.stalled = false
	if l.hold != nil && !l.gather() {
		return
	}
	for l.state == welcomed {
		es := l.held
		if len(es) == 0 {
			if !l.room() {
				return
			}
			var err error
			es, err = l.next(space[:0])
			if err != nil && !l.trimmed(err) {
				return
			}
			if len(es) == 0 {
				if err == nil {
					return
				}
				continue
			}
		}
		n := l.messages(es)
		if n == len(es) {
			l.held = nil
			continue
		}
		if l.held == nil {
			l.held = append([]mailbox.Entry(nil), es[n:]...)
		} else {
			l.held = es[n:]
		}
		return
	}
}

// fits reports whether n bytes more stay within what room allows.
func (l *link) fits(n int) bool {
	return int64(l.sent-l.freed)+int64(n) <= int64(l.window) && l.c.Room() >= n
}

// room reports whether a message may be sent now. If not, it is an
// acknowledgement that makes room, or the engine, which wakes us.
func (l *link) room() bool {
	if l.sent != l.freed && l.sent-l.freed >= l.window {
		l.stalled = true
		return false
	}
	return l.c.Room() > 0
}

// messages sends entries while there is room, and returns how many.
func (l *link) messages(es []mailbox.Entry) (n int) {
	for n < len(es) && l.room() {
		n += l.run(es[n:])
	}
	l.d.stats.messages.Add(uint64(n))
	return n
}

// message sends one.
func (l *link) message(e *mailbox.Entry) {
	m := frame.Message{
		Seq: uint64(e.Seq), Prev: max(uint64(e.Prev), l.out.Place), ID: e.ID, From: e.From, Device: e.Device,
		Time: e.Time.UnixMilli(), Media: e.Type, Urgency: urgency(e.Urgency), Body: e.Body,
	}
	if e.To != l.s.Who().User {
		m.To = e.To
	}
	if m.Media == mailbox.TypeText {
		m.Media = ""
	}
	if !e.Expires.IsZero() {
		m.Expires = e.Expires.UnixMilli()
	}
	for _, a := range e.Attrs {
		if !router.Private(a.Name) {
			m.Attrs = append(m.Attrs, frame.Attr(a))
		}
	}
	if l.deflates() && len(e.Body) <= int(l.maxFrame) {
		if z := l.d.deflated.get(e.Message); z != nil {
			m.Deflated, m.Body = uint64(len(e.Body)), z
		}
	}
	out := l.c.Out()
	before := len(out)
	out = l.out.Append(out, &m, int(l.maxFrame))
	l.count(len(out) - before)
	if l.d.traces {
		if raw, _, err := frame.Next(out[before:], len(out)); err == nil {
			l.trace("S", raw)
		}
	}
	l.c.SetOut(out)
}

// deflates reports whether the client takes deflated bodies.
func (l *link) deflates() bool { return l.caps&frame.CapDeflate != 0 }

// count takes note of n bytes of messages sent.
func (l *link) count(n int) {
	l.sent += uint32(n)
	if l.mark <= l.acked {
		l.mark, l.marked = l.out.Place, l.sent
	}
}

func urgency(u mailbox.Urgency) frame.Urgency {
	for i, v := range urgencies {
		if v == u {
			return frame.Urgency(i)
		}
	}
	return frame.UrgencyNormal
}

// trimmed tells the client what it will never get. False is an error that
// ended the connection.
func (l *link) trimmed(err error) bool {
	var t *mailbox.TrimmedError
	if !errors.As(err, &t) {
		l.d.core.Log.Error("link: cannot read", "user", l.s.Who().User, "err", err)
		l.close(frame.CloseInternal, "")
		return false
	}
	if last := uint64(t.First) - 1; last > l.out.Place {
		l.write(&frame.Trimmed{Step: last - l.out.Place})
		l.out.Place = last
	}
	return true
}

// ack takes an acknowledgement of step places.
func (l *link) ack(step uint64) error {
	l.acked += step
	if l.acked > l.out.Place {
		return errBye(frame.CloseBadAck)
	}
	l.s.Ack(mailbox.Seq(l.acked))
	// Which bytes are acknowledged is known at one place, the mark, so that
	// nothing need be kept of each message.
	switch {
	case l.acked == l.out.Place:
		l.freed = l.sent
	case l.acked >= l.mark:
		l.freed = l.marked
		l.mark, l.marked = l.out.Place, l.sent
	}
	return nil
}
