// Package learn finds out how long a network's NAT remembers an idle
// connection. It is a state machine without I/O and without a clock of its
// own, so that a client runs it, a test runs a day of it in a millisecond, and
// the server can judge what a client says it found.
//
// A NAT forgets a mapping some fixed time T after the last packet. A heartbeat
// must come more often than that, but each one wakes the radio, so it should
// come only a little more often. [Learner] keeps a bracket: the longest
// silence that is known to have survived, and the shortest that is known not
// to have.
//
//	Min          good                bad                Max
//	 ├────────────┼───────────────────┼──────────────────┤
//	              │   next probe = √(good·bad)
//	              └ Interval = good less the margin
//
// It asks for probes: connections beside the live one, silent for a given
// time, then asked whether they still work. So the live connection is never
// deaf for the sake of knowledge. Silences multiply: the bracket is halved on
// a logarithmic scale, and six probes narrow 15 seconds … 30 minutes to 8 %.
//
// A failure counts against the NAT only when it was seen twice, since a lost
// packet looks the same once. What fails after some silence would have failed
// after a longer one: so a failure confirms all those at longer silences, and
// the search goes on below a single failure as if it were true. Only the last
// one, where the search has come to, is tried again. A change of network, or a
// restart of the server or the NAT, never counts, nor does a reset of the live
// connection. A probe that ends in a reset twice ends the search there and
// takes nothing away: shorter silences are tried, and what they find holds.
package learn

import (
	"math"
	"slices"
	"time"
)

// Config bounds a Learner. A zero field means its default.
type Config struct {
	// Min is the shortest heartbeat ever used, believed to be safe
	// everywhere. Default 15 s.
	Min time.Duration
	// Max is the longest worth having. Default 30 min.
	Max time.Duration
	// Margin is the part of the longest silence known to survive that is
	// given away for safety, and never less than 250 ms. Default 0.025.
	Margin float64
	// Precision is the ratio of the two ends of the bracket at which probing
	// stops. Default 1.08.
	Precision float64
	// Confirm is how many failures at a silence, or at shorter ones, count as
	// the NAT's. Default 2.
	Confirm int
	// Fresh is how long a finding is believed before it is probed again.
	// Default 7 days.
	Fresh time.Duration
}

func (c Config) withDefaults() Config {
	if c.Min == 0 {
		c.Min = 15 * time.Second
	}
	if c.Max == 0 {
		c.Max = 30 * time.Minute
	}
	if c.Margin == 0 {
		c.Margin = 0.025
	}
	if c.Precision == 0 {
		c.Precision = 1.08
	}
	if c.Confirm == 0 {
		c.Confirm = 2
	}
	if c.Fresh == 0 {
		c.Fresh = 7 * 24 * time.Hour
	}
	return c
}

// Finding is what is known about one network.
type Finding struct {
	// Good is the longest silence that survived; zero if nothing is known.
	Good time.Duration
	// Bad is the shortest silence that did not, or that ended in resets; zero
	// if none is known.
	Bad time.Duration
	// At is when this was last confirmed.
	At time.Time
}

// Outcome is how a silence ended.
type Outcome int

const (
	// Survived: the peer answered.
	Survived Outcome = iota
	// Silent: no answer came, and the network is there (a new connection works).
	Silent
	// Unrelated: the connection ended for a reason that says nothing about the
	// NAT: a reset, another network, no network at all, a restart of the server.
	Unrelated
	// Reset: what was said after the silence was answered with a reset, and the
	// network is there. A NAT may say so of what it has forgotten; a server or
	// a proxy says so of what it has ended.
	Reset
)

// Learner learns about one network. The zero value is not ready: use New.
type Learner struct {
	c        Config
	f        Finding
	prior    Finding // what others found; not yet confirmed here
	fails    strikes
	lastFail time.Time // when a silence failed last
	probes   int
	settled  bool

	resets strikes
}

// strikes are silences that have ended badly, the shortest first: as many as
// are of interest.
type strikes []time.Duration

// add takes note of one. It returns the shortest silence that n speak against,
// and then keeps those that are shorter still; zero is none.
func (s *strikes) add(silence time.Duration, n int) time.Duration {
	at, _ := slices.BinarySearch(*s, silence)
	*s = slices.Insert(*s, at, silence)
	if len(*s) < n {
		return 0
	}
	against := (*s)[n-1]
	*s = slices.DeleteFunc(*s, func(d time.Duration) bool { return d >= against })
	return against
}

// survived forgets those that a silence of that length shows to be wrong.
func (s *strikes) survived(silence time.Duration) {
	*s = slices.DeleteFunc(*s, func(d time.Duration) bool { return d <= silence })
}

// New returns a Learner that starts from what it found itself before, or else
// from prior, what others found on the same network. Both may be zero.
func New(c Config, own, prior Finding, now time.Time) *Learner {
	own, prior = whole(own), whole(prior)
	l := &Learner{c: c.withDefaults(), prior: prior}
	if own.Good > 0 && now.Sub(own.At) < l.c.Fresh {
		l.f = own
		l.settle()
	} else if own.Good > 0 && prior.Good == 0 {
		l.prior = own // old, but a better place to start than nowhere
	}
	return l
}

// whole has whole milliseconds, as all that a Learner takes and gives: that is
// what the wire carries, and what was asked for and what came of it must meet.
func whole(f Finding) Finding {
	f.Good, f.Bad = f.Good.Truncate(time.Millisecond), f.Bad.Truncate(time.Millisecond)
	return f
}

