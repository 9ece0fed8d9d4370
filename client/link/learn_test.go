package link

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/stage"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// nat forgets a connection that was silent for timeout. Then what either side
// says vanishes, or the client is answered with the end of the connection.
type nat struct {
	h      *house
	mu     sync.Mutex
	rule   time.Duration // guarded by mu; the timeout
	resets bool          // guarded by mu
	deaf   time.Duration // guarded by mu; of those that are not probes
	open   map[*mapping]bool
	air    cost.Meter // what goes over the air

	again func() time.Duration // if not nil: the next packet to the client is lost, and sent again so much later
	udp   bool
}

type mapping struct {
	last  time.Time // guarded by nat.mu
	gone  time.Time // guarded by nat.mu; zero while it is there
	probe bool
}

func newNAT(h *house, timeout time.Duration) *nat {
	return &nat{h: h, rule: timeout, open: map[*mapping]bool{}}
}

// alive reports whether m is there, and keeps it there.
func (n *nat) alive(m *mapping) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if m.gone.IsZero() && now.Sub(m.last) >= n.rule {
		m.gone = m.last.Add(n.rule)
	}
	if m.gone.IsZero() {
		m.last = now
		return true
	}
	return false
}

// forget forgets all connections at once, as a NAT does that is restarted.
func (n *nat) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for m := range n.open {
		if m.gone.IsZero() {
			m.gone = time.Now()
		}
	}
}

func (n *nat) ended(m *mapping) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open[m] {
		return
	}
	delete(n.open, m)
	gone := m.gone
	if gone.IsZero() {
		gone = m.last.Add(n.rule)
	}
	if !m.probe && time.Now().After(gone) {
		n.deaf += time.Since(gone)
	}
}

func (n *nat) dial(ctx context.Context) (net.Conn, error) {
	server, err := n.h.dial(ctx)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	seen := &packets{Conn: ours, udp: n.udp}
	m := &mapping{last: time.Now()}
	n.mu.Lock()
	n.open[m] = true
	n.mu.Unlock()
	go func() { // ends when the client closes
		defer n.ended(m)
		var b [4096]byte
		for first := true; ; first = false {
			k, err := theirs.Read(b[:])
			alive := n.alive(m)
			if err != nil {
				if alive {
					server.Close()
				}
				return
			}
			n.air.Up(k, time.Now(), cost.Quiet)
			seen.n.Add(1)
			if raw, _, err := frame.Next(b[:k], 1<<20); first && err == nil {
				var hello frame.Hello
				hello.Decode(raw.Payload)
				n.mu.Lock()
				m.probe = hello.Probe != 0
				n.mu.Unlock()
			}
			switch {
			case alive:
				server.Write(b[:k])
			case n.resets:
				theirs.Close()
			}
		}
	}()
	go func() { // ends when the server closes
		var b [4096]byte
		for {
			k, err := server.Read(b[:])
			alive := n.alive(m)
			if err != nil {
				server.Close()
				if alive {
					theirs.Close()
				}
				return
			}
			if alive {
				n.air.Down(k, time.Now(), cost.Quiet)
				seen.n.Add(1)
				if n.again != nil {
					if d := n.again(); d > 0 { // a part of it was lost: the rest is there
						time.AfterFunc(d, func() { n.alive(m); seen.n.Add(1) })
					}
				}
				theirs.Write(b[:k])
			}
		}
	}()
	return seen, nil
}

// packets is a connection that tells of packets.
type packets struct {
	net.Conn
	n   atomic.Uint64
	udp bool
}

func (p *packets) Packets() uint64 { return p.n.Load() }

func (p *packets) LocalAddr() net.Addr {
	if p.udp {
		return &net.UDPAddr{}
	}
	return p.Conn.LocalAddr()
}

