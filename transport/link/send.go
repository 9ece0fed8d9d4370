package link

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// post is a send that is not answered yet. It stays in the list of its
// connection until it and all before it are done.
type post struct {
	mailbox.Post
	boxes [2]string // space for Boxes
	next  *post
	no    error // why it was refused before it was posted
}

func (p *post) done() bool { return p.no != nil || p.Done() }

// send posts a message. An error is a breach of the protocol; a message that
// cannot be stored is answered with Refused.
func (l *link) send(raw frame.Raw) error {
	var f frame.Send
	if err := f.Decode(raw); err != nil {
		return err
	}
	if l.in == nil {
		l.in = frame.NewSendReader(l.prefix)
	}
	to, err := l.in.To(&f.To, l.d.cfg.Peers)
	if err != nil {
		return err
	}
	id, err := l.in.ID(f.ID)
	if err != nil {
		return err
	}
	l.d.stats.sends.Add(1)
	if l.end.Load() != 0 {
		return nil // replaced: the newer connection may be sending the same again
	}
	p := &post{}
	p.Boxes = p.boxes[:0]
	p.ID, p.Type, p.Urgency = id, f.Media, urgencies[f.Urgency]
	if p.Type == mailbox.TypeText {
		p.Type = ""
	}
	if f.Deflated != 0 {
		if l.caps&frame.CapDeflate == 0 {
			return errors.New("a deflated body, and that was not agreed")
		}
		if p.Body, err = frame.Inflate(f.Body, f.Deflated); err != nil {
			return err
		}
		if frame.IsText(p.Type) { // others would not have been deflated here
			l.d.deflated.put(&p.Message, append([]byte(nil), f.Body...))
		}
	} else if len(f.Body) > 0 {
		p.Body = append([]byte(nil), f.Body...) // the store keeps it
	}
	if f.Expires != 0 {
		p.Expires = l.c.Now().Add(time.Duration(min(f.Expires, maxExpires)) * time.Millisecond)
	}
	p.no = takeAttrs(p, f.Attrs)
	if p.no == nil {
		p.Notify = l.c
		p.no = l.d.core.Router.Submit(router.Link, l.s.Who(), to, &p.Post)
	}
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
	l.inflight++
	if p.no != nil && l.first == p {
		l.answer()
	}
	return nil
}

// maxExpires keeps a Duration from overflowing: a hundred years.
const maxExpires = 100 * 365 * 24 * 3600 * 1000

// urgencies are the core's numbers by the protocol's.
var urgencies = [...]mailbox.Urgency{
	frame.UrgencyNormal:  mailbox.UrgencyNormal,
	frame.UrgencyVeryLow: mailbox.UrgencyVeryLow,
	frame.UrgencyLow:     mailbox.UrgencyLow,
	frame.UrgencyHigh:    mailbox.UrgencyHigh,
}

// takeAttrs copies the properties. "Names beginning with a door's name and a
// colon belong to that door alone", so a client may not set them.
func takeAttrs(p *post, as []frame.Attr) error {
	for _, a := range as {
		if router.Private(a.Name) {
			return fmt.Errorf("%w: the property %s belongs to the server", mailbox.ErrInvalid, a.Name)
		}
		p.Attrs = append(p.Attrs, mailbox.Attr(a))
	}
	return nil
}

// answer answers the oldest sends as far as they are done.
func (l *link) answer() {
	var space [32]frame.Run
	runs := space[:0]
	out := l.c.Out()
	flush := func() {
		if len(runs) > 0 {
			out = frame.AppendStored(out, runs)
			if l.d.traces {
				l.traceFrame("S", &frame.Stored{Runs: append([]frame.Run(nil), runs...)}, 0)
			}
			runs = space[:0]
		}
	}
	for l.first != nil && l.first.done() {
		p := l.first
		if l.first = p.next; l.first == nil {
			l.last = nil
		}
		p.next = nil
		l.inflight--
		err := p.no
		if err == nil {
			err = p.Err
		}
		if err != nil {
			flush()
			f := l.refusal(err)
			out = frame.Append(out, f)
			l.traceFrame("S", f, 0)
			continue
		}
		seq := uint64(p.Seqs[0])
		if n := len(runs); n > 0 && seq == l.told+1 && runs[n-1].Duplicate == p.Duplicate {
			runs[n-1].Count++
		} else {
			if n == len(space) {
				flush()
			}
			runs = append(runs, frame.Run{Count: 1, Step: int64(seq - l.told), Duplicate: p.Duplicate})
		}
		l.told = seq
	}
	flush()
	l.c.SetOut(out)
	if l.paused && l.inflight <= int32(l.d.cfg.Inflight)/2 && l.state == welcomed {
		l.paused = false
		l.c.PauseRead(false)
	}
}

// refusal puts an error into the protocol's words. What is our fault is not
// explained.
func (l *link) refusal(err error) *frame.Refused {
	l.d.stats.refused.Add(1)
	f := &frame.Refused{Code: frame.RefusedInternal}
	text := err.Error()
	for _, k := range refusals {
		if errors.Is(err, k.err) {
			f.Code = k.code
			if i := strings.Index(text, k.err.Error()); i > 0 {
				text = text[i:] // what stands before says where it happened
			}
			if k.code == frame.RefusedUnavailable {
				text = k.err.Error() // what stands behind is of our disk
			}
			break
		}
	}
	if f.Code == frame.RefusedInternal {
		l.d.core.Log.Error("link: cannot store", "user", l.s.Who().User, "err", err)
		return f
	}
	_, f.Text, _ = strings.Cut(text, ": ")
	return f
}

var refusals = []struct {
	err  error
	code frame.RefusedCode
}{
	{router.ErrNoRecipient, frame.RefusedRecipient},
	{address.ErrInvalid, frame.RefusedRecipient},
	{router.ErrRemote, frame.RefusedRemote},
	{mailbox.ErrTooLarge, frame.RefusedTooLarge},
	{mailbox.ErrConflict, frame.RefusedConflict},
	{mailbox.ErrUnavailable, frame.RefusedUnavailable},
	{mailbox.ErrClosed, frame.RefusedUnavailable},
	{mailbox.ErrInvalid, frame.RefusedInvalid},
}
