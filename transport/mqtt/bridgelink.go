package mqtt

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// The two connections of a bridge, and how it comes in at either end.

const (
	bridgeDial  = 10 * time.Second // to connect, and be let in
	bridgeWrite = 30 * time.Second // the other broker does not read
	// threeInflight is how many messages are in flight to a 3.1.1 broker, which
	// cannot say how many it takes: what mosquitto allows.
	threeInflight = 20
)

// dialect is a way to say CONNECT.
type dialect struct {
	version packet.Version
	bridge  bool
}

// dialects are tried from the first to the last. The second is mosquitto's: it
// then keeps RETAIN as published and does not send back what came from here,
// which 3.1.1 has no words for.
var dialects = []dialect{{packet.V5, false}, {packet.V311, true}, {packet.V311, false}}

// nextDialect says that another one is to be tried at once.
type nextDialect struct{ why string }

func (e *nextDialect) Error() string { return "mqtt: " + e.why }

// end is one of the two connections of a bridge.
type end struct {
	nc net.Conn
	r  *bufio.Reader
	v  packet.Version

	mu sync.Mutex
	w  *bufio.Writer // guarded by mu
}

func (e *end) open(nc net.Conn) {
	e.nc, e.r, e.w = nc, bufio.NewReaderSize(nc, 16<<10), bufio.NewWriterSize(nc, 16<<10)
}

// send writes a packet, and what was written before if flush is set.
func (e *end) send(p []byte, flush bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.w.Available() < len(p) || flush {
		e.nc.SetWriteDeadline(time.Now().Add(bridgeWrite))
	}
	if _, err := e.w.Write(p); err != nil {
		return err
	}
	if flush {
		return e.w.Flush()
	}
	return nil
}

func (e *end) flush() error { return e.send(nil, true) }

// read reads one packet. Of one longer than most only the beginning is kept,
// and cut is true.
func (e *end) read(most int) (first byte, body []byte, cut bool, err error) {
	if first, err = e.r.ReadByte(); err != nil {
		return 0, nil, false, err
	}
	n := 0
	for i := 0; ; i++ {
		c, err := e.r.ReadByte()
		if err != nil {
			return 0, nil, false, err
		}
		if n |= int(c&0x7f) << (7 * i); c < 0x80 {
			break
		}
		if i == 3 {
			return 0, nil, false, errors.New("mqtt: malformed remaining length")
		}
	}
	body = make([]byte, min(n, most))
	if _, err = io.ReadFull(e.r, body); err == nil && n > most {
		cut = true
		_, err = e.r.Discard(n - most)
	}
	return first, body, cut, err
}

// login connects to the other broker, and returns whether it has our session,
// and how many messages and with which QoS it takes.
func (l *relay) login(ctx context.Context) (present bool, inflight int, qos byte, err error) {
	b := l.b
	if b.try == 0 && b.cfg.Version == "3.1.1" {
		b.try, b.least = 1, 1
	}
	d := dialects[b.try]
	l.remote.v = d.version
	c, err := l.hello(d)
	if err != nil {
		return false, 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bridgeDial)
	defer cancel()
	nc, err := b.open(ctx)
	if err != nil {
		return false, 0, 0, err
	}
	l.remote.open(nc)
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()
	if err := l.remote.send(c.Append(nil), true); err != nil {
		return false, 0, 0, err
	}
	nc.SetReadDeadline(time.Now().Add(bridgeDial))
	first, body, _, err := l.remote.read(1 << 16)
	if err != nil {
		b.try = max(b.least, (b.try+1)%b.dialects()) // some just close
		return false, 0, 0, fmt.Errorf("mqtt: no answer to CONNECT: %w", err)
	}
	nc.SetDeadline(time.Time{})
	present, inflight, qos, err = l.welcome(first, body, c.KeepAlive)
	if err == nil && d.version != packet.V5 && c.CleanStart && !b.cfg.CleanStart {
		b.forgot = true
		l.remote.send((&packet.Disconnect{}).Append(nil, d.version), true)
		err = &nextDialect{"what the other broker knew of this bridge is forgotten"}
	}
	return present, inflight, qos, err
}

// dialects is how many may be tried.
func (b *bridge) dialects() int {
	if b.cfg.Version == "5" {
		return 1
	}
	return len(dialects)
}

