package link

import (
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Stats is the account of a mailbox since Open.
type Stats struct {
	Network string
	// Interval is how often the connection speaks at present.
	Interval time.Duration
	// Finding is what is known of the network, and Settled says that it is
	// not probed further.
	Finding learn.Finding
	Settled bool
	// Heartbeats, Reconnects and Moves of the live connection, and Probes
	// beside it.
	Heartbeats, Reconnects, Moves, Probes uint64
}

// Stats returns the account so far.
func (mb *Mailbox) Stats() Stats {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	st := mb.counts
	st.Network = mb.net
	if mb.live != nil {
		st.Interval = mb.live.interval
	}
	if l := mb.nets[mb.keyLocked()]; l != nil {
		st.Finding = l.Finding()
		_, more := l.Probe()
		st.Settled = !more
	}
	return st
}

// keyLocked is what the network is called where what was learned is kept.
func (mb *Mailbox) keyLocked() string {
	if s := mb.live; s != nil && s.network == mb.net {
		return s.key
	}
	return mb.net
}

var (
	errMoved = fmt.Errorf("link: %w", client.ErrMoved)
	errDead  = fmt.Errorf("link: %w", client.ErrSilent)
	errDeaf  = fmt.Errorf("link: %w", client.ErrDeaf)
)

// NetworkChanged says that the device is on another network now. A connection
// that can (Mover) goes on there; otherwise the mailbox connects again at once.
// It uses what it knows of that network. With the name that it has already the
// network may have changed: the server is asked, and has 2.5 s to answer.
func (mb *Mailbox) NetworkChanged(name string) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if s := mb.live; s != nil && mb.net == name && s.network == name {
		if !movable(s.nc) {
			mb.checkLocked(s)
			return
		}
	}
	mb.net = name
	mb.dropLocked() // it is on the network that was left
	if mb.stopProbe != nil {
		mb.stopProbe()
	}
	switch s := mb.live; {
	case s == nil:
		ring(mb.moved)
	case movable(s.nc):
		s.moving = true
		ring(s.elsewhere)
		if s.stopMove != nil {
			s.stopMove() // to the network that was left
		}
	default:
		s.moved = true
		s.nc.Close()
		mb.pace = pace{}
	}
	if mb.stopConnect != nil {
		mb.stopConnect() // on the network that was left
	}
	ring(mb.nudge)
}

// quickAnswer is how long a server has to answer that is believed to be there.
const quickAnswer = 2500 * time.Millisecond

// slowAnswer is how long one has that is not.
const slowAnswer = 5 * time.Second

// checkLocked asks whether the connection still works.
func (mb *Mailbox) checkLocked(s *session) {
	s.patience = quickAnswer
	if s.waits {
		s.patience = time.Since(s.pinged) + quickAnswer
	}
	s.check = !s.waits
	ring(mb.work)
}

// SetBackground says whether the device sleeps, and when it wakes asks whether
// the server is there. While it sleeps nothing is probed, and a
// heartbeat that will soon be due goes along with other traffic, which has
// woken the radio already; messages that can wait do (Config.Hold), and no
// signals come.
func (mb *Mailbox) SetBackground(on bool) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if on == mb.background {
		return
	}
	if mb.background = on; on && mb.stopProbe != nil {
		mb.stopProbe()
	}
	if s := mb.live; s != nil {
		if mb.cfg.Hold >= 0 {
			mb.holdLocked()
		}
		if !on {
			mb.checkLocked(s)
		}
	}
	ring(mb.nudge)
	ring(mb.work)
}

// holdLocked tells the server whether it may hold messages.
func (mb *Mailbox) holdLocked() {
	f := &frame.Set{Hold: new(uint64)}
	if mb.background {
		*f.Hold = uint64(longestHold.Milliseconds())
		if mb.cfg.Hold > 0 {
			*f.Hold = uint64(max(mb.cfg.Hold.Milliseconds(), 1))
		}
		if mb.cfg.HoldNormal {
			f.Normal = 1
		}
	}
	mb.sets = append(mb.sets, f)
}

// longestHold is more than a server allows.
const longestHold = 24 * time.Hour

// awake is how long a radio stays awake after a packet, at least.
const awake = 2 * time.Second

// alongLocked reports whether a heartbeat should go along with what has just
// been sent or received.
func (mb *Mailbox) alongLocked(s *session, now time.Time) bool {
	return mb.background && now.Sub(later(s.read, s.wrote)) < awake && now.Sub(earlier(s.read, s.wrote)) >= s.interval/2
}

