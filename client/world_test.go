package client_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/stage"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/internal/golden"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// world is a network with a NAT, and a server behind it,
// in which a program runs for days of virtual time. What happens to it is said
// in lines, and what the program then says that is of interest stands behind.
//
//	begin lte         a program begins, on a network of that name
//	nat 5m reset      from now on the NAT forgets after so long; what comes later vanishes,
//	                  or is answered with a reset
//	forget            it forgets all that there is
//	outage, there     nothing gets through; or does again
//	prior 1m,2m       what the server tells of others
//	network wifi, background, foreground, restart
//	~ 5m              time passes
//	= 2m44.316s 1 SET interval=2m40.208s
//	                  at that time the program has said so on its first connection
//
// The TypeScript SDK runs the same worlds (sdk/ts/test/world.test.ts), and says
// the same at the same millisecond.
type world struct {
	t     *testing.T
	begin time.Time
	store *client.Memory
	c     *client.Client
	runs  int
	name  string // of the network

	mu      sync.Mutex
	forgets time.Duration // guarded by mu
	resets  bool          // guarded by mu
	outage  bool          // guarded by mu
	prior   [2]time.Duration
	peers   []*peer  // guarded by mu
	journal []string // guarded by mu
}

// peer is the server's end of a connection.
type peer struct {
	w *world
	n int
	net.Conn
	last  time.Time // guarded by w.mu; when a packet passed the NAT
	gone  bool      // guarded by w.mu; it has forgotten
	reset bool      // guarded by w.mu
}

// phone is the other end.
type phone struct {
	net.Conn
	p *peer
}

func (c phone) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.p.w.mu.Lock()
	defer c.p.w.mu.Unlock()
	if err != nil && c.p.reset {
		err = fmt.Errorf("read: %w", syscall.ECONNRESET)
	}
	return n, err
}

func (w *world) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outage || ctx.Err() != nil {
		return nil, errors.New("refused")
	}
	ours, theirs := net.Pipe()
	p := &peer{w: w, n: len(w.peers) + 1, Conn: theirs, last: time.Now()}
	w.peers = append(w.peers, p)
	go p.serve() // ends with the connection
	return phone{ours, p}, nil
}

func (p *peer) serve() {
	defer p.Close()
	for raw := range stage.Frames(p) {
		f, err := frame.Decode(raw)
		if err != nil {
			return
		}
		answer := p.hear(f)
		if _, bye := f.(*frame.Close); bye || p.isReset() {
			return
		}
		if answer != nil {
			time.AfterFunc(p.far(), func() { p.Write(frame.Append(nil, answer)) })
		}
	}
}

// far is how long it takes there and back: on no two connections the same, so
// that nothing happens at the same moment as something else.
func (p *peer) far() time.Duration { return time.Duration(10+p.n*7%31) * time.Millisecond }

func (p *peer) isReset() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.reset
}

// hear takes a frame, if it comes through, and returns the answer.
func (p *peer) hear(f frame.Frame) frame.Frame {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	p.gone = p.gone || now.Sub(p.last) >= w.forgets
	if p.reset = p.gone && w.resets && !w.outage; p.gone || w.outage {
		w.note(p, f, " lost")
		return nil
	}
	p.last = now
	w.note(p, f, "")
	switch f := f.(type) {
	case *frame.Hello:
		if f.Probe != 0 {
			return &frame.Welcome{Major: 1, Interval: f.Probe, Caps: frame.CapProbe}
		}
		welcome := &frame.Welcome{Major: 1, Address: "alice@localhost", Device: "phone", Interval: 60_000, MaxFrame: 1 << 16, Inflight: 100, Caps: frame.CapProbe}
		if f.Interval != 0 {
			welcome.Interval = f.Interval
		}
		welcome.Good, welcome.Bad = uint64(w.prior[0].Milliseconds()), uint64(w.prior[1].Milliseconds())
		return welcome
	case *frame.Ping:
		return &frame.Pong{Payload: f.Payload}
	case *frame.Set:
		if f.Interval != 0 {
			return &frame.Set{Interval: f.Interval}
		}
	}
	return nil
}

// note writes down what was said, if it is of interest.
func (w *world) note(p *peer, f frame.Frame, lost string) {
	said := ""
	value := func(name string, v uint64) {
		if v != 0 {
			said += fmt.Sprintf(" %s=%v", name, time.Duration(v)*time.Millisecond)
		}
	}
	switch f := f.(type) {
	case *frame.Hello:
		said = "HELLO"
		if f.Network != "" {
			said += " network=" + f.Network
		}
		value("interval", f.Interval)
		value("probe", f.Probe)
		value("good", f.Good)
		value("bad", f.Bad)
	case *frame.Set:
		said = "SET"
		value("interval", f.Interval)
		value("good", f.Good)
		value("bad", f.Bad)
	case *frame.Ping:
		if lost == "" {
			return
		}
		said = "PING"
	default:
		return
	}
	w.journal = append(w.journal, fmt.Sprintf("= %v %d %s%s", time.Since(w.begin).Truncate(time.Millisecond), p.n, said, lost))
}

