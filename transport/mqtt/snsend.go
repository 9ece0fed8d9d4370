package mqtt

import (
	"time"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// Take translates what the client has written. It stops before a message that
// there is no room for.
func (s *sensor) Take(p []byte) (n int) {
	for n < len(p) {
		first, body, size, err := packet.Split(p[n:], packet.MaxRemaining)
		if err != nil || size == 0 {
			return n
		}
		t := packet.Type(first >> 4)
		if t == packet.PUBLISH {
			if !s.takePublish(first, body) {
				return n
			}
		} else {
			s.takeAnswer(t, first, body)
		}
		n += size
	}
	return n
}

// takePublish puts a message behind those that wait. One that can never be
// sent is taken without its payload.
func (s *sensor) takePublish(first byte, body []byte) bool {
	var p packet.Publish
	if err := p.Decode(packet.V5, first, body); err != nil {
		return true
	}
	if len(s.waiting) > 0 && s.bytes+len(p.Topic)+len(p.Payload) > s.g.cfg.MaxWaiting {
		return false
	}
	it := snItem{topic: string(p.Topic), id: p.ID, qos: p.QoS, retain: p.Retain, dup: p.Dup}
	if p.Properties != nil && p.Properties.Has(packet.MessageExpiry) {
		it.expires = time.Now().Add(time.Duration(p.Properties.Num(packet.MessageExpiry, 0)) * time.Second)
	}
	if most := s.g.cfg.MaxDatagram; len(p.Payload)+snPublishHead > most || len(p.Topic)+snPublishHead > most {
		it.expires, it.dup = time.Unix(1, 0), false
	} else {
		it.payload = append([]byte(nil), p.Payload...)
	}
	s.waiting = append(s.waiting, it)
	s.bytes += it.size()
	return true
}

// snPublishHead is what stands around the payload of a long PUBLISH, with the
// head of a forwarder.
const snPublishHead = 9 + 3 + maxNodeID

// takeAnswer passes an answer of the client on.
func (s *sensor) takeAnswer(t packet.Type, first byte, body []byte) {
	switch t {
	case packet.CONNACK:
		var a packet.Connack
		if a.Decode(packet.V5, first, body) == nil {
			s.entered(a.Code)
		}
	case packet.PUBACK, packet.PUBREC, packet.PUBREL, packet.PUBCOMP:
		var a packet.Ack
		if a.Decode(packet.V5, first, body) != nil {
			return
		}
		topic := s.in[a.ID]
		switch {
		case t == packet.PUBREL:
			s.waiting = append(s.waiting, snItem{id: a.ID})
			s.bytes += s.waiting[len(s.waiting)-1].size()
			return
		case t == packet.PUBCOMP:
			s.say(sn.Message{Type: sn.Pubcomp, ID: a.ID})
			return
		case t == packet.PUBACK || a.Code.Failed():
			s.say(sn.Message{Type: sn.Puback, TopicID: topic, ID: a.ID, Code: returnCode(a.Code)})
		default:
			s.say(sn.Message{Type: sn.Pubrec, ID: a.ID})
		}
		delete(s.in, a.ID)
	case packet.SUBACK, packet.UNSUBACK:
		var a packet.Suback
		if a.Decode(packet.V5, first, body) != nil || len(a.Codes) != 1 {
			return
		}
		asked := s.asked[a.ID]
		delete(s.asked, a.ID)
		if t == packet.UNSUBACK {
			s.say(sn.Message{Type: sn.Unsuback, ID: a.ID})
			return
		}
		m := sn.Message{Type: sn.Suback, ID: a.ID, TopicID: asked.topic, Code: returnCode(a.Codes[0])}
		if m.Code == sn.Accepted {
			m.Flags = sn.MakeFlags(false, byte(a.Codes[0]), false, false, false, sn.Named)
			if tp := s.topics.byID[asked.topic]; tp != nil {
				tp.known = true
			}
		}
		s.say(m)
	}
}

// pump sends what waits, as far as the sensor may be spoken to.
func (s *sensor) pump() {
	for !s.conn.Over() && s.await == snNothing && (s.state == snActive || s.state == snAwake) {
		if len(s.waiting) > 0 {
			s.sendFirst()
			continue
		}
		// What has been taken makes room for more, of which the client hears
		// in its turn.
		if s.conn.Step(); len(s.waiting) == 0 && s.conn.Idle() {
			break
		}
	}
	if s.await == snNothing {
		s.again = time.Time{}
	}
	if s.state == snAwake && s.await == snNothing && s.open == 0 && len(s.waiting) == 0 && !s.conn.Over() && !s.client.behind() {
		// PINGRESP says that this was all, section 6.14.
		s.say(sn.Message{Type: sn.Pingresp})
		s.rest()
	}
}

// behind reports whether more is on its way to the client: from the disk, from
// a mailbox that is being opened, or of what was retained.
func (c *client) behind() bool {
	for _, st := range [...]*stream{c.queue, c.inbox} {
		if st != nil && st.sess.Behind() {
			return true
		}
	}
	return c.x != nil && (c.x.mail != nil || c.x.old != nil)
}

// sendFirst sends the first that waits, or what has to go before it.
func (s *sensor) sendFirst() {
	it := &s.waiting[0]
	if it.topic == "" {
		s.say(sn.Message{Type: sn.Pubrel, ID: it.id})
		s.wait(snComp)
		return
	}
	if !it.dup && !it.expires.IsZero() && !time.Now().Before(it.expires) {
		s.drop()
		return
	}
	kind, id, tp := s.nameFor(it.topic)
	if tp != nil {
		if s.await != snRegack {
			if s.turn++; s.turn == 0 {
				s.turn = 1
			}
		}
		s.say(sn.Message{Type: sn.Register, TopicID: tp.id, ID: s.turn, Name: tp.name})
		s.wait(snRegack)
		return
	}
	m := sn.Message{Type: sn.Publish, TopicID: id, ID: it.id, Data: it.payload}
	m.Flags = sn.MakeFlags(it.dup, it.qos, it.retain, false, false, kind)
	s.say(m)
	if it.qos == 0 {
		s.shift()
		return
	}
	it.dup = true
	s.open = it.id
	s.wait(snAck)
}

// shift removes the first that waits.
func (s *sensor) shift() {
	s.bytes -= s.waiting[0].size()
	s.waiting[0] = snItem{}
	if s.waiting = s.waiting[1:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	s.await, s.tries = snNothing, 0
}

// drop gives up the first that waits: the client hears of it what moves the
// queue on.
func (s *sensor) drop() {
	it := s.waiting[0]
	s.shift()
	s.g.srv.count.dropped.Add(1)
	switch {
	case it.topic == "":
		s.acknowledge(packet.PUBCOMP, it.id, packet.Success)
	case it.qos == 1:
		s.acknowledge(packet.PUBACK, it.id, packet.Success)
	case it.qos == 2:
		s.acknowledge(packet.PUBREC, it.id, packet.UnspecifiedError)
	}
}

// acknowledge tells the client what the sensor has.
func (s *sensor) acknowledge(t packet.Type, id uint16, code packet.Code) {
	if t != packet.PUBREC || code.Failed() {
		s.open = 0
	}
	s.conn.Input(packet.AppendAck(nil, packet.V5, t, id, code, ""))
}

// wait begins to wait for an answer.
func (s *sensor) wait(what snAwait) {
	if s.await != what {
		s.await, s.tries = what, 0
	}
	s.again = time.Now().Add(s.g.cfg.Retry)
}

// ask asks for a part of the will.
func (s *sensor) ask(state snState) {
	s.state = state
	s.await, s.tries = snWill, 0
	s.repeat()
}

// repeat says again what an answer is waited for.
func (s *sensor) repeat() {
	switch {
	case s.await != snWill:
		s.sendFirst()
	case s.state == snWillTopic:
		s.say(sn.Message{Type: sn.WillTopicReq})
	default:
		s.say(sn.Message{Type: sn.WillMsgReq})
	}
	s.again = time.Now().Add(s.g.cfg.Retry)
}

// late is called when no answer came in time: after T_RETRY a message is said
// again, N_RETRY times (section 6.13, which is for both ends).
func (s *sensor) late() {
	if s.tries < s.g.cfg.Retries {
		s.tries++
		s.g.srv.count.sn.repeated.Add(1)
		s.repeat()
		return
	}
	if s.state == snAwake { // it sleeps again, it seems; its nap tells when it is lost
		s.rest()
		return
	}
	s.g.srv.count.sn.lost.Add(1)
	s.end(packet.KeepAliveTimeout)
}

// snCongestion is T_WAIT of section 7.2: how long who is congested is left
// alone.
const snCongestion = 5 * time.Minute

// answered is REGACK, PUBACK, PUBREC or PUBCOMP from the sensor.
func (s *sensor) answered(m sn.Message) {
	var it *snItem
	if len(s.waiting) > 0 {
		it = &s.waiting[0]
	}
	waits := it != nil && m.ID == it.id
	switch {
	case m.Type == sn.Regack && s.await == snRegack && m.ID == s.turn:
		tp := s.topics.byName[it.topic]
		switch {
		case tp == nil: // taken back meanwhile
			s.await = snNothing
		case m.Code == sn.Accepted:
			tp.known = true
			s.await, s.tries = snNothing, 0
		case m.Code == sn.Congestion:
			s.again = time.Now().Add(snCongestion)
		default:
			s.topics.forget(tp)
			s.drop()
		}
	case m.Type == sn.Puback && m.Code == sn.InvalidTopicID && (m.ID == 0 || waits && s.await == snAck):
		// It has forgotten, or never knew; a message of QoS 0 is lost with that.
		tp := s.topics.byID[m.TopicID]
		if tp != nil {
			tp.known = false
		}
		switch {
		case m.ID == 0:
		case tp == nil || it.told > 0:
			s.drop()
		default:
			it.told++
			s.await = snNothing
		}
	case m.Type == sn.Puback && waits && s.await == snAck && m.Code == sn.Congestion:
		s.again = time.Now().Add(snCongestion)
	case m.Type == sn.Puback && waits && s.await == snAck && m.Code != sn.Accepted:
		s.drop()
	case m.Type == sn.Puback && waits && s.await == snAck && it.qos == 1:
		s.shift()
		s.acknowledge(packet.PUBACK, m.ID, packet.Success)
	case m.Type == sn.Pubrec && waits && s.await == snAck && it.qos == 2:
		s.shift()
		s.acknowledge(packet.PUBREC, m.ID, packet.Success)
	case m.Type == sn.Pubrec && waits && s.await == snComp:
		s.repeat() // PUBREL was lost
	case m.Type == sn.Pubcomp && waits && s.await == snComp:
		s.shift()
		s.acknowledge(packet.PUBCOMP, m.ID, packet.Success)
	}
}
