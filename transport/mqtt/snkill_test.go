package mqtt

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// probe is a sensor on a real socket that keeps its side of QoS 2 across
// connections.
type snProbe struct {
	t    *testing.T
	nc   net.Conn
	id   string
	mine map[uint16]bool // QoS 2 received and not released
	got  []string
}

func (p *snProbe) dial(addr string) {
	nc, err := net.Dial("udp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.nc = nc
}

func (p *snProbe) say(m sn.Message) { p.nc.Write(sn.Append(nil, m)) }

// hear takes one message, and answers what wants an answer.
func (p *snProbe) hear(patience time.Duration) (sn.Message, bool) {
	b := make([]byte, 2000)
	p.nc.SetReadDeadline(time.Now().Add(patience))
	n, err := p.nc.Read(b)
	if err != nil {
		return sn.Message{}, false
	}
	m, err := sn.Decode(b[:n])
	if err != nil {
		p.t.Fatal(err)
	}
	switch m.Type {
	case sn.Register:
		p.say(sn.Message{Type: sn.Regack, TopicID: m.TopicID, ID: m.ID})
	case sn.Publish:
		if m.Flags.QoS() == 1 {
			p.got = append(p.got, string(m.Data))
			p.say(sn.Message{Type: sn.Puback, TopicID: m.TopicID, ID: m.ID})
			break
		}
		if !p.mine[m.ID] {
			p.mine[m.ID] = true
			p.got = append(p.got, string(m.Data))
		}
		p.say(sn.Message{Type: sn.Pubrec, ID: m.ID})
	case sn.Pubrel:
		delete(p.mine, m.ID)
		p.say(sn.Message{Type: sn.Pubcomp, ID: m.ID})
	}
	return m, true
}

// until says m until an answer of type t has come.
func (p *snProbe) until(m sn.Message, t sn.Type) bool {
	for range 5 {
		p.say(m)
		for {
			a, ok := p.hear(10 * time.Second)
			if !ok {
				break
			}
			if a.Type == t {
				return true
			}
			if a.Type == sn.Disconnect {
				return false
			}
		}
	}
	p.t.Fatalf("no %v for %v", t, m)
	return false
}

// A sensor sleeps while messages of QoS 2 come for it, and the server is
// killed again and again, also while it fetches them: each arrives once, in
// order.
func TestKillSleepingSensor(t *testing.T) {
	dir := t.TempDir()
	v := start(t, dir)
	p := &snProbe{t: t, id: "s1", mine: map[uint16]bool{}}
	pub := &careful{user: "bob", id: "pub"}
	connect := func() {
		p.dial(v.sn)
		p.until(sn.Message{Type: sn.Connect, Duration: 600, Name: p.id}, sn.Connack)
	}
	connect()
	p.until(sn.Message{Type: sn.Subscribe, Flags: sn.MakeFlags(false, 2, false, false, false, sn.Named), ID: 1, Name: "q/#"}, sn.Suback)
	p.say(sn.Message{Type: sn.Disconnect, Duration: 600, HasDuration: true})
	p.hear(10 * time.Second)
	sent := 0
	for range runs(t, 10) {
		if err := pub.connect(v.addr); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			pub.publish("q/x", strconv.Itoa(sent), 2)
			sent++
		}
		for len(pub.out) > 0 {
			if _, _, err := pub.step(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
		// It fetches some of them, and the server dies.
		p.say(sn.Message{Type: sn.Pingreq, Name: p.id})
		for range rand.IntN(60) {
			m, ok := p.hear(10 * time.Second)
			if !ok || m.Type == sn.Pingresp {
				break
			}
		}
		v.kill()
		pub.nc.Close()
		p.nc.Close()
		v = start(t, dir)
		connect()
		p.say(sn.Message{Type: sn.Disconnect, Duration: 600, HasDuration: true})
		for {
			if m, ok := p.hear(10 * time.Second); !ok || m.Type == sn.Disconnect {
				break
			}
		}
		if !p.until(sn.Message{Type: sn.Pingreq, Name: p.id}, sn.Pingresp) {
			t.Fatal("the gateway does not know the sensor")
		}
		if len(p.got) != sent {
			t.Fatalf("%d of %d arrived", len(p.got), sent)
		}
	}
	for i, s := range p.got {
		if s != strconv.Itoa(i) {
			t.Fatalf("message %d is %s", i, s)
		}
	}
}
