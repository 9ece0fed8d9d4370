package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/store/mem"
)

// newHouses makes houses by name whose bridges reach each other under
// mqtt://NAME. None of them is there before play says "open NAME".
type houses struct {
	t   *testing.T
	all map[string]*house
	log *logs // of bridges; may be nil
}

func newHouses(t *testing.T, cfgs map[string]Config) *houses {
	hs := &houses{t: t, all: map[string]*house{}}
	for name, cfg := range cfgs {
		h := &house{t: t, cfg: cfg, store: mem.New(mem.Options{}), peers: map[string]*peer{}}
		h.opened = func() func() {
			for _, b := range h.srv.bridges {
				b.dial = hs.dial
				if hs.log != nil {
					b.log = slog.New(slog.NewTextHandler(hs.log, nil))
				}
			}
			ctx, stop := context.WithCancel(context.Background())
			over := make(chan error, 1)
			go func() { over <- h.srv.Bridges(ctx) }()
			return func() {
				stop()
				if err := <-over; err != nil {
					t.Error(err)
				}
			}
		}
		hs.all[name] = h
	}
	return hs
}

// dial connects to the house that the address names.
func (hs *houses) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	name, _, _ := net.SplitHostPort(addr)
	h := hs.all[name]
	if h == nil || h.ln == nil {
		return nil, errors.New("no such house")
	}
	ours, theirs := net.Pipe()
	select {
	case h.ln.ch <- theirs:
		return ours, nil
	case <-h.ln.done:
		return nil, errors.New("connection refused")
	}
}

// play runs a dialogue of several houses: each line has the house's name in
// front, or is one of
//
//	open NAME      the server starts
//	close NAME     it stops
//	~ 5m           time passes
func (hs *houses) play(script string) {
	hs.t.Helper()
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		first, rest, _ := strings.Cut(line, " ")
		var err error
		switch h := hs.all[strings.TrimSpace(rest)]; {
		case first == "open" && h != nil:
			h.open(!h.ever)
			h.ever = true
			synctest.Wait()
		case first == "close" && h != nil:
			h.stop()
			h.stop = nil
			synctest.Wait()
		case first == "~":
			d, _ := time.ParseDuration(rest)
			time.Sleep(d)
			synctest.Wait()
		default:
			err = hs.all[first].line(strings.TrimSpace(rest))
			synctest.Wait()
		}
		if err != nil {
			hs.t.Fatalf("line %d: %s\n%v", i+1, line, err)
		}
	}
}

func (hs *houses) close() {
	for _, h := range hs.all {
		if h.stop != nil {
			h.stop()
		}
	}
}

func bridged(t *testing.T, cfgs map[string]Config, script string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hs := newHouses(t, cfgs)
		defer hs.close()
		hs.play(script)
	})
}

// toB is a house with a bridge to B.
func toB(version string, topics ...BridgeTopic) Config {
	return Config{Anonymous: true, AnonymousTopics: []string{"#", "$SYS/#"}, SysInterval: 1000 * time.Hour, Bridges: []Bridge{{
		Name: "b", Address: "mqtt://b", Version: version, Topics: topics,
	}}}
}

func plain() Config {
	return Config{Anonymous: true, AnonymousTopics: []string{"#", "$SYS/#"}, SysInterval: 1000 * time.Hour}
}

