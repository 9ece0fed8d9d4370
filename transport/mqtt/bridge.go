package mqtt

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// A bridge is a client of two brokers, of this one through a pipe and of
// another through the network, and passes packets on between them:
//
//	session here ◀─ pipe ─▶ bridge ◀─ TCP, TLS ─▶ session there
//	          PUBLISH 40001  ─────▶  PUBLISH 40001
//	          PUBREC 40001   ◀─────  PUBREC 40001
//	          PUBREL 40001   ─────▶  PUBREL 40001
//	          PUBCOMP 40001  ◀─────  PUBCOMP 40001
//
// It changes the topic and nothing else, above all not the packet identifier,
// and acknowledges nothing itself: each end hears the acknowledgement of the
// other. So a bridge has no state that could be lost. What is on its way is in
// the two sessions, which are kept: the one here in a box, where a message has
// the same identifier after a restart. Whichever of the three dies, QoS 1
// messages come at least once and QoS 2 messages exactly once.
type bridge struct {
	srv  *Server
	cfg  *Bridge
	log  *slog.Logger
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// try is how far down in dialects we are, and least how far down we know
	// that we must be.
	try, least int
	// forgot says that a 3.1.1 broker has forgotten our session, as it had to.
	forgot bool

	up                                  atomic.Bool
	in, out, connected, failed, refused atomic.Uint64
}

// bridgeUser is whom bridges act as here. No account can have the name: it has
// no domain.
const bridgeUser = "$bridge"

// isBridge reports whether c is the local end of a bridge.
func (c *client) isBridge() bool {
	return int(c.users) == len(bridgeUser) && c.user() == bridgeUser
}

func (b *bridge) key() string { return bridgeUser + "/" + deviceName(b.cfg.Name) }

// Records of bridges.
//
//	mqtt/node           version, the server's identifier
//	mqtt/bridge/NAME    version, then the filters subscribed to here, each with its length in front, an
//	                    empty one, and those subscribed to there
const (
	nodeKey      = "mqtt/node"
	bridgePrefix = "mqtt/bridge/"
)

// loadNode reads the server's identifier, or makes one.
func (srv *Server) loadNode(ctx context.Context) error {
	v, err := srv.core.Mail.Get(ctx, nodeKey)
	if err != nil {
		return fmt.Errorf("mqtt: read the server's identifier: %w", err)
	}
	if len(v) > 1 && v[0] == form {
		srv.node = string(v[1:])
		return nil
	}
	srv.node = strings.ToLower(rand.Text()[:12])
	return srv.core.Mail.Put(ctx, mailbox.Record{Key: nodeKey, Value: append([]byte{form}, srv.node...)})
}

// viaName is a user property that a bridge adds with MQTT 5: which server the
// message comes from. It does so in both directions; the other server says who
// it is in CONNACK. What comes back to a server where it was is dropped, so that
// brokers in a ring, or two that are bridged from both sides, do not pass a
// message around for ever. It still comes once for each way that it can take.
const viaName = "posthouse-via"

// wasHere reports whether a message has come back to this server.
func (srv *Server) wasHere(ps *packet.Properties) bool {
	return slices.Contains(ps.User, packet.Pair{Name: viaName, Value: srv.node})
}

// BridgeStats counts what one bridge did.
type BridgeStats struct {
	Name    string
	Up      bool   // connected now
	In, Out uint64 // PUBLISH packets passed on, repetitions too
	// Connected is how often the bridge was connected, and Failed how often it
	// could not be or broke off.
	Connected, Failed uint64
	Refused           uint64 // messages that the other broker, or this one, would not have
	Queue             uint64 // messages that wait here for the other broker
}

