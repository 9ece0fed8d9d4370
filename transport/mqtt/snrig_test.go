package mqtt

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// air is the network of the sensors, in virtual time. A dialogue says
//
//	n1 N: PINGREQ       the node sends
//	n1 G: PINGRESP      the gateway does
//	n1 G: (nothing)     it has not
//
// A node fw/7 is behind the forwarder fw, which knows it as 7. Every datagram is
// shown to lose first, which may have it lost.
type air struct {
	in   chan datagram
	done chan struct{}
	once sync.Once
	lose func(m sn.Message, up bool) bool

	mu  sync.Mutex
	out map[netip.AddrPort][][]byte
}

func newAir(lose func(sn.Message, bool) bool) *air {
	return &air{in: make(chan datagram), done: make(chan struct{}), out: map[netip.AddrPort][][]byte{}, lose: lose}
}

func (a *air) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-a.in:
		return copy(p, d.p), d.from, nil
	case <-a.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (a *air) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, _ := sn.Decode(p); a.lose != nil && a.lose(m, false) {
		return len(p), nil
	}
	a.out[to] = append(a.out[to], append([]byte(nil), p...))
	return len(p), nil
}

func (a *air) Close() error        { a.once.Do(func() { close(a.done) }); return nil }
func (a *air) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1884} }

// address is that of a node: the same for the same name.
func address4(name string) netip.AddrPort {
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return ap
	}
	n := crc32.ChecksumIEEE([]byte(name))
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 20000)
}

func (a *air) send(from netip.AddrPort, p []byte) error {
	select {
	case a.in <- datagram{p: p, from: from}:
		synctest.Wait()
		return nil
	case <-a.done:
		return net.ErrClosed
	}
}

func (a *air) line(who, what string) error {
	host, id, _ := strings.Cut(who, "/")
	from := address4(host)
	if text, ok := strings.CutPrefix(what, "N: "); ok {
		m, err := snParse(text)
		if err != nil {
			return err
		}
		if a.lose != nil && a.lose(m, true) {
			return nil
		}
		if id != "" {
			m = sn.Message{Type: sn.Encapsulated, Data: []byte(id), Inner: sn.Append(nil, m)}
		}
		return a.send(from, sn.Append(nil, m))
	}
	synctest.Wait()
	want := strings.TrimPrefix(what, "G: ")
	got := a.next(from, id)
	if head, ok := strings.CutSuffix(want, "*"); got != want && !(ok && strings.HasPrefix(got, head)) {
		return errors.New("got  " + got)
	}
	return nil
}

func (a *air) next(to netip.AddrPort, id string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, p := range a.out[to] {
		m, err := sn.Decode(p)
		if err == nil && m.Type == sn.Encapsulated {
			if string(m.Data) != id {
				continue
			}
			m, err = sn.Decode(m.Inner)
		} else if id != "" {
			continue
		}
		a.out[to] = append(a.out[to][:i:i], a.out[to][i+1:]...)
		if err != nil {
			return err.Error()
		}
		return snText(m)
	}
	return "(nothing)"
}

// snText is the text form of a message: type, name, topic, #MsgId, flags,
// seconds, code, payload.
func snText(m sn.Message) string {
	s := m.Type.String()
	if m.Name != "" {
		s += " " + m.Name
	}
	switch m.Type {
	case sn.Register, sn.Regack, sn.Puback, sn.Suback:
		s += fmt.Sprintf(" t%d", m.TopicID)
	case sn.Publish:
		switch m.Flags.Topic() {
		case sn.Short:
			s += " '" + shortName(m.TopicID)
		default:
			s += fmt.Sprintf(" %c%d", "tp"[m.Flags.Topic()], m.TopicID)
		}
		s += fmt.Sprintf(" q%d", m.Flags.QoS())
	}
	if m.ID != 0 {
		s += fmt.Sprintf(" #%d", m.ID)
	}
	if m.Type == sn.Suback {
		s += fmt.Sprintf(" q%d", m.Flags.QoS())
	}
	for _, f := range [...]struct {
		on   bool
		name string
	}{{m.Flags.Dup(), " dup"}, {m.Flags.Retain(), " retain"}} {
		if f.on {
			s += f.name
		}
	}
	if m.Gateway != 0 {
		s += fmt.Sprintf(" gw%d", m.Gateway)
	}
	if m.Duration != 0 || m.HasDuration {
		s += fmt.Sprintf(" %ds", m.Duration)
	}
	if m.Code != 0 {
		s += " " + m.Code.String()
	}
	if len(m.Data) > 0 {
		s += " :" + string(m.Data)
	}
	return s
}

func snParse(s string) (sn.Message, error) {
	s, data, has := strings.Cut(s, " :")
	words := strings.Fields(s)
	m := sn.Message{}
	if has {
		m.Data = []byte(data)
	}
	found := false
	for t := sn.Type(0); t < sn.Encapsulated; t++ {
		if t.String() == words[0] {
			m.Type, found = t, true
		}
	}
	if !found {
		return m, fmt.Errorf("no message %q", words[0])
	}
	var dup, retain, will, clean bool
	var qos byte
	var kind sn.TopicKind
	for _, w := range words[1:] {
		n, err := strconv.Atoi(strings.TrimSuffix(w[1:], "s"))
		num := err == nil
		d, derr := time.ParseDuration(w)
		switch {
		case w == "dup":
			dup = true
		case w == "retain":
			retain = true
		case w == "will":
			will = true
		case w == "clean":
			clean = true
		case derr == nil:
			m.Duration, m.HasDuration = uint16(d/time.Second), true
		case w == "q-1":
			qos = sn.QoSNone
		case num && w[0] == 'q':
			qos = byte(n)
		case num && w[0] == '#':
			m.ID = uint16(n)
		case num && w[0] == 't':
			m.TopicID = uint16(n)
		case num && w[0] == 'p':
			m.TopicID, kind = uint16(n), sn.Predefined
		case num && w[0] == 'c':
			m.Code = sn.Code(n)
		case w[0] == '\'':
			m.TopicID, kind = uint16(w[1])<<8|uint16(w[2]), sn.Short
		default:
			m.Name = w
		}
	}
	m.Flags = sn.MakeFlags(dup, qos, retain, will, clean, kind)
	return m, nil
}

// sensors is the configuration of most dialogues: every sensor is alice's.
func sensors() Config {
	return Config{
		Anonymous: true, AnonymousTopics: []string{"open/#", "zz", "xy"},
		SN: SN{
			Accounts: []SNAccount{{Clients: []string{"n*"}, User: "alice"}, {Clients: []string{"b*"}, User: "bob@localhost"}, {Clients: []string{"ghost"}, User: "ghost"}},
			Topics:   []SNTopic{{ID: 7, Topic: "plant/water"}, {ID: 8, Topic: "open/door"}},
		},
	}
}

// snDialogue plays one script with sensors in virtual time.
func snDialogue(t *testing.T, cfg Config, script string) {
	t.Helper()
	snLossy(t, cfg, nil, script)
}

func snLossy(t *testing.T, cfg Config, lose func(sn.Message, bool) bool, script string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, cfg)
		h.stop()
		h.air = &air{lose: lose}
		h.open(false)
		defer func() { h.stop() }()
		h.play(script)
	})
}
