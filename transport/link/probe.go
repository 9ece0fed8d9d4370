package link

import (
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// learner is what a connection has whose client learns how long its network
// remembers. Most have none, and it is not kept for them.
type learner struct {
	networks [2]keepalive.Network // what the client's network is called
	reported bool                 // it has told what it found
	prober   auth.Who             // whose probe this is; zero for a session
	call     int64                // when we are to ping, in Unix milliseconds; zero is never
	told     bool                 // the client wants to be told what others found
}

// probes counts the live probes of each account.
type probes struct {
	mu  sync.Mutex
	all int            // guarded by mu
	of  map[string]int // guarded by mu; by user
}

// enter reports whether user may have one more.
func (p *probes) enter(user string, each, all int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= all || p.of[user] >= each {
		return false
	}
	if p.of == nil {
		p.of = map[string]int{}
	}
	p.all++
	p.of[user]++
	return true
}

func (p *probes) leave(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.of[user]--; p.of[user] == 0 {
		delete(p.of, user)
	}
}

// probed welcomes a probe, which has an account and no session.
func (l *link) probed(who auth.Who) {
	if !l.d.probes.enter(who.User, l.d.cfg.MaxProbes, l.d.cfg.MaxProbesInAll) {
		l.close(frame.CloseBusy, "too many probes")
		return
	}
	now := l.c.Now()
	l.learns.prober = who
	l.d.stats.probes.Add(1)
	l.heard = now.UnixMilli()
	l.state = probing
	if l.learns.call != 0 {
		l.learns.call = l.heard + int64(l.interval)
	}
	l.write(&frame.Welcome{Major: frame.Major, Minor: frame.Minor, Address: who.User, Time: uint64(now.UnixMilli()),
		Interval: uint64(l.interval), Caps: frame.CapProbe})
	l.arm()
	l.c.PauseRead(false)
}

// learn takes what the client says it found on its network, once for each
// connection, so that nobody is heard often by speaking often.
func (l *link) learn(good, bad uint64) {
	t, ok := l.d.core.Keepalive.(keepalive.Learner)
	if good == 0 || !ok || l.learns == nil || l.learns.reported {
		return
	}
	l.learns.reported = true
	l.d.stats.findings.Add(1)
	names := l.learns.networks
	if names[0] == names[1] {
		names[1] = ""
	}
	for _, n := range names {
		t.Report(n, l.s.Who().User, keepalive.Finding{Good: millis(good), Bad: millis(bad)})
	}
}

// prior is what others found on the client's network.
func (l *link) prior() (good, bad uint64) {
	t, ok := l.d.core.Keepalive.(keepalive.Learner)
	if !ok {
		return 0, 0
	}
	f := t.Prior(keepalive.Best(t, l.learns.networks[:]...))
	return uint64(f.Good.Milliseconds()), uint64(f.Bad.Milliseconds())
}

// millis is a duration, of at most a day.
func millis(ms uint64) time.Duration {
	return time.Duration(min(ms, 24*3600*1000)) * time.Millisecond
}

// userTimeout is how long bytes for a client that speaks every interval may
// stay unacknowledged: a part of the interval, so that who waits for an answer
// from a vanished mapping does not wait long, and never so short that a radio
// that wakes up late or a lost packet could be taken for it.
func userTimeout(interval time.Duration) time.Duration {
	return min(max(interval/4, 5*time.Second), 20*time.Second)
}
