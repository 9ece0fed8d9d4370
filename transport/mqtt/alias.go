package mqtt

import "github.com/posthouse-im/posthouse/transport/mqtt/packet"

// way is how a PUBLISH gets to a client's socket. Between Send and Write there
// is no order, so that a topic which goes both ways has an alias for each: else
// one that the client has not been told could be used.
type way uint8

const (
	fromMemory way = iota // Conn.Send
	fromBox               // Conn.Write
	ways
)

// aliases are the topic aliases given to a client, MQTT 5.0 section 3.3.2.3.4.
// They last as long as the connection; the topics that come first have them.
//
//	"A Server MUST NOT send a PUBLISH packet with a Topic Alias greater than the
//	Topic Alias Maximum value sent by the Client in the CONNECT packet"
//	[MQTT-3.1.2-26]
type aliases struct {
	by   [ways]map[string]uint16
	used uint16
	size int // of the topics
}

// maxAliased is how many bytes of topics may have an alias, in each direction of
// a connection.
const maxAliased = 64 << 10

func (a *aliases) give(w way, topic []byte, most uint16) (alias uint16, known bool) {
	if n, ok := a.by[w][string(topic)]; ok {
		return n, true
	}
	if a.used >= most || a.size+len(topic) > maxAliased {
		return 0, false
	}
	if a.by[w] == nil {
		a.by[w] = map[string]uint16{}
	}
	a.used++
	a.size += len(topic)
	a.by[w][string(topic)] = a.used
	return a.used, false
}

// forget takes back what was given for topic: the client has not been told.
func (a *aliases) forget(w way, topic []byte) {
	if a.by[w][string(topic)] == a.used { // else another was given since
		a.used--
	}
	delete(a.by[w], string(topic))
	a.size -= len(topic)
}

// aliasFor is what a PUBLISH from a box says in the place of topic: the name,
// empty where the client knows the alias, and the property. Fresh says that the
// alias was given for this packet.
func (c *client) aliasFor(topic []byte) (name, prop []byte, fresh bool) {
	if c.aliasMax == 0 {
		return topic, nil, false
	}
	c.mu.Lock()
	alias, known := c.aliases.give(fromBox, topic, c.aliasMax)
	c.mu.Unlock()
	if alias == 0 {
		return topic, nil, false
	}
	prop = packet.AppendNum(nil, packet.TopicAlias, uint32(alias))
	if known {
		return nil, prop, false
	}
	return topic, prop, true
}