// introduce puts what is known of the network into a Hello.
func (mb *Mailbox) introduce(h *frame.Hello, key string) {
	if mb.cfg.Heartbeat != 0 {
		return
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	h.Caps |= frame.CapProbe
	if d, ok := mb.wishLocked(mb.networkLocked(key, learn.Finding{})); ok {
		h.Interval = uint64(d.Milliseconds())
	}
	if f, ok := mb.reports[key]; ok {
		h.Good, h.Bad = uint64(f.Good.Milliseconds()), uint64(f.Bad.Milliseconds())
	}
}

// startLocked begins to learn on a session that was welcomed.
func (mb *Mailbox) startLocked(s *session) {
	mb.live = s
	if mb.background && mb.cfg.Hold >= 0 {
		mb.holdLocked()
	}
	// Something on the way may have let through the welcome and nothing more.
	if s.greeted = mb.better || mb.pace.deaf; s.greeted {
		s.check = true
		if s.patience = slowAnswer; mb.better {
			s.patience = quickAnswer
		}
	}
	delete(mb.reports, s.key) // Hello told it
	if mb.cfg.Heartbeat != 0 {
		return
	}
	n := mb.networkLocked(s.key, learn.Finding{Good: duration(s.welcome.Good), Bad: duration(s.welcome.Bad)})
	n.helped, n.primed = s.welcome.Caps&frame.CapProbe != 0, true
	// The first attempt was good: it was the silence. That is known before the
	// next one is tried.
	mb.judgeLocked(s.key, mb.suspect, learn.Silent)
	mb.suspect = 0
	mb.agreeLocked(s, learn.Finding{})
	ring(mb.nudge)
}

// network is what is known of one.
type network struct {
	*learn.Learner
	helped bool // by the server: silences are tried beside the live connection
	primed bool // others were asked what they found
}

// networkLocked is what is known of a network: what was found there before, or
// else what others found.
func (mb *Mailbox) networkLocked(key string, prior learn.Finding) *network {
	n := mb.nets[key]
	if n == nil || !n.primed && prior.Good > 0 {
		own, err := mb.cfg.Findings.Load(key)
		if err != nil {
			mb.cfg.Log.Warn("link: what was learned is not readable", "err", err)
		}
		n = &network{Learner: learn.New(mb.cfg.Learn, own, prior, time.Now())}
		mb.nets[key] = n
	}
	return n
}

// wishLocked is how often to speak on a network; ok is false if that is as
// the server advises. Where the server does not help only the live connection
// can tell, and looks itself for the longest silence that survives, once the
// advised one has not.
func (mb *Mailbox) wishLocked(n *network) (d time.Duration, ok bool) {
	silence, more := n.Probe()
	switch {
	case n.helped, !more:
		return n.Interval(), true
	case n.Finding().Bad == 0:
		return 0, false
	case mb.background:
		return n.Interval(), true
	}
	return silence, true
}

func duration(ms uint64) time.Duration {
	return time.Duration(min(ms, 24*3600*1000)) * time.Millisecond
}

// agreeLocked tells the server how often we will speak, and what was found,
// each once: what it grants may be less. Until it has agreed we speak as often
// as it may expect.
func (mb *Mailbox) agreeLocked(s *session, f learn.Finding) {
	n := mb.networkLocked(s.key, learn.Finding{})
	set := &frame.Set{}
	if n.helped {
		set.Good, set.Bad = uint64(f.Good.Milliseconds()), uint64(f.Bad.Milliseconds())
	}
	if d, ok := mb.wishLocked(n); ok && d != s.wished {
		set.Interval, s.wished = uint64(d.Milliseconds()), d
		s.interval = min(s.interval, d)
	}
	if set.Interval != 0 || set.Good != 0 {
		mb.sets = append(mb.sets, set)
		ring(mb.work)
	}
}

// answerLocked is how long the server may take to answer.
func (mb *Mailbox) answerLocked() time.Duration {
	if mb.cfg.Answer != 0 {
		return mb.cfg.Answer
	}
	return mb.pace.dead()
}

// spokeLocked takes note that bytes go out, and of the silence before.
func (mb *Mailbox) spokeLocked(s *session, now time.Time) {
	if s.quiet == 0 {
		s.quiet = now.Sub(later(s.read, s.wrote))
		// If only one side spoke of late it depends on the NAT whether that
		// counted.
		if s.read.Sub(s.wrote).Abs() > awake || datagrams(s.nc) {
			s.quiet = 0
		}
	}
	s.wrote = now
}

// heard takes note of bytes from the server: the mapping lives.
func (mb *Mailbox) heard(s *session) {
	now := time.Now()
	mb.mu.Lock()
	if s.waits {
		mb.pace.answered(now.Sub(s.pinged))
		mb.pace.late = 0
		mb.dropLocked()
		s.waits, s.patience = false, 0
	}
	s.fed, mb.pace.deaf = true, false
	if s.read = now; !s.asked.IsZero() {
		s.asked = now // it lives: what is asked is given its time
	}
	quiet := s.quiet
	s.quiet = 0
	along, key := mb.background, s.key
	mb.mu.Unlock()
	if quiet > 0 {
		mb.judge(key, quiet, learn.Survived)
	}
	if along {
		ring(mb.work)
	}
}

// ending is what the end of a session says about the silence before it; nil is
// no session.
func (mb *Mailbox) ending(s *session) (time.Duration, learn.Outcome) {
	if s == nil {
		return 0, learn.Unrelated
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if s.moved || !s.dead {
		return 0, learn.Unrelated
	}
	return s.quiet, learn.Silent
}

// judge tells the learner of a silence, and the world what came of it.
func (mb *Mailbox) judge(key string, silence time.Duration, o learn.Outcome) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.judgeLocked(key, silence, o)
}

func (mb *Mailbox) judgeLocked(key string, silence time.Duration, o learn.Outcome) {
	l := mb.nets[key]
	if l == nil || silence == 0 {
		return
	}
	before := l.Finding()
	l.Ended(silence, o, time.Now())
	found := l.Finding()
	_, more := l.Probe()
	if o == learn.Silent || found.Good > before.Good {
		ring(mb.nudge)
	}
	tell := learn.Finding{}
	if !more && (found.Good != before.Good || found.Bad != before.Bad) {
		tell = found
		if err := mb.cfg.Findings.Save(key, found); err != nil {
			mb.cfg.Log.Warn("link: what was learned is not kept", "err", err)
		}
	}
	if s := mb.live; s != nil && s.key == key {
		if s.strayed {
			mb.agreeLocked(s, learn.Finding{})
		} else {
			mb.agreeLocked(s, tell)
			tell.Good = 0
		}
	}
	// The server believes this connection on the network that Hello told.
	if tell.Good != 0 {
		if mb.reports == nil {
			mb.reports = map[string]learn.Finding{}
		}
		mb.reports[key] = tell
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
