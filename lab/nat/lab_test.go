package nat

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is the server.
var binary string

func TestMain(m *testing.M) {
	if text := os.Getenv(roleEnv); text != "" {
		if err := phone(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "posthouse-nat")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "posthouse")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/posthouse").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil { // labs do nothing most of the time
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// need skips the test where the lab cannot be built, or fails it where nothing
// may be missing.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("POSTHOUSE_E2E") != "all" {
		t.Skip("takes nine minutes, and wants the machine for itself: set POSTHOUSE_E2E=all")
	}
	out, err := exec.Command("bash", "./carrier-nat.sh", "check").CombinedOutput()
	if err == nil {
		sweep()
		return
	}
	if os.Getenv("NAT_LAB") == "optional" {
		t.Skip("no carrier NAT here: " + strings.TrimSpace(string(out)))
	}
	t.Fatal("no carrier NAT here (NAT_LAB=optional would skip this): " + strings.TrimSpace(string(out)))
}

// needNode skips the test where phone.mjs cannot run.
func needNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no node(1) here")
	}
	if _, err := os.Stat("../../sdk/ts/dist/node/index.js"); err != nil {
		t.Skip("the TypeScript SDK is not built: sdk/ts/ci.sh does")
	}
}

// named is what a lab of this process is called, so that two runs do not take
// each other's down.
func named(what any) string { return fmt.Sprintf("phnat%d-%v", os.Getpid(), what) }

var left = regexp.MustCompile(`(?m)^(phnat(\d+)-\w+)-nat\b`)

// sweep takes down what runs have left that were killed.
var sweep = sync.OnceFunc(func() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for _, m := range left.FindAllStringSubmatch(string(out), -1) {
		if _, err := os.Stat("/proc/" + m[2]); errors.Is(err, fs.ErrNotExist) {
			down := exec.Command("bash", "./carrier-nat.sh", "down")
			down.Env = append(os.Environ(), "P="+m[1])
			down.Run() // what stays is in nobody's way
		}
	}
})

// lab is one NAT with a server behind it.
type lab struct {
	t    *testing.T
	name string
	air  *air   // the radio, if there is one
	addr string // of the server
	quic string // the same by QUIC
}

// command runs carrier-nat.sh.
func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command("bash", append([]string{"./carrier-nat.sh"}, args...)...)
	cmd.Env = append(os.Environ(), "P="+l.name)
	if l.air != nil {
		cmd.Env = append(cmd.Env, "AIR=1")
	}
	return cmd
}

func (l *lab) do(args ...string) string {
	l.t.Helper()
	out, err := l.command(args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("carrier-nat.sh %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// build makes a lab whose NAT forgets after idle, and starts the server.
func build(t *testing.T, name string, idle time.Duration, mode string, radio *air) *lab {
	t.Helper()
	l := &lab{t: t, name: name, air: radio}
	t.Cleanup(func() { l.do("down") })
	l.do("up")
	l.do("tcp", fmt.Sprint(int(idle.Seconds())))
	l.do("udp", fmt.Sprint(int(idle.Seconds())))
	l.do("mode", mode)
	data := filepath.Join(t.TempDir(), "data")
	for _, u := range []string{"alice", "bob"} {
		if out, err := exec.Command(binary, "user", "add", "--data", data, "--password", "secret", u).CombinedOutput(); err != nil {
			t.Fatalf("user add: %v\n%s", err, out)
		}
	}
	srv := l.command("exec", "srv", binary, "serve", "--data", data, "--http", "", "--mqtt", "", "--xmpp", "",
		"--link", "", "--links", "192.0.2.80:7443", "--link-quic", "192.0.2.80:7443", "--set", "keepalive.min=1s")
	var log strings.Builder
	srv.Stderr = &log
	out, err := srv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		srv.Process.Kill()
		srv.Wait()
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	in := bufio.NewScanner(out)
	for in.Scan() && in.Text() != "Ready." {
		if m := listening.FindStringSubmatch(in.Text()); m != nil {
			if l.addr = m[2]; m[1] == "link-quic" {
				l.quic = m[2]
			}
		}
	}
	go io.Copy(io.Discard, out) // ends with the process
	if l.addr == "" || l.quic == "" {
		t.Fatalf("the server did not open:\n%s", log.String())
	}
	if radio != nil {
		radio.Lab = name
		l.run(exec.Command(os.Args[0]), role{Air: radio})
	}
	return l
}

// listening is a line of the server's about its addresses.
var listening = regexp.MustCompile(`^  (links|link-quic) +(\S+:\d+)`)

// device is a program that runs in a namespace.
type device struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	right   func(beat time.Duration) bool // guarded by mu; what it is to learn, if anything
	sent    map[string]time.Time          // guarded by mu; what send was called with
	events  []event                       // guarded by mu
	last    event                         // guarded by mu; the last of stats
	network string                        // guarded by mu; that it is on
	before  uint64                        // guarded by mu; probes on those that it was on before
	probes  uint64                        // guarded by mu; how many there had been when the beat was right; zero is not yet
	alive   [2]time.Time                  // guarded by mu; when something got through last, or was sent to see whether it does, and the time before
	heard   []time.Time                   // guarded by mu; when something got through since the last of stats
	gone    time.Time                     // guarded by mu; when the connection was broken on purpose; zero if it was not
	idle    time.Duration                 // guarded by mu; after which the NAT forgets
	deaf    time.Duration                 // guarded by mu; at most so long nothing could have
	more    chan struct{}                 // guarded by mu; closed and replaced at every event
	over    bool                          // guarded by mu
}

func (l *lab) start(ns string, r role) *device {
	l.t.Helper()
	if r.Addr = l.addr; r.QUIC {
		r.Addr = l.quic
	}
	program := []string{os.Args[0]}
	if r.Node {
		program = []string{"node", "--no-warnings", "phone.mjs"}
	}
	cmd := l.command(append([]string{"exec", ns}, program...)...)
	if r.Node {
		cmd.Env = append(cmd.Env, "NODE_TLS_REJECT_UNAUTHORIZED=0") // the lab has no way out
	}
	return l.run(cmd, r)
}

// run has cmd, which runs this binary, be what r says.
func (l *lab) run(cmd *exec.Cmd, r role) *device {
	l.t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		l.t.Fatal(err)
	}
	d := &device{t: l.t, cmd: cmd, network: carrier, sent: map[string]time.Time{}, more: make(chan struct{})}
	d.cmd.Env = append(d.cmd.Environ(), roleEnv+"="+string(text))
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err == nil {
		d.in, err = d.cmd.StdinPipe()
	}
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	go d.read(out) // ends with the process
	l.t.Cleanup(func() {
		d.cmd.Process.Kill()
		d.cmd.Wait()
	})
	d.await("open", 2*time.Minute, func(e event) bool { return e.What == "open" })
	return d
}

func (d *device) read(out io.Reader) {
	for in := bufio.NewScanner(out); in.Scan(); {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			continue
		}
		d.mu.Lock()
		d.weigh(e)
		if d.probes == 0 && d.right != nil && e.St.Network == d.network && d.right(e.St.Interval) {
			d.probes = d.last.St.Probes // the next one may have begun already
		}
		if e.What == "stats" {
			d.last = e
		} else {
			d.events = append(d.events, e)
		}
		close(d.more)
		d.more = make(chan struct{})
		d.mu.Unlock()
	}
	d.mu.Lock()
	d.over = true
	close(d.more)
	d.more = make(chan struct{})
	d.mu.Unlock()
}