// learning is a house whose server learns.
func learning(t *testing.T) *house {
	h := open(t, mem.Options{})
	table, err := keepalive.Open(t.Context(), h.core.Mail, keepalive.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h.core.Keepalive = table
	return h
}

func (n *nat) login(t *testing.T, user, device string, more ...func(*Config)) *Mailbox {
	return n.h.login(t, user, device, append([]func(*Config){func(c *Config) { c.Dial, c.Network = n.dial, "lte" }}, more...)...)
}

// TestDay is a day on NATs that forget after so long: our SDK and server as
// they are, and two other rules. We are never deaf for long, and where the
// others hear as well we spend less. The first day begins knowing nothing, and
// pays for that once. The figures are in docs/decisions/0008-heartbeat.md.
func TestDay(t *testing.T) {
	const lesson = 10 // joules per hour of the first day
	var rows strings.Builder
	for _, timeout := range []time.Duration{45 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 7 * time.Minute, 15 * time.Minute, 30 * time.Minute} {
		fixed := simulate(timeout, fixedRule(270*time.Second))
		mars := simulate(timeout, newMars())
		ours, st, second := ourDays(t, timeout)
		fmt.Fprintf(&rows, "| %v | %.1f %% | %.0f J | %.1f %% | %.0f J | %.2f %% | %.0f J | %.0f J | %v | %d | %d |\n", timeout,
			100*fixed.deaf, fixed.joules, 100*mars.deaf, mars.joules, 100*ours[0].deaf, ours[0].joules, ours[1].joules,
			st.Interval.Round(100*time.Millisecond), st.Probes, second.Probes)
		for i, d := range ours {
			if d.deaf > 0.005 {
				t.Errorf("%v: deaf for %.2f %% of day %d", timeout, 100*d.deaf, i+1)
			}
			spent := d.joules
			if i == 0 {
				spent -= lesson
			}
			for name, other := range map[string]day{"fixed": fixed, "Mars": mars} {
				if other.deaf < d.deaf || other.deaf < 0.005 && other.joules < spent {
					t.Errorf("%v: on day %d we are deaf for %.2f %% and spend %.0f J an hour, %s %.2f %% and %.0f J",
						timeout, i+1, 100*d.deaf, d.joules, name, 100*other.deaf, other.joules)
				}
			}
		}
		if st.Interval >= timeout || float64(st.Interval) < 0.9*float64(timeout) || second.Interval != st.Interval {
			t.Errorf("beats every %v on a NAT of %v, and the second device every %v", st.Interval, timeout, second.Interval)
		}
		if st.Probes > 7 || second.Probes > 1 || st.Reconnects > 0 {
			t.Errorf("%v: %d probes, and %d of the second device; the connection broke %d times", timeout, st.Probes, second.Probes, st.Reconnects)
		}
	}
	t.Logf("a day of silence; energy of an LTE radio per hour:\n"+
		"| NAT | 270 s: deaf | energy | Mars: deaf | energy | ours: deaf | first day | second | beat every | probes | second device |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n%s", rows.String())
}

// ourDays are two days of the SDK's, and then three hours of another device.
func ourDays(t *testing.T, timeout time.Duration) (days [2]day, first, second Stats) {
	synctest.Test(t, func(t *testing.T) {
		n := newNAT(learning(t), timeout)
		mb := n.login(t, "bob", "phone")
		for i := range days {
			time.Sleep(24 * time.Hour)
			c := n.air.Take(time.Now())
			n.mu.Lock()
			days[i] = day{n.deaf.Hours() / 24, c.Joules(cost.LTE) / 24}
			n.deaf = 0
			n.mu.Unlock()
		}
		other := n.login(t, "bob", "tablet")
		time.Sleep(3 * time.Hour)
		first, second = mb.Stats(), other.Stats()
	})
	return days, first, second
}

// What a NAT costs that forgets everything now and then, at any time: until the
// next beat the device is deaf, on the average for half an interval, and then for
// as long as it takes to be sure. It learns nothing wrong from that. The figures
// are in docs/decisions/0008-heartbeat.md.
func TestRebinding(t *testing.T) {
	var rows strings.Builder
	for _, timeout := range []time.Duration{45 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			const days, times = 10, 40
			n := newNAT(learning(t), timeout)
			mb := n.login(t, "bob", "phone")
			time.Sleep(24 * time.Hour) // it is learned
			interval := mb.Stats().Interval
			phase := rand.New(rand.NewPCG(1, uint64(timeout)))
			for range times {
				before := time.Duration(phase.Int64N(int64(days * 24 * time.Hour / times)))
				time.Sleep(before)
				n.forget()
				time.Sleep(days*24*time.Hour/times - before)
			}
			time.Sleep(2 * timeout)
			n.mu.Lock()
			each := n.deaf / times
			n.mu.Unlock()
			st := mb.Stats()
			fmt.Fprintf(&rows, "| %v | %v | %v |", timeout, interval.Round(100*time.Millisecond), each.Round(100*time.Millisecond))
			for _, period := range []time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour} {
				fmt.Fprintf(&rows, " %.2f %% |", 100*each.Seconds()/period.Seconds())
			}
			fmt.Fprintf(&rows, " %v |\n", (each * 200).Round(time.Minute))
			if each > interval*2/3 || st.Interval < interval || st.Interval >= timeout || st.Reconnects != times {
				t.Errorf("%v: deaf for %v each time, a beat every %v and then every %v, %d reconnects", timeout, each, interval, st.Interval, st.Reconnects)
			}
		})
	}
	t.Logf("a NAT that forgets everything:\n| NAT | beat | deaf each time | once an hour | every 6 h | once a day | 0.5 %% if every |\n|---|---|---|---|---|---|---|\n%s", rows.String())
}

