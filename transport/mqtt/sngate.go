package mqtt

import (
	"container/heap"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// The gateway for sensors is an aggregating one, MQTT-SN 1.2 section 4.2, with
// the broker in the same process: for each sensor it runs a [client] of MQTT
// 5.0 on a connection without a socket, and translates.
//
//	UDP ─▶ reader ─▶ gateway ─▶ sensor ─ packets ─▶ client ─▶ session
//	UDP ◀─────────── gateway ◀─ sensor ◀─ packets ─ client ◀─ session
//
// So what a sensor subscribes to, has missed, retains and leaves behind is the
// same as of any other client. The client has a Receive Maximum of 1: a sensor
// has one message of QoS 1 or 2 at a time, and all others wait in its session,
// where a sensor that sleeps finds them. The sensor itself knows what the
// protocol adds: topic ids, sleep, the dialogue about the will, and what to say
// again when no answer comes.
//
// One goroutine owns the gateway, its sensors and their clients; a second one
// reads. No sensor has a goroutine or a timer.

// PacketConn is the socket of a gateway; *net.UDPConn is one.
type PacketConn interface {
	ReadFromUDPAddrPort(p []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// node is where a sensor is: an address, and behind a forwarder the id that it
// knows the sensor by (section 5.5).
type node struct {
	addr netip.AddrPort
	id   string
}

// maxNodeID bounds the id of a node behind a forwarder; radios use 2 to 8 bytes.
const maxNodeID = 32

type gateway struct {
	srv *Server
	cfg SN
	pc  PacketConn
	log *slog.Logger

	accounts []SNAccount
	names    map[uint16]string // of predefined topics
	ids      map[string]uint16
	to       netip.AddrPort // of ADVERTISE
	local    netip.AddrPort

	carriage *conn.Carriage
	nodes    map[node]*sensor
	keys     map[string]*sensor // by session, those that are connected
	due      dues
	out      []byte

	bell  chan struct{}
	mu    sync.Mutex
	ready []*sensor // guarded by mu; those to be looked at
}

// datagram is what the reader passes on; the gateway gives p back.
type datagram struct {
	p    []byte
	from netip.AddrPort
	err  error
}

// ServeSN is the gateway for sensors on pc, MQTT-SN 1.2, until ctx is
// cancelled; then it tells them to go, and closes pc.
func (s *Server) ServeSN(ctx context.Context, pc PacketConn) error {
	g, err := s.newGateway(pc)
	if err != nil {
		pc.Close()
		return err
	}
	if err := s.begin(ctx); err != nil {
		pc.Close()
		return err
	}
	defer s.end()
	return g.serve(ctx)
}

func (s *Server) newGateway(pc PacketConn) (*gateway, error) {
	g := &gateway{
		srv: s, cfg: s.cfg.SN, pc: pc, log: s.log.With("gateway", "mqtt-sn"),
		nodes: map[node]*sensor{}, keys: map[string]*sensor{}, bell: make(chan struct{}, 1),
	}
	var err error
	if g.accounts, g.names, g.ids, g.to, err = g.cfg.prepare(s.core.Router.Domain()); err != nil {
		return nil, err
	}
	if a, ok := pc.LocalAddr().(*net.UDPAddr); ok {
		g.local = a.AddrPort()
	}
	o := s.options()
	o.MaxConns, o.MaxPerAddr = g.cfg.MaxClients, g.cfg.MaxPerAddress
	o.Ahead = 2 << 10
	o.MaxUnsent = g.cfg.MaxWaiting + 2*(o.Ahead+g.cfg.longest()) // a message of the queue and one of the mailbox fit
	g.carriage = s.core.Engine.Carry(o)
	return g, nil
}

func (g *gateway) serve(ctx context.Context) error {
	in, free := make(chan datagram, 16), make(chan []byte, 16)
	var reading sync.WaitGroup
	over := make(chan struct{})
	reading.Go(func() { g.read(in, free, over) }) // ends when pc is closed
	defer reading.Wait()
	defer g.pc.Close()
	defer close(over)
	defer g.end()

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var advertise time.Time
	if g.to.IsValid() {
		advertise = time.Now()
	}
	for {
		next := advertise
		if len(g.due) > 0 && (next.IsZero() || g.due[0].when.Before(next)) {
			next = g.due[0].when
		}
		if timer.Stop(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case d := <-in:
			if d.err != nil {
				return d.err
			}
			g.datagram(d.p, d.from)
			select {
			case free <- d.p[:cap(d.p)]:
			default:
			}
		case <-g.bell:
			g.wake()
		case <-timer.C:
			now := time.Now()
			if !advertise.IsZero() && !now.Before(advertise) {
				advertise = now.Add(g.cfg.Advertise)
				g.send(node{addr: g.to}, sn.Message{
					Type: sn.Advertise, Gateway: byte(g.cfg.GatewayID), Duration: uint16(g.cfg.Advertise / time.Second),
				})
			}
			for len(g.due) > 0 && !g.due[0].when.After(now) {
				g.due[0].ring(now)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// read passes datagrams on until the socket is closed.
func (g *gateway) read(in chan<- datagram, free <-chan []byte, over <-chan struct{}) {
	for failed := 0; ; {
		var p []byte
		select {
		case p = <-free:
		default:
			p = make([]byte, g.cfg.MaxDatagram+1)
		}
		n, from, err := g.pc.ReadFromUDPAddrPort(p)
		d := datagram{p: p[:n], from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		if err != nil {
			// What the network says of an earlier datagram of ours comes up
			// here too; only a socket that is gone stays so.
			if failed++; failed < 100 && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				continue
			}
			d.err = err
		} else {
			failed = 0
		}
		select {
		case in <- d:
		case <-over:
			return
		}
		if err != nil {
			return
		}
	}
}

// end tells every sensor to go.
func (g *gateway) end() {
	for _, s := range g.nodes {
		if s.conn != nil {
			s.conn.Drain()
		}
		s.settle()
	}
}

// send sends m to a node, encapsulated if it is behind a forwarder. A datagram
// that the system does not take is lost like any other.
func (g *gateway) send(to node, m sn.Message) int {
	g.out = g.out[:0]
	if to.id != "" {
		g.out = sn.Append(g.out, sn.Message{Type: sn.Encapsulated, Data: []byte(to.id)})
	}
	g.out = sn.Append(g.out, m)
	g.pc.WriteToUDPAddrPort(g.out, to.addr)
	return len(g.out)
}

// datagram takes one datagram.
func (g *gateway) datagram(p []byte, from netip.AddrPort) {
	at := node{addr: from}
	size := len(p)
	m, err := sn.Decode(p)
	if len(p) > g.cfg.MaxDatagram {
		err = sn.ErrLong
	}
	if err == nil && m.Type == sn.Encapsulated {
		if len(m.Data) == 0 || len(m.Data) > maxNodeID {
			err = sn.ErrLong
		} else {
			at.id = string(m.Data)
			if m, err = sn.Decode(m.Inner); m.Type == sn.Encapsulated {
				err = sn.ErrType
			}
		}
	}
	s := g.nodes[at]
	if err != nil {
		g.srv.count.sn.malformed.Add(1)
		if s == nil && errors.Is(err, sn.ErrVersion) {
			g.send(at, sn.Message{Type: sn.Connack, Code: sn.NotSupported})
		}
		return
	}
	if s != nil && s.conn != nil {
		s.conn.Moved(size, 0)
	}
	switch {
	case m.Type == sn.SearchGW:
		// Not section 6.1, which has GWINFO broadcast: whoever asked has it
		// alone, so that a forged question does not make the gateway shout.
		g.send(at, sn.Message{Type: sn.GWInfo, Gateway: byte(g.cfg.GatewayID)})
	case m.Type == sn.Connect:
		g.connect(s, at, m)
	case s != nil:
		s.heard(m)
	default:
		g.stranger(at, m)
	}
}

// stranger answers somebody who is not connected, never with more bytes than
// he sent: his address may be another's.
func (g *gateway) stranger(at node, m sn.Message) {
	switch m.Type {
	case sn.Publish:
		if m.Flags.QoS() == sn.QoSNone {
			g.publishOpen(m)
			return
		}
	case sn.Pingreq:
		// A sensor that slept behind a NAT may come back from another address.
		if a := g.account(m.Name, at.addr.Addr()); m.Name != "" && (a != nil || g.srv.cfg.Anonymous) {
			user := ""
			if a != nil {
				user = a.User
			}
			if s := g.keys[user+"/"+deviceName(m.Name)]; s != nil && s.sleeps() {
				delete(g.nodes, s.at)
				s.at = at
				g.nodes[at] = s
				s.heard(m)
				return
			}
		}
	case sn.Register, sn.Subscribe, sn.Unsubscribe, sn.Disconnect, sn.WillTopicUpd, sn.WillMsgUpd:
	default: // an answer to nothing: an answer might come back for ever
		return
	}
	g.send(at, sn.Message{Type: sn.Disconnect})
}

// publishOpen is a PUBLISH of QoS −1, from anybody, who need not be connected
// (section 6.8). The topics are those of clients without an account.
func (g *gateway) publishOpen(m sn.Message) {
	nobody := &client{srv: g.srv}
	var name string
	switch m.Flags.Topic() {
	case sn.Predefined:
		name = g.names[m.TopicID]
	case sn.Short:
		name = shortName(m.TopicID)
	}
	if topic.CheckName([]byte(name)) != nil || !g.srv.cfg.Anonymous || isMail(name) ||
		g.srv.cfg.supported(0, m.Flags.Retain()) != nil || !g.srv.mayPublish(nobody, []byte(name)) {
		g.srv.count.refused.Add(1)
		return
	}
	g.srv.count.sn.open.Add(1)
	f := g.srv.borrow(time.Now())
	defer g.srv.giveBack(f)
	f.received++
	f.m.topic, f.m.payload, f.m.retain = []byte(name), m.Data, m.Flags.Retain()
	g.srv.publishOwn(f, "")
}

// account finds which account a sensor acts as; nil is none.
func (g *gateway) account(id string, addr netip.Addr) *SNAccount {
	for i := range g.accounts {
		if g.accounts[i].fits(id, addr) {
			return &g.accounts[i]
		}
	}
	return nil
}

// Ready notes that s is to be looked at, from any goroutine.
func (s *sensor) Ready() {
	g := s.g
	g.mu.Lock()
	g.ready = append(g.ready, s)
	g.mu.Unlock()
	select {
	case g.bell <- struct{}{}:
	default:
	}
}

func (g *gateway) wake() {
	g.mu.Lock()
	list := g.ready
	g.ready = nil
	g.mu.Unlock()
	for _, s := range list {
		if s.state == snLooking {
			s.found()
		}
		if s.conn != nil {
			s.conn.Step()
		}
		s.settle()
	}
}

// schedule puts s where it belongs among those that wait for the time.
func (g *gateway) schedule(s *sensor) {
	at := s.next()
	switch {
	case at.IsZero() && s.index >= 0:
		heap.Remove(&g.due, s.index)
	case at.IsZero():
	case s.index < 0:
		s.when = at
		heap.Push(&g.due, s)
	case !s.when.Equal(at):
		s.when = at
		heap.Fix(&g.due, s.index)
	}
}

// dues are sensors by when they are to be looked at.
type dues []*sensor

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].when.Before(d[j].when) }
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}
func (d *dues) Push(x any) {
	s := x.(*sensor)
	s.index = len(*d)
	*d = append(*d, s)
}
func (d *dues) Pop() any {
	old := *d
	s := old[len(old)-1]
	s.index = -1
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return s
}
