package mqtt

import (
	"fmt"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

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
