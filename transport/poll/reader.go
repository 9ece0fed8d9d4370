package poll

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// reader is a request that reads: the connection behind a session.
type reader struct {
	bell
	why atomic.Pointer[router.Reason] // set once the router wants it to end
}

// End implements [router.Client].
func (rd *reader) End(why router.Reason) {
	rd.why.CompareAndSwap(nil, &why)
	rd.Wake()
}

func newReader() *reader { return &reader{bell: newBell()} }

// attach opens a session for who at his cursor, or where after says; if ack is
// set that acknowledges what stands before. Field is the parameter that after
// is from. Start is where the session begins.
func (s *Server) attach(ctx context.Context, who auth.Who, rd router.Client, after, field string, ack bool) (ss *router.Session, start mailbox.Seq, err error) {
	if after == "" {
		if ss, err = s.core.Router.Attach(ctx, router.Poll, who, rd); err != nil {
			return nil, 0, err
		}
		return ss, ss.Handed(), nil
	}
	seq, ok := wire.ParseNext(who.User, after)
	if !ok {
		return nil, 0, wire.NewProblem(wire.BadQuery, field, `not a "next" of this inbox`)
	}
	start = mailbox.Seq(seq)
	if err := s.core.Router.Admit(ctx, who.User, who.Device); err != nil {
		return nil, 0, err
	}
	if ack {
		if err := s.moveCursor(ctx, who, start, field); err != nil {
			return nil, 0, err
		}
		return s.core.Router.AttachAt(router.Poll, who, rd, start), start, nil
	}
	if err := s.exists(ctx, who, start, field); err != nil {
		return nil, 0, err
	}
	cur, _, err := s.core.Mail.Cursor(ctx, who.User, who.Device)
	if err != nil {
		return nil, 0, err
	}
	ss = s.core.Router.AttachAt(router.Poll, who, rd, start)
	ss.Unacked(cur.Seq)
	return ss, start, nil
}

// moveCursor acknowledges everything up to seq for the device, if that exists.
func (s *Server) moveCursor(ctx context.Context, who auth.Who, seq mailbox.Seq, field string) error {
	if err := s.exists(ctx, who, seq, field); err != nil {
		return err
	}
	s.core.Mail.MoveCursor(who.User, who.Device, seq)
	return nil
}

// exists refuses a place that the box has not reached.
func (s *Server) exists(ctx context.Context, who auth.Who, seq mailbox.Seq, field string) error {
	info, err := s.core.Mail.Info(ctx, who.User)
	if err != nil {
		return err
	}
	if seq > info.Last {
		return wire.NewProblem(wire.AckBeyond, field, "the newest message has seq "+itoa(int(info.Last)))
	}
	return nil
}

// hold counts a poll or stream that is held, up to the limit; release gives
// its place back.
func (s *Server) hold(user string) (release func(), err error) {
	s.heldMu.Lock()
	defer s.heldMu.Unlock()
	if s.held[user] >= s.cfg.MaxHeld {
		return nil, wire.NewProblem(wire.TooMany, "", "more than "+itoa(s.cfg.MaxHeld)+" polls and streams held at once")
	}
	s.held[user]++
	return sync.OnceFunc(func() {
		s.heldMu.Lock()
		defer s.heldMu.Unlock()
		if s.held[user]--; s.held[user] == 0 {
			delete(s.held, user)
		}
	}), nil
}

// draining is closed when the server begins to go down.
func draining(r *http.Request) <-chan struct{} {
	ch, _ := r.Context().Value(drainKey{}).(<-chan struct{})
	return ch
}

// deadline gives the peer its time to take what is written next.
func (s *Server) deadline(w http.ResponseWriter) {
	// Every connection of net/http's has deadlines; another, as in a test, has
	// none and needs none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout))
}

// noDeadline is for a request that is held.
func noDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}

// page is what one answer of the inbox is made of.
type page struct {
	buf     []byte // the messages, with commas between
	n       int
	last    mailbox.Seq // the last place in it
	trimmed *wire.Trimmed
}

// take adds what the session has, up to limit messages and max bytes. Done
// says that it must not or can not be asked for more.
func (s *Server) take(p *page, ss *router.Session, scratch []mailbox.Entry, limit, max int) (full bool, err error) {
	for p.n < limit && len(p.buf) < max {
		es, err := ss.Next(scratch[:0], min(limit-p.n, cap(scratch)))
		var gap *mailbox.TrimmedError
		if errors.As(err, &gap) {
			p.hole(gap)
			continue
		}
		if err != nil {
			return false, err
		}
		if len(es) == 0 {
			return false, nil
		}
		for _, e := range es {
			if len(p.buf) >= max {
				break // the rest will be read again, from next
			}
			if p.n > 0 {
				p.buf = append(p.buf, ',')
			}
			p.buf = appendEntry(p.buf, e)
			p.n++
			p.last = e.Seq
		}
	}
	return true, nil
}

// hole notes that places are gone. Two holes in one answer are told as one.
func (p *page) hole(gap *mailbox.TrimmedError) {
	if p.trimmed == nil {
		p.trimmed = &wire.Trimmed{From: uint64(gap.After) + 1}
	}
	p.trimmed.To = uint64(gap.First) - 1
	p.last = gap.First - 1
}

// appendEntry appends one message as JSON.
func appendEntry(b []byte, e mailbox.Entry) []byte {
	m := wire.Message{Seq: uint64(e.Seq), Prev: uint64(e.Prev), ID: e.ID, From: e.From, Device: e.Device, To: e.To,
		Time: e.Time, Type: e.Type, Body: e.Body, Expires: e.Expires}
	if m.Type == "" {
		m.Type = mailbox.TypeText
	}
	if e.Urgency != mailbox.UrgencyNormal {
		m.Urgency = e.Urgency.String()
	}
	for _, a := range e.Attrs {
		if !router.Private(a.Name) {
			m.Attrs = append(m.Attrs, wire.Attr(a))
		}
	}
	return wire.AppendMessage(b, &m)
}
