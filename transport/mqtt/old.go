package mqtt

import (
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// oldCopies are the retained messages that are still to be sent for new
// subscriptions. They are looked up for one after the other and a few at a time:
// a client that does not read costs a place among them and not a list, however
// much is retained and whatever it subscribes to.
type oldCopies struct {
	wanted []oldWanted           // in the order of SUBSCRIBE; the first is under way
	walk   *topic.Walk[*message] // of the first; nil before it has begun
	found  []*message            // by walk, and still to be sent; in buf
	buf    [oldBurst]*message
	post   *mailbox.Post // for the queue of a kept session, waited for; nil if none is
}

// oldWanted is one subscription that retained messages are to be sent for.
type oldWanted struct {
	sub  *topic.Sub[*session]
	upTo uint64 // message.number: what was retained later has been sent as a new message
}

// oldBurst is how many retained messages are looked up, and posted, at once; and
// oldRound how many in a round, where a subscription counts as one, too.
const (
	oldBurst = 64
	oldRound = 16 * oldBurst
)

// wantOld notes that retained messages are to be sent for a subscription. A
// client that subscribes again and again without reading gets no more of them.
func (c *client) wantOld(sub *topic.Sub[*session]) {
	if !c.srv.cfg.retains() || !c.srv.retained.Any(sub.Filter) { // the usual case
		return
	}
	x := c.more()
	if x.old == nil {
		x.old = new(oldCopies)
	}
	if len(x.old.wanted) >= c.srv.cfg.MaxSubscriptions {
		c.srv.count.dropped.Add(1)
		return
	}
	x.old.wanted = append(x.old.wanted, oldWanted{sub, c.srv.retentions.Load()})
}

// next ends the subscription that is under way.
func (o *oldCopies) next() {
	o.close()
	o.wanted, o.walk, o.found = o.wanted[1:], nil, nil
}

// close ends the walk; nothing is sent any more.
func (o *oldCopies) close() {
	if o != nil && o.walk != nil {
		o.walk.Close()
	}
}

// sendOld sends retained messages while there is room, once SUBACK is out.
func (c *client) sendOld() {
	o := c.x.old
	if o == nil || !c.idle() || o.post != nil && !o.post.Done() {
		return
	}
	o.post = nil
	f := c.srv.borrow(c.c.Now())
	defer c.srv.giveBack(f)
	for left := oldRound; left > 0; left-- {
		if len(o.wanted) == 0 {
			c.x.old = nil
			return
		}
		sub := o.wanted[0].sub
		if _, _, live := sub.Options(); !live { // unsubscribed
			o.next()
			continue
		}
		if o.walk == nil {
			o.walk = c.srv.retained.Walk(sub.Filter)
		}
		if len(o.found) == 0 {
			if o.found = o.walk.Next(o.buf[:0]); len(o.found) == 0 {
				o.next()
				continue
			}
			left -= len(o.found)
		}
		if !c.sendFound(f, sub) {
			return
		}
	}
	c.c.Wake() // others are served first
}

// sendFound sends what has been found for sub. It reports whether to go on; if
// not the client is woken when it can.
func (c *client) sendFound(f *fanout, sub *topic.Sub[*session]) bool {
	o := c.x.old
	opts, id, _ := sub.Options()
	var ids []uint32
	if id != 0 {
		ids = []uint32{id}
	}
	for ; len(o.found) > 0; o.found = o.found[1:] {
		m := o.found[0]
		if !m.expires.IsZero() && !f.now.Before(m.expires) {
			c.srv.expireRetained(m)
			continue
		}
		// One that was replaced meanwhile has been sent as a new message.
		if now, ok := c.srv.retained.Get(string(m.topic)); !ok || now != m || m.number > o.wanted[0].upTo {
			continue
		}
		f.m, f.have = *m, 0
		qos := min(packet.Options(opts).QoS(), m.qos)
		if k := c.s.kept.Load(); k != nil && qos > 0 {
			c.queueOld(f, k, sub.Filter)
			continue
		}
		if c.c.Room() <= 0 || !c.writeOld(f, qos, ids) {
			return false
		}
	}
	return o.post == nil
}

// queueOld posts a retained message to the session's queue, so that it is kept
// until it is acknowledged.
func (c *client) queueOld(f *fanout, k *kept, filter string) {
	if k.backlog.full(&c.srv.cfg) {
		f.dropped++
		return
	}
	f.m.retain = true
	p := &mailbox.Post{Boxes: []string{k.box}, Notify: (*bell)(c)}
	p.From, p.To, p.Type = c.user(), "mqtt", "application/x-mqtt"
	p.Body = f.m.encode(filter)
	c.srv.queued(k, len(p.Body))
	c.x.old.post = p
	c.srv.core.Mail.Post(p)
}

// writeOld writes a retained message, and reports whether there was a packet
// identifier for it.
//
//	"When a new Non-shared Subscription is made ... the RETAIN flag is set to 1"
//	[MQTT-3.3.1-8]
func (c *client) writeOld(f *fanout, qos byte, ids []uint32) bool {
	b := f.bytes(c.version, qos, true, ids)
	if len(b) > int(c.maxSize) { // [MQTT-3.1.2-25]
		f.dropped++
		return true
	}
	if qos > 0 {
		if !c.takeQuota() {
			return false
		}
		c.mu.Lock()
		if c.out == nil {
			c.out = new(window)
		}
		id := c.out.take(qos)
		c.mu.Unlock()
		setID(b, len(f.m.topic), id)
	}
	c.c.Write(b)
	f.sent++
	return true
}
