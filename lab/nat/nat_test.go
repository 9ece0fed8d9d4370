package nat

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// scenario is one NAT and what happens on it.
type scenario struct {
	name     string
	idle     time.Duration
	mode     string
	min, max time.Duration // bounds of the learner
	settles  bool          // the learner is to come to an end
	late     bool          // also: a message into a vanished mapping
	before   func(*lab)    // before anybody connects
	during   func(*lab)    // in the middle
	runs     time.Duration // where it does not settle
}

const second = time.Second

var scenarios = []scenario{
	{name: "silent-5", idle: 5 * second, mode: "silent", min: 1 * second, max: 15 * second, settles: true, late: true},
	{name: "silent-12", idle: 12 * second, mode: "silent", min: 4 * second, max: 30 * second, settles: true, late: true},
	{name: "silent-30", idle: 30 * second, mode: "silent", min: 12 * second, max: 36 * second, settles: true, late: true},
	{name: "rst-client-5", idle: 5 * second, mode: "rst-client", min: 1 * second, max: 15 * second, settles: true, late: true},
	{name: "rst-client-12", idle: 12 * second, mode: "rst-client", min: 4 * second, max: 30 * second, settles: true, late: true},
	{name: "rst-server-5", idle: 5 * second, mode: "rst-server", min: 1 * second, max: 15 * second, settles: true, late: true},
	{name: "rst-server-12", idle: 12 * second, mode: "rst-server", min: 4 * second, max: 30 * second, settles: true, late: true},
	{name: "rebind-12", idle: 12 * second, mode: "silent", min: 4 * second, max: 30 * second, settles: true,
		during: func(l *lab) { l.do("rebind") }},
	{name: "loss2-12", idle: 12 * second, mode: "silent", min: 4 * second, max: 30 * second, runs: 120 * second,
		before: func(l *lab) { l.do("loss", "2") }},
	{name: "loss10-12", idle: 12 * second, mode: "silent", min: 4 * second, max: 30 * second, runs: 120 * second,
		before: func(l *lab) { l.do("loss", "10") }},
	{name: "outage-12", idle: 12 * second, mode: "silent", min: 4 * second, max: 30 * second, runs: 120 * second,
		during: func(l *lab) {
			l.do("outage", "on")
			time.Sleep(15 * second) // it is the scenario, not a wait for something
			l.do("outage", "off")
		}},
}

// TestCarrierNAT: behind a NAT that really forgets nothing is lost and nothing
// is there twice, whatever the NAT does; the heartbeat found is just shorter
// than what it bears; and a message sent into a vanished mapping arrives with
// the next beat.
func TestCarrierNAT(t *testing.T) {
	need(t)
	for i, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			sc.run(t, fmt.Sprintf("phnat%d", i))
		})
	}
}

func (sc *scenario) run(t *testing.T, name string) {
	l := build(t, name, sc.idle, sc.mode)
	if sc.before != nil {
		sc.before(l)
	}
	bob := l.start("srv", role{User: "bob", Device: "pc", To: "alice", Heartbeat: 20 * second})
	begin := time.Now()
	alice := l.start("cli1", role{User: "alice", Device: "phone", To: "bob", Echo: true, Min: sc.min, Max: sc.max})
	var sent []string
	if sc.late {
		sent = append(sent, "late")
		sc.vanished(t, l, bob)
	}

	// A message from time to time, answered each, while the network is learned:
	// so seldom that it takes beats for the mapping to be there.
	limit := 240 * second
	if !sc.settles {
		limit = sc.runs
	}
	settled := func() bool { return sc.settles && alice.stats().St.Settled }
	stir := time.After(10 * second)
	for tick := time.Tick(sc.idle * 3 / 2); time.Since(begin) < limit && !settled(); {
		select {
		case <-stir:
			if sc.during != nil {
				sc.during(l)
			}
		case <-tick:
			sent = append(sent, fmt.Sprint("m", len(sent)))
			bob.send(sent[len(sent)-1])
		}
	}
	took := time.Since(begin)
	sent = append(sent, "the end")
	bob.send("the end")
	bob.await("the answer to the end", 60*second, func(e event) bool { return e.What == "got" && e.Text == "re the end" })

	if got := alice.texts("got"); !slices.Equal(got, sent) {
		t.Errorf("received %q\nsent     %q", got, sent)
	}
	var answers []string
	for _, s := range sent {
		answers = append(answers, "re "+s)
	}
	if got := bob.texts("got"); !slices.Equal(got, answers) {
		t.Errorf("answers received %q\nsent %q", got, answers)
	}
	if errs := append(alice.texts("error"), bob.texts("error")...); len(errs) > 0 {
		t.Errorf("errors: %q", errs)
	}
	st := alice.stats().St
	if st.Interval >= sc.idle {
		t.Errorf("a beat every %v on a NAT of %v", st.Interval, sc.idle)
	}
	if sc.settles && (!st.Settled || st.Interval < sc.idle*85/100) {
		t.Errorf("a beat every %v on a NAT of %v, settled %v", st.Interval, sc.idle, st.Settled)
	}
	second := "-"
	if sc.late && sc.mode != "rst-client" { // a new device on a network that is known; resets are told to nobody
		tablet := l.start("cli1", role{User: "alice", Device: "tablet", To: "bob", Min: sc.min, Max: sc.max})
		e := tablet.await("the second device to know the network", 60*time.Second, func(e event) bool { return e.St.Settled })
		second = fmt.Sprint(e.St.Probes)
		if e.St.Probes > 1 {
			t.Errorf("the second device needed %d probes", e.St.Probes)
		}
	}
	t.Logf("%s: a beat every %v (found %v-%v) after %v, %d probes, then %s; %d messages each way, %d beats, %d reconnects; %s",
		sc.name, st.Interval, st.Finding.Good, st.Finding.Bad, took.Round(time.Second), st.Probes, second,
		len(sent), st.Heartbeats, st.Reconnects, strings.Join(strings.Split(strings.TrimSpace(l.do("counters")), "\n"), ", "))
}

// vanished sends a message into the vanished mapping of a device that beats
// too seldom. It is there with the next beat.
func (sc *scenario) vanished(t *testing.T, l *lab, bob *device) {
	late := l.start("cli1", role{User: "alice", Device: "late", To: "bob", Heartbeat: 2 * sc.idle})
	opened := late.await("open", second, func(e event) bool { return e.What == "open" }).At
	time.Sleep(time.Until(opened.Add(sc.idle * 3 / 2))) // the silence is the scenario
	bob.send("late")
	sent := time.Now()
	e := late.await("the message into the vanished mapping", 60*second, func(e event) bool { return e.What == "got" })
	beat := opened.Add(2 * sc.idle)
	t.Logf("%s: a message into a vanished mapping arrived %v after it was sent, %v after the next beat",
		sc.name, e.At.Sub(sent).Round(time.Millisecond), e.At.Sub(beat).Round(time.Millisecond))
	if e.At.Sub(beat) > 5*second {
		t.Errorf("%v after the beat", e.At.Sub(beat))
	}
	late.quit()
}