// bridgeStats reads the disk.
func (b *bridge) stats() BridgeStats {
	st := BridgeStats{
		Name: b.cfg.Name, Up: b.up.Load(), In: b.in.Load(), Out: b.out.Load(),
		Connected: b.connected.Load(), Failed: b.failed.Load(), Refused: b.refused.Load(),
	}
	sh := b.srv.sessions.shard(b.key())
	sh.mu.Lock()
	s := sh.all[b.key()]
	sh.mu.Unlock()
	if s == nil {
		return st
	}
	if k := s.kept.Load(); k != nil {
		info, err := b.srv.core.Mail.Info(background, k.box)
		cur, _, err2 := b.srv.core.Mail.Cursor(background, k.box, queueDevice)
		if err == nil && err2 == nil && info.Last > cur.Seq {
			st.Queue = uint64(info.Last - cur.Seq)
		}
	}
	return st
}

// BridgeStats returns the counters of each bridge. It reads the disk.
func (s *Server) BridgeStats() []BridgeStats {
	var all []BridgeStats
	for _, b := range s.bridges {
		all = append(all, b.stats())
	}
	return all
}

// Bridges keeps the bridges of the configuration connected until ctx is
// cancelled. Call it once. It returns early only with an error of the store or
// of the configuration.
func (s *Server) Bridges(ctx context.Context) error {
	if len(s.bridges) == 0 {
		<-ctx.Done()
		return nil
	}
	for _, b := range s.bridges { // so that a wrong path is told at once
		_, err := b.cfg.tls()
		_, err2 := b.cfg.password()
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("mqtt: bridge %q: %w", b.cfg.Name, err)
		}
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.forgetBridges()
	var wg sync.WaitGroup
	for _, b := range s.bridges {
		wg.Go(func() { b.run(ctx) }) // ends with ctx
	}
	wg.Wait()
	return nil
}

// forgetBridges ends the sessions of bridges that are configured no more:
// nobody would ever read their queues.
func (srv *Server) forgetBridges() {
	for i := range srv.sessions.shards {
		sh := &srv.sessions.shards[i]
		sh.mu.Lock()
		for key, s := range sh.all {
			if strings.HasPrefix(key, bridgeUser+"/") && s.owner == nil &&
				!slices.ContainsFunc(srv.bridges, func(b *bridge) bool { return b.key() == key }) {
				delete(sh.all, key)
				srv.wipe(s)
				srv.write([]mailbox.Record{{Key: bridgePrefix + strings.TrimPrefix(key, bridgeUser+"/")}})
			}
		}
		sh.mu.Unlock()
	}
}

// Waiting before the next try: a random time up to a bound that doubles, so
// that many bridges do not come back to a broker at once.
const (
	firstWait = 500 * time.Millisecond
	lastWait  = time.Minute
)

