package poll

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// events is GET /v1/events: Server-Sent Events (the HTML standard, section
// 9.2). An event's id is a "next", so a browser that reconnects with
// Last-Event-ID acknowledges what it had and goes on behind it.
//
//	retry: 2741
//
//	id: AQUe_pem
//	data: {"seq":5,"prev":4,…}
//
//	: still here
//
//	event: signal
//	data: {"from":"alice@localhost","device":"phone","kind":"composing"}
//
//	event: close
//	data: {"reason":"draining"}
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := s.device(r, &who, q.Get("device")); err != nil {
		return err
	}
	after, field := q.Get("after"), "after"
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		after, field = last, "Last-Event-ID" // newer than a URL that a browser repeats
	}
	signals, err := flag(q, "signals", false)
	if err != nil {
		return err
	}
	release, err := s.hold(who.User)
	if err != nil {
		return err
	}
	defer release()
	rd := newReader()
	var client router.Client = rd
	var e *ear
	if signals {
		e = &ear{reader: rd, s: s}
		client = e
	}
	ss, _, err := s.attach(r.Context(), who, client, after, field, true)
	if err != nil {
		return err
	}
	defer ss.Close()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy that collects answers would hold it back
	s.count.streams.Add(1)
	defer s.count.streams.Add(-1)
	s.log.Info("session began", "door", "poll", "user", who.User, "device", who.Device, "from", s.remote(r))
	st := &stream{s: s, w: w, rc: http.NewResponseController(w), ss: ss, who: who, ear: e,
		scratch: make([]mailbox.Entry, 0, 64)}
	why := st.run(r, rd, who.Expires)
	s.log.Info("session ended", "door", "poll", "user", who.User, "device", who.Device, "reason", why)
	return nil
}

// stream is one answer of events.
type stream struct {
	s       *Server
	w       http.ResponseWriter
	rc      *http.ResponseController
	ss      *router.Session
	who     auth.Who
	ear     *ear // nil if no signals are wanted
	buf     []byte
	scratch []mailbox.Entry
}

// run writes until the peer has gone or must go, and returns why.
func (st *stream) run(r *http.Request, rd *reader, expires time.Time) string {
	// Spread over some seconds, so that a restart is not followed by everybody
	// at once.
	st.buf = append(st.buf, "retry: "...)
	st.buf = strconv.AppendInt(st.buf, 1000+rand.Int64N(4000), 10)
	st.buf = append(st.buf, "\n\n"...)
	if !st.flush() {
		return "peer gone"
	}
	var end <-chan time.Time
	if !expires.IsZero() {
		t := time.NewTimer(time.Until(expires))
		defer t.Stop()
		end = t.C
	}
	every := st.s.interval(r)
	beat := time.NewTimer(every)
	defer beat.Stop()
	for {
		// What was said of the moment first: who is typing is told before what he
		// has written.
		if st.ear != nil {
			if st.buf = st.ear.hear(st.buf); len(st.buf) > 0 && !st.flush() {
				return "peer gone"
			}
		}
		ok, err := st.news(rd)
		if err != nil {
			st.s.log.Error("poll: events", "user", st.who.User, "err", err)
			return st.close("internal")
		}
		if !ok {
			return "peer gone"
		}
		select {
		case <-rd.bell:
			if why := rd.why.Load(); why != nil {
				return st.close(string(*why))
			}
			continue
		case <-beat.C:
			st.buf = append(st.buf, ": still here\n\n"...)
			st.s.beat(st.who)
			if !st.flush() {
				return "peer gone"
			}
			beat.Reset(every)
		case <-end:
			return st.close(string(router.Expired))
		case <-draining(r):
			return st.close(string(router.Draining))
		case <-r.Context().Done():
			return "peer gone"
		}
	}
}

// news writes what the session has. Ok is false when the peer has gone.
func (st *stream) news(rd *reader) (ok bool, err error) {
	for range 16 {
		es, err := st.ss.Next(st.scratch[:0], cap(st.scratch))
		var gap *mailbox.TrimmedError
		switch {
		case errors.As(err, &gap):
			st.buf = append(st.buf, "event: trimmed\nid: "...)
			st.buf = wire.AppendNext(st.buf, st.who.User, uint64(gap.First)-1)
			st.buf = append(st.buf, "\ndata: {\"from\":"...)
			st.buf = strconv.AppendUint(st.buf, uint64(gap.After)+1, 10)
			st.buf = append(st.buf, `,"to":`...)
			st.buf = strconv.AppendUint(st.buf, uint64(gap.First)-1, 10)
			st.buf = append(st.buf, "}\n\n"...)
		case err != nil:
			return true, err
		case len(es) == 0:
			return true, nil
		}
		for _, e := range es {
			st.buf = append(st.buf, "id: "...)
			st.buf = wire.AppendNext(st.buf, st.who.User, uint64(e.Seq))
			st.buf = append(st.buf, "\ndata: "...)
			st.buf = appendEntry(st.buf, e) // has no line end
			st.buf = append(st.buf, "\n\n"...)
		}
		if !st.flush() {
			return false, nil
		}
		st.s.count.out.Add(uint64(len(es)))
	}
	rd.Wake() // there may be more; but other things may have happened too
	return true, nil
}

// close says why the stream ends.
func (st *stream) close(why string) string {
	st.buf = append(st.buf, "event: close\ndata: {\"reason\":"...)
	st.buf = wire.AppendString(st.buf, why)
	st.buf = append(st.buf, "}\n\n"...)
	st.flush()
	return why
}

// flush sends what was written, within the time that a peer has for that. HTTP/2
// would end the stream when that time is over, whether there is anything to
// send or not.
func (st *stream) flush() bool {
	st.s.deadline(st.w)
	_, err := st.w.Write(st.buf)
	if err == nil {
		err = st.rc.Flush()
	}
	noDeadline(st.w)
	if st.buf = st.buf[:0]; cap(st.buf) > keepBuffer {
		st.buf = nil
	}
	return err == nil
}