// Each direction, each QoS, with prefixes, and in each dialect.
func TestBridgeDirections(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			bridged(t, map[string]Config{"b": plain(), "a": toB(version,
				BridgeTopic{Filter: "#", Direction: "out", QoS: 2, LocalPrefix: "up/", RemotePrefix: "site1/"},
				BridgeTopic{Filter: "cmd/#", Direction: "in", QoS: 2, LocalPrefix: "from/b/", RemotePrefix: ""},
				BridgeTopic{Filter: "low/#", Direction: "both", QoS: 1},
			)}, `
				open b
				b rita C: CONNECT 5 clean id=rita
				b rita S: CONNACK*
				b rita C: SUBSCRIBE #1 # q2
				b rita S: SUBACK #1 0x02
				open a
				a anna C: CONNECT 5 clean id=anna
				a anna S: CONNACK*
				a anna C: SUBSCRIBE #1 $SYS/broker/connection/# q0
				a anna S: SUBACK*
				a anna S: PUBLISH $SYS/broker/connection/b/state q0 retain :1
				a anna C: SUBSCRIBE #2 # q2
				a anna S: SUBACK #2 0x02
				# Out.
				a olga C: CONNECT 4 clean id=olga
				a olga S: CONNACK*
				a olga C: PUBLISH up/t q0 :zero
				a anna S: PUBLISH up/t q0 :zero
				b rita S: PUBLISH site1/t q0*
				a olga C: PUBLISH up/t q1 #7 :one
				a olga S: PUBACK #7
				a anna S: PUBLISH up/t q1*
				b rita S: PUBLISH site1/t q1*
				a olga C: PUBLISH up/t q2 #8 :two
				a olga S: PUBREC #8
				a anna S: PUBLISH up/t q2*
				b rita S: PUBLISH site1/t q2*
				a olga C: PUBREL #8
				a olga S: PUBCOMP #8
				# In; not what is meant to go out only.
				b rolf C: CONNECT 4 clean id=rolf
				b rolf S: CONNACK*
				b rolf C: PUBLISH site1/x q1 #1 :stays
				b rolf S: PUBACK #1
				b rita S: PUBLISH site1/x q1*
				b rolf C: PUBLISH cmd/go q2 #2 :now
				b rolf S: PUBREC #2
				b rita S: PUBLISH cmd/go q2*
				a anna S: PUBLISH from/b/cmd/go q2*
				a anna S: (nothing)
				# Both, and QoS 2 becomes 1. Nothing comes back.
				b rolf C: PUBLISH low/1 q2 #3 :down
				b rolf S: PUBREC #3
				b rita S: PUBLISH low/1 q2*
				a anna S: PUBLISH low/1 q1*
				a olga C: PUBLISH low/2 q1 #9 :up
				a olga S: PUBACK #9
				a anna S: PUBLISH low/2 q1*
				b rita S: PUBLISH low/2 q1*
				b rita S: (nothing)
				a anna S: (nothing)
			`)
		})
	}
}

// The other broker is away for a while: what was published meanwhile on either
// side comes when it is back, once and in order, and the state is told.
func TestBridgeAway(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			bridged(t, map[string]Config{"b": plain(), "a": toB(version,
				BridgeTopic{Filter: "t/#", Direction: "both", QoS: 2},
			)}, `
				open a
				a keep C: CONNECT 4 id=keep
				a keep S: CONNACK*
				a keep C: SUBSCRIBE #1 t/3 q2
				a keep S: SUBACK*
				a anna C: CONNECT 5 clean id=anna
				a anna S: CONNACK*
				a anna C: SUBSCRIBE #1 $SYS/broker/connection/# q0
				a anna S: SUBACK*
				a anna S: PUBLISH $SYS/broker/connection/b/state q0 retain :0
				a anna C: PUBLISH t/1 q1 #1 :before it was ever there
				a anna S: PUBACK #1
				open b
				b rita C: CONNECT 4 id=rita
				b rita S: CONNACK*
				b rita C: SUBSCRIBE #1 t/# q2
				b rita S: SUBACK*
				~ 1m
				a anna S: PUBLISH $SYS/broker/connection/b/state q0 :1
				b rita S: PUBLISH t/1 q1 #1 :before it was ever there
				b rita C: PUBACK #1
				close b
				a anna S: PUBLISH $SYS/broker/connection/b/state q0 :0
				a anna C: PUBLISH t/2 q2 #2 :while it was away
				a anna S: PUBREC #2
				a anna C: PUBREL #2
				a anna S: PUBCOMP #2
				open b
				~ 1m
				a anna S: PUBLISH $SYS/broker/connection/b/state q0 :1
				b rita C: CONNECT 4 id=rita
				b rita S: CONNACK 0x00 present*
				b rita S: PUBLISH t/2 q2 #2*
				b rita C: PUBREC #2
				b rita S: PUBREL #2
				b rita C: PUBCOMP #2
				close a
				b rita C: PUBLISH t/3 q2 #3 :while we were away
				b rita S: PUBREC #3
				b rita C: PUBREL #3
				b rita S: PUBLISH t/3 q2*
				b rita S: PUBCOMP #3
				open a
				~ 1m
				a keep C: CONNECT 4 id=keep
				a keep S: CONNACK 0x00 present
				a keep S: PUBLISH t/3 q2*
				a keep S: (nothing)
				b rita S: (nothing)
			`)
		})
	}
}

// A bridge that only takes in has its session at the other broker, too.
func TestBridgeInAway(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			bridged(t, map[string]Config{"b": plain(), "a": toB(version,
				BridgeTopic{Filter: "t/#", Direction: "in", QoS: 2},
			)}, `
				open b
				open a
				a keep C: CONNECT 4 id=keep
				a keep S: CONNACK*
				a keep C: SUBSCRIBE #1 t/# q1
				a keep S: SUBACK*
				close a
				b rita C: CONNECT 4 clean id=rita
				b rita S: CONNACK*
				b rita C: PUBLISH t/1 q2 #1 :while we were away
				b rita S: PUBREC #1
				b rita C: PUBREL #1
				b rita S: PUBCOMP #1
				open a
				~ 1m
				a keep C: CONNECT 4 id=keep
				a keep S: CONNACK 0x00 present
				a keep S: PUBLISH t/1 q1*
				a keep S: (nothing)
			`)
		})
	}
}

