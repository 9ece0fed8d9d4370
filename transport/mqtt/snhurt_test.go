package mqtt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// A third of all datagrams is lost, in both directions, and the sensor says
// again what is not answered: every message of QoS 2 arrives once, in order.
func TestSNRandomLoss(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		lose := func(sn.Message, bool) bool { return r.IntN(3) == 0 }
		synctest.Test(t, func(t *testing.T) {
			cfg := sensors()
			cfg.SN.Retries = 50
			h := newHouse(t, cfg)
			h.stop()
			h.air = &air{lose: lose}
			h.open(false)
			defer func() { h.stop() }()
			h.play(`
				app C: CONNECT 4 id=app user=alice clean
				app S: CONNACK*
				app C: SUBSCRIBE #1 up q2
				app S: SUBACK #1 0x02
			`)
			var got []string
			mine := map[uint16]bool{}
			// until says what until want comes, and does its part meanwhile.
			until := func(what, want string) {
				for try := range 100 {
					dup := ""
					if try > 0 && strings.HasPrefix(what, "PUBLISH") {
						dup = " dup"
					}
					head, body, _ := strings.Cut(what, " :")
					if err := h.air.line("n1", "N: "+head+dup+" :"+body); what != "" && err != nil {
						t.Fatal(err)
					}
					for {
						synctest.Wait()
						text := h.air.next(address4("n1"), "")
						if text == "(nothing)" {
							break
						}
						f := strings.Fields(text)
						switch f[0] {
						case "REGISTER":
							h.air.line("n1", "N: REGACK "+f[2]+" "+f[3])
						case "PUBLISH":
							id, _ := strconv.Atoi(f[3][1:])
							if !mine[uint16(id)] {
								mine[uint16(id)] = true
								got = append(got, text[strings.Index(text, " :")+2:])
							}
							h.air.line("n1", "N: PUBREC "+f[3])
						case "PUBREL":
							id, _ := strconv.Atoi(f[1][1:])
							delete(mine, uint16(id))
							h.air.line("n1", "N: PUBCOMP "+f[1])
						}
						if text == want {
							return
						}
					}
					h.line("~ 10s")
				}
				t.Fatalf("seed %d: no %s", seed, want)
			}
			until("CONNECT n1 600s", "CONNACK")
			until("SUBSCRIBE a/# q2 #1", "SUBACK t0 #1 q2")
			for i := range 10 {
				h.play(fmt.Sprintf(`
					app C: PUBLISH a/%d q2 #%d :%d
					app S: PUBREC #%[2]d
					app C: PUBREL #%[2]d
					app S: PUBCOMP #%[2]d`, i%3, i+1, i))
				id := i + 100
				until(fmt.Sprintf("PUBLISH 'up q2 #%d :%d", id, i), fmt.Sprintf("PUBREC #%d", id))
				until(fmt.Sprintf("PUBREL #%d", id), fmt.Sprintf("PUBCOMP #%d", id))
				h.play(fmt.Sprintf(`
					app S: PUBLISH up q2 #%d :%d
					app C: PUBREC #%[1]d
					app S: PUBREL #%[1]d
					app C: PUBCOMP #%[1]d
					app S: (nothing)`, i+1, i))
			}
			for range 200 {
				if len(got) == 10 {
					break
				}
				until("PINGREQ", "PINGRESP")
				h.line("~ 10s")
			}
			if s := strings.Join(got, " "); s != "0 1 2 3 4 5 6 7 8 9" {
				t.Fatalf("seed %d: the sensor has %s", seed, s)
			}
		})
	}
}

// sink is a socket that counts what goes out.
type sink struct {
	bytes map[netip.AddrPort]int
}

func (s *sink) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, net.ErrClosed
}
func (s *sink) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	if s.bytes != nil {
		s.bytes[to] += len(p)
	}
	return len(p), nil
}
func (s *sink) LocalAddr() net.Addr { return &net.UDPAddr{} }
func (s *sink) Close() error        { return nil }

// bare is a gateway whose owner is the test.
func bare(t testing.TB, cfg Config, pc PacketConn) *gateway {
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	a.Add(ctx, "alice", "pw", auth.RoleUser)
	e := conn.New(conn.Config{Loops: -1, Log: log})
	srv := New(&transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: e, Log: log}, cfg)
	if err := srv.begin(ctx); err != nil {
		t.Fatal(err)
	}
	g, err := srv.newGateway(pc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.end()
		srv.end()
		e.Close()
		a.Close()
		cancel()
	})
	return g
}

// await runs what is to be run until every sensor has been looked up.
func (g *gateway) await() {
	for {
		looking := false
		for _, s := range g.nodes {
			looking = looking || s.state == snLooking
		}
		if !looking {
			break
		}
		<-g.bell
		g.wake()
	}
	g.wake()
}

