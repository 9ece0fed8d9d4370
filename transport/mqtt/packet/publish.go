package packet

import (
	"bytes"
	"encoding/binary"
)

// Publish is PUBLISH, section 3.3. Topic, Payload and RawProperties point into
// the input after Decode.
type Publish struct {
	Topic   []byte
	Payload []byte
	ID      uint16 // zero at QoS 0
	QoS     byte
	Dup     bool
	Retain  bool
	// Alias is the topic alias, zero if there is none.
	Alias uint16
	// RawProperties are the properties as they stood, without their length.
	RawProperties []byte
	// Properties are the same, taken apart; nil if there are none.
	Properties *Properties
}

// Decode reads the body of a PUBLISH.
func (p *Publish) Decode(v Version, first byte, body []byte) error {
	*p = Publish{QoS: first >> 1 & 3, Dup: first&8 != 0, Retain: first&1 != 0}
	// "A PUBLISH Packet MUST NOT have both QoS bits set to 1" [MQTT-3.3.1-4]
	if p.QoS == 3 {
		return malformed("QoS 3")
	}
	// "The DUP flag MUST be set to 0 for all QoS 0 messages" [MQTT-3.3.1-2]
	if p.Dup && p.QoS == 0 {
		return malformed("DUP at QoS 0")
	}
	r := reader{p: body}
	p.Topic = r.bytes("topic name")
	wild, ok := scanTopic(p.Topic)
	if r.err == nil && !ok {
		return malformed("topic name is not a UTF-8 string")
	}
	if p.QoS > 0 {
		// "a SUBSCRIBE, UNSUBSCRIBE or PUBLISH (QoS > 0) ... MUST contain a
		// non-zero 16-bit Packet Identifier" [MQTT-2.2.1-3]
		if p.ID = r.uint16("packet identifier"); r.err == nil && p.ID == 0 {
			return protocol("packet identifier 0")
		}
	}
	if v == V5 {
		if len(r.p) > 0 && r.p[0] == 0 { // no properties, the usual case
			r.p = r.p[1:]
		} else {
			p.properties(&r)
		}
	}
	if r.err != nil {
		return r.err
	}
	// "The Topic Name in the PUBLISH packet MUST NOT contain wildcard
	// characters" [MQTT-3.3.2-2]
	if wild {
		return malformed("topic name with a wildcard")
	}
	// "All Topic Names and Topic Filters MUST be at least one character long"
	// [MQTT-4.7.3-1]; "It is a Protocol Error if the Topic Name is zero length
	// and there is no Topic Alias" MQTT 5.0 section 3.3.2.1. For the code see
	// Error.
	if len(p.Topic) == 0 && p.Alias == 0 {
		return malformed("empty topic name")
	}
	p.Payload = r.p
	return nil
}

func (p *Publish) properties(r *reader) {
	start := r.p
	ps := new(Properties)
	r.properties(PUBLISH, ps)
	if r.err != nil {
		return
	}
	head := reader{p: start}
	n := head.length("")
	p.RawProperties = head.p[:n:n]
	p.Properties = ps
	if ps.Has(TopicAlias) {
		// "A Topic Alias value of 0 is not permitted" [MQTT-3.3.2-8]
		if p.Alias = uint16(ps.Num(TopicAlias, 0)); p.Alias == 0 {
			r.fail(&Error{TopicAliasInvalid, "topic alias 0"})
			return
		}
	}
	// "The Response Topic MUST NOT contain wildcard characters" [MQTT-3.3.2-14]
	if ps.Has(ResponseTopic) && !ValidTopic([]byte(ps.Text(ResponseTopic))) {
		r.fail(protocol("response topic with a wildcard"))
	}
}

// scanTopic looks for wildcards, and says as ValidText does whether t is a UTF-8
// encoded string.
func scanTopic(t []byte) (wild, ok bool) {
	for _, c := range t {
		if c < 0x20 || c >= 0x7f {
			return bytes.IndexByte(t, '+') >= 0 || bytes.IndexByte(t, '#') >= 0, ValidText(t)
		}
		if c == '+' || c == '#' {
			wild = true
		}
	}
	return wild, true
}

// ValidTopic reports whether t, a UTF-8 string, may be published to: it is not
// empty and has no wildcard.
func ValidTopic(t []byte) bool {
	return len(t) > 0 && bytes.IndexByte(t, '+') < 0 && bytes.IndexByte(t, '#') < 0
}

// Append appends the packet.
func (p *Publish) Append(b []byte, v Version) []byte {
	var list []byte
	if v == V5 && p.Properties != nil {
		list = p.Properties.AppendList(nil)
	}
	return AppendPublish(b, v, p.Flags(), p.Topic, p.ID, list, nil, p.Payload)
}

// Flags is the lower half of the first byte.
func (p *Publish) Flags() byte {
	f := p.QoS << 1
	if p.Dup {
		f |= 8
	}
	if p.Retain {
		f |= 1
	}
	return f
}

// AppendPublish appends a PUBLISH. Flags has DUP, QoS and RETAIN as they stand
// in the first byte; id is left out at QoS 0. Props and more are properties
// without their length, and are left out below 5.0.
func AppendPublish(b []byte, v Version, flags byte, topic []byte, id uint16, props, more, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	if flags&6 != 0 {
		n += 2
	}
	pn := len(props) + len(more)
	if v == V5 {
		n += lenSize(pn) + pn
	}
	b = append(b, byte(PUBLISH)<<4|flags)
	b = appendLen(b, n)
	b = appendBytes(b, topic)
	if flags&6 != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if v == V5 {
		b = appendLen(b, pn)
		b = append(b, props...)
		b = append(b, more...)
	}
	return append(b, payload...)
}

// PublishSize is how many bytes AppendPublish appends, where pn is the length
// of all properties.
func PublishSize(v Version, flags byte, topic, pn, payload int) int {
	n := 2 + topic + payload
	if flags&6 != 0 {
		n += 2
	}
	if v == V5 {
		n += lenSize(pn) + pn
	}
	return 1 + lenSize(n) + n
}
