package mqtt

import (
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// isMail reports whether a filter is for the mailbox: its first level is im.
// A wildcard there never is, so that no filter reaches the mailbox by chance,
// and none ever that of another user.
func isMail(filter string) bool { return strings.HasPrefix(filter, mailPrefix) }

// subscribe is SUBSCRIBE, section 3.8.
func (c *client) subscribe(first byte, body []byte) error {
	var p packet.Subscribe
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	var id uint32
	if len(p.Properties.SubscriptionIDs) > 0 {
		id = p.Properties.SubscriptionIDs[0]
	}
	// "The SUBACK packet MUST contain a Reason Code for each Topic
	// Filter/Subscription Option pair" [MQTT-3.8.4-6], in order [MQTT-3.9.3-1].
	ack := packet.Suback{ID: p.ID, Codes: make([]packet.Code, 0, len(p.Filters))}
	var records []mailbox.Record
	mail := false
	for _, f := range p.Filters {
		code, sb, fresh, err := c.addFilter(f, id)
		if err != nil {
			return err
		}
		ack.Codes = append(ack.Codes, code)
		if code.Failed() {
			c.srv.count.refused.Add(1)
			continue
		}
		// A client that subscribes each time it connects can go on reading when
		// the disk is full.
		if c.s.kept.Load() != nil && !sb.saved {
			records = append(records, subRecord(c.s, sb))
		}
		if sb.sub == nil {
			mail = true
			continue
		}
		h := f.RetainHandling()
		// "0 = Send retained messages at the time of the subscribe; 1 = ... only
		// if the subscription does not currently exist; 2 = Do not" 3.8.3.1;
		// "retained messages are not sent" for a shared one, section 4.8.2.
		if (h == 0 || h == 1 && fresh) && !isShared(f.Topic) {
			c.wantOld(sb.sub)
		}
	}
	c.answerOnDisk(ack.Append(nil, c.version, packet.SUBACK), records)
	if mail {
		c.join()
	}
	return nil
}

// answerOnDisk answers with a packet when records are on disk: only then does a
// kept session have a subscription, or has it no more.
func (c *client) answerOnDisk(raw []byte, records []mailbox.Record) {
	if len(records) == 0 {
		c.answer(pending{raw: raw})
		return
	}
	post := &mailbox.Post{Records: records, Notify: (*bell)(c)}
	c.answer(pending{raw: raw, post: post})
	c.srv.core.Mail.Post(post)
}

// addFilter adds or replaces one subscription.
func (c *client) addFilter(f packet.Filter, id uint32) (code packet.Code, sb *subscription, fresh bool, err error) {
	share, bare, err := topic.Parse(f.Topic)
	if err != nil {
		return 0, nil, false, &packet.Error{Code: packet.MalformedPacket, Text: err.Error()}
	}
	if c.version != packet.V5 && share != "" {
		f.Options &= 3
	}
	if share != "" && f.NoLocal() { // [MQTT-3.8.3-4]
		return 0, nil, false, &packet.Error{Code: packet.ProtocolError, Text: "no local on a shared subscription"}
	}
	if c.bridge && share == "" {
		// COMPAT(bridges): what mosquitto does for a bridge of 3.1.1.
		f.Options |= 4 | 8
	}
	// "A Server that does not support QoS 1 or QoS 2 PUBLISH packets MUST still
	// accept SUBSCRIBE packets containing a Requested QoS of 0, 1 or 2"
	// [MQTT-3.2.2-10]. It "might grant a lower maximum QoS than the subscriber
	// requested", section 3.8.4.
	qos := min(f.QoS(), c.srv.cfg.maxQoS())
	f.Options = f.Options&^3 | packet.Options(qos)
	granted := packet.Code(qos)
	mail := isMail(bare)
	switch {
	case slices.Contains(c.srv.cfg.Refused, bare):
		return packet.UnspecifiedError, nil, false, nil // nobody is told why
	case mail && (share != "" || c.users == 0 || c.isBridge() || !mailFilter(bare)):
		return packet.NotAuthorized, nil, false, nil
	case !mail && !c.srv.maySubscribe(c, bare):
		return packet.NotAuthorized, nil, false, nil
	}
	if i := c.find(f.Topic); i >= 0 {
		// "If a Server receives a SUBSCRIBE packet containing a Topic Filter
		// that is identical to a Non-shared Subscription's Topic Filter for the
		// current Session, then it MUST replace that existing Subscription"
		// [MQTT-3.8.4-3]
		sb = &c.s.subs[i]
		if o, old := sb.options(); o != f.Options || old != id {
			sb.saved = false
		}
		sb.opts, sb.id = f.Options, id
		if sb.sub != nil {
			sb.sub.SetOptions(byte(f.Options), id)
		}
		return granted, sb, false, nil
	}
	if len(c.s.subs) >= c.srv.cfg.MaxSubscriptions || c.tooHeavy(f.Topic) {
		return packet.QuotaExceeded, nil, false, nil
	}
	n := subscription{filter: f.Topic, opts: f.Options, id: id}
	if !mail {
		n.sub = c.srv.subs.Add(c.s, share, bare, byte(f.Options), id)
		n.filter = n.sub.Filter // one string where it is the same
		if share != "" {
			n.filter = f.Topic
		}
	}
	return granted, c.addSub(n), true, nil
}

// mailFilter reports whether a filter under im/ can match what is sent there.
func mailFilter(f string) bool {
	second, _, _ := strings.Cut(f[len(mailPrefix):], "/")
	return second == "inbox" || second == "sent" || second == "signal" || second == "+" || second == "#"
}

// unsubscribe is UNSUBSCRIBE, section 3.10.
func (c *client) unsubscribe(first byte, body []byte) error {
	var p packet.Unsubscribe
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	ack := packet.Suback{ID: p.ID, Codes: make([]packet.Code, 0, len(p.Filters))}
	var records []mailbox.Record
	for _, filter := range p.Filters {
		if _, _, err := topic.Parse(filter); err != nil {
			return &packet.Error{Code: packet.MalformedPacket, Text: err.Error()}
		}
		i := c.find(filter)
		if i < 0 {
			ack.Codes = append(ack.Codes, packet.NoSubscriptionExisted)
			continue
		}
		ack.Codes = append(ack.Codes, packet.Success)
		sb := &c.s.subs[i]
		if sb.sub != nil {
			c.srv.subs.Remove(sb.share(), sb.sub)
		}
		if c.s.kept.Load() != nil {
			records = append(records, mailbox.Record{Key: subKey(c.s.key, filter)})
		}
		c.removeSub(i)
	}
	c.answerOnDisk(ack.Append(nil, c.version, packet.UNSUBACK), records)
	c.part()
	return nil
}