// day is what a rule did in a day.
type day struct {
	deaf   float64 // part of the time
	joules float64 // per hour
}

// rule says when to beat next, and is told what became of it.
type rule interface {
	next() time.Duration
	ended(ok bool)
}

// simulate is a day of a rule behind a NAT, without the protocol: a beat that
// meets no mapping is noticed 10 s later, and a new connection is there at once.
func simulate(timeout time.Duration, r rule) day {
	const answer = 10 * time.Second
	begin := time.Unix(1_700_000_000, 0)
	at, deaf := begin, time.Duration(0)
	var air cost.Meter
	packets := func() { // there and back
		air.Up(2, at, cost.Quiet)
		air.Down(2, at, cost.Quiet)
	}
	packets()
	for at.Sub(begin) < 24*time.Hour {
		d := r.next()
		at = at.Add(d)
		if d < timeout {
			packets()
			r.ended(true)
			continue
		}
		air.Up(2, at, cost.Quiet)
		at = at.Add(answer)
		packets()
		deaf += d - timeout + answer
		r.ended(false)
	}
	c := air.Take(at)
	hours := at.Sub(begin).Hours()
	return day{deaf.Hours() / hours, c.Joules(cost.LTE) / hours}
}

type fixedRule time.Duration

func (f fixedRule) next() time.Duration { return time.Duration(f) }
func (fixedRule) ended(bool)            {}

// mars beats as Tencent Mars does: every 210 s at least and every 10 minutes at
// most, a minute more after five successes, three of the shortest after each
// connect; a failure of any kind is the NAT's.
type mars struct {
	beat, limit time.Duration
	short, good int
}

func newMars() *mars { return &mars{beat: 210 * time.Second, limit: 10 * time.Minute, short: 3} }

func (m *mars) next() time.Duration {
	if m.short > 0 {
		return 210 * time.Second
	}
	return m.beat
}

func (m *mars) ended(ok bool) {
	switch {
	case !ok:
		if m.short == 0 && m.beat > 210*time.Second {
			m.beat -= time.Minute
			m.limit = m.beat // it was too much
		}
		m.short, m.good = 3, 0
	case m.short > 0:
		m.short--
	default:
		if m.good++; m.good == 5 {
			m.beat, m.good = min(m.beat+time.Minute, m.limit), 0
		}
	}
}

