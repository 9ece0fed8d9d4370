package mqtt

import (
	"iter"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// manySubs is from how many on the subscriptions of a session have an index.
const manySubs = 32

// index finds the subscriptions of a session that has many.
type index struct {
	at     map[string]*spot   // by filter, as in SUBSCRIBE
	wild   *topic.Tree[*spot] // those with a wildcard; nil until a message is read
	found  topic.Found[*spot] // for use again
	weight int                // of all filters
}

// spot is where in the session's subs a filter is.
type spot struct {
	i    int
	wild *topic.Sub[*spot] // in the tree
}

func (x *index) add(filter string, i int) {
	p := &spot{i: i}
	x.at[filter] = p
	x.weight += weight(filter)
	if x.wild != nil {
		x.grow(filter, p)
	}
}

// grow adds a filter to the tree, if it belongs there.
func (x *index) grow(filter string, p *spot) {
	if topic.HasWildcard(filter) && !isShared(filter) {
		p.wild = x.wild.Add(p, "", filter, 0, 0)
	}
}

func (x *index) remove(filter string) {
	p := x.at[filter]
	delete(x.at, filter)
	x.weight -= weight(filter)
	if p.wild != nil {
		x.wild.Remove("", p.wild)
	}
}

// match finds the filters with a wildcard that match name.
func (x *index) match(name []byte) [][]*topic.Sub[*spot] {
	if x.wild == nil {
		x.wild = new(topic.Tree[*spot])
		for filter, p := range x.at {
			x.grow(filter, p)
		}
	}
	x.found.Reset()
	x.wild.Match(name, &x.found)
	return x.found.Lists
}

// weight is what a filter costs in memory, roughly: each level of one that has a
// wildcard is a node of the server's tree, and of the index's once messages are
// read from a queue, 340 bytes each; and a very long one is its text.
func weight(filter string) int {
	w := 1 + len(filter)/256
	if topic.HasWildcard(filter) {
		w += strings.Count(filter, "/")
	}
	return w
}

// tooHeavy reports whether one more filter would make the session's too heavy. A
// few never are.
func (c *client) tooHeavy(filter string) bool {
	x := c.index()
	return x != nil && x.weight+weight(filter) > 10*c.srv.cfg.MaxSubscriptions
}

// index is that of the session's subscriptions; nil while they are few.
func (c *client) index() *index {
	subs := c.s.subs
	if len(subs) < manySubs {
		return nil
	}
	x := c.more()
	if x.index == nil {
		x.index = &index{at: make(map[string]*spot, 2*len(subs))}
		for i := range subs {
			x.index.add(subs[i].filter, i)
		}
	}
	return x.index
}

// find returns where in the session's subs a filter is, -1 if it is not there.
func (c *client) find(filter string) int {
	x := c.index()
	if x == nil {
		return slices.IndexFunc(c.s.subs, func(sb subscription) bool { return sb.filter == filter })
	}
	if p := x.at[filter]; p != nil {
		return p.i
	}
	return -1
}

func (c *client) addSub(sb subscription) *subscription {
	s := c.s
	if s.subs == nil {
		s.subs = make([]subscription, 0, 1)
	}
	s.subs = append(s.subs, sb)
	if c.x != nil && c.x.index != nil {
		c.x.index.add(sb.filter, len(s.subs)-1)
	}
	return &s.subs[len(s.subs)-1]
}

// removeSub removes the i-th; the last one takes its place.
func (c *client) removeSub(i int) {
	subs := c.s.subs
	last := len(subs) - 1
	if c.x != nil && c.x.index != nil {
		c.x.index.at[subs[last].filter].i = i
		c.x.index.remove(subs[i].filter)
	}
	subs[i], subs[last] = subs[last], subscription{}
	c.s.subs = subs[:last]
}

// matching yields the subscriptions whose filter matches name. Shared ones are
// not among them. What is yielded stands until the next change.
func (c *client) matching(name []byte) iter.Seq[*subscription] {
	return func(yield func(*subscription) bool) {
		subs, x := c.s.subs, c.index()
		if x == nil {
			for i := range subs {
				if !isShared(subs[i].filter) && topic.Match(subs[i].filter, string(name)) && !yield(&subs[i]) {
					return
				}
			}
			return
		}
		if p := x.at[string(name)]; p != nil && !isShared(subs[p.i].filter) && !yield(&subs[p.i]) {
			return
		}
		for _, list := range x.match(name) {
			for _, sub := range list {
				if _, _, live := sub.Options(); live && !yield(&subs[sub.Owner.i]) {
					return
				}
			}
		}
	}
}

func isShared(filter string) bool { return strings.HasPrefix(filter, "$share/") }

// wants says with which options the session's subscriptions want m; ok is
// false if none does.
func (c *client) wants(m *message) (ids []uint32, qos byte, retain, ok bool) {
	take := func(sb *subscription) {
		o, id := sb.options()
		ok = true
		qos, retain = max(qos, o.QoS()), retain || o.RetainAsPublished()
		if id != 0 {
			ids = append(ids, id)
		}
	}
	if m.share != "" {
		if i := c.find(m.share); i >= 0 {
			take(&c.s.subs[i])
		}
		return ids, qos, retain, ok
	}
	for sb := range c.matching(m.topic) {
		if o, _ := sb.options(); sb.sub != nil && !(o.NoLocal() && m.from == c.s.key) {
			take(sb)
		}
	}
	return ids, qos, retain, ok
}

// mailWants says with which options the subscriptions under im/ want what comes
// under name; ok is false if none does.
func (c *client) mailWants(name []byte) (ids []uint32, qos byte, ok bool) {
	for sb := range c.matching(name) {
		if sb.sub != nil {
			continue
		}
		ok, qos = true, max(qos, sb.opts.QoS())
		if sb.id != 0 {
			ids = append(ids, sb.id)
		}
	}
	return ids, qos, ok
}
