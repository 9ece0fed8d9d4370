package mqtt

import (
	"bytes"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// fanout is the work of giving messages to all who subscribed, one after the
// other. A client borrows one from a pool for a round.
type fanout struct {
	m     message
	now   time.Time
	owned *message // m copied, once somebody must keep it
	pub   *client  // the publisher, if it is a client

	// found is what matches topic, as of generation gen. A publisher mostly
	// sends to one topic, and then nothing has to be looked up.
	found   topic.Found[*session]
	topic   []byte
	gen     uint64
	one     target
	targets []target
	index   map[*session]int

	// enc has the encodings that have been made: by version, QoS and retain,
	// where there is no subscription identifier.
	enc     [12][]byte
	have    uint16
	tail    []byte // properties added here: expiry and subscription identifiers
	scratch []byte

	boxes   []*kept    // whose queues the message goes to
	shares  []shareBox // queues that it goes to for a shared subscription
	cfg     *Config
	matched bool
	taken   bool // somebody gets the message
	full    bool // somebody did not, since his queue was full
	self    bool // the publisher was sent a copy
	hold    bool // its own copies at QoS 0 go into late
	late    [][]byte

	received, sent, dropped uint64 // since it was borrowed
}

type shareBox struct {
	k      *kept
	filter string
}

// target is one receiver of a message.
type target struct {
	s      *session
	qos    byte
	retain bool // retain as published
	ids    []uint32
	one    [1]uint32
}

func (srv *Server) borrow(now time.Time) *fanout {
	f := srv.fans.Get().(*fanout)
	f.now, f.cfg = now, &srv.cfg
	return f
}

// next forgets the message, for another one.
func (f *fanout) next() {
	f.owned, f.have = nil, 0
	f.matched, f.self, f.hold, f.taken, f.full = false, false, false, false, false
	if len(f.targets) > 0 {
		clear(f.targets)
		f.targets, f.index = f.targets[:0], nil
	}
	if len(f.boxes)+len(f.shares) > 0 {
		clear(f.boxes)
		clear(f.shares)
		f.boxes, f.shares = f.boxes[:0], f.shares[:0]
	}
	if f.late != nil {
		f.late = nil
	}
}

func (srv *Server) giveBack(f *fanout) {
	if f.received > 0 {
		srv.count.received.Add(f.received)
	}
	if f.sent > 0 {
		srv.count.sent.Add(f.sent)
	}
	if f.dropped > 0 {
		srv.count.dropped.Add(f.dropped)
	}
	f.next()
	f.found.Reset()
	f.m, f.pub, f.one = message{}, nil, target{}
	f.topic, f.gen = f.topic[:0], 0
	f.received, f.sent, f.dropped = 0, 0, 0
	if cap(f.scratch) > 1<<16 {
		f.scratch = nil
	}
	for i := range f.enc {
		if cap(f.enc[i]) > 1<<16 {
			f.enc[i] = nil
		}
	}
	srv.fans.Put(f)
}

// match finds the subscriptions for f.m.
func (srv *Server) match(f *fanout) {
	gen := srv.subs.Generation() + 1 // so that zero is never right
	if f.gen == gen && bytes.Equal(f.topic, f.m.topic) {
		return
	}
	f.found.Reset()
	srv.subs.Match(f.m.topic, &f.found)
	f.topic, f.gen = append(f.topic[:0], f.m.topic...), gen
}

// own is m for keeping.
func (f *fanout) own() *message {
	if f.owned == nil {
		f.owned = f.m.own()
	}
	return f.owned
}

// bytes is the PUBLISH for one kind of receiver. The packet identifier is left
// at zero; idAt says where it stands.
func (f *fanout) bytes(v packet.Version, qos byte, retain bool, ids []uint32) []byte {
	flags := qos << 1
	if retain {
		flags |= 1
	}
	if v != packet.V5 {
		v, ids = packet.V311, nil
	}
	if len(ids) > 0 {
		f.scratch = f.append(f.scratch[:0], v, flags, 0, ids)
		return f.scratch
	}
	i := int(qos) << 1
	if retain {
		i++
	}
	if v == packet.V5 {
		i += 6
	}
	if f.have>>i&1 == 0 {
		f.have |= 1 << i
		f.enc[i] = f.append(f.enc[i][:0], v, flags, 0, nil)
	}
	return f.enc[i]
}

func (f *fanout) append(b []byte, v packet.Version, flags byte, id uint16, ids []uint32) []byte {
	f.tail = f.tail[:0]
	if v == packet.V5 {
		f.tail = f.m.expiry(f.tail, f.now)
		for _, id := range ids {
			f.tail = packet.AppendNum(f.tail, packet.SubscriptionID, id)
		}
	}
	return packet.AppendPublish(b, v, flags, f.m.topic, id, f.m.props, f.tail, f.m.payload)
}

// setID puts a packet identifier into a PUBLISH of QoS 1 or 2.
func setID(p []byte, topic int, id uint16) {
	at := 1
	for p[at] >= 0x80 {
		at++
	}
	at += 3 + topic
	p[at], p[at+1] = byte(id>>8), byte(id)
}

// deliver gives f.m to all who subscribed: what can go through memory at once;
// queues that it must be posted to are left in f.boxes and f.shares.
func (srv *Server) deliver(f *fanout) {
	srv.match(f)
	if len(f.found.Lists) == 1 && len(f.found.Groups) == 0 {
		// The usual case: no session can be in one list twice.
		for _, sub := range f.found.Lists[0] {
			if f.aim(&f.one, sub) {
				f.give(&f.one)
			}
		}
		return
	}
	for _, l := range f.found.Lists {
		for _, sub := range l {
			f.merge(sub)
		}
	}
	for i := range f.targets {
		f.give(&f.targets[i])
	}
	for _, g := range f.found.Groups {
		f.share(g)
	}
}

// aim makes t the receiver that sub asks for, if it does.
func (f *fanout) aim(t *target, sub *topic.Sub[*session]) bool {
	opts, id, live := sub.Options()
	o := packet.Options(opts)
	// "If the value is 1, Application Messages MUST NOT be forwarded to a
	// connection with a ClientID equal to the ClientID of the publishing
	// connection" [MQTT-3.8.3-3]
	if !live {
		return false
	}
	f.matched = true
	if o.NoLocal() && sub.Owner.key == f.m.from {
		return false
	}
	t.s, t.qos, t.retain, t.ids = sub.Owner, o.QoS(), o.RetainAsPublished(), nil
	if id != 0 {
		t.one[0] = id
		t.ids = t.one[:]
	}
	return true
}

// merge adds sub to the receivers. A session gets one copy, however many of
// its filters match:
//
//	"the Server MUST deliver the message to the Client respecting the maximum
//	QoS of all the matching subscriptions" [MQTT-3.3.4-2]
//	"If the Server sends a single copy of the message it MUST include in the
//	PUBLISH packet the Subscription Identifiers for all matching
//	subscriptions" [MQTT-3.3.4-4]
func (f *fanout) merge(sub *topic.Sub[*session]) {
	var t target
	if !f.aim(&t, sub) {
		return
	}
	if i, ok := f.lookup(t.s); ok {
		o := &f.targets[i]
		o.qos, o.retain = max(o.qos, t.qos), o.retain || t.retain
		if len(t.ids) > 0 {
			o.ids = append(o.ids[:len(o.ids):len(o.ids)], t.one[0])
		}
		return
	}
	if len(t.ids) > 0 {
		t.ids = []uint32{t.one[0]}
	}
	f.targets = append(f.targets, t)
	if f.index != nil {
		f.index[t.s] = len(f.targets) - 1
	}
}

// lookup finds s among the targets; from some number on with a map.
func (f *fanout) lookup(s *session) (int, bool) {
	if f.index == nil && len(f.targets) > 16 {
		f.index = make(map[*session]int, 2*len(f.targets))
		for i := range f.targets {
			f.index[f.targets[i].s] = i
		}
	}
	if f.index != nil {
		i, ok := f.index[s]
		return i, ok
	}
	for i := range f.targets {
		if f.targets[i].s == s {
			return i, true
		}
	}
	return 0, false
}

// give sends t its copy, or notes the queue that it goes to.
func (f *fanout) give(t *target) bool {
	qos := min(f.m.qos, t.qos) // [MQTT-3.8.4-8]
	retain := f.m.retain && t.retain
	if qos > 0 {
		if k := t.s.kept.Load(); k != nil {
			if f.isFull(k) {
				f.dropped++
				return false
			}
			f.boxes = append(f.boxes, k)
			f.taken = true
			return true
		}
	}
	c := t.s.client.Load()
	if c == nil {
		return false
	}
	if c == f.pub {
		f.self = true
	}
	ok := c.push(f, qos, retain, t.ids)
	f.taken = f.taken || ok
	return ok
}

// isFull reports whether nothing more goes into the queue of k.
func (f *fanout) isFull(k *kept) bool {
	if !k.backlog.full(f.cfg) {
		return false
	}
	f.full = true
	return true
}

// share picks one of a group: who is connected first, else one whose queue is
// kept. They take turns, and who was passed over has had his: else all of those
// would fall to the one behind him.
//
//	"a Shared Subscription ... each message ... is sent to only one of the
//	Subscribing Clients" MQTT 5.0 section 4.8.2
//	"It is a Protocol Error to set the No Local bit to 1 on a Shared
//	Subscription" [MQTT-3.8.3-4], so that needs no look here.
func (f *fanout) share(g *topic.Group[*session]) {
	subs := g.Subs()
	if len(subs) == 0 {
		return
	}
	start := int(g.Next.Add(1)-1) % len(subs)
	var t target
	var away *kept // the first of those who are not connected
	var turn int   // his
	for i := range subs {
		if !f.aim(&t, subs[(start+i)%len(subs)]) {
			continue
		}
		k := t.s.kept.Load()
		queued, online := k != nil && min(f.m.qos, t.qos) > 0, t.s.client.Load() != nil
		switch {
		case queued && f.isFull(k):
		case online && queued:
			f.queueShared(k, g, i)
			return
		case online && f.give(&t):
			g.Next.Add(uint32(i))
			return
		case queued && away == nil:
			away, turn = k, i
		}
	}
	switch {
	case away != nil:
		f.queueShared(away, g, turn)
	case f.full:
		f.dropped++
	}
}

// queueShared has f.m go to one queue, past as many turns of others.
func (f *fanout) queueShared(k *kept, g *topic.Group[*session], turns int) {
	g.Next.Add(uint32(turns))
	f.shares, f.taken = append(f.shares, shareBox{k, "$share/" + g.Share + "/" + g.Filter}), true
}

// posts makes the posts that bring f.m to the queues, with records in the
// last of them; none if there is nothing to write.
func (srv *Server) posts(f *fanout, who string, records []mailbox.Record) []*mailbox.Post {
	if len(f.boxes)+len(f.shares)+len(records) == 0 {
		return nil
	}
	var ps []*mailbox.Post
	one := func(to []*kept, share string) {
		p := &mailbox.Post{Boxes: make([]string, len(to))}
		p.From, p.To, p.Type = who, "mqtt", "application/x-mqtt"
		// The time when it expires is in the body and not the entry's own: an
		// entry that has been sent must stay readable beyond it, see stream.send.
		p.Body = f.m.encode(share)
		for i, k := range to {
			p.Boxes[i] = k.box
			srv.queued(k, len(p.Body))
		}
		ps = append(ps, p)
	}
	most := srv.core.Mail.Limits().Boxes
	for rest := f.boxes; len(rest) > 0; {
		n := min(most, len(rest))
		one(rest[:n], "")
		rest = rest[n:]
	}
	for _, sh := range f.shares {
		one([]*kept{sh.k}, sh.filter)
	}
	if len(records) > 0 {
		if len(ps) == 0 {
			ps = append(ps, new(mailbox.Post))
		}
		ps[len(ps)-1].Records = records
	}
	return ps
}
