package nat

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// scenario is one NAT and what happens on it.
type scenario struct {
	name   string
	idle   time.Duration
	mode   string         // silent if empty
	quic   bool           // the phone is on QUIC
	node   bool           // it has the TypeScript SDK
	air    *air           // the radio, if there is one
	loss   int            // per cent of all packets
	bulk   int            // messages sent at once when all is learned
	wide   bool           // the phone searches where it does if nobody says where
	during func(*onStage) // in the middle
	breaks bool           // what happens in the middle breaks the connection
}

// onStage is a scenario under way.
type onStage struct {
	*lab
	alice *device
}

const second = time.Second

// soon is when a message is there at the latest, also one into a mapping that
// has vanished, counted from the beat. It takes up to 1.8 s, and docs/link.md
// says two, to which client/link is held in virtual time; the third is the
// machine's, which has all labs to run.
const soon = 3 * second

// bounds are what the phone searches between: about eight times, so that five
// probes find what is there, and a sixth confirms it.
func (sc *scenario) bounds() (min, max time.Duration) {
	if sc.wide {
		return 0, 0
	}
	return map[time.Duration]time.Duration{5: 2, 10: 4, 12: 4, 30: 12}[sc.idle/second] * second,
		map[time.Duration]time.Duration{5: 15, 10: 30, 12: 30, 30: 36}[sc.idle/second] * second
}

func rebind(s *onStage) { s.do("rebind") }

func outage(s *onStage) {
	s.do("outage", "on")
	time.Sleep(15 * second) // it is the scenario, not a wait for something
	s.do("outage", "off")
}

func move(s *onStage) {
	s.do("move", "1")
	s.alice.moves("elsewhere")
}

func scenarios() (all []scenario) {
	for _, idle := range []time.Duration{5 * second, 12 * second, 30 * second} {
		all = append(all,
			scenario{name: "silent", idle: idle},
			scenario{name: "rst-client", idle: idle, mode: "rst-client"},
			scenario{name: "rst-server", idle: idle, mode: "rst-server"},
			scenario{name: "rebind", idle: idle, during: rebind, breaks: true},
			scenario{name: "loss 2 %", idle: idle, loss: 2},
			scenario{name: "loss 10 %", idle: idle, loss: 10},
			scenario{name: "delay 200 ms", idle: idle, bulk: 100, air: &air{Delay: 200 * time.Millisecond}},
			scenario{name: "64 kbit/s", idle: idle, bulk: 100, air: &air{Delay: 50 * time.Millisecond, Rate: 64_000}},
			scenario{name: "move", idle: idle, during: move, breaks: true},
		)
	}
	return append(all,
		scenario{name: "silent", idle: 10 * second},
		scenario{name: "silent, from 15 s to 30 min", idle: 30 * second, wide: true},
		scenario{name: "outage 15 s", idle: 12 * second, during: outage, breaks: true},
		scenario{name: "TypeScript", idle: 5 * second, node: true},
		scenario{name: "TypeScript, rebind", idle: 12 * second, node: true, during: rebind, breaks: true},
		scenario{name: "quic", idle: 12 * second, quic: true},
		scenario{name: "quic, rebind", idle: 12 * second, quic: true, during: rebind},
		scenario{name: "quic, move", idle: 12 * second, quic: true, during: move},
		scenario{name: "quic, loss 10 %", idle: 12 * second, quic: true, loss: 10},
	)
}

// table collects what is worth telling.
type table struct {
	mu   sync.Mutex
	rows []string // guarded by mu
}

// columns of the table. Probes are how many it took until the beat was right,
// how many in all, and how many the next device needs. Vanished is when a
// message sent into a mapping that has gone arrives, after the next beat.
// Slowest is how long any message took to the phone that learned.
var columns = []string{"NAT", "what happens", "beat every", "of the NAT's", "probes", "in all", "next device", "settled after", "lost", "doubled",
	"vanished", "slowest", "deaf at most", "messages", "beats", "reconnects", "bytes up", "down"}

func (tb *table) add(cells ...any) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	row := ""
	for _, c := range cells {
		row += fmt.Sprintf("| %v ", c)
	}
	tb.rows = append(tb.rows, row+"|\n")
}

// String is the table in Markdown.
func (tb *table) String() string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	slices.Sort(tb.rows)
	return "| " + strings.Join(columns, " | ") + " |\n" + strings.Repeat("|---", len(columns)) + "|\n" + strings.Join(tb.rows, "")
}