// hello is the CONNECT for the other broker.
func (l *relay) hello(d dialect) (*packet.Connect, error) {
	b := l.b
	password, err := b.cfg.password()
	if err != nil {
		return nil, err
	}
	c := &packet.Connect{
		Version: d.version, Bridge: d.bridge,
		ClientID:  cmp.Or(b.cfg.ClientID, "posthouse-"+b.cfg.Name+"-"+b.srv.node[:6]),
		KeepAlive: uint16(cmp.Or(b.cfg.KeepAlive, time.Minute) / time.Second),
		// A session there that knows another one here must not be resumed.
		CleanStart: b.cfg.CleanStart || l.mem.local == nil && l.mem.remote == nil,
		User:       b.cfg.User, HasUser: b.cfg.User != "",
		Password: password, HasPassword: b.cfg.PasswordFile != "",
	}
	l.retain = true
	if d.version == packet.V5 {
		if !b.cfg.CleanStart {
			c.Properties.SetNum(packet.SessionExpiry, forever)
		}
		c.Properties.SetNum(packet.ReceiveMaximum, uint32(b.srv.cfg.ReceiveMaximum))
		c.Properties.SetNum(packet.MaximumPacketSize, uint32(b.srv.cfg.MaxPacket-l.grows(false)-maxVia-8))
		c.Properties.User = []packet.Pair{{Name: viaName, Value: b.srv.node}}
		l.via = viaProperty(b.srv.node)
	} else if c.CleanStart && !b.cfg.CleanStart {
		// 3.1.1 would not keep the session: it is forgotten first, then made.
		c.CleanStart = !b.forgot
	}
	return c, nil
}

// maxVia bounds what a bridge adds to a message.
const maxVia = 64

func viaProperty(node string) []byte {
	ps := packet.Properties{User: []packet.Pair{{Name: viaName, Value: node}}}
	return ps.AppendList(nil)
}

// welcome reads CONNACK.
func (l *relay) welcome(first byte, body []byte, keep uint16) (present bool, inflight int, qos byte, err error) {
	b := l.b
	fail := func(format string, args ...any) (bool, int, byte, error) {
		return false, 0, 0, fmt.Errorf("mqtt: "+format, args...)
	}
	if packet.Type(first>>4) != packet.CONNACK {
		return fail("%s instead of CONNACK", packet.Type(first>>4))
	}
	// A broker that does not know 5.0 answers in the words of 3.1.1.
	old := len(body) == 2 && packet.Code3(body[1]) == packet.UnacceptableVersion3
	var a packet.Connack
	if !old {
		if err := a.Decode(l.remote.v, first, body); err != nil {
			return false, 0, 0, err
		}
	}
	if old || a.Code == packet.UnsupportedVersion {
		if b.try+1 < b.dialects() {
			b.try++
			b.least = b.try
			return false, 0, 0, &nextDialect{"the other broker does not speak that version"}
		}
		return fail("the other broker does not speak version %d", l.remote.v)
	}
	if l.remote.v != packet.V5 {
		if why := packet.Code3(a.Code); why != packet.Accepted3 {
			return fail("the other broker refuses: %s", why)
		}
		l.keepAlive = time.Duration(max(1, keep)) * time.Second
		return a.SessionPresent, threeInflight, 2, nil
	}
	if a.Code != packet.Success {
		if text := a.Properties.Text(packet.ReasonString); text != "" {
			return fail("the other broker refuses: %s (%s)", a.Code, text)
		}
		return fail("the other broker refuses: %s", a.Code)
	}
	l.keepAlive = time.Duration(max(1, a.Properties.Num(packet.ServerKeepAlive, uint32(keep)))) * time.Second
	for _, u := range a.Properties.User {
		if p := viaProperty(u.Value); u.Name == viaName && len(p) <= maxVia {
			l.from = p
		}
	}
	l.retain = a.Properties.Num(packet.RetainAvailable, 1) == 1
	l.maxSize = int(a.Properties.Num(packet.MaximumPacketSize, 0))
	inflight = int(a.Properties.Num(packet.ReceiveMaximum, 65535))
	return a.SessionPresent, inflight, byte(a.Properties.Num(packet.MaximumQoS, 2)), nil
}

// enter connects to the server here.
func (l *relay) enter(receive int, maxSize int) error {
	nc, over := l.b.srv.inside(auth.Who{User: bridgeUser})
	l.over = over
	l.local.open(nc)
	c := packet.Connect{Version: packet.V5, ClientID: l.b.cfg.Name}
	c.Properties.SetNum(packet.SessionExpiry, forever)
	c.Properties.SetNum(packet.ReceiveMaximum, uint32(receive))
	if maxSize > 0 {
		c.Properties.SetNum(packet.MaximumPacketSize, uint32(maxSize))
	}
	nc.SetDeadline(time.Now().Add(bridgeDial))
	defer nc.SetDeadline(time.Time{})
	if err := l.local.send(c.Append(nil), true); err != nil {
		return err
	}
	first, body, _, err := l.local.read(1 << 16)
	if err != nil {
		return fmt.Errorf("mqtt: the bridge's own session: %w", err)
	}
	var a packet.Connack
	if err := a.Decode(packet.V5, first, body); err != nil || a.Code != packet.Success {
		return errors.Join(err, fmt.Errorf("mqtt: the bridge's own session: %s", a.Code))
	}
	return nil
}

func (l *relay) close() {
	if l.remote.nc != nil {
		l.remote.nc.Close()
	}
	if l.local.nc != nil {
		l.local.nc.SetWriteDeadline(time.Now().Add(time.Second))
		l.local.send((&packet.Disconnect{}).Append(nil, packet.V5), true)
		l.local.nc.Close()
		<-l.over
	}
}
