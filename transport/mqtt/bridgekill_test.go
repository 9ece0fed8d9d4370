package mqtt

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"
)

// vacant is an address that nobody listens on at present.
func vacant(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// again connects c, whose server has just been started.
func again(t *testing.T, c *careful, v *victim) {
	t.Helper()
	if c.nc != nil {
		c.nc.Close()
	}
	if err := c.connect(v.addr); err != nil {
		t.Fatal(err)
	}
}

// Two servers and a bridge between them, 500 messages in each direction, and
// one of the two killed in their middle: QoS 2 comes once and in order, of QoS 1
// nothing is lost.
func TestKillBridge(t *testing.T) {
	for _, kill := range []string{"here", "there"} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("%s/qos %d", kill, qos), func(t *testing.T) { killBridge(t, kill, qos) })
		}
	}
}

func killBridge(t *testing.T, kill string, qos byte) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	addrs := [2]string{vacant(t), vacant(t)}
	var vs [2]*victim
	open := func(i int) {
		env := []string{"MQTT_TEST_LISTEN=" + addrs[i]}
		if i == 0 {
			env = append(env, "MQTT_TEST_BRIDGE=mqtt://"+addrs[1])
		}
		vs[i] = start(t, dirs[i], env...)
	}
	open(1)
	open(0)
	type way struct {
		from, to int
		pub, sub *careful
		seen     map[string]int
		next     int
	}
	var ways []*way
	for i := range 2 {
		w := &way{from: i, to: 1 - i, pub: &careful{user: "alice", id: "pub"}, sub: &careful{user: "alice", id: "sub"}, seen: map[string]int{}}
		again(t, w.pub, vs[w.from])
		again(t, w.sub, vs[w.to])
		if err := w.sub.subscribe(fmt.Sprintf("way/%d", i), qos); err != nil {
			t.Fatal(err)
		}
		ways = append(ways, w)
	}
	// Once something has come in each direction both ends have subscribed.
	warm := time.Now().Add(20 * time.Second)
	for _, w := range ways {
		for n := 0; len(w.seen) == 0; n++ {
			if time.Now().After(warm) {
				t.Fatal("the bridge does not come up")
			}
			if len(w.pub.out) == 0 {
				w.pub.publish(fmt.Sprintf("way/%d", w.from), fmt.Sprintf("warm %d", n), qos)
			}
			w.pub.step(5 * time.Millisecond)
			if got, fresh, err := w.sub.step(50 * time.Millisecond); err == nil && fresh {
				w.seen[got]++
			}
		}
	}
	const n = 500
	kills := map[int]bool{150: true, 300: true}
	deadline := time.Now().Add(90 * time.Second)
	for sent := 0; ; {
		done := sent == n
		for _, w := range ways {
			done = done && w.next == n && len(w.pub.out) == 0
		}
		if done {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("stuck: sent %d, received %d and %d of %d", sent, ways[0].next, ways[1].next, n)
		}
		if sent < n && len(ways[0].pub.out) < 20 && len(ways[1].pub.out) < 20 {
			for _, w := range ways {
				w.pub.publish(fmt.Sprintf("way/%d", w.from), strconv.Itoa(sent), qos)
			}
			sent++
		}
		if kills[sent] {
			delete(kills, sent)
			i := 0
			if kill == "there" {
				i = 1
			}
			vs[i].kill()
			open(i)
			for _, w := range ways {
				if w.from == i {
					again(t, w.pub, vs[i])
				}
				if w.to == i {
					again(t, w.sub, vs[i])
				}
			}
		}
		for _, w := range ways {
			for _, c := range []*careful{w.pub, w.sub} {
				for {
					got, fresh, err := c.step(time.Millisecond)
					if err != nil {
						break
					}
					if !fresh || len(got) > 4 && got[:4] == "warm" {
						continue
					}
					if w.seen[got]++; w.seen[got] > 1 && qos == 2 {
						t.Fatalf("%s came twice", got)
					}
					switch {
					case got == strconv.Itoa(w.next):
						w.next++
					case w.seen[got] == 1:
						t.Fatalf("got %s, want %d", got, w.next)
					}
				}
			}
		}
	}
}
