package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// What goes over a bridge.

// Identifiers of the packets that a bridge sends on its own. Those that it
// passes on to the other broker are from queueIDs, so they never meet.
const (
	idSubscribe   = 65534
	idUnsubscribe = 65535
)

// relay passes packets on while both connections last.
type relay struct {
	b             *bridge
	local, remote end
	over          <-chan struct{} // the server has let go of local
	keepAlive     time.Duration
	mem           *remembered

	quiet   map[uint16]bool // PUBCOMPs of the local end that the bridge itself asked for
	via     []byte          // property of what goes out
	from    []byte          // property of what comes in, if it is known where from
	retain  bool            // the other broker retains
	maxSize int             // of a packet to the other broker

	mu      sync.Mutex
	waiting int      // for SUBACK; guarded by mu
	subbed  []string // filters at the other broker; guarded by mu
}

// connect connects to the other broker and to this one, and relays until one
// of the connections ends or ctx is cancelled.
func (b *bridge) connect(ctx context.Context) error {
	m, err := b.recall(ctx)
	if err != nil {
		return err
	}
	l := &relay{b: b, mem: m, local: end{v: packet.V5}, quiet: map[uint16]bool{}}
	defer l.close()
	present, inflight, qos, err := l.login(ctx)
	if err != nil {
		return err
	}
	most := 0
	if l.maxSize > 0 { // less what the relay may add
		most = max(256, l.maxSize-l.grows(true)-len(l.via)-4)
	}
	if err := l.enter(inflight, most); err != nil {
		return err
	}
	if err := l.subscribe(present, qos); err != nil {
		return err
	}
	b.connected.Add(1)
	b.state(true)
	defer b.state(false)
	b.log.Info("bridge is up", "version", l.remote.v, "resumed", present)

	failed := make(chan error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- l.pass(&l.local, &l.remote, l.outgoing) }) // ends with the connections
	wg.Go(func() { failed <- l.pass(&l.remote, &l.local, l.incoming) }) // the same
	defer wg.Wait()
	defer l.local.nc.SetDeadline(time.Unix(1, 0))
	defer l.remote.nc.Close()
	ping := time.NewTicker(l.keepAlive)
	defer ping.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ping.C:
			if err := l.remote.send(packet.AppendEmpty(nil, packet.PINGREQ), true); err != nil {
				return err
			}
		case <-ctx.Done():
			return l.remote.send((&packet.Disconnect{}).Append(nil, l.remote.v), true)
		}
	}
}

// subscribe asks both ends for what the configuration says, and ends what is
// left from an earlier one.
func (l *relay) subscribe(present bool, qos byte) error {
	b := l.b
	if !present {
		// The other broker knows nothing of identifiers that we remember for
		// it, and may use them for new messages.
		for _, id := range l.mem.got {
			l.quiet[id] = true
			if err := l.local.send(packet.AppendAck(nil, packet.V5, packet.PUBREL, id, packet.Success, ""), false); err != nil {
				return err
			}
		}
		l.mem.remote, l.mem.local = nil, nil
	}
	here := b.filters(true, qos, l.mem.local)
	there := b.filters(false, 2, l.mem.remote)
	l.subbed = names(there)
	known := func(f string) bool { return slices.Contains(l.mem.remote, f) }
	if l.remote.v != packet.V5 && !slices.ContainsFunc(there, func(f packet.Filter) bool { return !known(f.Topic) }) {
		there = nil // it would send all that is retained again
	}
	// Before anything goes out, so that nothing retained comes back.
	if gone := without(l.mem.remote, l.subbed); len(gone) > 0 {
		p := packet.Unsubscribe{ID: idUnsubscribe, Filters: gone}
		if err := l.remote.send(p.Append(nil, l.remote.v), false); err != nil {
			return err
		}
	}
	if len(there) > 0 {
		if l.remote.v != packet.V5 {
			for i := range there {
				there[i].Options &= 3
			}
		}
		l.waiting++
		p := packet.Subscribe{ID: idSubscribe, Filters: there}
		if err := l.remote.send(p.Append(nil, l.remote.v), false); err != nil {
			return err
		}
	}
	if err := l.remote.flush(); err != nil {
		return err
	}
	if gone := without(l.mem.filters, names(here)); len(gone) > 0 {
		p := packet.Unsubscribe{ID: idUnsubscribe, Filters: gone}
		if err := l.local.send(p.Append(nil, packet.V5), false); err != nil {
			return err
		}
	}
	if len(here) > 0 {
		l.waiting++
		p := packet.Subscribe{ID: idSubscribe, Filters: here}
		if err := l.local.send(p.Append(nil, packet.V5), false); err != nil {
			return err
		}
	}
	l.settled(0)
	return nil
}

