package link

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// signals is what a connection has whose client takes words of the moment.
type signals struct {
	wants atomic.Bool          // it takes them now
	news  atomic.Pointer[word] // from others, the newest first

	says  router.Rate
	shows *showing // nil if the device has told nobody that it is online
}

// word is a signal that waits to be written.
type word struct {
	*router.Signal
	before *word
	n      int // how many wait with it
}

// maxWords is how many signals may wait for a connection.
const maxWords = 32

// Signal implements router.Hearer. What cannot be told at once is dropped:
// it would be stale.
func (c client) Signal(_ string, s *router.Signal) bool {
	g := c.l.signals
	if g == nil || !g.wants.Load() {
		return false
	}
	w := &word{Signal: s}
	for {
		w.before, w.n = g.news.Load(), 1
		if w.before != nil {
			w.n += w.before.n
		}
		if w.n > maxWords {
			c.l.d.stats.dropped.Add(1)
			return false
		}
		if g.news.CompareAndSwap(w.before, w) {
			c.Wake()
			return true
		}
	}
}

// tellSignals writes what others said, if there is room.
func (l *link) tellSignals() {
	var space [maxWords]*word
	ws := space[:0]
	for w := l.signals.news.Swap(nil); w != nil; w = w.before {
		ws = append(ws, w)
	}
	for _, w := range slices.Backward(ws) {
		if l.c.Room() <= 0 {
			l.d.stats.dropped.Add(1)
			continue
		}
		out := l.c.Out()
		before := len(out)
		out = l.out.AppendSignal(out, w.From, w.Device, w.Kind, w.Body)
		if l.d.traces {
			if raw, _, err := frame.Next(out[before:], len(out)); err == nil {
				l.trace("S", raw)
			}
		}
		l.c.SetOut(out)
		l.d.stats.signals.Add(1)
	}
}

// signal passes on what the client says. Nobody is told what became of it.
func (l *link) signal(raw frame.Raw) error {
	var f frame.Signal
	if err := f.Decode(raw.Payload); err != nil {
		return err
	}
	if l.in == nil {
		l.in = frame.NewSendReader(l.prefix)
	}
	to, err := l.in.To(&f.To, l.d.cfg.Peers)
	if err != nil {
		return err
	}
	g := l.signals
	if l.end.Load() != 0 || !g.says.Take(l.d.cfg.SignalRate, l.c.Now()) {
		l.d.stats.dropped.Add(1)
		return nil
	}
	if (f.Kind == frame.Online || f.Kind == frame.Offline) && !l.show(to, f.Kind == frame.Online) {
		return nil
	}
	l.d.say(l.s.Who(), to, f.Kind, append([]byte(nil), f.Body...))
	return nil
}

func (d *door) say(who auth.Who, to, kind string, body []byte) {
	// An error is the client's: there is nobody of that name. It is not told,
	// as it is not told when he is not there.
	d.core.Router.Signal(to, &router.Signal{Door: router.Link, From: who.User, Device: who.Device, Kind: kind, Body: body})
}

// show takes note that the client tells somebody that it is online, or not any
// more. It reports whether he is to be told.
func (l *link) show(to string, online bool) bool {
	a, err := address.Parse(to, l.d.core.Router.Domain())
	if err != nil {
		return false
	}
	g := l.signals
	if g.shows == nil && online {
		g.shows = l.d.shown.join(l.s.Who(), true)
	}
	if g.shows != nil && !l.d.shown.change(g.shows, a.Bare(), online, l.d.cfg.MaxShown) {
		l.d.stats.dropped.Add(1)
		return false
	}
	return true
}

// hideAll tells those whom the device has told that it was online that it is
// gone, if it is.
func (l *link) hideAll() {
	g := l.signals
	g.wants.Store(false)
	g.news.Store(nil)
	if g.shows != nil {
		l.d.hide(l.s.Who(), g.shows)
	}
}

func (d *door) hide(who auth.Who, shows *showing) {
	for _, to := range d.shown.leave(who, shows) {
		d.say(who, to, frame.Offline, nil)
	}
}

// shown is whom each device has told that it is online. It belongs to the
// device: while that comes back it has two sessions, and when the older one
// ends it has not gone.
type shown struct {
	mu sync.Mutex
	of map[[2]string]*showing // guarded by mu; by user and device
}

type showing struct {
	sessions int      // guarded by mu of shown
	to       []string // guarded by mu of shown
}

// join adds a session of a device. Without make it returns nil if the device
// has told nobody.
func (m *shown) join(who auth.Who, make bool) *showing {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := [2]string{who.User, who.Device}
	d := m.of[k]
	if d == nil {
		if !make {
			return nil
		}
		if m.of == nil {
			m.of = map[[2]string]*showing{}
		}
		d = new(showing)
		m.of[k] = d
	}
	d.sessions++
	return d
}

// change reports whether there was room for one more, or none was needed.
func (m *shown) change(d *showing, to string, online bool, most int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(d.to, to)
	switch {
	case online && i < 0 && len(d.to) >= most:
		return false
	case online && i < 0:
		d.to = append(d.to, to)
	case !online && i >= 0:
		d.to = slices.Delete(d.to, i, i+1)
	}
	return true
}

// leave takes a session away. It returns who is to be told, if it was the last.
func (m *shown) leave(who auth.Who, d *showing) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.sessions--; d.sessions > 0 {
		return nil
	}
	delete(m.of, [2]string{who.User, who.Device})
	return d.to
}
