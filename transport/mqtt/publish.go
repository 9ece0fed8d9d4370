package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// The topics of the mailbox.
const (
	mailPrefix = "im/"
	toPrefix   = "im/to/"
)

// pending is an answer that waits until its post, if it has one, and all
// answers before it are done. "The Server MUST send PUBACK packets in the
// order in which the corresponding PUBLISH packets were received"
// [MQTT-4.6.0-2], and PUBREC likewise [MQTT-4.6.0-3].
type pending struct {
	post   *mailbox.Post // nil: none
	raw    []byte        // a packet made before; or else
	id     uint16
	t      packet.Type // zero: nothing is said, an error belongs to the next
	code   packet.Code
	reason string
}

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
	if c.x != nil && c.x.open >= most {
		c.pause(true)
	}
	return false, nil
}

func (c *client) pause(on bool) {
	if c.paused != on {
		c.paused = on
		c.c.PauseRead(on)
	}
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
			return c.decline(p, packet.QuotaExceeded, "too many retained messages")
		}
		records = append(records, r...)
	}
	a := pending{id: p.ID}
	switch p.QoS {
	case 1:
		a.t = packet.PUBACK
	case 2:
		// PUBREC goes out before a copy to the publisher itself; for QoS 1
		// that is the other way round. Clients are used to both.
		a.t, f.hold = packet.PUBREC, true
	}
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
	if p.QoS == 0 {
		for _, post := range posts {
			srv.core.Mail.Post(post)
		}
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
			c.answer(pending{post: post})
		} else {
			a.post = post
		}
		srv.core.Mail.Post(post)
	}
	c.answer(a)
	for _, b := range f.late {
		c.answer(pending{raw: b})
	}
	return nil
}

// round is the fanout of this round of packets.
func (c *client) round() *fanout {
	if c.fan == nil {
		c.fan = c.srv.borrow(c.c.Now())
		c.fan.pub = c
	}
	return c.fan
}

// idle reports whether no answer waits.
func (c *client) idle() bool { return c.x == nil || len(c.x.acks) == 0 }

// answer says a at once if it may, or in its turn.
func (c *client) answer(a pending) {
	if a.post == nil && c.idle() {
		c.speak(a)
		return
	}
	x := c.more()
	x.acks = append(x.acks, a)
	if a.t == packet.PUBACK {
		x.open++
	}
}

func (c *client) speak(a pending) {
	switch {
	case a.raw != nil:
		if len(a.raw) <= int(c.maxSize) {
			c.c.Write(a.raw)
		}
	case a.t != 0:
		if a.t == packet.PUBREC && a.code.Failed() && c.version == packet.V5 {
			delete(c.s.got, a.id) // the identifier is free again, section 4.3.3
		}
		if a.t == packet.PUBREL {
			switch {
			case a.id < inboxIDs.base && c.queue != nil:
				c.queue.confirm(a.id)
			case a.id >= inboxIDs.base && c.inbox != nil:
				c.inbox.confirm(a.id)
			}
		}
		c.say(a.t, a.id, a.code, a.reason)
	}
}

// acknowledge says what has become due.
func (c *client) acknowledge() error {
	x := c.x
	n := 0
	for ; n < len(x.acks); n++ {
		a := &x.acks[n]
		if a.post != nil {
			if !a.post.Done() {
				break
			}
			err := a.post.Err
			if a.t == 0 && a.raw == nil {
				x.failed = errors.Join(x.failed, err)
				continue
			}
			if err == nil {
				err, x.failed = x.failed, nil
			}
			if err != nil {
				if err := c.unsaved(a, err); err != nil {
					return err
				}
			} else if a.raw != nil {
				c.s.saved(a.post.Records)
			}
		}
		if a.t == packet.PUBACK {
			x.open--
		}
		c.speak(*a)
	}
	if n == 0 {
		return nil
	}
	rest := copy(x.acks, x.acks[n:])
	clear(x.acks[rest:])
	if x.acks = x.acks[:rest]; rest == 0 && cap(x.acks) > 64 {
		x.acks = nil
	}
	if x.open < c.srv.cfg.ReceiveMaximum/2+1 {
		c.pause(false)
	}
	return nil
}

// unsaved words the failure of a post.
func (c *client) unsaved(a *pending, err error) error {
	switch {
	case errors.Is(err, mailbox.ErrTooLarge):
		a.code, a.reason = packet.QuotaExceeded, "message too large"
	case errors.Is(err, mailbox.ErrConflict):
		a.code, a.reason = packet.ImplementationSpecificError, "id was used before with another payload"
	case errors.Is(err, mailbox.ErrInvalid):
		a.code, a.reason = packet.ImplementationSpecificError, "invalid message"
	default:
		if !errors.Is(err, mailbox.ErrUnavailable) { // the store has said that, once
			c.srv.log.Error("mqtt: post", "err", err, "user", c.user(), "device", c.device())
		}
		a.code, a.reason = packet.UnspecifiedError, "cannot be stored at present"
		if c.version != packet.V5 || a.raw != nil || a.t != packet.PUBACK && a.t != packet.PUBREC {
			// There is no word for it; the client will try again.
			return &packet.Error{Code: packet.UnspecifiedError, Text: a.reason}
		}
	}
	return nil
}

