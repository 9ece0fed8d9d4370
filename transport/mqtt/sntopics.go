package mqtt

import (
	"slices"

	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// snTopics are the topic ids of one sensor, which both ends may give names to
// (section 6.5).
type snTopics struct {
	byID   map[uint16]*snTopic
	byName map[string]*snTopic
	order  []*snTopic // oldest first
	bytes  int        // of names
	last   uint16
}

type snTopic struct {
	name  string
	id    uint16
	own   bool // the gateway registered it
	known bool // to the sensor: it registered it, or has answered
}

// snTopicName is how many bytes a topic's name may have on the average, so that
// a bound on topics bounds memory.
const snTopicName = 64

// add gives name an id, or returns the one it has. Nil is returned if there are
// most already, but not if own says that the gateway registers it: then an old
// one gives way, one that the gateway registered first. A sensor that still
// uses that is told that it is invalid, and registers it again.
func (t *snTopics) add(name string, most int, own bool) *snTopic {
	if tp := t.byName[name]; tp != nil {
		return tp
	}
	for len(t.order) > 0 && (len(t.order) >= most || t.bytes+len(name) > most*snTopicName) {
		if !own {
			return nil
		}
		i := max(0, slices.IndexFunc(t.order, func(tp *snTopic) bool { return tp.own }))
		t.forget(t.order[i])
	}
	if t.byID == nil {
		t.byID, t.byName = map[uint16]*snTopic{}, map[string]*snTopic{}
	}
	for t.last++; t.last == 0 || t.last == 0xffff || t.byID[t.last] != nil; t.last++ { // those two are reserved, section 5.3.11
	}
	tp := &snTopic{name: name, id: t.last, own: own}
	t.byID[tp.id], t.byName[name] = tp, tp
	t.order = append(t.order, tp)
	t.bytes += len(name)
	return tp
}

func (t *snTopics) forget(tp *snTopic) {
	if t.byID[tp.id] != tp {
		return
	}
	delete(t.byID, tp.id)
	delete(t.byName, tp.name)
	t.bytes -= len(tp.name)
	t.order = slices.DeleteFunc(t.order, func(o *snTopic) bool { return o == tp })
}

// shortName is the topic that two bytes are (section 5.3.11).
func shortName(id uint16) string { return string([]byte{byte(id >> 8), byte(id)}) }

// topicName is what the two bytes in a message of the sensor name; empty if
// nothing.
func (s *sensor) topicName(kind sn.TopicKind, id uint16) string {
	switch kind {
	case sn.Predefined:
		return s.g.names[id]
	case sn.Short:
		return shortName(id)
	}
	if tp := s.topics.byID[id]; tp != nil {
		return tp.name
	}
	return ""
}

// nameFor is how to say a topic to the sensor. Tp is not nil if the sensor has
// to be told first.
func (s *sensor) nameFor(topic string) (kind sn.TopicKind, id uint16, tp *snTopic) {
	if tp := s.topics.byName[topic]; tp != nil && tp.known {
		return sn.Named, tp.id, nil
	}
	if id, ok := s.g.ids[topic]; ok {
		return sn.Predefined, id, nil
	}
	if len(topic) == 2 {
		return sn.Short, uint16(topic[0])<<8 | uint16(topic[1]), nil
	}
	return sn.Named, 0, s.topics.add(topic, s.g.cfg.MaxTopics, true)
}
