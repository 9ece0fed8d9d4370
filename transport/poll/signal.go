package poll

import (
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// signal is POST /v1/signals: a word of the moment. Whether anybody hears it
// is not told.
func (s *Server) signal(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	if err := s.device(r, &who, r.URL.Query().Get("device")); err != nil {
		return err
	}
	body, err := s.body(w, r, nil)
	if err != nil {
		return err
	}
	in, problem := wire.DecodeSignal(body)
	if problem != nil {
		return problem
	}
	switch {
	case len(in.Kind) > router.MaxKind:
		return wire.NewProblem(wire.BadField, "kind", "at most "+itoa(router.MaxKind)+" bytes")
	case in.Kind == "online" || in.Kind == "offline":
		// A request is not a connection whose end could be told.
		return wire.NewProblem(wire.BadField, "kind", "presence is said by who stays connected")
	case len(in.Body) > router.MaxSignal:
		return wire.NewProblem(wire.TooLarge, "body", itoa(len(in.Body))+" bytes, at most "+itoa(router.MaxSignal))
	case !s.speakers.take(who.User, s.cfg.SignalRate, time.Now()):
		s.count.dropped.Add(1)
		return wire.NewProblem(wire.TooMany, "", "more than "+itoa(s.cfg.SignalRate)+" signals in a second")
	}
	_, err = s.core.Router.Signal(in.To, &router.Signal{Door: router.Poll, From: who.User, Device: who.Device, Kind: in.Kind, Body: in.Body})
	if err != nil {
		return s.problem(err, "to")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// speakers are those who have said something of late.
type speakers struct {
	mu    sync.Mutex
	by    map[string]*router.Rate // guarded by mu; by user
	sweep int                     // guarded by mu; with so many, those who are silent are forgotten
}

// minSpeakers are never looked through.
const minSpeakers = 1000

func (m *speakers) take(user string, perSecond int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.by[user]
	if r == nil {
		if len(m.by) >= max(m.sweep, minSpeakers) {
			for u, r := range m.by {
				if r.Full(now) {
					delete(m.by, u)
				}
			}
			m.sweep = 2 * len(m.by) // so that each costs little, however many speak
		}
		if m.by == nil {
			m.by = map[string]*router.Rate{}
		}
		r = new(router.Rate)
		m.by[user] = r
	}
	return r.Take(perSecond, now)
}

// ear is a reader that takes words of the moment.
type ear struct {
	*reader
	s     *Server
	mu    sync.Mutex
	words []*router.Signal // guarded by mu; to be written
}

// maxWords is how many may wait for a stream.
const maxWords = 32

var _ router.Hearer = (*ear)(nil)

// Signal implements [router.Hearer]. What cannot be told at once is dropped.
func (e *ear) Signal(_ string, g *router.Signal) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.words) >= maxWords {
		e.s.count.dropped.Add(1)
		return false
	}
	e.words = append(e.words, g)
	e.Wake()
	return true
}

// hear appends an event for each word. It has no id: what is said of the
// moment has no place to come back to.
func (e *ear) hear(b []byte) []byte {
	e.mu.Lock()
	words := e.words
	e.words = nil
	e.mu.Unlock()
	for _, g := range words {
		b = append(b, "event: signal\ndata: "...)
		b = wire.AppendSignal(b, g.From, g.Device, g.Kind, g.Body, !utf8.Valid(g.Body))
		b = append(b, "\n\n"...)
	}
	return b
}