func without(all, some []string) (rest []string) {
	for _, s := range all {
		if !slices.Contains(some, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// settled remembers the filters once both ends have confirmed theirs.
func (l *relay) settled(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting -= n
	if l.waiting == 0 {
		l.b.remember(names(l.b.filters(true, 2, nil)), l.subbed)
	}
}

// pass reads packets from one end, until it fails, and has each dealt with.
func (l *relay) pass(from, to *end, deal func(first byte, body []byte, cut bool) error) error {
	if err := to.flush(); err != nil {
		return err
	}
	for {
		if from == &l.remote {
			// PINGRESP comes once in a keep alive, if nothing else does.
			from.nc.SetReadDeadline(time.Now().Add(l.keepAlive * 3 / 2))
		}
		most := l.b.srv.cfg.MaxPacket - l.grows(false)
		first, body, cut, err := from.read(max(most, 1<<10))
		if err != nil {
			return fmt.Errorf("mqtt: connection lost: %w", err)
		}
		if err := deal(first, body, cut); err != nil {
			return err
		}
		if from.r.Buffered() == 0 {
			if err := errors.Join(to.flush(), from.flush()); err != nil {
				return err
			}
		}
	}
}

// outgoing deals with a packet of this server.
func (l *relay) outgoing(first byte, body []byte, _ bool) error {
	switch t := packet.Type(first >> 4); t {
	case packet.PUBLISH:
		var p packet.Publish
		if err := p.Decode(packet.V5, first, body); err != nil {
			return err
		}
		name, ok := l.rename(p.Topic, true)
		if !ok {
			return acknowledgeTo(&l.local, &p)
		}
		flags := p.Flags()
		if !l.retain {
			flags &^= 1
		}
		l.b.out.Add(1)
		return l.remote.send(packet.AppendPublish(nil, l.remote.v, flags, name, p.ID, p.RawProperties, l.via, p.Payload), false)
	case packet.SUBACK:
		return l.suback(&l.local, first, body)
	case packet.PUBCOMP:
		var a packet.Ack
		if err := a.Decode(packet.V5, first, body); err != nil {
			return err
		}
		if l.quiet[a.ID] {
			delete(l.quiet, a.ID)
			return nil
		}
		return l.ack(&l.local, &l.remote, first, body)
	case packet.PUBACK, packet.PUBREC, packet.PUBREL:
		return l.ack(&l.local, &l.remote, first, body)
	case packet.DISCONNECT:
		var d packet.Disconnect
		if err := d.Decode(packet.V5, first, body); err != nil {
			return err
		}
		return fmt.Errorf("mqtt: the bridge's own session ended: %s", d.Code)
	}
	return nil
}

// incoming deals with a packet of the other broker.
func (l *relay) incoming(first byte, body []byte, cut bool) error {
	switch t := packet.Type(first >> 4); t {
	case packet.PUBLISH:
		if cut {
			return l.tooLong(first, body)
		}
		var p packet.Publish
		if err := p.Decode(l.remote.v, first, body); err != nil {
			return err
		}
		name, ok := l.rename(p.Topic, false)
		if !ok {
			return acknowledgeTo(&l.remote, &p)
		}
		flags := p.Flags()
		if !l.b.srv.cfg.retains() {
			flags &^= 1
		}
		l.b.in.Add(1)
		return l.local.send(packet.AppendPublish(nil, packet.V5, flags, name, p.ID, p.RawProperties, l.from, p.Payload), false)
	case packet.SUBACK:
		return l.suback(&l.remote, first, body)
	case packet.PUBACK, packet.PUBREC, packet.PUBREL, packet.PUBCOMP:
		return l.ack(&l.remote, &l.local, first, body)
	case packet.UNSUBACK, packet.PINGRESP:
		return nil
	case packet.DISCONNECT:
		var d packet.Disconnect
		if err := d.Decode(l.remote.v, first, body); err != nil {
			return err
		}
		return fmt.Errorf("mqtt: the other broker says goodbye: %s", d.Code)
	default:
		return fmt.Errorf("mqtt: %s from the other broker", t)
	}
}

// acknowledgeTo takes a message from an end without passing it on. After PUBREC
// the other end answers PUBREL for an identifier that it does not know, so that
// needs no care here.
func acknowledgeTo(e *end, p *packet.Publish) error {
	switch p.QoS {
	case 1:
		return e.send(packet.AppendAck(nil, e.v, packet.PUBACK, p.ID, packet.Success, ""), false)
	case 2:
		return e.send(packet.AppendAck(nil, e.v, packet.PUBREC, p.ID, packet.Success, ""), false)
	}
	return nil
}

// tooLong takes a message that is longer than this server allows; 3.1.1 has no
// way to say so before.
func (l *relay) tooLong(first byte, body []byte) error {
	p := packet.Publish{QoS: first >> 1 & 3}
	if len(body) < 2 {
		return errors.New("mqtt: malformed PUBLISH")
	}
	n := int(body[0])<<8 | int(body[1])
	if len(body) < n+4 {
		return errors.New("mqtt: malformed PUBLISH")
	}
	p.ID = uint16(body[n+2])<<8 | uint16(body[n+3])
	l.b.refused.Add(1)
	l.b.log.Warn("a message of the other broker is too long", "topic", string(body[2:2+n]))
	return acknowledgeTo(&l.remote, &p)
}

// ack passes an acknowledgement on.
func (l *relay) ack(from, to *end, first byte, body []byte) error {
	var a packet.Ack
	if err := a.Decode(from.v, first, body); err != nil {
		return err
	}
	t := packet.Type(first >> 4)
	switch {
	case !a.Code.Failed():
	case (t == packet.PUBACK || t == packet.PUBREC) && a.Code == packet.UnspecifiedError:
		// A full disk, say. Without an acknowledgement the message comes again.
		return fmt.Errorf("mqtt: a message could not be taken now: %s", a.Code)
	case t == packet.PUBACK || t == packet.PUBREC:
		l.b.refused.Add(1)
		l.b.log.Warn("a message was refused", "by", map[bool]string{true: "here", false: "there"}[from == &l.local], "code", a.Code)
	}
	return to.send(packet.AppendAck(nil, to.v, t, a.ID, a.Code, ""), false)
}

// suback looks which filters were refused.
func (l *relay) suback(from *end, first byte, body []byte) error {
	var a packet.Suback
	if err := a.Decode(from.v, first, body); err != nil {
		return err
	}
	fs := l.b.filters(from == &l.local, 2, nil)
	for i, c := range a.Codes {
		if c.Failed() && i < len(fs) {
			l.b.refused.Add(1)
			l.b.log.Warn("a subscription was refused", "here", from == &l.local, "filter", fs[i].Topic, "code", c)
		}
	}
	l.settled(1)
	return nil
}

// grows is by how much a topic may become longer on its way.
func (l *relay) grows(out bool) int {
	n := 0
	for _, t := range l.b.cfg.Topics {
		d := len(t.RemotePrefix) - len(t.LocalPrefix)
		if !out {
			d = -d
		}
		n = max(n, d)
	}
	return n
}

// rename gives a topic its name at the other end; ok is false if it is not to
// go there.
func (l *relay) rename(name []byte, out bool) (renamed []byte, ok bool) {
	for i := range l.b.cfg.Topics {
		t := &l.b.cfg.Topics[i]
		from, to := t.RemotePrefix, t.LocalPrefix
		if out {
			from, to = to, from
		}
		if out && !t.out() || !out && !t.in() || !topic.Match(from+t.Filter, string(name)) {
			continue
		}
		rest, has := bytes.CutPrefix(name, []byte(from))
		renamed = append([]byte(to), rest...)
		if !has || topic.CheckName(renamed) != nil || bytes.HasPrefix(renamed, []byte(mailPrefix)) && !out {
			continue
		}
		return renamed, true
	}
	return nil, false
}