// bounds fails if the gateway holds more than it may.
func (g *gateway) bounds(t testing.TB) {
	t.Helper()
	if len(g.nodes) > g.cfg.MaxClients || len(g.due) > g.cfg.MaxClients || len(g.keys) > g.cfg.MaxClients {
		t.Fatalf("%d nodes, %d keys, %d due", len(g.nodes), len(g.keys), len(g.due))
	}
	for _, s := range g.nodes {
		switch {
		case len(s.topics.order) > g.cfg.MaxTopics || len(s.topics.byID) != len(s.topics.order) || len(s.topics.byName) != len(s.topics.order):
			t.Fatalf("%d topics", len(s.topics.order))
		case s.topics.bytes > g.cfg.MaxTopics*snTopicName && len(s.topics.order) > 1:
			t.Fatalf("%d bytes of topics", s.topics.bytes)
		case len(s.in) > g.cfg.MaxInflight || len(s.asked) > g.cfg.MaxInflight:
			t.Fatalf("%d and %d in flight", len(s.in), len(s.asked))
		case s.bytes > g.cfg.MaxWaiting+g.cfg.MaxDatagram+1024 || s.bytes == 0 != (len(s.waiting) == 0):
			t.Fatalf("%d bytes wait in %d", s.bytes, len(s.waiting))
		}
	}
}

// A flood from forged addresses fills nothing but the places that there are,
// and nobody is sent more bytes than came from his address.
func TestSNFlood(t *testing.T) {
	cfg := sensors()
	cfg.SN.MaxClients, cfg.SN.MaxPerAddress = 100, 10
	pc := &sink{bytes: map[netip.AddrPort]int{}}
	g := bare(t, cfg, pc)
	sent := map[netip.AddrPort]int{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(40)), byte(r.IntN(256))}), uint16(i))
		m := sn.Message{Type: sn.Connect, Duration: 65535, Name: fmt.Sprintf("n%d", i)}
		switch i % 8 {
		case 1:
			m = sn.Message{Type: sn.SearchGW}
		case 2:
			m = sn.Message{Type: sn.Pingreq, Name: "n0"}
		case 3:
			m = sn.Message{Type: sn.Register, ID: 1, Name: "a"}
		case 4:
			m = sn.Message{Type: sn.Publish, Flags: sn.MakeFlags(false, sn.QoSNone, false, false, false, sn.Predefined), TopicID: 8, Data: []byte("x")}
		case 5:
			m.Flags = sn.MakeFlags(false, 0, false, true, true, 0)
		}
		p := sn.Append(nil, m)
		if i%8 == 6 {
			p = sn.Append(nil, sn.Message{Type: sn.Encapsulated, Data: []byte(strconv.Itoa(i)), Inner: p})
			from = netip.MustParseAddrPort("10.9.9.9:99")
		}
		sent[from] += len(p)
		g.datagram(p, from)
	}
	g.await()
	g.bounds(t)
	if len(g.nodes) != g.cfg.MaxClients {
		t.Errorf("%d sensors, at most %d", len(g.nodes), g.cfg.MaxClients)
	}
	for to, n := range pc.bytes {
		if n > sent[to] {
			t.Errorf("%d bytes came from %v, %d went there", sent[to], to, n)
		}
	}
}

// FuzzGateway sends datagrams from three nodes, each with its node and its
// length in front.
func FuzzGateway(f *testing.F) {
	line := func(b []byte, node byte, text string) []byte {
		m, err := snParse(text)
		if err != nil {
			f.Fatal(err)
		}
		p := sn.Append(nil, m)
		return append(append(b, node, byte(len(p))), p...)
	}
	script := func(lines ...string) (b []byte) {
		for _, l := range lines {
			b = line(b, l[0]-'0', l[2:])
		}
		return b
	}
	f.Add(script("0 CONNECT n1 600s", "0 SUBSCRIBE a/# q2 #1", "1 CONNECT n2 clean 60s", "1 REGISTER a/b #1", "1 PUBLISH t1 q2 #2 :x",
		"1 PUBREL #2", "0 REGACK t1 #1", "0 PUBREC #1", "0 PUBCOMP #1"))
	f.Add(script("0 CONNECT n1 will 600s", "0 WILLTOPIC w q1", "0 WILLMSG :x", "0 WILLTOPICUPD v q0", "0 WILLMSGUPD :y", "0 CONNECT n1 60s"))
	f.Add(script("0 CONNECT n1 600s", "0 SUBSCRIBE 'ab q1 #1", "0 DISCONNECT 600s", "1 CONNECT n2 60s", "1 PUBLISH 'ab q1 #2 :x", "2 PINGREQ n1", "2 PUBACK #1", "2 CONNECT n1 600s"))
	f.Add(script("0 CONNECT n1 600s", "0 SUBSCRIBE p7 q0 #1", "0 PUBLISH p7 q-1 :x", "0 UNSUBSCRIBE p7 q0 #2", "0 PINGREQ", "0 SEARCHGW", "0 DISCONNECT"))
	cfg := sensors()
	cfg.SN.MaxClients, cfg.SN.MaxTopics, cfg.SN.MaxInflight, cfg.SN.MaxWaiting, cfg.SN.MaxDatagram = 3, 3, 2, 200, 250
	g := bare(f, cfg, new(sink))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) >= 2 {
			node, n := b[0]%3, min(int(b[1]), len(b)-2)
			g.datagram(b[2:2+n], netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, node}), 1))
			b = b[2+n:]
			g.await()
			g.bounds(t)
		}
		g.end()
		if len(g.nodes)+len(g.keys)+len(g.due) != 0 {
			t.Fatalf("%d nodes, %d keys, %d due are left", len(g.nodes), len(g.keys), len(g.due))
		}
	})
}

