package mqtt

import (
	"encoding/binary"
	"errors"
	"maps"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// idRange is the packet identifiers of one kind of stream.
type idRange struct{ base, size uint16 }

var (
	queueIDs = idRange{1, 1<<15 - 1}
	inboxIDs = idRange{1 << 15, 1 << 15}
)

// of is the identifier of the entry at seq, always the same.
func (r idRange) of(seq mailbox.Seq) uint16 { return r.base + uint16((seq-1)%mailbox.Seq(r.size)) }

// stream sends what is read from a box: a session's queue, or the mailbox of
// the user. The client's acknowledgements move the cursor.
type stream struct {
	c     *client
	sess  *router.Session
	ids   idRange
	plain bool // a queue of plain topics; else the mailbox
	place *place
	// backlog is what waits in the queue; nil for the mailbox.
	backlog *backlog
	// record is the key of the record of what is released; empty if the
	// session is not kept, and nothing of it outlives the connection.
	record string
	// flight has what was handed out and is not acknowledged up to the
	// cursor, in order of seq.
	flight []flight
	buf    []mailbox.Entry
	// parting says that nothing more is to be handed out: the client has
	// unsubscribed, and what is in flight is brought to its end.
	parting bool
	// deaf says that nothing that comes to the user is subscribed to: see tune.
	deaf bool
	ear  *ear // of the mailbox; nil for a queue
	// due says that the record of what is released is not up to date.
	due     bool
	release []uint16 // PUBREL to be sent when it is
}

// flight is one entry on its way to the client.
type flight struct {
	seq   mailbox.Seq
	phase phase
	qos   byte
	size  uint32 // of the entry's body
}

const burst = 64 // entries asked for at once

// pump sends entries while there is room and the client's quota lasts.
func (st *stream) pump() error {
	c := st.c
	for c.state == up && !st.parting && !st.deaf && c.c.Room() > 0 {
		n := st.quota()
		if n == 0 {
			break
		}
		var err error
		st.buf, err = st.sess.Next(st.buf[:0], n)
		used := 0
		for i := range st.buf {
			if st.send(&st.buf[i]) {
				used++
			}
		}
		got := len(st.buf)
		clear(st.buf)
		c.quota.Add(int32(n - used))
		st.pass()
		if err != nil {
			var trimmed *mailbox.TrimmedError
			if !errors.As(err, &trimmed) {
				c.srv.log.Error("mqtt: read", "err", err, "user", c.user(), "device", c.device())
				return &packet.Error{Code: packet.UnspecifiedError, Text: "cannot be read at present"}
			}
			// MQTT has no word for it: the log and a counter are told.
			c.srv.count.dropped.Add(uint64(trimmed.First - 1 - trimmed.After))
			if st.backlog != nil {
				st.backlog.gone(int(trimmed.First - 1 - trimmed.After))
			}
			maps.DeleteFunc(st.place.past, func(seq mailbox.Seq, _ phase) bool { return seq < trimmed.First })
			c.srv.log.Warn("messages were trimmed before they were read", "user", c.user(), "device", c.device(), "box", trimmed.Box, "after", trimmed.After, "first", trimmed.First)
			continue
		}
		if got == 0 {
			if st.backlog != nil && len(st.flight) == 0 && !st.sess.Behind() {
				st.backlog.empty()
			}
			break
		}
	}
	if len(st.flight) == 0 {
		st.buf = nil // nothing is held while idle
	}
	return nil
}

// quota takes up to burst of the client's quota.
func (st *stream) quota() int {
	if len(st.flight) > 0 && st.flight[0].seq+mailbox.Seq(st.ids.size)-burst < st.sess.Handed() {
		return 0 // identifiers would meet
	}
	n := 0
	for n < burst && st.c.takeQuota() {
		n++
	}
	return n
}

// send sends one entry. It reports whether the entry takes a place in the
// client's quota.
func (st *stream) send(e *mailbox.Entry) bool {
	fl := flight{seq: e.Seq, phase: completed, size: uint32(len(e.Body))}
	var pub outgoing
	ok := false
	if st.plain {
		ok = st.c.fromQueue(&pub, e)
	} else {
		ok = st.c.fromMail(&pub, e)
	}
	was := st.place.past[e.Seq]
	switch {
	case was == completed:
	case was == released:
		fl.phase, fl.qos = released, 2
		st.c.say(packet.PUBREL, st.ids.of(e.Seq), packet.Success, "")
	case was == begun1 || was == begun2:
		// Also if no subscription wants it any more: "It MUST complete the
		// delivery of any QoS 1 or QoS 2 messages which match the Topic Filters
		// and it has started to send to the Client" [MQTT-3.10.4-3]; or if it
		// has expired: "MUST NOT apply Message expiry if a PUBLISH packet has
		// been sent" [MQTT-4.3.3-7]
		pub.qos = 1
		if was == begun2 {
			pub.qos = 2
		}
		fl.qos = pub.qos
		if pub.topic != nil && st.write(&pub, e) {
			fl.phase = published
		}
	case ok && st.plain && st.c.srv.cfg.MaxKeptAge > 0 && st.c.c.Now().Sub(e.Time) > st.c.srv.cfg.MaxKeptAge:
		st.c.srv.count.dropped.Add(1)
	case !ok || !pub.expires.IsZero() && !st.c.c.Now().Before(pub.expires):
		// "If the Message Expiry Interval has passed and the Server has not
		// managed to start onward delivery to a matching subscriber, then it
		// MUST delete the copy of the message for that subscriber"
		// [MQTT-3.3.2-5]. After a restart nobody knows whether it had started.
	default:
		fl.qos = pub.qos
		if st.write(&pub, e) && pub.qos > 0 {
			fl.phase = published
		}
	}
	delete(st.place.past, e.Seq)
	st.flight = append(st.flight, fl)
	return fl.phase != completed
}

// outgoing is a PUBLISH to be.
type outgoing struct {
	qos     byte
	retain  bool
	topic   []byte
	props   []byte
	payload []byte
	expires time.Time // zero: never
}

// write writes a PUBLISH, unless it is longer than the client takes.
func (st *stream) write(p *outgoing, e *mailbox.Entry) bool {
	c := st.c
	flags := p.qos << 1
	if p.retain {
		flags |= 1
	}
	var id uint16
	if p.qos > 0 {
		id = st.ids.of(e.Seq)
		// "The DUP flag MUST be set to 1 by the Client or Server when it
		// attempts to re-deliver a PUBLISH packet" [MQTT-3.3.1-1]
		if e.Seq <= st.place.sent {
			flags |= 8
		}
	}
	name, more, fresh := c.aliasFor(p.topic)
	size := func() int {
		return packet.PublishSize(c.version, flags, len(name), len(p.props)+len(more), len(p.payload))
	}
	if fresh && size() > int(c.maxSize) { // without the alias it may just fit
		c.mu.Lock()
		c.aliases.forget(fromBox, p.topic)
		c.mu.Unlock()
		name, more = p.topic, nil
	}
	if size() > int(c.maxSize) { // [MQTT-3.1.2-25]
		c.srv.count.dropped.Add(1)
		return false
	}
	st.place.sent = max(st.place.sent, e.Seq)
	c.srv.count.sent.Add(1)
	c.write(packet.AppendPublish(c.c.Out(), c.version, flags, name, id, p.props, more, p.payload))
	return true
}

// find returns the entry that waits under a packet identifier.
func (st *stream) find(id uint16) *flight {
	for i := range st.flight {
		if st.flight[i].phase != completed && st.ids.of(st.flight[i].seq) == id {
			return &st.flight[i]
		}
	}
	return nil
}

// acked is PUBACK, PUBREC or PUBCOMP.
func (st *stream) acked(t packet.Type, a *packet.Ack) error {
	c := st.c
	fl := st.find(a.ID)
	switch {
	case fl == nil:
		c.stray(t, a)
		return nil
	case t == packet.PUBACK && fl.qos == 1,
		t == packet.PUBCOMP && fl.phase == released,
		t == packet.PUBREC && fl.qos == 2 && fl.phase == published && a.Code.Failed():
		// "If a PUBREC is received with a Reason Code of 0x80 or greater the
		// corresponding PUBLISH packet is treated as acknowledged, and MUST NOT
		// be retransmitted" [MQTT-4.4.0-2]
		fl.phase = completed
		c.quota.Add(1)
		st.pass()
		return nil
	case t == packet.PUBREC && fl.qos == 2:
		switch {
		case fl.phase == released:
			c.say(packet.PUBREL, a.ID, packet.Success, "")
		case fl.phase == published && st.record != "":
			// On disk before PUBREL: after that the client may forget the
			// identifier, and would take the message for a new one.
			fl.phase = releasing
			c.more()
			st.due = true
			st.release = append(st.release, a.ID)
		case fl.phase == published:
			fl.phase = released
			c.say(packet.PUBREL, a.ID, packet.Success, "")
		}
		return nil
	}
	return errOutOfOrder(t, a.ID)
}

// pass moves the cursor over what is completed without a gap.
func (st *stream) pass() {
	n := 0
	for n < len(st.flight) && st.flight[n].phase == completed {
		n++
	}
	if n == 0 {
		return
	}
	seq := st.flight[n-1].seq
	if st.backlog != nil {
		st.backlog.done(st.flight[:n])
	}
	st.flight = st.flight[n:]
	if len(st.flight) == 0 {
		st.flight = nil
	}
	st.sess.Ack(seq)
}

// writeReleases adds the record of what has been released.
func (st *stream) writeReleases(r *roundOfRecords) {
	if !st.due {
		return
	}
	st.due = false
	v := []byte{form}
	for _, fl := range st.flight {
		if fl.qos == 2 && fl.phase != published {
			v = binary.AppendUvarint(v, uint64(fl.seq))
		}
	}
	r.records = append(r.records, mailbox.Record{Key: st.record, Value: v})
	for _, id := range st.release {
		r.answers = append(r.answers, pending{t: packet.PUBREL, id: id})
	}
	st.release = nil
}

// confirm notes that PUBREL is being sent for id.
func (st *stream) confirm(id uint16) {
	if fl := st.find(id); fl != nil && fl.phase == releasing {
		fl.phase = released
	}
}

// close remembers for the next connection what the cursor cannot tell.
func (st *stream) close() {
	p := st.place
	p.acked = st.sess.Acked()
	for _, fl := range st.flight {
		if p.past == nil {
			p.past = map[mailbox.Seq]phase{}
		}
		switch {
		case fl.phase == releasing:
			fl.phase = released // the record may be on disk; PUBREC was received
		case fl.phase == published && fl.qos == 2:
			fl.phase = begun2
		case fl.phase == published:
			fl.phase = begun1
		}
		p.past[fl.seq] = fl.phase
	}
	st.sess.Close()
}

// fromQueue is the PUBLISH of an entry of the session's queue; ok is false if
// no subscription wants it any more. Without a topic it cannot be read.
func (c *client) fromQueue(p *outgoing, e *mailbox.Entry) (ok bool) {
	if len(e.Body) == 0 || e.Body[0] != form {
		return false
	}
	m, ok := decodeMessage(e.Body[1:])
	if !ok {
		return false
	}
	var ids []uint32
	var keep bool
	ids, p.qos, keep, ok = c.wants(m)
	p.qos, p.expires = min(p.qos, m.qos), m.expires
	p.retain = m.retain && keep || m.share != "" && m.retain && m.old()
	p.topic, p.payload = m.topic, m.payload
	if c.version == packet.V5 {
		p.props = m.expiry(append([]byte(nil), m.props...), c.c.Now())
		for _, id := range ids {
			p.props = packet.AppendNum(p.props, packet.SubscriptionID, id)
		}
	}
	return ok
}
