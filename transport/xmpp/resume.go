package xmpp

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// lost has the streams that can be resumed (XEP-0198 #resumption), connected
// or not.
//
// Little has to be kept. A message that was not acknowledged is behind the
// device's cursor and comes from the box. What is not in the box, such as
// presence and results, is kept by sm as long as it is unacknowledged, and
// what comes meanwhile waits in the resource's queue.
type lost struct {
	mu   sync.Mutex // taken before a resource's mu and a client's work
	held map[string]*held
	dead map[string][]*held // of these, those that no connection has, by full address
	over bool               // the server stops: nothing is held any more
}

// held is one stream.
type held struct {
	r     *resource
	timer *time.Timer // gives it up; nil while a connection has it
}

func (l *lost) add(r *resource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[r.previd] = &held{r: r}
}

func (l *lost) remove(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.held[id]; h != nil {
		l.removeLocked(h)
	}
}

func (l *lost) removeLocked(h *held) {
	delete(l.held, h.r.previd)
	if h.timer == nil {
		return
	}
	h.timer.Stop()
	rest := slices.DeleteFunc(l.dead[h.r.jid], func(o *held) bool { return o == h })
	if l.dead[h.r.jid] = rest; len(rest) == 0 {
		delete(l.dead, h.r.jid)
	}
}

// hold keeps a stream whose connection was lost. It reports whether it could.
func (l *lost) hold(r *resource) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[r.previd]
	if h == nil || l.over {
		return false
	}
	if y := r.claimant(); y != nil { // asked for it while it was being lost
		l.removeLocked(h)
		return y.later(func(y *client) { y.resumeFrom(r) })
	}
	h.timer = time.AfterFunc(r.s.cfg.ResumeTime, func() { l.expire(h) })
	l.dead[r.jid] = append(l.dead[r.jid], h)
	return true
}

func (r *resource) claimant() *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taker
}

// expire gives up a stream that nobody resumed.
func (l *lost) expire(h *held) {
	l.mu.Lock()
	here := l.held[h.r.previd] == h
	if here {
		l.removeLocked(h)
	}
	l.mu.Unlock()
	if here {
		h.r.leave()
	}
}

// drop gives up the lost streams of a device that has bound anew.
func (l *lost) drop(jid string) {
	l.mu.Lock()
	gone := slices.Clone(l.dead[jid])
	for _, h := range gone {
		l.removeLocked(h)
	}
	l.mu.Unlock()
	for _, h := range gone {
		h.r.leave()
	}
}

// dropAll gives up all; with over, also those to come.
func (l *lost) dropAll(over bool) {
	l.mu.Lock()
	l.over = over
	jids := slices.Collect(maps.Keys(l.dead))
	l.mu.Unlock()
	for _, jid := range jids {
		l.drop(jid)
	}
}

// claim finds the stream called id for y, of the same user and, if y's token
// names one, the same device. If it is still connected, wait is true: its
// connection hands it over soon.
func (l *lost) claim(id string, y *client) (r *resource, wait bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[id]
	if h == nil || h.r.bare != y.bare || y.who.Device != "" && y.who.Device != h.r.who.Device {
		return nil, false
	}
	if h.timer != nil {
		l.removeLocked(h)
		return h.r, false
	}
	h.r.mu.Lock()
	busy := h.r.taker != nil || h.r.gone
	if !busy {
		h.r.taker = y
	}
	h.r.mu.Unlock()
	if busy {
		return nil, false
	}
	h.r.Wake()
	return nil, true
}

// resume handles <resume/>.
func (x *client) resume(e stream.Element) {
	h, err := strconv.ParseUint(e.Attr("h"), 10, 32)
	if err != nil {
		x.fail(stream.InvalidXML, "")
		return
	}
	x.claimed = uint32(h)
	switch r, wait := x.s.lost.claim(e.Attr("previd"), x); {
	case wait:
		x.wait()
	case r == nil:
		x.notResumed()
	default:
		x.resumeFrom(r)
	}
}

func (x *client) notResumed() {
	x.nonza("<failed xmlns='" + nsSM + "'><item-not-found xmlns='" + nsStanzaErr + "'/></failed>")
}

// takeover hands the stream of x over to a connection that resumes it. It
// reports whether there was one.
func (x *client) takeover() bool {
	y := x.claimant()
	if y == nil || x.phase != atSession || x.sess == nil {
		return false
	}
	r := x.resource
	if r.sm == nil || !r.sm.keep {
		y.later(func(y *client) { y.proceed(atBind); y.notResumed() })
		return false
	}
	x.s.lost.remove(r.previd)
	r.detach(x.c)
	// XEP-0198 #resumption: the old stream is ended with <conflict/>.
	x.resource = &resource{s: x.s, bare: r.bare}
	x.fail(stream.Conflict, "resumed elsewhere")
	if !y.later(func(y *client) { y.resumeFrom(r) }) {
		r.leave()
	}
	return true
}

// resumeFrom goes on with a stream that no connection has.
func (x *client) resumeFrom(r *resource) {
	who := x.who
	x.resource = r
	r.who.Expires, r.who.Role = who.Expires, who.Role
	r.mu.Lock()
	r.taker = nil
	r.mu.Unlock()
	r.c.Store(x.c)
	m := r.sm
	if seq := m.ack(x.claimed); seq > r.at {
		r.at = seq
		x.s.core.Mail.MoveCursor(r.bare, r.who.Device, seq)
	}
	x.s.stats.resumed.Add(1)
	x.s.lost.add(r)
	x.nonza("<resumed xmlns='" + nsSM + "' previd='" + r.previd + "' h='" + strconv.FormatUint(uint64(x.handled()), 10) + "'/>")
	// What is in the box comes from there; the rest is sent again, and the
	// count goes on from where the client's is.
	again := m.unacked
	m.unacked, m.kept, m.asked, m.askedAt, m.out = nil, 0, false, m.acked, m.acked
	for _, o := range again {
		if o.bytes != nil {
			x.finish(append(x.start(), o.bytes...), 0)
		}
	}
	x.proceed(atSession)
	x.setAlarm()
	x.c.Meter().Login(x.c.Now())
	r.sess = x.s.core.Router.AttachAt(router.XMPP, r.who, (*bell)(x), r.at)
	x.ask()
	x.s.core.Log.Info("session resumed", "door", "xmpp", "user", r.bare, "device", r.who.Device, "from", x.remote())
}
