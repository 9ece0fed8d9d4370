package learn

import (
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// nat forgets after timeout; loss is the chance that a probe fails although
// the mapping lives.
type nat struct {
	timeout time.Duration
	loss    float64
	rnd     *rand.Rand
}

func (n nat) idle(silence time.Duration) Outcome {
	if silence >= n.timeout || n.loss > 0 && n.rnd.Float64() < n.loss {
		return Silent
	}
	return Survived
}

// probeAll runs the learner's probes one after another and returns the time it took.
func probeAll(t *testing.T, l *Learner, n nat, now time.Time) time.Time {
	t.Helper()
	for range 1000 {
		d, ok := l.Probe()
		if !ok {
			return now
		}
		now = now.Add(d)
		l.Ended(d, n.idle(d), now)
	}
	t.Fatal("probes without end")
	return now
}

// Six probes find the interval, a seventh confirms the last failure.
func TestFindsTheTimeout(t *testing.T) {
	for timeout := 16 * time.Second; timeout < 30*time.Minute; timeout = timeout * 21 / 20 {
		l := New(Config{}, Finding{}, Finding{}, start)
		n, now := nat{timeout: timeout}, start
		for l.Probes() < 6 {
			d, ok := l.Probe()
			if !ok {
				break
			}
			now = now.Add(d)
			l.Ended(d, n.idle(d), now)
		}
		got := l.Interval()
		if got >= timeout || float64(got) < 0.9*float64(timeout) {
			t.Errorf("timeout %v: heartbeat every %v", timeout, got)
		}
		probeAll(t, l, n, now)
		if l.Probes() > 7 || l.Interval() != got {
			t.Errorf("timeout %v: %d probes, and every %v instead of %v", timeout, l.Probes(), l.Interval(), got)
		}
	}
}

func TestShortestAndLongest(t *testing.T) {
	l := New(Config{}, Finding{}, Finding{}, start)
	probeAll(t, l, nat{timeout: 10 * time.Second}, start) // below Min: nothing can be done
	if got := l.Interval(); got != 15*time.Second {
		t.Errorf("on a NAT of 10 s: every %v, want Min", got)
	}
	l = New(Config{}, Finding{}, Finding{}, start)
	probeAll(t, l, nat{timeout: 24 * time.Hour}, start)
	if got := l.Interval(); got < 27*time.Minute || got > 30*time.Minute {
		t.Errorf("without a NAT: every %v, want nearly Max", got)
	}
}

func TestPriorNeedsOneProbe(t *testing.T) {
	n := nat{timeout: 300 * time.Second}
	first := New(Config{}, Finding{}, Finding{}, start)
	probeAll(t, first, n, start)
	second := New(Config{}, Finding{}, first.Finding(), start)
	probeAll(t, second, n, start)
	if second.Probes() != 1 || second.Interval() != first.Interval() {
		t.Errorf("with a prior: %d probes, every %v; the first found %v", second.Probes(), second.Interval(), first.Interval())
	}
	again := New(Config{}, second.Finding(), Finding{}, start)
	if _, ok := again.Probe(); ok {
		t.Error("what it found itself an hour ago is probed again")
	}
}

func TestWrongPriorIsCorrected(t *testing.T) {
	n := nat{timeout: 60 * time.Second}
	l := New(Config{}, Finding{}, Finding{Good: 20 * time.Minute, Bad: 21 * time.Minute}, start)
	probeAll(t, l, n, start)
	if got := l.Interval(); got >= n.timeout || got < 54*time.Second {
		t.Errorf("heartbeat every %v on a NAT of 60 s", got)
	}
	l = New(Config{}, Finding{}, Finding{Good: 20 * time.Second, Bad: 21 * time.Second}, start)
	probeAll(t, l, n, start)
	if got := l.Interval(); got >= n.timeout {
		t.Errorf("heartbeat every %v on a NAT of 60 s", got)
	}
}

func TestOneFailureIsNoVerdict(t *testing.T) {
	l := New(Config{}, Finding{}, Finding{}, start)
	d, _ := l.Probe()
	l.Ended(d, Silent, start)
	if l.Finding().Bad != 0 {
		t.Error("one failure counted")
	}
	next, ok := l.Probe()
	if !ok || next >= d {
		t.Errorf("after a failure at %v the next probe is %v", d, next)
	}
	// All shorter ones survive, so that the failure itself is tried again.
	now := start
	for ; next < d; next, _ = l.Probe() {
		now = now.Add(next)
		l.Ended(next, Survived, now)
	}
	if next != d {
		t.Errorf("what failed at %v is tried again at %v", d, next)
	}
	l.Ended(d, Survived, now)
	if f := l.Finding(); f.Good != d || f.Bad != 0 {
		t.Errorf("found %+v", f)
	}
	for range 10 {
		l.Ended(time.Second, Unrelated, start)
	}
	if f := l.Finding(); f.Good != d || f.Bad != 0 {
		t.Errorf("resets counted: %+v", f)
	}
}

func TestLossDoesNotMislead(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	low, runs := 0, 500
	for range runs {
		n := nat{timeout: 120 * time.Second, loss: 0.1, rnd: rnd}
		l := New(Config{}, Finding{}, Finding{}, start)
		probeAll(t, l, n, start)
		if l.Interval() >= n.timeout {
			t.Fatalf("every %v", l.Interval())
		}
		if l.Interval() < 100*time.Second {
			low++
		}
	}
	// It takes two of seven probes.
	if low > runs/10 {
		t.Errorf("at 10 %% loss %d of %d settled too low", low, runs)
	}
}

func TestWorseNetworkIsNoticed(t *testing.T) {
	l := New(Config{}, Finding{}, Finding{}, start)
	probeAll(t, l, nat{timeout: 10 * time.Minute}, start)
	beat := l.Interval()
	l.Ended(beat, Silent, start)
	if l.Interval() != beat {
		t.Error("one silent heartbeat changed the interval")
	}
	l.Ended(beat, Silent, start.Add(beat))
	if l.Interval() >= beat {
		t.Errorf("two silent heartbeats did not: every %v", l.Interval())
	}
	probeAll(t, l, nat{timeout: time.Minute}, start)
	if got := l.Interval(); got >= time.Minute || got < 54*time.Second {
		t.Errorf("then every %v on a NAT of a minute", got)
	}
}

// After a week one probe shows whether the network is still as it was, and the
// search goes on if it is better.
func TestFindingsGrowOld(t *testing.T) {
	learned := func() (*Learner, time.Time) {
		l := New(Config{}, Finding{}, Finding{}, start)
		now := probeAll(t, l, nat{timeout: time.Minute}, start)
		if l.Stale(now.Add(time.Hour)) {
			t.Error("stale after an hour")
		}
		now = now.Add(8 * 24 * time.Hour)
		if !l.Stale(now) {
			t.Error("not stale after eight days")
		}
		return l, now
	}
	l, now := learned()
	before, probes := l.Interval(), l.Probes()
	now = probeAll(t, l, nat{timeout: time.Minute}, now)
	if l.Interval() != before || l.Probes() != probes+1 || l.Stale(now) {
		t.Errorf("as before: every %v instead of %v, after %d probes", l.Interval(), before, l.Probes()-probes)
	}
	l, now = learned()
	probeAll(t, l, nat{timeout: 10 * time.Minute}, now)
	if got := l.Interval(); got >= 10*time.Minute || got < 9*time.Minute {
		t.Errorf("better than before: every %v on a NAT of ten minutes", got)
	}
	old := New(Config{}, Finding{Good: 50 * time.Second, Bad: 53 * time.Second, At: start}, Finding{}, now)
	if d, ok := old.Probe(); !ok || d != 50*time.Second {
		t.Errorf("an old finding of its own is first probed at %v", d)
	}
}

// A NAT that answers with a reset is found out as well as a silent one, and the
// next device is told. What is known to be good no reset takes away.
func TestResetsOnlyBoundTheSearch(t *testing.T) {
	for _, timeout := range []time.Duration{20 * time.Second, 45 * time.Second, 5 * time.Minute, 20 * time.Minute} {
		l := New(Config{}, Finding{}, Finding{}, start)
		for range 100 {
			d, ok := l.Probe()
			if !ok {
				break
			}
			o := Survived
			if d >= timeout {
				o = Reset
			}
			l.Ended(d, o, start)
		}
		if _, ok := l.Probe(); ok || l.Finding().Bad < timeout || l.Probes() > 7 {
			t.Errorf("timeout %v: found %+v after %d probes", timeout, l.Finding(), l.Probes())
		}
		if got := l.Interval(); got >= timeout || float64(got) < 0.9*float64(timeout) {
			t.Errorf("timeout %v: every %v", timeout, got)
		}
		beat := l.Interval()
		for range 10 {
			l.Ended(beat, Reset, start)
		}
		if l.Interval() != beat {
			t.Error("resets of the live connection changed the interval")
		}
	}
}

// The last packet before a silence was lost and sent again, so that the mapping
// was younger than it seemed: it bore less than was found.
func TestRetransmissionIsAllowedFor(t *testing.T) {
	l := New(Config{Min: 2 * time.Second, Max: 15 * time.Second}, Finding{}, Finding{}, start)
	now := start
	for {
		d, ok := l.Probe()
		if !ok {
			break
		}
		now = now.Add(d)
		l.Ended(d, nat{timeout: 5*time.Second + 200*time.Millisecond}.idle(d), now)
	}
	if got := l.Interval(); l.Finding().Good <= 5*time.Second || got >= 5*time.Second || got < 4500*time.Millisecond {
		t.Errorf("found %v on a NAT of 5 s, and every %v", l.Finding().Good, got)
	}
}

// A NAT that is restarted breaks all connections at once. That is one event,
// whatever their silences were.
func TestOneEventIsOneFailure(t *testing.T) {
	l := New(Config{Min: 4 * time.Second, Max: 30 * time.Second}, Finding{}, Finding{}, start)
	d, _ := l.Probe()
	now := start.Add(d)
	l.Ended(4*time.Second+42*time.Microsecond, Silent, now) // the live connection
	l.Ended(d, Silent, now.Add(time.Second))
	if f := l.Finding(); f.Bad != 0 {
		t.Errorf("found %+v", f)
	}
	if again, _ := l.Probe(); again != again.Truncate(time.Millisecond) {
		t.Errorf("a probe of %v: the wire has milliseconds", again)
	}
	probeAll(t, l, nat{timeout: 12 * time.Second}, now.Add(time.Minute))
	if got := l.Interval(); got < 10800*time.Millisecond || got >= 12*time.Second {
		t.Errorf("every %v", got)
	}
}

func FuzzLearner(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, int64(30*time.Second))
	f.Fuzz(func(t *testing.T, outcomes []byte, prior int64) {
		l := New(Config{}, Finding{}, Finding{Good: time.Duration(prior)}, start)
		for _, o := range outcomes {
			d, ok := l.Probe()
			if ok && (d <= 0 || d > 30*time.Minute) {
				t.Fatalf("probe of %v", d)
			}
			if !ok {
				d = l.Interval()
			}
			l.Ended(d, Outcome(o%4), start)
			if i := l.Interval(); i < 15*time.Second || i > 30*time.Minute {
				t.Fatalf("heartbeat every %v", i)
			}
		}
	})
}
