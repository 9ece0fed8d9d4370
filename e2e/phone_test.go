//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// air is a network of its own for a phone, with one way out.
type air struct {
	t    *testing.T
	name string
	home string // the address that the phone sees of us
}

// newAir makes a network namespace and a pair of interfaces.
func newAir(t *testing.T) *air {
	need(t, "ip", "nft")
	a := &air{t: t}
	n := rand.N(256)
	for first := n; ; { // others may do the same
		a.name, a.home = fmt.Sprintf("phone%d", n), fmt.Sprintf("198.18.%d.1", n)
		out, err := exec.Command("ip", "netns", "add", a.name).CombinedOutput()
		if err == nil {
			break
		}
		if n = (n + 1) % 256; n == first || !strings.Contains(string(out), "File exists") {
			missing(t, "no network namespaces: "+string(out))
		}
	}
	t.Cleanup(func() {
		// The system takes its time with what a namespace leaves behind.
		exec.Command("ip", "link", "del", a.name+"h").Run()
		exec.Command("ip", "netns", "del", a.name).Run()
	})
	there := fmt.Sprintf("198.18.%d.2", n)
	for _, line := range []string{
		"ip link add " + a.name + "h type veth peer name " + a.name + "p netns " + a.name,
		"ip addr add " + a.home + "/30 dev " + a.name + "h", "ip link set " + a.name + "h up",
		"ip -n " + a.name + " addr add " + there + "/30 dev " + a.name + "p", "ip -n " + a.name + " link set " + a.name + "p up",
		"ip -n " + a.name + " link set lo up",
	} {
		a.do(strings.Fields(line)...)
	}
	return a
}

func (a *air) do(args ...string) {
	a.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		a.t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

func (a *air) inside(args ...string) []string {
	return append([]string{"ip", "netns", "exec", a.name}, args...)
}

// tunnel drops every packet, both ways, for a while.
func (a *air) tunnel(length time.Duration) {
	a.t.Helper()
	a.do(a.inside("nft", fmt.Sprintf(`table inet tunnel {
		chain in { type filter hook input priority 0; iifname "%[1]sp" drop; }
		chain out { type filter hook output priority 0; oifname "%[1]sp" drop; }
	}`, a.name))...)
	time.Sleep(length) // it is what happens, not a wait for something
	a.do(a.inside("nft", "delete table inet tunnel")...)
}

// A phone whose application has nothing but an MQTT library loses no message, in
// either direction and in order, though the server is killed, and the
// application, and the network between them goes away, again and again.
func TestPhoneWithOnlyMQTT(t *testing.T) {
	if why := noPaho(); why != "" {
		missing(t, why)
	}
	const count = 300
	for _, version := range []string{"5", "311"} {
		t.Run(version, func(t *testing.T) {
			a := newAir(t)
			s := start(t, "--mqtts", free(t, a.home))
			s.users("alice", "bob")
			_, port := hostPort(s.addr["mqtts"])
			dir := t.TempDir()
			args := a.inside(python, "py/phone.py", a.home, port, version, filepath.Join(s.data, "cert.pem"), dir, fmt.Sprint(count))
			launch := func() *process { return spawn(t, cleanEnv(), "", args[0], args[1:]...) }
			phone := launch()

			stop, over := make(chan struct{}), make(chan struct{})
			go func() { // what happens on the way; ends with stop
				defer close(over)
				for i := 0; ; i++ {
					switch i % 3 {
					case 0:
						a.tunnel(time.Duration(rand.N(5000)) * time.Millisecond)
					case 1:
						s.kill()
						s.again()
					case 2:
						phone.end()
						phone = launch()
					}
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(rand.N(1500)) * time.Millisecond):
					}
				}
			}()
			want := make([]string, count)
			for n := range want {
				want[n] = fmt.Sprintf("down-%d", n)
				s.say(want[n])
				time.Sleep(60 * time.Millisecond) // so that it takes a while
			}
			close(stop)
			<-over
			if t.Failed() {
				return
			}
			lines := func(name string) []string {
				text, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
			}
			for end := time.Now().Add(patience); len(firsts(lines("inbox"))) < count || len(firsts(lines("sent"))) < count; time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d messages have come and %d are sent\n%s", len(firsts(lines("inbox"))), len(firsts(lines("sent"))), phone.errs)
				}
			}
			if got := firsts(lines("inbox")); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("received %v", got)
			}
			got := s.inbox("bob")
			for n := range want {
				want[n] = fmt.Sprintf("up-%d", n)
			}
			if version != "5" { // which has no word for the id of a message: what is sent again is another one
				got = firsts(got)
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("bob has %v", got)
			}
		})
	}
}

// firsts are the lines without repetitions.
func firsts(lines []string) (first []string) {
	seen := map[string]bool{"": true}
	for _, l := range lines {
		if !seen[l] {
			first = append(first, l)
		}
		seen[l] = true
	}
	return first
}

// say posts a message of bob's to alice, again until it is stored.
func (s *server) say(text string) {
	s.t.Helper()
	message := fmt.Sprintf(`{"to":"alice","id":%[1]q,"body":%[1]q}`, text)
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if resp, _, err := s.ask("bob", http.MethodPost, "/v1/messages", message); err == nil && resp.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			s.t.Fatal("the server takes nothing")
		}
	}
}