// What is retained goes over as retained, once: when the bridge is new and
// when it changes.
func TestBridgeRetained(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			bridged(t, map[string]Config{"b": plain(), "a": toB(version,
				BridgeTopic{Filter: "#", Direction: "both", QoS: 1, LocalPrefix: "", RemotePrefix: ""},
			)}, `
				open b
				b rita C: CONNECT 5 clean id=rita
				b rita S: CONNACK*
				b rita C: PUBLISH old/b q1 retain #1 :b
				b rita S: PUBACK*
				open a
				a anna C: CONNECT 5 clean id=anna
				a anna S: CONNACK*
				a anna C: PUBLISH new/a q1 retain #1 :a
				a anna S: PUBACK #1
				~ 2m
				a anna C: SUBSCRIBE #2 old/# q0
				a anna S: SUBACK*
				a anna S: PUBLISH old/b q0 retain*
				b rita C: SUBSCRIBE #2 new/# q0
				b rita S: SUBACK*
				b rita S: PUBLISH new/a q0 retain*
				a anna C: PUBLISH new/a q1 retain #3
				a anna S: PUBACK #3
				b rita S: PUBLISH new/a q0*
				b rita C: SUBSCRIBE #4 new/# q0
				b rita S: SUBACK*
				b rita S: (nothing)
				close b
				open b
				~ 2m
				a anna S: (nothing)
			`)
		})
	}
}

// What a bridge says of itself at the other broker is what is configured.
func TestBridgeHello(t *testing.T) {
	pw := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("pw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := toB(version, BridgeTopic{Filter: "t/#", Direction: "in", QoS: 1})
				b := &a.Bridges[0]
				b.User, b.PasswordFile, b.ClientID, b.KeepAlive, b.CleanStart = "bob", pw, "site", 20*time.Second, true
				hs := newHouses(t, map[string]Config{"a": a, "b": {}})
				defer hs.close()
				hs.play("open b\nopen a\n~ 1m")
				var s *session
				hs.all["b"].srv.eachOf("bob@localhost", func(_ *sessionShard, at *session) { s = at })
				if s == nil || s.key != "bob@localhost/site" || s.client.Load().silence() != keepalive.Patience(b.KeepAlive) {
					t.Fatalf("%+v", s)
				}
				hs.play(`
					a keep C: CONNECT 4 id=keep
					a keep S: CONNACK 0x00
					a keep C: SUBSCRIBE #1 t/# q1
					a keep S: SUBACK*
					close a
					b rita C: CONNECT 4 clean id=rita user=bob
					b rita S: CONNACK 0x00
					b rita C: PUBLISH t/1 q1 #1 :lost
					b rita S: PUBACK #1
					open a
					~ 1m
					b rita C: PUBLISH t/2 q1 #2 :comes
					b rita S: PUBACK #2
					a keep C: CONNECT 4 id=keep
					a keep S: CONNACK 0x00 present
					a keep S: PUBLISH t/2 q1 *
					a keep S: (nothing)
				`)
			})
		})
	}
}

// Where less is supported than the bridge is configured for, or the other broker
// does, messages come over with less.
func TestBridgeMaximumQoS(t *testing.T) {
	topics := BridgeTopic{Filter: "#", Direction: "both", QoS: 2}
	for version, via := range map[string]string{"5": "user-property=*", "3.1.1": ""} {
		t.Run("here "+version, func(t *testing.T) {
			a := toB(version, topics)
			a.MaxQoS, a.RetainAvailable = new(1), new(false)
			bridged(t, map[string]Config{"b": plain(), "a": a}, `
				open b
				open a
				a anna C: CONNECT 5 clean id=anna
				a anna S: CONNACK*
				a anna C: SUBSCRIBE #1 # 0x0a
				a anna S: SUBACK #1 0x01
				b rita C: CONNECT 5 clean id=rita
				b rita S: CONNACK*
				b rita C: PUBLISH t q2 #1 retain :two
				b rita S: PUBREC #1
				a anna S: PUBLISH t q1 #1 `+via+`:two
			`)
		})
	}
	t.Run("there", func(t *testing.T) {
		b := plain()
		b.MaxQoS, b.RetainAvailable = new(1), new(false)
		bridged(t, map[string]Config{"b": b, "a": toB("5", topics)}, `
			open b
			open a
			b rita C: CONNECT 5 clean id=rita
			b rita S: CONNACK*
			b rita C: SUBSCRIBE #1 # 0x0a
			b rita S: SUBACK #1 0x01
			a anna C: CONNECT 5 clean id=anna
			a anna S: CONNACK*
			a anna C: PUBLISH t q2 #1 retain :two
			a anna S: PUBREC #1
			b rita S: PUBLISH t q1 #1*:two
		`)
	})
}

