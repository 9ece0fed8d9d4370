package mqtt

import (
	"slices"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// oldCopies are the retained messages that are still to be sent for new
// subscriptions. They are looked up for one filter after the other and a few at
// a time: a client that does not read costs a place among them and not a list,
// however much is retained and whatever it subscribes to.
type oldCopies struct {
	filters []oldFilter           // as they were subscribed to; the first is under way
	walk    *topic.Walk[*message] // of the first; nil before it has begun
	found   []*message            // by walk, and still to be sent
	post    *mailbox.Post         // for the queue of a kept session, waited for; nil if none is
}

// oldFilter is one subscription that retained messages are to be sent for.
type oldFilter struct {
	filter string
	upTo   uint64 // message.number: what was retained later has been sent as a new message
}

// oldBurst is how many retained messages are looked up, and posted, at once; and
// oldTurns how often in a round.
const (
	oldBurst = 64
	oldTurns = 16
)

// wantOld notes that the retained messages that filter matches are to be sent. A
// client that subscribes again and again without reading gets no more of them.
func (c *client) wantOld(filter string) {
	x := c.more()
	if x.old == nil {
		x.old = new(oldCopies)
	}
	if len(x.old.filters) >= c.srv.cfg.MaxSubscriptions {
		c.srv.count.dropped.Add(1)
		return
	}
	x.old.filters = append(x.old.filters, oldFilter{filter, c.srv.retentions.Load()})
}

// forget drops what is still to be sent for a filter: it is not subscribed to
// any more.
func (o *oldCopies) forget(filter string) {
	if o == nil {
		return
	}
	if o.walk != nil && o.filters[0].filter == filter {
		o.next()
	}
	o.filters = slices.DeleteFunc(o.filters, func(f oldFilter) bool { return f.filter == filter })
}

// next ends the filter that is under way.
func (o *oldCopies) next() {
	o.close()
	o.filters, o.walk, o.found = o.filters[1:], nil, nil
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
	for range oldTurns {
		if len(o.filters) == 0 {
			c.x.old = nil
			return
		}
		sb := &c.s.subs[c.s.find(o.filters[0].filter)]
		if o.walk == nil {
			o.walk = c.srv.retained.Walk(sb.filter)
		}
		if len(o.found) == 0 {
			if o.found = o.walk.Next(make([]*message, 0, oldBurst)); len(o.found) == 0 {
				o.next()
				continue
			}
		}
		if !c.sendFound(f, sb) {
			return
		}
	}
	c.c.Wake() // others are served first
}

// sendFound sends what has been found for sb. It reports whether to go on; if
// not the client is woken when it can.
func (c *client) sendFound(f *fanout, sb *subscription) bool {
	o := c.x.old
	opts, id := sb.options()
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
		if now, ok := c.srv.retained.Get(string(m.topic)); !ok || now != m || m.number > o.filters[0].upTo {
			continue
		}
		f.m, f.have = *m, 0
		qos := min(opts.QoS(), m.qos)
		if k := c.s.kept.Load(); k != nil && qos > 0 {
			c.queueOld(f, k, sb.filter)
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