// told is how often a device tells of its statistics, and how late that may be.
const told = 250 * time.Millisecond

// weigh adds to the time in which the device may have been deaf: each time it
// has connected again, from when the connection was broken, or else from when
// the NAT may have forgotten it, after what got through last before the beat
// that was not answered; if it had not by then, from that beat.
func (d *device) weigh(e event) {
	if e.What != "stats" {
		d.heard = append(d.heard, e.At) // on which connection the next statistics tell
		return
	}
	again := e.St.Reconnects > d.last.St.Reconnects
	if again {
		from := d.gone
		if from.IsZero() {
			if from = d.alive[0].Add(-told); d.alive[1].Add(d.idle - told).Before(from) {
				from = d.alive[1].Add(d.idle - told)
			}
		}
		d.deaf += e.At.Sub(from)
		d.gone = time.Time{}
	}
	for _, at := range d.heard {
		if d.alive = [2]time.Time{at, d.alive[0]}; at.After(d.gone) {
			d.gone = time.Time{}
		}
	}
	d.heard = nil
	if again || e.St.Heartbeats > d.last.St.Heartbeats {
		d.alive = [2]time.Time{e.At, d.alive[0]}
	}
}

// learns says what the device is to learn, behind a NAT that forgets after idle.
func (d *device) learns(idle time.Duration, right func(beat time.Duration) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle, d.right = idle, right
}

// broken says that the connection is broken on purpose now: before that it was
// not deaf.
func (d *device) broken(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = at
}

// moves tells the device that it is on another network, where it begins anew.
func (d *device) moves(network string) {
	d.mu.Lock()
	d.network, d.before, d.probes = network, d.last.St.Probes, 0
	d.mu.Unlock()
	d.send(moved + network)
}

// found is how many probes it took until the beat was right, zero if it is not,
// and how many there were in all, on the network that it is on.
func (d *device) found() (right, all uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.probes - min(d.before, d.probes), d.last.St.Probes - d.before
}

// slowestTo is how long a message of d's took to the other at most, of those
// that have arrived.
func (d *device) slowestTo(other *device) (slowest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	for _, e := range other.events {
		if at, ok := d.sent[e.Text]; ok && e.What == "got" {
			slowest = max(slowest, e.At.Sub(at))
		}
	}
	return slowest
}

// await returns the first event that ok says yes to.
func (d *device) await(what string, patience time.Duration, ok func(event) bool) event {
	d.t.Helper()
	deadline := time.After(patience)
	for {
		d.mu.Lock()
		for _, e := range append(d.events[:len(d.events):len(d.events)], d.last) {
			if ok(e) {
				d.mu.Unlock()
				return e
			}
		}
		more, over, last := d.more, d.over, d.last
		d.mu.Unlock()
		if over {
			d.t.Fatalf("the program ended before: %s", what)
		}
		select {
		case <-more:
		case <-deadline:
			d.t.Fatalf("not within %v: %s; last %+v", patience, what, last.St)
		}
	}
}

func (d *device) send(text string) {
	d.mu.Lock()
	d.sent[text] = time.Now()
	d.mu.Unlock()
	fmt.Fprintln(d.in, text)
}

// texts are the messages received, or stored.
func (d *device) texts(what string) (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.What == what {
			list = append(list, e.Text)
		}
	}
	return list
}

func (d *device) stats() event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// deafness is how long the device may have been deaf.
func (d *device) deafness() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deaf
}

// quit lets the device go.
func (d *device) quit() {
	d.in.Close()
	d.cmd.Wait()
}