// resent is by how much a silence may have been shorter than it looked. A last
// packet that was lost, or whose acknowledgement was, is sent again a
// retransmission timeout later, and the NAT sees it: "Whenever RTO is computed,
// if it is less than 1 second, then the RTO SHOULD be rounded up to 1 second"
// (RFC 6298 section 2.4), and Linux makes it 200 ms.
const resent = 250 * time.Millisecond

// Interval is how long the live connection may be silent.
func (l *Learner) Interval() time.Duration {
	good := max(l.f.Good, l.c.Min)
	margin := max(time.Duration(float64(good)*l.c.Margin), resent)
	return max(l.c.Min, (good - margin).Truncate(time.Millisecond))
}

// Finding is what is known now.
func (l *Learner) Finding() Finding { return l.f }

// Probes is how many silences have been judged, confirmations included.
func (l *Learner) Probes() int { return l.probes }

// Probe says what silence to try next; ok is false when enough is known.
func (l *Learner) Probe() (silence time.Duration, ok bool) {
	if l.settled {
		return 0, false
	}
	if p := l.prior.Good; p > l.f.Good && (l.f.Bad == 0 || p < l.f.Bad) && !l.failed(p) {
		return min(p, l.c.Max), true
	}
	lo, hi := max(l.f.Good, l.c.Min), l.end()
	for _, s := range []strikes{l.fails, l.resets} {
		if len(s) > 0 && s[0] < hi {
			hi = s[0]
		}
	}
	if float64(hi) <= float64(lo)*l.c.Precision && hi < l.end() {
		return hi, true // the search has come to a failure: is it true?
	}
	return time.Duration(math.Sqrt(float64(lo) * float64(hi))).Truncate(time.Millisecond), true
}

// failed reports whether d, or less, has failed, be it once.
func (l *Learner) failed(d time.Duration) bool { return len(l.fails) > 0 && l.fails[0] <= d }

// end is the shortest silence that need not be tried.
func (l *Learner) end() time.Duration {
	end := l.c.Max
	if l.f.Bad > 0 {
		end = min(end, l.f.Bad)
	}
	return end
}

// Ended tells the outcome of a silence: of a probe, or of the live connection
// between two of its heartbeats.
func (l *Learner) Ended(silence time.Duration, o Outcome, now time.Time) {
	silence = silence.Truncate(time.Millisecond)
	switch o {
	case Survived:
		l.survived(silence, now)
	case Silent:
		l.silent(silence, now)
	case Reset:
		l.reset(silence, now)
	case Unrelated:
	}
}

// reset takes note of a silence that ended in a reset. It says nothing about
// shorter ones, and so nothing against what is known to be good.
func (l *Learner) reset(silence time.Duration, now time.Time) {
	if silence <= max(l.f.Good, l.c.Min) || l.settled {
		return
	}
	l.probes++
	if against := l.resets.add(silence, l.c.Confirm); against > 0 {
		l.bad(against, now)
	}
}

func (l *Learner) survived(silence time.Duration, now time.Time) {
	l.fails.survived(silence) // what failed there was not the NAT
	l.resets.survived(silence)
	if silence < l.f.Good {
		l.settle()
		return
	}
	probed := silence > l.f.Good
	l.f.Good, l.f.At = silence, now
	if l.f.Bad > 0 && l.f.Bad <= silence {
		l.f.Bad = 0 // it was wrong, or the network has changed for the better
	}
	if !probed {
		return
	}
	l.probes++
	if p := l.prior; p.Good > 0 && silence >= min(p.Good, l.c.Max) {
		// As others found: then their upper end is believed too.
		if p.Bad > silence && (l.f.Bad == 0 || p.Bad < l.f.Bad) {
			l.f.Bad = p.Bad
		}
		l.prior = Finding{}
	}
	l.settle()
}

func (l *Learner) silent(silence time.Duration, now time.Time) {
	// What was silent when another one failed failed of the same: of a NAT that
	// was restarted, which is no confirmation.
	if len(l.fails) > 0 && now.Add(-silence).Before(l.lastFail) {
		return
	}
	l.lastFail = now
	l.probes++
	against := l.fails.add(silence, l.c.Confirm)
	if against == 0 {
		l.settled = l.settled && silence >= l.f.Bad && l.f.Bad > 0
		return // else it must be looked into, also when all seemed known
	}
	l.bad(against, now)
}

// bad takes note of a silence that has failed as often as it takes.
func (l *Learner) bad(silence time.Duration, now time.Time) {
	l.f.At = now
	if l.f.Bad == 0 || silence < l.f.Bad {
		l.f.Bad = silence
	}
	if l.f.Good >= l.f.Bad {
		l.f.Good = 0 // the network is worse than it was: begin below
	}
	if l.prior.Good >= l.f.Bad {
		l.prior = Finding{}
	}
	l.settle()
}

// settle ends the search when the bracket is narrow enough.
func (l *Learner) settle() {
	l.settled = float64(l.end()) <= float64(max(l.f.Good, l.c.Min))*l.c.Precision
}

// Stale has what was found looked into again, once it is older than
// Config.Fresh. That the good silence holds each heartbeat shows. Of the bad one
// it is known no more than that it failed once: it is tried again, and fails, or
// the search goes on above it.
func (l *Learner) Stale(now time.Time) bool {
	if !l.settled || now.Sub(l.f.At) < l.c.Fresh {
		return false
	}
	l.fails, l.resets = nil, nil
	for range l.c.Confirm - 1 {
		if l.f.Bad > 0 {
			l.fails, l.resets = append(l.fails, l.f.Bad), append(l.resets, l.f.Bad)
		}
	}
	l.f.Bad, l.settled = 0, false
	return true
}