// TestCarrierNAT: behind a NAT that really forgets nothing is lost and nothing
// is there twice, whatever the NAT does; the heartbeat found is just shorter
// than what it bears; and a message sent into a vanished mapping arrives with
// the next beat.
func TestCarrierNAT(t *testing.T) {
	need(t)
	var results table
	t.Run("lab", func(t *testing.T) {
		for i, sc := range scenarios() {
			t.Run(fmt.Sprint(sc.name, ", ", sc.idle), func(t *testing.T) {
				l := sc.build(t, named(i))
				t.Parallel() // when all labs are built, which is the most work
				sc.run(t, l, &results)
			})
		}
	})
	t.Logf("a beat of the phone against the NAT's idle timeout:\n%s", results.String())
}

func (sc *scenario) build(t *testing.T, name string) *lab {
	if sc.node {
		needNode(t)
	}
	l := build(t, name, sc.idle, cmp.Or(sc.mode, "silent"), sc.air)
	if sc.loss > 0 {
		l.do("loss", fmt.Sprint(sc.loss))
	}
	return l
}

func (sc *scenario) run(t *testing.T, l *lab, results *table) {
	bob := l.start("srv", role{User: "bob", Device: "pc", To: "alice", Heartbeat: 20 * second})
	begin := time.Now()
	least, most := sc.bounds()
	phone := role{User: "alice", Device: "phone", To: "bob", Echo: true, Min: least, Max: most, QUIC: sc.quic, Node: sc.node}
	alice := l.start("cli1", phone)
	right := func(beat time.Duration) bool { return beat < sc.idle && beat >= sc.idle*9/10 }
	alice.learns(sc.idle, right)
	vanished := sc.vanished(t, l, bob)
	sent := []string{"late"}

	// A message from time to time, answered each, while the network is learned:
	// so seldom that it takes beats for the mapping to be there.
	settled := func() bool { return alice.stats().St.Settled }
	stir := time.After(10 * second)
	if sc.during == nil {
		stir = nil
	}
	for tick := time.Tick(sc.idle * 3 / 2); time.Since(begin) < 480*second && (stir != nil || !settled()); {
		select {
		case <-stir:
			alice.broken(time.Now())
			sc.during(&onStage{l, alice})
			stir = nil
		case <-tick:
			sent = append(sent, fmt.Sprint("m", len(sent)))
			bob.send(sent[len(sent)-1])
		}
	}
	took := time.Since(begin)
	slowest := bob.slowestTo(alice)
	for i := range sc.bulk {
		sent = append(sent, fmt.Sprintf("bulk %d %s", i, strings.Repeat("x", 100)))
		bob.send(sent[len(sent)-1])
	}
	sent = append(sent, "the end")
	bob.send("the end")
	bob.await("the answer to the end", 90*second, func(e event) bool { return e.What == "got" && e.Text == "re the end" })
	alice.await("the end", 10*second, func(e event) bool { return e.What == "got" && e.Text == "the end" }) // told at last

	got, answers := alice.texts("got"), bob.texts("got")
	if !slices.Equal(got, sent) {
		t.Errorf("received %q\nsent     %q", got, sent)
	}
	var want []string
	for _, s := range sent {
		want = append(want, "re "+s)
	}
	if !slices.Equal(answers, want) {
		t.Errorf("answers received %q\nsent %q", answers, want)
	}
	lost, doubled := compare(append(got, answers...), append(sent, want...))
	if errs := append(alice.texts("error"), bob.texts("error")...); len(errs) > 0 {
		t.Errorf("errors: %q", errs)
	}
	st := alice.stats().St
	if !st.Settled || !right(st.Interval) {
		t.Errorf("a beat every %v on a NAT of %v, found %v-%v, settled %v", st.Interval, sc.idle, st.Finding.Good, st.Finding.Bad, st.Settled)
	}
	probes, all := alice.found()
	if sc.loss == 0 && sc.air == nil && sc.during == nil && probes > 6 {
		t.Errorf("it took %d probes", probes)
	}
	deaf := alice.deafness()
	share := deaf.Seconds() / took.Seconds()
	if !sc.breaks && sc.loss == 0 && (st.Reconnects > 0 || share > 0.005 || slowest > soon) {
		t.Errorf("%d reconnects, deaf for %.1f %%, a message took %v, where nothing broke the connection", st.Reconnects, 100*share, slowest)
	}
	deafness := fmt.Sprintf("%.1f %%", 100*share)
	if sc.breaks { // once in so short a time: a share of that says nothing
		deafness = fmt.Sprintf("%.1f s, once", deaf.Seconds())
	}
	then := "-"
	if !sc.breaks && sc.during == nil { // a new device on a network that is known
		phone.Device, phone.Echo = "tablet", false
		e := l.start("cli1", phone).await("the second device to know the network", 120*second, func(e event) bool { return e.St.Settled })
		then = fmt.Sprint(e.St.Probes)
		if e.St.Probes > 1 && sc.loss == 0 {
			t.Errorf("the second device needed %d probes", e.St.Probes)
		}
	}
	// What went over the air, probes and all devices included.
	var packets, bytes [2]int
	fmt.Sscanf(strings.NewReplacer("sent ", "", "received ", "").Replace(l.do("counters")), "%d %d\n%d %d", &packets[0], &bytes[0], &packets[1], &bytes[1])
	results.add(fmt.Sprintf("%3.0f s", sc.idle.Seconds()), sc.name, fmt.Sprintf("%.2f s", st.Interval.Seconds()),
		fmt.Sprintf("%.1f %%", 100*st.Interval.Seconds()/sc.idle.Seconds()), probes, all, then, took.Round(second), lost, doubled,
		vanished, fmt.Sprintf("%.1f s", slowest.Seconds()), deafness, len(sent), st.Heartbeats, st.Reconnects, bytes[0], bytes[1])
}

