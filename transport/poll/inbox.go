package poll

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// inboxQuery is what GET /v1/inbox asks for.
type inboxQuery struct {
	after, device string
	wait          time.Duration
	limit         int
	ack           bool
}

func (s *Server) inboxQuery(r *http.Request) (q inboxQuery, err error) {
	v := r.URL.Query()
	q.after, q.device, q.limit = v.Get("after"), v.Get("device"), s.cfg.Limit
	if v.Has("after") && q.after == "" {
		return q, wire.NewProblem(wire.BadQuery, "after", "empty; leave it out to start at the device's cursor")
	}
	if t := v.Get("limit"); v.Has("limit") {
		n, err := strconv.ParseUint(t, 10, 64)
		if err != nil && len(t) < 20 || n == 0 {
			return q, wire.NewProblem(wire.BadQuery, "limit", "a whole number from 1")
		}
		q.limit = int(min(n, uint64(s.cfg.MaxLimit)))
	}
	if q.ack, err = flag(v, "ack", true); err != nil {
		return q, err
	}
	if t := v.Get("wait"); v.Has("wait") {
		if q.wait, err = parseWait(t); err != nil {
			return q, err
		}
		q.wait = min(q.wait, s.cfg.MaxWait, s.interval(r))
	}
	return q, nil
}

// flag reads a parameter that is true or false.
func flag(v url.Values, name string, unless bool) (bool, error) {
	switch v.Get(name) {
	case "":
		return unless, nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, wire.NewProblem(wire.BadQuery, name, "true or false")
}

// parseWait reads seconds or a Go duration.
func parseWait(t string) (time.Duration, error) {
	if sec, err := strconv.ParseFloat(t, 64); err == nil && sec >= 0 {
		return time.Duration(min(sec, 1e9) * float64(time.Second)), nil
	}
	if d, err := time.ParseDuration(t); err == nil && d >= 0 {
		return d, nil
	}
	return 0, wire.NewProblem(wire.BadQuery, "wait", `seconds, or a duration like "1m30s"`)
}

// inbox is GET /v1/inbox.
func (s *Server) inbox(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	q, err := s.inboxQuery(r)
	if err != nil {
		return err
	}
	if err := s.device(r, &who, q.device); err != nil {
		return err
	}
	if q.wait > 0 {
		release, err := s.hold(who.User)
		if err != nil {
			return err
		}
		defer release()
	}
	rd := newReader()
	ss, start, err := s.attach(r.Context(), who, rd, q.after, "after", q.ack)
	if err != nil {
		return err
	}
	defer ss.Close()
	pb := buffers.Get().(*[]byte)
	p := page{buf: append((*pb)[:0], `{"messages":[`...), last: start}
	defer func() { putBuffer(pb, p.buf) }()
	if err := s.fillPage(w, r, who, q, ss, rd, &p); err != nil {
		return err
	}
	ss.Close()
	s.answerInbox(w, r, who, start, &p)
	return nil
}

// fillPage reads until there is something to answer with, or the wait is over.
func (s *Server) fillPage(w http.ResponseWriter, r *http.Request, who auth.Who, q inboxQuery, ss *router.Session, rd *reader, p *page) error {
	var over <-chan time.Time // nil until there is something to wait for
	scratch := make([]mailbox.Entry, 0, min(q.limit, 64))
	for {
		full, err := s.take(p, ss, scratch, q.limit, s.cfg.MaxAnswer)
		if err != nil {
			return err
		}
		switch {
		case full:
			return nil
		case ss.Behind(): // the disk answers soon
		case p.n > 0 || p.trimmed != nil || q.wait == 0:
			return nil
		case over == nil:
			wait := q.wait
			if !who.Expires.IsZero() {
				wait = min(wait, time.Until(who.Expires))
			}
			t := time.NewTimer(wait)
			defer t.Stop()
			over = t.C
			noDeadline(w)
			s.count.polls.Add(1)
			defer s.count.polls.Add(-1)
			s.log.Debug("poll: held", "user", who.User, "device", who.Device, "wait", wait)
		}
		select {
		case <-rd.bell:
			if rd.why.Load() != nil {
				return nil
			}
		case <-over:
			s.beat(who)
			return nil
		case <-draining(r):
			w.Header().Set("Connection", "close")
			return nil
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// answerInbox writes the answer. An answer is determined by where it begins
// and ends, so these are its tag.
func (s *Server) answerInbox(w http.ResponseWriter, r *http.Request, who auth.Who, start mailbox.Seq, p *page) {
	h := w.Header()
	tag := `W/"` + strconv.FormatUint(uint64(start), 36) + "-" + strconv.FormatUint(uint64(p.last), 36) + `"`
	h.Set("ETag", tag)
	h.Set("Cache-Control", "private, no-cache")
	h.Add("Vary", "Authorization")
	s.deadline(w)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.count.out.Add(uint64(p.n))
	p.buf = append(p.buf, `],"next":"`...)
	p.buf = wire.AppendNext(p.buf, who.User, uint64(p.last))
	p.buf = append(p.buf, '"')
	if t := p.trimmed; t != nil {
		p.buf = append(p.buf, `,"trimmed":{"from":`...)
		p.buf = strconv.AppendUint(p.buf, t.From, 10)
		p.buf = append(p.buf, `,"to":`...)
		p.buf = strconv.AppendUint(p.buf, t.To, 10)
		p.buf = append(p.buf, '}')
	}
	p.buf = append(p.buf, "}\n"...)
	h.Set("Content-Type", "application/json")
	write(w, http.StatusOK, p.buf)
}

// matches compares a tag with If-None-Match, weakly (RFC 9110 section 8.8.3.2).
func matches(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if t = strings.TrimSpace(t); strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/") || t == "*" {
			return true
		}
	}
	return false
}

// ack is POST /v1/ack.
func (s *Server) ack(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	body, err := s.body(w, r, nil)
	if err != nil {
		return err
	}
	a, problem := wire.DecodeAck(body)
	if problem != nil {
		return problem
	}
	if q := r.URL.Query().Get("device"); a.Device == "" {
		a.Device = q
	} else if q != "" && q != a.Device {
		return wire.NewProblem(wire.BadField, "device", "differs from the one in the URL")
	}
	if err := s.device(r, &who, a.Device); err != nil {
		return err
	}
	field := "seq"
	if a.Next != "" {
		field = "next"
		var ok bool
		if a.Seq, ok = wire.ParseNext(who.User, a.Next); !ok {
			return wire.NewProblem(wire.BadField, field, `not a "next" of this inbox`)
		}
	}
	if err := s.core.Router.Admit(r.Context(), who.User, who.Device); err != nil {
		return err
	}
	if err := s.moveCursor(r.Context(), who, mailbox.Seq(a.Seq), field); err != nil {
		return err
	}
	cur, _, err := s.core.Mail.Cursor(r.Context(), who.User, who.Device)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, append(strconv.AppendUint([]byte(`{"seq":`), uint64(cur.Seq), 10), "}\n"...))
	return nil
}