// What was found on one network holds for that network.
func TestNetworkChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNAT(learning(t), 2*time.Minute)
		file := FileFindings(filepath.Join(t.TempDir(), "findings.json"))
		mb := n.login(t, "bob", "phone", func(c *Config) { c.Findings = file })
		time.Sleep(2 * time.Hour)
		lte := mb.Stats()
		if !lte.Settled || lte.Interval < 108*time.Second || lte.Interval >= 2*time.Minute {
			t.Errorf("on the first: %+v", lte)
		}
		n.mu.Lock()
		n.rule = 20 * time.Minute
		n.mu.Unlock()
		begin := time.Now()
		mb.NetworkChanged("wifi")
		send(t, mb, "bob", "still there")
		receive(t, mb, "still there")
		if d := time.Since(begin); d > time.Second {
			t.Errorf("took %v", d)
		}
		time.Sleep(12 * time.Hour)
		if st := mb.Stats(); st.Network != "wifi" || st.Interval < 18*time.Minute || st.Interval >= 20*time.Minute {
			t.Errorf("on the second: %+v", st)
		}
		n.mu.Lock()
		n.rule = 2 * time.Minute
		n.mu.Unlock()
		probes := mb.Stats().Probes
		mb.NetworkChanged("lte")
		time.Sleep(time.Second)
		if st := mb.Stats(); st.Interval != lte.Interval || st.Probes != probes {
			t.Errorf("back on the first: %+v, before %+v", st, lte)
		}
		mb.Close()
		again := n.login(t, "bob", "phone", func(c *Config) { c.Findings = file })
		time.Sleep(time.Minute)
		if st := again.Stats(); st.Interval != lte.Interval || st.Probes != 0 {
			t.Errorf("after a restart: %+v", st)
		}
	})
}

// hand is a server that is moved by hand: what is said to it is in said.
type hand struct {
	net.Conn
	said chan frame.Frame
}

// byHand returns a Config.Dial, and the servers that it connects to. They have
// said welcome.
func byHand(carry func(net.Conn) net.Conn) (func(context.Context) (net.Conn, error), chan *hand) {
	hands := make(chan *hand, 9)
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		h := &hand{theirs, make(chan frame.Frame, 100)}
		go func() { // ends with the connection
			for raw := range stage.Frames(theirs) {
				if f, err := frame.Decode(raw); err == nil {
					h.said <- f
				}
			}
		}()
		go h.say(&frame.Welcome{Major: 1, Address: "bob@localhost", Device: "pad", Interval: 60_000, MaxFrame: 1 << 16, Inflight: 9})
		hands <- h
		return carry(ours), nil
	}, hands
}

func (h *hand) say(f frame.Frame) { h.Write(frame.Append(nil, f)) }

// hears waits for what is said next.
func (h *hand) hears(t *testing.T) frame.Frame {
	t.Helper()
	select {
	case f := <-h.said:
		return f
	case <-time.After(time.Hour):
		t.Fatal("nothing is said")
		return nil
	}
}

// A change of network hurries the connection that follows it, and none after that:
// when the server says when to come back it is then.
func TestNetworkChangedHurriesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, hands := byHand(func(nc net.Conn) net.Conn { return nc })
		mb, err := Open(t.Context(), Config{Options: client.Options{User: "bob", Password: "secret", Device: "pad"}, Dial: dial, Heartbeat: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer mb.Close()
		<-hands
		mb.NetworkChanged("wifi")
		h := <-hands
		synctest.Wait()
		back := uint64(60_000)
		begin := time.Now()
		h.say(&frame.Close{Code: frame.CloseDraining, Back: &back})
		<-hands
		if d := time.Since(begin); d < time.Minute {
			t.Errorf("it was back after %v", d)
		}
	})
}

// moving is a connection that can move.
type moving struct{ net.Conn }

func (moving) Move(context.Context) error { return nil }

// After a move the server is asked at once whether it has followed: it goes on to
// the new path with the first packet that comes on it. If there is no answer there
// is a fresh connection soon.
func TestMovedIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, hands := byHand(func(nc net.Conn) net.Conn { return moving{nc} })
		mb, err := Open(t.Context(), Config{Options: client.Options{User: "bob", Password: "secret", Device: "pad"}, Dial: dial, Heartbeat: time.Minute, Network: "lte"})
		if err != nil {
			t.Fatal(err)
		}
		defer mb.Close()
		h := <-hands
		if f, ok := h.hears(t).(*frame.Hello); !ok {
			t.Fatalf("it begins with %+v", f)
		}
		ping := func() {
			t.Helper()
			begin := time.Now()
			mb.NetworkChanged("wifi")
			f := h.hears(t)
			if _, ok := f.(*frame.Ping); !ok || time.Since(begin) > 0 {
				t.Errorf("%+v after %v", f, time.Since(begin))
			}
		}
		ping()
		h.say(&frame.Pong{})
		synctest.Wait()
		ping()
		ping() // the answer to the last one went where the device was
		begin := time.Now()
		spare := <-hands // opened in doubt
		f := spare.hears(t)
		if _, ok := f.(*frame.Hello); !ok || time.Since(begin) > quickAnswer {
			t.Errorf("%+v after %v", f, time.Since(begin))
		}
	})
}