// submit posts to the mailbox of a user: im/to/{address}.
func (c *client) submit(p *packet.Publish) error {
	may := c.users > 0 && !c.isBridge()
	if rest, ok := strings.CutPrefix(string(p.Topic), sayPrefix); ok && may {
		return c.signal(p, rest)
	}
	to, ok := strings.CutPrefix(string(p.Topic), toPrefix)
	if !ok || to == "" || !may {
		return c.decline(p, packet.NotAuthorized, "only im/to/{address} and im/signal-to/{address}/{kind} may be published to")
	}
	post := &mailbox.Post{}
	post.Body = bytes.Clone(p.Payload)
	if !utf8.Valid(post.Body) {
		post.Type = "application/octet-stream"
	}
	if ps := p.Properties; ps != nil {
		c.describe(post, ps)
	}
	if p.QoS == 2 {
		c.hold(p.ID)
		if c.s.kept.Load() != nil {
			post.Records = []mailbox.Record{{Key: gotKey(c.s.key, p.ID), Value: []byte{form}}}
		}
	}
	post.Notify = (*bell)(c)
	if err := c.srv.core.Router.Submit(router.MQTT, c.who(), to, post); err != nil {
		delete(c.s.got, p.ID)
		code := packet.TopicNameInvalid
		switch {
		case errors.Is(err, router.ErrRemote):
			code = packet.NotAuthorized
		case errors.Is(err, router.ErrNoRecipient), errors.Is(err, address.ErrInvalid):
		default:
			code = packet.ImplementationSpecificError
		}
		return c.decline(p, code, words(err))
	}
	switch p.QoS {
	case 1:
		c.answer(pending{post: post, t: packet.PUBACK, id: p.ID})
	case 2:
		c.answer(pending{post: post, t: packet.PUBREC, id: p.ID})
	}
	return nil
}

// words is an error for the peer: without the package that it comes from.
func words(err error) string {
	_, text, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return err.Error()
	}
	return text
}

// mailAttr marks a user property that only MQTT clients are to see, since at
// another door its name would belong to the server.
const mailAttr = "mqtt:"

// describe takes what the properties of a PUBLISH say about a message.
func (c *client) describe(post *mailbox.Post, ps *packet.Properties) {
	if t := ps.Text(packet.ContentType); t != "" {
		post.Type = t
	}
	if ps.Has(packet.MessageExpiry) {
		post.Expires = c.c.Now().Add(time.Duration(ps.Num(packet.MessageExpiry, 0)) * time.Second)
	}
	post.Attrs = request(post.Attrs, ps)
	for _, u := range ps.User {
		switch u.Name {
		case "id":
			post.ID = u.Value
		case "urgency":
			post.Urgency, _ = mailbox.ParseUrgency(u.Value)
		default:
			if !serverSays(u.Name) {
				post.Attrs = append(post.Attrs, mailbox.Attr{Name: attrName(u.Name), Value: u.Value})
			}
		}
	}
}

// acked is PUBACK, PUBREC, PUBREL or PUBCOMP from the client.
func (c *client) acked(t packet.Type, a *packet.Ack) error {
	if t == packet.PUBREL {
		return c.released(a.ID)
	}
	switch {
	case a.ID < inboxIDs.base && c.queue != nil:
		return c.queue.acked(t, a)
	case a.ID >= inboxIDs.base && c.inbox != nil:
		return c.inbox.acked(t, a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ph, qos := c.out.state(a.ID)
	switch {
	case ph == free:
		c.stray(t, a)
		return nil
	case t == packet.PUBACK && qos == 1,
		t == packet.PUBCOMP && ph == released,
		t == packet.PUBREC && ph == published && qos == 2 && a.Code.Failed():
		c.out.free(a.ID)
		c.quota.Add(1)
		return nil
	case t == packet.PUBREC && qos == 2:
		c.out.release(a.ID)
		c.say(packet.PUBREL, a.ID, packet.Success, "")
		return nil
	}
	return errOutOfOrder(t, a.ID)
}

// stray answers an acknowledgement of something that we do not know: what the
// other end waits for, so that it comes to an end. 0x92 would say the same.
func (c *client) stray(t packet.Type, a *packet.Ack) {
	if t == packet.PUBREC && !a.Code.Failed() { // [MQTT-4.3.3-4]
		c.say(packet.PUBREL, a.ID, packet.Success, "")
	}
}

func errOutOfOrder(t packet.Type, id uint16) error {
	return &packet.Error{Code: packet.ProtocolError, Text: fmt.Sprintf("%s for packet %d, which does not wait for it", t, id)}
}

// released is PUBREL: "the receiver MUST respond to a PUBREL packet by sending
// a PUBCOMP packet containing the same Packet Identifier as the PUBREL"
// [MQTT-4.3.3-11].
func (c *client) released(id uint16) error {
	a := pending{t: packet.PUBCOMP, id: id}
	if _, ok := c.s.got[id]; ok {
		delete(c.s.got, id)
		if c.s.kept.Load() != nil {
			// On disk before PUBCOMP: the client may then use the identifier
			// for another message, which must not be taken for this one.
			r := &c.more().round
			r.records = append(r.records, mailbox.Record{Key: gotKey(c.s.key, id)})
			r.answers = append(r.answers, a)
			return nil
		}
	}
	c.answer(a)
	return nil
}

// roundOfRecords is what one round of packets has to write, in one post.
type roundOfRecords struct {
	records []mailbox.Record
	answers []pending
}

func (c *client) writeRound() {
	r := c.x.round
	for _, st := range [...]*stream{c.queue, c.inbox} {
		if st != nil {
			st.writeReleases(&r)
		}
	}
	if len(r.records) == 0 {
		return
	}
	c.x.round = roundOfRecords{}
	post := &mailbox.Post{Records: r.records}
	post.Notify = (*bell)(c)
	for _, a := range r.answers {
		a.post = post
		c.answer(a)
	}
	c.srv.core.Mail.Post(post)
}
