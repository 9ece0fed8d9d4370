package link

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// unanswered is how long a send may go without a byte from the server before
// a heartbeat asks whether it is there.
const unanswered = 5 * time.Second

// write is the writer of a session, and its clock. It closes the connection
// when ctx ends, in the protocol's words if it is the program that goes.
func (mb *Mailbox) write(ctx context.Context, s *session) {
	defer s.nc.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var buf []byte
	for {
		var next time.Time
		var dead bool
		buf, next, dead = mb.compose(buf[:0], s)
		mb.refuse(s)
		if dead {
			return
		}
		if len(buf) > 0 {
			s.nc.SetWriteDeadline(time.Now().Add(maxAnswer))
			if _, err := s.nc.Write(buf); err != nil {
				return
			}
			if cap(buf) > 1<<20 {
				buf = nil
			}
			continue // while that went out there may have come more
		}
		timer.Reset(time.Until(next))
		select {
		case <-mb.work:
		case <-timer.C:
		case <-ctx.Done():
			mb.goodbye(s)
			return
		}
	}
}

// atOnce is about how many bytes are written at once.
const atOnce = 64 << 10

// compose appends what is to be written now. It says when the next heartbeat
// is due, or that the server is dead.
func (mb *Mailbox) compose(b []byte, s *session) (out []byte, next time.Time, dead bool) {
	now := time.Now()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	answer := mb.answerLocked()
	if s.patience != 0 {
		answer = min(answer, s.patience)
	}
	if s.moving {
		answer = max(answer, moveTime+minAnswer)
	}
	doubt := min(mb.pace.doubt(), answer)
	if s.waits && now.Sub(s.pinged) >= doubt {
		if now.Sub(s.pinged) >= answer {
			s.dead = true
			mb.pace.late++
			mb.pace.deaf = !s.fed
			return b, next, true
		}
		if doubt = answer; !s.moving {
			mb.doubtLocked()
		}
	}
	b = mb.sendsLocked(b, s, now)
	for _, f := range mb.sets {
		b = frame.AppendAck(b, f, s.ackLocked(mb))
	}
	mb.sets = nil
	b = mb.signalsLocked(b, s)
	b = mb.asksLocked(b, s)
	for _, f := range s.pongs {
		b = frame.AppendAck(b, f, s.ackLocked(mb))
	}
	s.pongs = nil

	// A heartbeat is due an interval after the last byte in either direction
	// that was later than none: the NAT and the server count ours, we count
	// the server's.
	due := earlier(s.read, s.wrote).Add(s.interval)
	if !s.asked.IsZero() {
		due = earlier(due, s.asked.Add(unanswered))
	}
	if s.waits {
		due = s.pinged.Add(doubt)
	} else if !now.Before(due) || s.check || mb.alongLocked(s, now) {
		b = frame.AppendAck(b, &frame.Ping{}, s.ackLocked(mb))
		s.pinged, s.waits, s.check = now, true, false
		mb.counts.Heartbeats++
		due = now.Add(doubt)
	}
	if ack := s.ackLocked(mb); ack != 0 {
		b = frame.Append(b, &frame.Ack{Step: ack})
	}
	if len(b) > 0 {
		mb.spokeLocked(s, now)
	}
	return b, due, false
}

// sendsLocked appends the messages that may go out.
func (mb *Mailbox) sendsLocked(b []byte, s *session, now time.Time) []byte {
	for mb.written < len(mb.queue) && uint64(mb.written) < max(s.welcome.Inflight, 1) && len(b) < atOnce {
		d := mb.queue[mb.written]
		size := len(d.Body) + len(d.To) + len(d.ID) + len(d.Type) + 64
		for _, a := range d.Attrs {
			size += len(a.Name) + len(a.Value) + 10
		}
		if uint64(size) > s.welcome.MaxFrame {
			mb.queue = append(mb.queue[:mb.written:mb.written], mb.queue[mb.written+1:]...)
			s.large = append(s.large, d)
			continue
		}
		urgency, _ := frame.ParseUrgency(d.Urgency)
		f := frame.Send{To: s.out.To(d.To), ID: s.out.ID(d.ID), Media: d.Type, Urgency: urgency,
			Expires: uint64(max(d.Expires.Milliseconds(), 0)), Body: d.Body}
		for _, a := range d.Attrs {
			f.Attrs = append(f.Attrs, frame.Attr(a))
		}
		if s.welcome.Caps&frame.CapDeflate != 0 {
			if z := frame.Deflate(d.Body, d.Type); z != nil {
				f.Deflated, f.Body = uint64(len(d.Body)), z
			}
		}
		if d.Expires > 0 && f.Expires == 0 {
			f.Expires = 1
		}
		b = frame.AppendAck(b, &f, s.ackLocked(mb))
		mb.written++
		if s.asked.IsZero() {
			s.asked = now
		}
	}
	return b
}

// refuse answers the messages that are too large to be sent at all.
func (mb *Mailbox) refuse(s *session) {
	for _, d := range s.large {
		d.done(client.Receipt{ID: d.ID}, &client.Refused{Code: frame.RefusedTooLarge.String(), Text: "the server takes no message of that size"})
	}
	s.large = nil
}

// ackLocked is the acknowledgement to be put on the next frame's back, and
// takes note that it was.
func (s *session) ackLocked(mb *Mailbox) uint64 {
	// The program may have acknowledged what this connection has not brought
	// again yet. The server would take that for a mistake.
	step := uint64(0)
	if to := min(mb.acked, s.brought); to > s.acked {
		step = to - s.acked
		s.acked = to
	}
	return step
}

// goodbye writes what waits and the last frame.
func (mb *Mailbox) goodbye(s *session) {
	mb.mu.Lock()
	leaving := mb.leaving
	mb.mu.Unlock()
	if !leaving {
		select {
		case <-s.ended:
			s.complain(s.broken)
		default:
		}
		return
	}
	b, _, dead := mb.compose(nil, s)
	if dead {
		return
	}
	b = frame.Append(b, &frame.Close{Code: frame.CloseDone})
	s.nc.SetWriteDeadline(time.Now().Add(goodbyeTime))
	if _, err := s.nc.Write(b); err != nil {
		return
	}
	// The server hangs up when it has taken all of that. Who comes back as
	// this device after Close finds it so.
	select {
	case <-s.ended:
	case <-time.After(goodbyeTime):
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