// Messages in any order, whole and broken, at any time: the gateway stays
// within its bounds, and lets go of everything.
func TestSNChaos(t *testing.T) {
	cfg := sensors()
	cfg.SN.MaxClients, cfg.SN.MaxTopics, cfg.SN.MaxInflight, cfg.SN.MaxWaiting, cfg.SN.MaxDatagram = 3, 3, 2, 200, 250
	g := bare(t, cfg, new(sink))
	lines := strings.Split(`CONNECT n1 600s,CONNECT n2 600s,CONNECT n1 will 600s,CONNECT n2 clean 60s,SUBSCRIBE a/# q2 #1,SUBSCRIBE 'ab q1 #2,`+
		`UNSUBSCRIBE a/# #9,REGISTER a/b #1,REGISTER a/c #2,PUBLISH t1 q2 #2 :x,PUBLISH t1 q1 #3 :y,PUBLISH t2 q0 retain :z,PUBLISH 'ab q1 #4 :q,`+
		`PUBREL #2,REGACK t1 #1,REGACK t2 #2,REGACK t1 #1 c1,REGACK t1 #1 c3,PUBREC #1,PUBCOMP #1,PUBACK t1 #1,PUBACK t1 #1 c2,`+
		`PUBACK t1 #1,PUBACK t1 c2,WILLTOPIC w q1,WILLMSG :x,WILLTOPICUPD v q0,WILLMSGUPD :y,DISCONNECT 600s,DISCONNECT,PINGREQ n1,PINGREQ n2,PINGREQ`, ",")
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		m, err := snParse(lines[r.IntN(len(lines))])
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(3) == 0 {
			m.ID, m.TopicID = uint16(1<<15+r.IntN(20)), uint16(r.IntN(6))
		}
		p := sn.Append(nil, m)
		if r.IntN(20) == 0 {
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		}
		g.datagram(p, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(3))}), 1))
		g.await()
		if r.IntN(50) == 0 {
			for _, s := range g.nodes {
				s.ring(time.Now().Add(time.Duration(r.IntN(3)) * 300 * time.Second))
				break
			}
		}
		g.bounds(t)
	}
	g.end()
	if st := g.srv.count.sn.stats(); len(g.nodes)+len(g.keys)+len(g.due) != 0 || st.Clients != 0 || st.Asleep != 0 {
		t.Fatalf("%d nodes, %d keys, %d due are left; %+v", len(g.nodes), len(g.keys), len(g.due), st)
	}
}

func TestSNConfig(t *testing.T) {
	for _, c := range []SN{
		{GatewayID: 256},
		{Topics: []SNTopic{{ID: 0, Topic: "a"}}},
		{Topics: []SNTopic{{ID: 65535, Topic: "a"}}},
		{Topics: []SNTopic{{ID: 1, Topic: "a/#"}}},
		{Topics: []SNTopic{{ID: 1, Topic: "a"}, {ID: 1, Topic: "b"}}},
		{Accounts: []SNAccount{{User: "@"}}},
		{AdvertiseTo: "everybody"},
		{AdvertiseTo: "10.255.255.255:1884", Advertise: 24 * time.Hour},
	} {
		if _, _, _, _, err := c.withDefaults().prepare("localhost"); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"a*", "abc", true}, {"*c", "abc", true},
		{"a*c", "abc", true}, {"a*c", "ac", true}, {"ab*bc", "abc", false}, {"a*b*c", "axbyc", true}, {"a*b*c", "axc", false},
	} {
		if glob(c.pattern, c.s) != c.want {
			t.Errorf("%q and %q: want %v", c.pattern, c.s, c.want)
		}
	}
	a := SNAccount{Clients: []string{"m-*"}, From: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for addr, want := range map[string]bool{"10.1.2.3": true, "10.2.2.3": false} {
		if a.fits("m-1", netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: want %v", addr, want)
		}
	}
}

// Made-up client identifiers leave no more sessions behind than there may be.
func TestSNSessions(t *testing.T) {
	cfg := sensors()
	cfg.SN.MaxSessions = 2
	snDialogue(t, cfg, `
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		n1 N: CONNECT n2 60s
		n1 G: CONNACK
		n1 N: CONNECT n3 60s
		n1 G: CONNACK rejected: congestion
		n1 G: (nothing)
		n1 N: CONNECT n3 clean 60s
		n1 G: CONNACK
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		# Clean session gives the place back.
		n1 N: CONNECT n2 clean 60s
		n1 G: CONNACK
		n1 N: CONNECT n3 60s
		n1 G: CONNACK
	`)
}