// play does what a line says.
func (w *world) play(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	if verb == "~" {
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		synctest.Wait()
		return err
	}
	defer synctest.Wait()
	switch verb {
	case "begin":
		w.begin, w.store, w.name = time.Now(), new(client.Memory), rest
		return w.run()
	case "restart":
		w.c.Close()
		synctest.Wait()
		return w.run()
	case "network":
		w.name = rest
		w.c.NetworkChanged(rest)
		return nil
	case "background", "foreground":
		w.c.SetBackground(verb == "background")
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch verb {
	case "nat":
		how := ""
		rest, how, _ = strings.Cut(rest, " ")
		d, err := time.ParseDuration(rest)
		w.forgets, w.resets = d, how == "reset"
		return err
	case "forget":
		for _, p := range w.peers {
			p.gone = true
		}
	case "outage", "there":
		w.outage = verb == "outage"
	case "prior":
		good, bad, _ := strings.Cut(rest, ",")
		var err, err2 error
		w.prior[0], err = time.ParseDuration(good)
		w.prior[1], err2 = time.ParseDuration(bad)
		return errors.Join(err, err2)
	default:
		return fmt.Errorf("what is %s?", line)
	}
	return nil
}

func (w *world) run() (err error) {
	w.runs++
	w.c, err = client.OpenStaged(context.Background(), client.Config{
		Ways: []client.Way{link.Way("websocket", link.Config{Dial: w.dial, MaxMessage: 1 << 20})},
		User: "alice", Password: "secret", Device: "phone", Network: w.name, Store: w.store,
	}, strings.Repeat("k", w.runs), func(bound time.Duration) time.Duration { return bound / 2 })
	return err
}

// said is what the program has said since the last time, by time and connection.
func (w *world) said() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.journal
	w.journal = nil
	var at time.Duration
	key := func(line string) (time.Duration, int) {
		var clock string
		var n int
		fmt.Sscanf(line, "= %s %d", &clock, &n)
		at, _ = time.ParseDuration(clock)
		return at, n
	}
	slices.SortStableFunc(said, func(a, b string) int {
		aAt, aN := key(a)
		bAt, bN := key(b)
		if aAt != bAt {
			return int(aAt - bAt)
		}
		return aN - bN
	})
	return said
}

// TestWorlds runs two dozen worlds that chance has made, as they were written down.
func TestWorlds(t *testing.T) {
	const file = "../sdk/ts/test/worlds.txt"
	kept, err := os.ReadFile(file)
	if err != nil && !golden.Rewriting() {
		t.Fatal(err)
	}
	out := []string{"# Chance has made this: see client/world_test.go."}
	for i := range 24 {
		out = append(out, fmt.Sprint("# World ", i))
		rnd := rand.New(rand.NewPCG(uint64(i), 2026))
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t}
			for _, line := range chance(rnd) {
				if err := w.play(line); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				out = append(out, line)
				out = append(out, w.said()...)
			}
			w.c.Close()
			synctest.Wait()
		})
	}
	got := strings.Join(out, "\n") + "\n"
	want := strings.Split(string(kept), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i < len(want) && line != want[i] && !golden.Rewriting() {
			t.Fatalf("%s:%d:\n got %s\nwant %s", file, i+1, line, want[i])
		}
	}
	golden.File(t, file, "run with -rewrite and read the diff", []byte(got))
}

// chance makes what happens in a world.
func chance(rnd *rand.Rand) []string {
	between := func(least, most time.Duration) time.Duration {
		d := float64(least) * math.Exp(rnd.Float64()*math.Log(float64(most)/float64(least)))
		return time.Duration(d).Truncate(time.Millisecond)
	}
	nat := func() string {
		s := fmt.Sprint("nat ", between(20*time.Second, 40*time.Minute))
		if rnd.IntN(3) == 0 {
			s += " reset"
		}
		return s
	}
	lines := []string{nat()}
	if rnd.IntN(2) == 0 {
		good := between(20*time.Second, 30*time.Minute)
		lines = append(lines, fmt.Sprintf("prior %v,%v", good, (good*27/25).Truncate(time.Millisecond)))
	}
	lines = append(lines, "begin lte")
	networks := []string{"lte", "lte", "wifi", "cafe"}
	for range 12 {
		lines = append(lines, fmt.Sprint("~ ", between(2*time.Second, 8*time.Hour)))
		switch rnd.IntN(11) {
		case 0:
			lines = append(lines, nat())
		case 1, 2, 3:
			lines = append(lines, "forget")
		case 4, 5:
			lines = append(lines, "outage", fmt.Sprint("~ ", between(time.Second, 10*time.Minute)), "there")
		case 6, 7:
			lines = append(lines, "network "+networks[rnd.IntN(len(networks))])
		case 8:
			lines = append(lines, "background", fmt.Sprint("~ ", between(10*time.Second, time.Hour)), "foreground")
		case 9:
			lines = append(lines, "restart")
		}
	}
	if rnd.IntN(6) == 0 {
		lines = append(lines, "~ 169h")
	}
	return append(lines, "~ 3h")
}