// The name of the network may be asked for at each connect.
func TestNetworkName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := learning(t)
		name := "wifi"
		mb := h.login(t, "bob", "phone", func(c *Config) { c.NetworkName = func() string { return name } })
		if st := mb.Stats(); st.Network != "wifi" || st.Interval != 15*time.Second {
			t.Errorf("%+v", st)
		}
		synctest.Wait()
		name = "lte"
		h.conns[0].Close() // the live one: probes came later
		send(t, mb, "bob", "hello")
		if st := mb.Stats(); st.Network != "lte" {
			t.Errorf("%+v", st)
		}
	})
}

// In the background nothing is probed, and beats go along with what wakes the
// radio anyway.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNAT(learning(t), 5*time.Minute)
		mb := n.login(t, "bob", "phone")
		time.Sleep(10 * time.Second)
		mb.SetBackground(true)
		before := mb.Stats()
		time.Sleep(time.Hour)
		if st := mb.Stats(); st.Probes != before.Probes || st.Settled {
			t.Errorf("probed in the background: %+v", st)
		}
		mb.SetBackground(false)
		time.Sleep(6 * time.Hour)
		st := mb.Stats()
		if !st.Settled {
			t.Fatalf("not settled: %+v", st)
		}
		mb.SetBackground(true)
		alice := n.h.login(t, "alice", "pad", func(c *Config) { c.Heartbeat = time.Hour / 2 })
		time.Sleep(st.Interval * 3 / 4)
		before = mb.Stats()
		send(t, alice, "bob", "you up?")
		receive(t, mb, "you up?")
		synctest.Wait()
		if got := mb.Stats().Heartbeats; got < before.Heartbeats || got > before.Heartbeats+1 {
			t.Errorf("%d heartbeats with the message", got-before.Heartbeats)
		}
		// Whatever the phase was, the beat that was near went with the message.
		before = mb.Stats()
		time.Sleep(st.Interval / 2)
		if got := mb.Stats().Heartbeats; got != before.Heartbeats {
			t.Errorf("%d heartbeats soon after the message", got-before.Heartbeats)
		}
	})
}

// Neither a restart of the server nor a dead network nor a NAT that resets
// counts against the network.
func TestAttribution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNAT(learning(t), 10*time.Minute)
		mb := n.login(t, "bob", "phone")
		for range 60 {
			time.Sleep(7 * time.Minute)
			n.h.server.Load().stop()
			synctest.Wait()
			n.h.start()
		}
		n.h.refuse.Store(true)
		for _, w := range n.h.conns {
			w.hole.Store(true)
		}
		time.Sleep(time.Hour)
		n.h.refuse.Store(false)
		time.Sleep(time.Minute)
		if st := mb.Stats(); st.Finding.Bad != 0 && st.Finding.Bad < 9*time.Minute {
			t.Errorf("held against the network: %+v", st)
		}
		time.Sleep(12 * time.Hour)
		if st := mb.Stats(); st.Interval < 9*time.Minute || st.Interval >= 10*time.Minute {
			t.Errorf("found %+v", st)
		}
	})
}

// A NAT that forgets everything in the middle of a silence has not forgotten for
// the silence's sake: the live connection has gone, too. Such a probe is tried
// again, and the search is not led astray.
func TestRestartedNATIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNAT(learning(t), 5*time.Minute)
		mb := n.login(t, "bob", "phone")
		const restarts = 3
		for i := range restarts {
			for mb.Stats().Probes == uint64(i) {
				time.Sleep(time.Second)
			}
			time.Sleep(10 * time.Second)
			n.forget()
		}
		time.Sleep(24 * time.Hour)
		st := mb.Stats()
		if st.Interval >= 5*time.Minute || st.Interval < 270*time.Second {
			t.Errorf("%+v", st)
		}
		if st.Probes > 7+restarts {
			t.Errorf("%d probes with %d restarts", st.Probes, restarts)
		}
		if st.Reconnects != restarts {
			t.Errorf("%d reconnects", st.Reconnects)
		}
	})
}