func (b *bridge) run(ctx context.Context) {
	b.state(false)
	defer b.state(false)
	bound := firstWait
	ready := false
	for ctx.Err() == nil {
		was := b.connected.Load()
		var err error
		if !ready {
			// So that messages are kept for the other broker before it was
			// reached for the first time.
			err = b.prepare(ctx)
			ready = err == nil
		}
		if ready {
			err = b.connect(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		var next *nextDialect
		if errors.As(err, &next) {
			continue
		}
		b.failed.Add(1)
		if b.connected.Load() != was {
			bound, b.try = firstWait, b.least
		}
		wait := mrand.N(bound)
		bound = min(2*bound, lastWait)
		b.log.Warn("bridge is down", "err", err, "wait", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// state tells who subscribed to it whether the bridge is connected, by the
// topic that mosquitto has for it.
func (b *bridge) state(up bool) {
	b.up.Store(up)
	v := "0"
	if up {
		v = "1"
	}
	b.srv.publishSysTopic("$SYS/broker/connection/"+b.cfg.Name+"/state", v, time.Now())
}

// inside connects to this server through a pipe, as somebody who need not
// prove who he is. Over is closed when the server has let go of the connection.
func (srv *Server) inside(who auth.Who) (nc net.Conn, over <-chan struct{}) {
	ours, theirs := net.Pipe()
	o := srv.options()
	o.New = func() conn.Protocol { return &client{srv: srv, x: &extra{vouched: &who}} }
	done := make(chan struct{})
	go func() { // ends with the pipe, which the bridge closes
		defer close(done)
		srv.core.Engine.ServeConn(background, theirs, o)
	}()
	return ours, done
}

// remembered is what the session of a bridge holds from earlier connections.
type remembered struct {
	session bool     // there is one
	filters []string // subscribed to here
	got     []uint16 // QoS 2 identifiers of the other broker, not released
	// local and remote are filters whose subscription was confirmed while
	// both sides were connected.
	local, remote []string
}

// recall reads what is remembered. It must be called while the bridge is not
// connected here.
func (b *bridge) recall(ctx context.Context) (*remembered, error) {
	m := new(remembered)
	sh := b.srv.sessions.shard(b.key())
	sh.mu.Lock()
	s := sh.all[b.key()]
	if s != nil {
		m.session = true
		for i := range s.subs {
			m.filters = append(m.filters, s.subs[i].filter)
		}
		for id := range s.got {
			m.got = append(m.got, id)
		}
	}
	sh.mu.Unlock()
	if s == nil {
		return m, nil
	}
	v, err := b.srv.core.Mail.Get(ctx, bridgePrefix+deviceName(b.cfg.Name))
	if err != nil {
		return nil, err
	}
	f := openRecord(v)
	list := &m.local
	for !f.bad && len(f.p) > 0 {
		if filter := f.text(); filter == "" {
			list = &m.remote
		} else {
			*list = append(*list, filter)
		}
	}
	return m, nil
}

// remember writes which filters are subscribed to.
func (b *bridge) remember(local, remote []string) {
	v := []byte{form}
	for _, f := range local {
		v = appendText(v, f)
	}
	v = binary.AppendUvarint(v, 0)
	for _, f := range remote {
		v = appendText(v, f)
	}
	b.srv.write([]mailbox.Record{{Key: bridgePrefix + deviceName(b.cfg.Name), Value: v}})
}

// prepare makes the session here, if it is new, and subscribes.
func (b *bridge) prepare(ctx context.Context) error {
	m, err := b.recall(ctx)
	if err != nil {
		return err
	}
	if !m.session { // what was agreed with the other broker is void
		if err := b.srv.core.Mail.Put(ctx, mailbox.Record{Key: bridgePrefix + deviceName(b.cfg.Name)}); err != nil {
			return err
		}
	}
	l := &relay{b: b, local: end{v: packet.V5}}
	defer l.close()
	if err := l.enter(1, 0); err != nil {
		return err
	}
	var subs []packet.Filter
	for _, f := range b.filters(true, 2, nil) {
		f.Options |= 2 << 4 // what is retained goes over when somebody is there
		subs = append(subs, f)
	}
	if len(subs) == 0 {
		return nil
	}
	b1 := (&packet.Subscribe{ID: idSubscribe, Filters: subs}).Append(nil, packet.V5)
	if err := l.local.send(b1, true); err != nil {
		return err
	}
	for {
		first, _, _, err := l.local.read(b.srv.cfg.MaxPacket)
		if err != nil {
			return err
		}
		if packet.Type(first>>4) == packet.SUBACK {
			return nil
		}
	}
}

// filters are those to subscribe to, here or there, with at most that QoS.
// Retained messages are asked for where a filter is not among known.
func (b *bridge) filters(local bool, most byte, known []string) (fs []packet.Filter) {
	for i := range b.cfg.Topics {
		t := &b.cfg.Topics[i]
		name := t.RemotePrefix + t.Filter
		if local {
			name = t.LocalPrefix + t.Filter
		}
		if local && !t.out() || !local && !t.in() {
			continue
		}
		// No Local, and Retain As Published.
		o := packet.Options(min(byte(t.QoS), most) | 4 | 8)
		if slices.Contains(known, name) {
			o |= 2 << 4
		}
		if j := slices.IndexFunc(fs, func(f packet.Filter) bool { return f.Topic == name }); j >= 0 {
			if o.QoS() > fs[j].QoS() {
				fs[j].Options = fs[j].Options&^3 | o&3
			}
			continue
		}
		fs = append(fs, packet.Filter{Topic: name, Options: o})
	}
	return fs
}

func names(fs []packet.Filter) (all []string) {
	for _, f := range fs {
		all = append(all, f.Topic)
	}
	return all
}
