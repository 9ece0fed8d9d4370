package mqtt

import (
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// retain stores or clears the retained message of a topic, in memory, and
// returns the record for the disk. Ok is false if there are too many.
//
//	"If the RETAIN flag is set to 1 in a PUBLISH packet sent by a Client to a
//	Server, the Server MUST replace any existing retained message for this
//	topic and store the Application Message" [MQTT-3.3.1-5]
//	"A PUBLISH packet with a RETAIN flag set to 1 and a payload containing zero
//	bytes ... any existing retained message with the same topic name MUST be
//	removed" [MQTT-3.3.1-6]; "A retained message with a payload containing
//	zero bytes MUST NOT be stored" [MQTT-3.3.1-7]
func (srv *Server) retain(f *fanout) (rs []mailbox.Record, ok bool) {
	name := string(f.m.topic)
	if len(f.m.payload) == 0 {
		if _, had := srv.retained.Delete(name, func(*message) bool { return true }); !had {
			return nil, true
		}
		return []mailbox.Record{{Key: retainedKey(name)}}, true
	}
	if srv.retained.Len()-int(srv.sysTopics.Load()) >= srv.cfg.MaxRetained {
		if _, had := srv.retained.Get(name); !had {
			return nil, false
		}
	}
	m := f.own()
	srv.retained.Set(string(m.topic), m)
	return []mailbox.Record{{Key: retainedKey(name), Value: m.encode("")}}, true
}

// expireRetained drops a retained message whose time is over.
func (srv *Server) expireRetained(m *message) {
	srv.retaining.Lock()
	defer srv.retaining.Unlock()
	if _, ok := srv.retained.Delete(string(m.topic), func(now *message) bool { return now == m }); ok {
		srv.write([]mailbox.Record{{Key: retainedKey(string(m.topic))}})
	}
}

// oldCopy is a retained message that is still to be sent for a subscription.
type oldCopy struct {
	m      *message
	filter string
}

// collectOld appends the retained messages that filter matches.
func (c *client) collectOld(old []oldCopy, filter string) []oldCopy {
	now := c.c.Now()
	var over []*message
	c.srv.retained.Match(filter, func(m *message) {
		if !m.expires.IsZero() && !now.Before(m.expires) {
			over = append(over, m)
			return
		}
		old = append(old, oldCopy{m, filter})
	})
	for _, m := range over {
		c.srv.expireRetained(m)
	}
	return old
}

// sendOld sends retained messages while there is room, once SUBACK is out.
// One that was replaced meanwhile has been sent as a new message.
func (c *client) sendOld() {
	x := c.x
	if len(x.old) == 0 || !c.idle() {
		return
	}
	f := c.srv.borrow(c.c.Now())
	n := 0
	for ; n < len(x.old) && c.c.Room() > 0; n++ {
		o := x.old[n]
		i := c.s.find(o.filter)
		if now, ok := c.srv.retained.Get(string(o.m.topic)); i < 0 || !ok || now != o.m {
			continue
		}
		opts, id := c.s.subs[i].options()
		var ids []uint32
		if id != 0 {
			ids = []uint32{id}
		}
		f.m, f.have = *o.m, 0
		qos := min(opts.QoS(), o.m.qos)
		if k := c.s.kept.Load(); k != nil && qos > 0 {
			// Through the queue, so that it is kept until it is acknowledged.
			f.m.retain = true
			p := &mailbox.Post{Boxes: []string{k.box}}
			p.From, p.To, p.Type = c.user(), "mqtt", "application/x-mqtt"
			p.Body = f.m.encode(o.filter)
			c.srv.queued(k, len(p.Body))
			c.srv.core.Mail.Post(p)
			continue
		}
		// "When a new Non-shared Subscription is made ... the RETAIN flag is
		// set to 1" [MQTT-3.3.1-8]
		b := f.bytes(c.version, qos, true, ids)
		if qos == 0 {
			if len(b) <= int(c.maxSize) {
				c.c.Write(b)
				f.sent++
			}
			continue
		}
		c.mu.Lock()
		w := c.out
		if w == nil {
			w = new(window)
			c.out = w
		}
		if !c.takeQuota() {
			c.mu.Unlock()
			break
		}
		pid := w.take(qos)
		c.mu.Unlock()
		if len(b) > int(c.maxSize) {
			c.mu.Lock()
			w.back(pid)
			c.mu.Unlock()
			c.quota.Add(1)
			continue
		}
		setID(b, len(o.m.topic), pid)
		c.c.Write(b)
		f.sent++
	}
	c.srv.giveBack(f)
	if x.old = x.old[n:]; len(x.old) == 0 {
		x.old = nil
	}
}

// old reports whether a queued message was retained when it was subscribed to:
// it is then for that one filter, which is not a shared one.
func (m *message) old() bool {
	share, _, err := topic.Parse(m.share)
	return err == nil && share == ""
}
