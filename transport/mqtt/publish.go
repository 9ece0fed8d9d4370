package mqtt

import (
	"bytes"
	"errors"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// publish is PUBLISH from the client, section 3.3.
func (c *client) publish(first byte, body []byte) error {
	var p packet.Publish
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	srv := c.srv
	c.round().received++
	if p.Properties != nil && p.Properties.Has(packet.SubscriptionID) {
		// "A PUBLISH packet sent from a Client to a Server MUST NOT contain a
		// Subscription Identifier" [MQTT-3.3.4-6]
		return &packet.Error{Code: packet.ProtocolError, Text: "subscription identifier from a client"}
	}
	if !c.isBridge() { // which passes on what another broker has; subscriptions get it with less
		if err := srv.cfg.supported(p.QoS, p.Retain); err != nil {
			return err
		}
	}
	if p.Alias != 0 {
		if err := c.alias(&p); err != nil {
			return err
		}
	}
	if p.QoS > 0 {
		if done, err := c.admit(&p); done || err != nil {
			return err
		}
	}
	if p.Properties != nil && srv.wasHere(p.Properties) {
		return c.swallow(&p)
	}
	if f := c.fan; bytes.Equal(f.topic, p.Topic) {
		return c.spread(&p) // as a moment ago; all has been looked at
	}
	if err := topic.CheckName(p.Topic); err != nil {
		return &packet.Error{Code: packet.MalformedPacket, Text: err.Error()}
	}
	if bytes.HasPrefix(p.Topic, []byte(mailPrefix)) {
		return c.submit(&p)
	}
	if !srv.mayPublish(c, p.Topic) {
		return c.decline(&p, packet.NotAuthorized, "")
	}
	return c.spread(&p)
}

// alias resolves a topic alias, section 3.3.2.3.4.
func (c *client) alias(p *packet.Publish) error {
	// "A Client MUST NOT send a PUBLISH packet with a Topic Alias greater than
	// the Topic Alias Maximum value returned by the Server" [MQTT-3.3.2-9]
	if int(p.Alias) > c.srv.cfg.TopicAliasMaximum {
		return &packet.Error{Code: packet.TopicAliasInvalid, Text: "topic alias over the maximum"}
	}
	x := c.more()
	i := int(p.Alias) - 1
	if len(p.Topic) == 0 {
		if i >= len(x.topics) || x.topics[i] == "" {
			return &packet.Error{Code: packet.ProtocolError, Text: "topic alias was never set"}
		}
		p.Topic = []byte(x.topics[i])
		return nil
	}
	for len(x.topics) <= i {
		x.topics = append(x.topics, "")
	}
	if x.aliased += len(p.Topic) - len(x.topics[i]); x.aliased > maxAliased {
		return &packet.Error{Code: packet.QuotaExceeded, Text: "topic aliases for too long topics"}
	}
	x.topics[i] = string(p.Topic)
	return nil
}

// admit counts a QoS 1 or 2 publication. Done says that it is one we have.
func (c *client) admit(p *packet.Publish) (done bool, err error) {
	open := len(c.s.got)
	if c.x != nil {
		open += c.x.open
	}
	if p.QoS == 2 {
		if _, ok := c.s.got[p.ID]; ok {
			// "Until it has received the corresponding PUBREL packet, the
			// receiver MUST acknowledge any subsequent PUBLISH packet with the
			// same Packet Identifier by sending a PUBREC. It MUST NOT cause
			// duplicate messages to be delivered" [MQTT-4.3.3-10]
			c.answer(pending{t: packet.PUBREC, id: p.ID})
			return true, nil
		}
	}
	most := c.srv.cfg.ReceiveMaximum
	if open < most {
		return false, nil
	}
	if c.version == packet.V5 && !c.isBridge() {
		// "The Client MUST NOT send more than Receive Maximum QoS 1 and QoS 2
		// PUBLISH packets for which it has not received PUBACK, PUBCOMP, or
		// PUBREC with a Reason Code of 128 or greater" [MQTT-3.3.4-7]
		return false, &packet.Error{Code: packet.ReceiveMaximumExceeded, Text: "receive maximum exceeded"}
	}
	if len(c.s.got) >= 4*most { // 3.1.1 has no such word, but we have limits
		return false, errors.New("mqtt: too many QoS 2 messages that were not released")
	}
	return false, nil
}

// decline refuses one publication.
//
//	"If a Server implementation does not authorize a PUBLISH to be performed by
//	a Client; it has no way of informing that Client. It MUST either make a
//	positive acknowledgement ... or close the Network Connection" 3.1.1
//	[MQTT-3.3.5-2]. We acknowledge: closing would have it sent again for ever.
func (c *client) decline(p *packet.Publish, code packet.Code, reason string) error {
	c.srv.count.refused.Add(1)
	if p.QoS == 0 || c.version != packet.V5 {
		c.srv.log.Debug("publish refused", "user", c.user(), "device", c.device(), "code", code, "reason", reason)
	}
	switch p.QoS {
	case 1:
		c.answer(pending{t: packet.PUBACK, id: p.ID, code: code, reason: reason})
	case 2:
		a := pending{t: packet.PUBREC, id: p.ID, code: code, reason: reason}
		if c.version != packet.V5 {
			c.hold(p.ID) // a PUBREL will come
			a.post = c.holdPost(p.ID)
		}
		c.answer(a)
	}
	return nil
}

// swallow takes a message and does nothing with it.
func (c *client) swallow(p *packet.Publish) error {
	switch p.QoS {
	case 1:
		c.answer(pending{t: packet.PUBACK, id: p.ID})
	case 2:
		c.hold(p.ID)
		c.answer(pending{t: packet.PUBREC, id: p.ID, post: c.holdPost(p.ID)})
	}
	return nil
}

// hold remembers a QoS 2 identifier until it is released.
func (c *client) hold(id uint16) {
	if c.s.got == nil {
		c.s.got = map[uint16]struct{}{}
	}
	c.s.got[id] = struct{}{}
}

// holdPost is hold for the disk, if the session is kept.
func (c *client) holdPost(id uint16) *mailbox.Post {
	if c.s.kept.Load() == nil {
		return nil
	}
	p := &mailbox.Post{Records: []mailbox.Record{{Key: gotKey(c.s.key, id), Value: []byte{form}}}}
	p.Notify = (*bell)(c)
	c.srv.core.Mail.Post(p)
	return p
}

// spread publishes to the plain topics.
func (c *client) spread(p *packet.Publish) error {
	srv := c.srv
	f := c.round()
	f.next()
	f.m.topic, f.m.payload, f.m.props = p.Topic, p.Payload, nil
	f.m.qos, f.m.retain, f.m.from = p.QoS, p.Retain, c.s.key
	f.m.expires = time.Time{}
	if ps := p.Properties; ps != nil {
		f.m.props = p.RawProperties
		if p.Alias != 0 || ps.Has(packet.MessageExpiry) {
			f.m.props = packet.AppendForward(nil, p.RawProperties)
		}
		if ps.Has(packet.MessageExpiry) {
			f.m.expires = f.now.Add(time.Duration(ps.Num(packet.MessageExpiry, 0)) * time.Second)
		}
	}
	var records []mailbox.Record
	if p.QoS == 2 {
		c.hold(p.ID)
		if c.s.kept.Load() != nil {
			// In the same batch as the message, so that after a crash it is
			// known as received exactly if it was.
			records = append(records, mailbox.Record{Key: gotKey(c.s.key, p.ID), Value: []byte{form}})
		}
	}
	if p.Retain {
		// One at a time, so that memory and disk agree on which was the last.
		srv.retaining.Lock()
		defer srv.retaining.Unlock()
		r, ok := srv.retain(f)
		if !ok {
			delete(c.s.got, p.ID)
			return c.decline(p, packet.QuotaExceeded, "too much is retained")
		}
		records = append(records, r...)
	}
	a := pending{t: answerTo(p.QoS), id: p.ID}
	// PUBREC goes out before a copy to the publisher itself; for QoS 1 that is
	// the other way round. Clients are used to both.
	f.hold = p.QoS == 2
	srv.deliver(f)
	if f.full && !f.taken && !p.Retain && p.QoS > 0 {
		// "0x97 Quota exceeded: an implementation or administrative imposed
		// limit has been exceeded" MQTT 5.0 sections 3.4.2.1, 3.5.2.1
		return c.decline(p, packet.QuotaExceeded, "the queue of whoever subscribed is full")
	}
	if p.QoS == 1 && !f.matched { // also if it is retained: nobody subscribes at present
		a.code = packet.NoMatchingSubscribers
	}
	if f.self {
		c.self = true
	}
	posts := srv.posts(f, c.user(), records)
	if p.QoS == 0 && len(posts) == 0 {
		return nil
	}
	if len(posts) == 0 && c.idle() {
		c.say(a.t, a.id, a.code, "")
		for _, b := range f.late {
			c.c.Write(b)
		}
		return nil
	}
	for i, post := range posts {
		post.Notify = (*bell)(c)
		if i < len(posts)-1 {
			c.answer(pending{post: post, part: true})
		} else {
			a.post, a.size = post, len(p.Payload)
		}
		srv.core.Mail.Post(post)
	}
	c.answer(a)
	for _, b := range f.late {
		c.answer(pending{raw: b})
	}
	return nil
}

// answerTo is what a PUBLISH is answered with, if it is taken; zero is nothing.
func answerTo(qos byte) packet.Type {
	return [...]packet.Type{0, packet.PUBACK, packet.PUBREC}[qos]
}

// round is the fanout of this round of packets.
func (c *client) round() *fanout {
	if c.fan == nil {
		c.fan = c.srv.borrow(c.c.Now())
		c.fan.pub = c
	}
	return c.fan
}