// compare counts what of want is not in got, and what is there more than once.
func compare(got, want []string) (lost, doubled int) {
	n := map[string]int{}
	for _, s := range got {
		n[s]++
	}
	for _, s := range want {
		switch {
		case n[s] == 0:
			lost++
		case n[s] > 1:
			doubled++
		}
	}
	return lost, doubled
}

// vanished sends a message into the vanished mapping of a device that beats
// too seldom. It is there with the next beat. It returns how much later.
func (sc *scenario) vanished(t *testing.T, l *lab, bob *device) string {
	late := l.start("cli1", role{User: "alice", Device: "late", To: "bob", Heartbeat: 2 * sc.idle, QUIC: sc.quic, Node: sc.node})
	opened := late.await("open", second, func(e event) bool { return e.What == "open" }).At
	time.Sleep(time.Until(opened.Add(sc.idle * 3 / 2))) // the silence is the scenario
	bob.send("late")
	e := late.await("the message into the vanished mapping", 60*second, func(e event) bool { return e.What == "got" })
	behind := e.At.Sub(opened.Add(2 * sc.idle))
	limit := soon
	if sc.loss > 0 { // the new connection, too
		limit = 10 * second
	}
	if behind > limit {
		t.Errorf("%v after the beat", behind)
	}
	late.quit()
	return fmt.Sprintf("%.1f s", behind.Seconds())
}

// TestServerNotices: a server that has written into a mapping that is gone
// notices by itself within its TCP_USER_TIMEOUT, and not in a quarter of an
// hour, which is what the system would take.
func TestServerNotices(t *testing.T) {
	need(t)
	t.Parallel()
	l := build(t, named("dead"), 5*second, "silent", nil)
	bob := l.start("srv", role{User: "bob", Device: "pc", To: "alice", Heartbeat: 20 * second})
	l.start("cli1", role{User: "alice", Device: "phone", To: "bob", Heartbeat: time.Hour})
	seen := func() bool { // the server's end of the phone's connection
		out, err := l.command("exec", "srv", "ss", "-Htn", "state", "established", "src", "192.0.2.80:7443", "dst", "192.0.2.1").Output()
		if err != nil {
			t.Fatal(err)
		}
		return len(out) > 0
	}
	if !seen() {
		t.Fatal("the phone is not connected")
	}
	time.Sleep(7 * second) // the mapping goes
	bob.send("are you there?")
	begin := time.Now()
	for seen() {
		if time.Since(begin) > 2*time.Minute {
			t.Fatal("the server still believes in the connection")
		}
		time.Sleep(500 * time.Millisecond) // there is nothing to wait for
	}
	t.Logf("the server noticed after %v", time.Since(begin).Round(second))
}