// Two brokers bridged with each other from both sides, and three in a ring: a
// message comes once for each way that there is, and does not go around.
func TestBridgeLoop(t *testing.T) {
	to := func(names ...string) Config {
		c := plain()
		for _, n := range names {
			c.Bridges = append(c.Bridges, Bridge{Name: n, Address: "mqtt://" + n, Topics: []BridgeTopic{{Filter: "#", Direction: "both", QoS: 2}}})
		}
		return c
	}
	for name, cfgs := range map[string]map[string]Config{
		"two":  {"a": to("b"), "b": to("a"), "c": plain()},
		"ring": {"a": to("b"), "b": to("c"), "c": to("a")},
	} {
		t.Run(name, func(t *testing.T) {
			script := "open c\nopen b\nopen a\n~ 3m\n"
			for _, h := range []string{"a", "b"} {
				script += fmt.Sprintf("%[1]s x C: CONNECT 5 clean id=x\n%[1]s x S: CONNACK*\n%[1]s x C: SUBSCRIBE #1 # q0\n%[1]s x S: SUBACK*\n", h)
			}
			for qos := range 3 {
				script += fmt.Sprintf("a y C: CONNECT 5 clean id=y\na y S: CONNACK*\na y C: PUBLISH t/%[1]d q%[1]d #1 :x\n", qos)
				if qos == 0 {
					script = strings.ReplaceAll(script, "q0 #1", "q0")
				} else if qos == 1 {
					script += "a y S: PUBACK*\n"
				} else {
					script += "a y S: PUBREC*\n"
				}
				script += fmt.Sprintf("a x S: PUBLISH t/%[1]d q0*\nb x S: PUBLISH t/%[1]d q0*\nb x S: PUBLISH t/%[1]d q0*\n~ 1m\na x S: (nothing)\nb x S: (nothing)\na y --\n", qos)
			}
			bridged(t, cfgs, script)
		})
	}
}

func TestBridgeConfig(t *testing.T) {
	good := Bridge{Name: "b", Address: "mqtt://localhost", Topics: []BridgeTopic{{Filter: "#", Direction: "both", QoS: 1}}}
	if err := CheckBridges([]Bridge{good}); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Bridge){
		"a name of 1 to 64":     func(b *Bridge) { b.Name = "a/b" },
		"not of the form":       func(b *Bridge) { b.Address = "localhost:1883" },
		"a path is for ws":      func(b *Bridge) { b.Address = "mqtt://localhost/mqtt" },
		"neither 5 nor":         func(b *Bridge) { b.Version = "4" },
		"begins with mqtts":     func(b *Bridge) { b.CA = "ca.pem" },
		"belong together":       func(b *Bridge) { b.Address, b.Cert = "mqtts://x", "c.pem" },
		"without user":          func(b *Bridge) { b.PasswordFile = "pw" },
		"keep_alive":            func(b *Bridge) { b.KeepAlive = time.Millisecond },
		"nothing would go over": func(b *Bridge) { b.Topics = nil },
		"none of in, out":       func(b *Bridge) { b.Topics[0].Direction = "up" },
		"none of 0, 1":          func(b *Bridge) { b.Topics[0].QoS = 3 },
		"has a wildcard":        func(b *Bridge) { b.Topics[0].LocalPrefix = "+/" },
		"is not a topic filter": func(b *Bridge) { b.Topics[0].Filter = "a/#/b" },
		"shared subscription":   func(b *Bridge) { b.Topics[0].Filter = "$share/g/#" },
		"is users' mail":        func(b *Bridge) { b.Topics[0].LocalPrefix = "im/" },
		"that begin with $":     func(b *Bridge) { b.Topics[0].LocalPrefix = "$x/" },
	} {
		b := good
		b.Topics = append([]BridgeTopic(nil), good.Topics...)
		change(&b)
		if err := CheckBridges([]Bridge{b}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
	if err := CheckBridges([]Bridge{good, good}); err == nil || !strings.Contains(err.Error(), "two of this name") {
		t.Error(err)
	}
}