// What is lost is sent again, and the NAT sees that. A silence is counted from
// then, or not counted: nothing is found that the NAT does not bear.
func TestResentPackets(t *testing.T) {
	const timeout = 4900 * time.Millisecond
	for _, c := range []struct {
		name  string
		again []time.Duration // packet by packet
		udp   bool
	}{
		{"soon", []time.Duration{300 * time.Millisecond}, false},
		{"now and then, in the silence", []time.Duration{0, 2 * time.Second, 0, 0, 700 * time.Millisecond, 0, 0}, false},
		{"over UDP, now and then", []time.Duration{300 * time.Millisecond, 300 * time.Millisecond, 0}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNAT(learning(t), timeout)
				var sent atomic.Int64
				n.again = func() time.Duration { return c.again[int(sent.Add(1))%len(c.again)] }
				n.udp = c.udp
				mb := n.login(t, "bob", "phone", func(cfg *Config) {
					cfg.Learn = learn.Config{Min: 2 * time.Second, Max: 15 * time.Second}
				})
				time.Sleep(time.Hour)
				if st := mb.Stats(); !st.Settled || st.Interval >= timeout || st.Interval < timeout*8/10 || st.Finding.Good >= timeout {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A NAT that answers with resets is found out.
func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNAT(learning(t), 3*time.Minute)
		n.resets = true
		mb := n.login(t, "bob", "phone", func(c *Config) {
			dial := c.Dial
			c.Dial = func(ctx context.Context) (net.Conn, error) {
				nc, err := dial(ctx)
				return resetting{nc}, err
			}
		})
		time.Sleep(12 * time.Hour)
		if st := mb.Stats(); st.Finding.Bad < 3*time.Minute || st.Interval < 162*time.Second || st.Interval >= 3*time.Minute {
			t.Errorf("found %+v", st)
		}
	})
}

// resetting says of a pipe that was closed what a socket says of a reset.
type resetting struct{ net.Conn }

func (c resetting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && err.Error() == "EOF" {
		err = fmt.Errorf("read: %w", syscall.ECONNRESET)
	}
	return n, err
}

// A vanished mapping costs a beat and little more.
func TestVanishedMappingIsNoticedFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		bob := h.login(t, "bob", "pad", func(c *Config) { c.Heartbeat = time.Minute })
		alice := h.login(t, "alice", "pad", func(c *Config) { c.Heartbeat = time.Hour })
		h.mu.Lock()
		h.conns[0].hole.Store(true)
		h.mu.Unlock()
		begin := time.Now()
		send(t, alice, "bob", "hello")
		receive(t, bob, "hello")
		time.Sleep(time.Until(begin.Add(time.Minute)))
		time.Sleep(2 * time.Second)
		if h.dialled() != 3 {
			t.Errorf("%d connections 2 s after the beat", h.dialled())
		}
	})
}

func TestFindings(t *testing.T) {
	file := FileFindings(filepath.Join(t.TempDir(), "f.json"))
	for _, k := range []Findings{new(MemoryFindings), file} {
		if f, err := k.Load("wifi"); err != nil || f.Good != 0 {
			t.Errorf("%v, %v", f, err)
		}
		want := learn.Finding{Good: time.Minute, Bad: 65 * time.Second, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		for _, name := range []string{"wifi", ""} {
			if err := k.Save(name, want); err != nil {
				t.Fatal(err)
			}
			if f, err := k.Load(name); err != nil || f != want {
				t.Errorf("%v, %v", f, err)
			}
		}
	}
	if f, err := FileFindings(string(file)).Load("wifi"); err != nil || f.Good != time.Minute {
		t.Errorf("%v, %v", f, err)
	}
	if err := FileFindings("/nowhere/f.json").Save("x", learn.Finding{}); err == nil {
		t.Error("saved nowhere")
	}
}
