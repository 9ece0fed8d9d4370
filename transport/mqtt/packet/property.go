package packet

import (
	"encoding/binary"
	"fmt"
)

// Prop is the identifier of a property, MQTT 5.0 section 2.2.2.2.
type Prop byte

const (
	PayloadFormat       Prop = 0x01
	MessageExpiry       Prop = 0x02
	ContentType         Prop = 0x03
	ResponseTopic       Prop = 0x08
	CorrelationData     Prop = 0x09
	SubscriptionID      Prop = 0x0B
	SessionExpiry       Prop = 0x11
	AssignedClientID    Prop = 0x12
	ServerKeepAlive     Prop = 0x13
	AuthMethod          Prop = 0x15
	AuthData            Prop = 0x16
	RequestProblem      Prop = 0x17
	WillDelay           Prop = 0x18
	RequestResponse     Prop = 0x19
	ResponseInformation Prop = 0x1A
	ServerReference     Prop = 0x1C
	ReasonString        Prop = 0x1F
	ReceiveMaximum      Prop = 0x21
	TopicAliasMaximum   Prop = 0x22
	TopicAlias          Prop = 0x23
	MaximumQoS          Prop = 0x24
	RetainAvailable     Prop = 0x25
	UserProperty        Prop = 0x26
	MaximumPacketSize   Prop = 0x27
	WildcardAvailable   Prop = 0x28
	SubIDsAvailable     Prop = 0x29
	SharedAvailable     Prop = 0x2A

	propEnd = 0x2B
)

// form is how a property's value is written.
type form byte

const (
	none form = iota
	fByte
	fBool // a byte that may only be 0 or 1
	fUint16
	fUint32
	fLength
	fString
	fBinary
	fPair
)

// will stands for the will's properties inside CONNECT.
const will Type = 0

func in(ts ...Type) (m uint16) {
	for _, t := range ts {
		m |= 1 << t
	}
	return m
}

var acks = []Type{CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}

// props is table 2-4 of MQTT 5.0.
var props = [propEnd]struct {
	name string
	form form
	in   uint16
	pos  bool // zero is a protocol error
}{
	PayloadFormat:       {"payload format indicator", fBool, in(PUBLISH, will), false},
	MessageExpiry:       {"message expiry interval", fUint32, in(PUBLISH, will), false},
	ContentType:         {"content type", fString, in(PUBLISH, will), false},
	ResponseTopic:       {"response topic", fString, in(PUBLISH, will), false},
	CorrelationData:     {"correlation data", fBinary, in(PUBLISH, will), false},
	SubscriptionID:      {"subscription identifier", fLength, in(PUBLISH, SUBSCRIBE), true},
	SessionExpiry:       {"session expiry interval", fUint32, in(CONNECT, CONNACK, DISCONNECT), false},
	AssignedClientID:    {"assigned client identifier", fString, in(CONNACK), false},
	ServerKeepAlive:     {"server keep alive", fUint16, in(CONNACK), false},
	AuthMethod:          {"authentication method", fString, in(CONNECT, CONNACK, AUTH), false},
	AuthData:            {"authentication data", fBinary, in(CONNECT, CONNACK, AUTH), false},
	RequestProblem:      {"request problem information", fBool, in(CONNECT), false},
	WillDelay:           {"will delay interval", fUint32, in(will), false},
	RequestResponse:     {"request response information", fBool, in(CONNECT), false},
	ResponseInformation: {"response information", fString, in(CONNACK), false},
	ServerReference:     {"server reference", fString, in(CONNACK, DISCONNECT), false},
	ReasonString:        {"reason string", fString, in(acks...), false},
	ReceiveMaximum:      {"receive maximum", fUint16, in(CONNECT, CONNACK), true},
	TopicAliasMaximum:   {"topic alias maximum", fUint16, in(CONNECT, CONNACK), false},
	TopicAlias:          {"topic alias", fUint16, in(PUBLISH), false},
	MaximumQoS:          {"maximum QoS", fBool, in(CONNACK), false},
	RetainAvailable:     {"retain available", fBool, in(CONNACK), false},
	UserProperty:        {"user property", fPair, 0xffff, false},
	MaximumPacketSize:   {"maximum packet size", fUint32, in(CONNECT, CONNACK), true},
	WildcardAvailable:   {"wildcard subscription available", fBool, in(CONNACK), false},
	SubIDsAvailable:     {"subscription identifier available", fBool, in(CONNACK), false},
	SharedAvailable:     {"shared subscription available", fBool, in(CONNACK), false},
}

// Pair is a user property.
type Pair struct{ Name, Value string }

// Properties are the properties of one packet, in the sender's order. Numbers
// are kept apart from text, so that a packet without text allocates little.
type Properties struct {
	set  uint64 // a bit per Prop that is there
	nums []num
	strs []str
	// User are the user properties in the sender's order.
	User []Pair
	// SubscriptionIDs are those of a PUBLISH from the server.
	SubscriptionIDs []uint32
}

type num struct {
	id Prop
	v  uint32
}

type str struct {
	id Prop
	v  string
}

// Has reports whether p is there.
func (ps *Properties) Has(p Prop) bool { return ps.set>>p&1 != 0 }

// Num returns the value of a number, or absent where it is not there.
func (ps *Properties) Num(p Prop, absent uint32) uint32 {
	if ps.Has(p) {
		for _, n := range ps.nums {
			if n.id == p {
				return n.v
			}
		}
	}
	return absent
}

// Text returns the value of a string or of binary data.
func (ps *Properties) Text(p Prop) string {
	if ps.Has(p) {
		for _, s := range ps.strs {
			if s.id == p {
				return s.v
			}
		}
	}
	return ""
}

// Get returns the first user property called name.
func (ps *Properties) Get(name string) (value string, ok bool) {
	for _, u := range ps.User {
		if u.Name == name {
			return u.Value, true
		}
	}
	return "", false
}

// SetNum adds or replaces a number.
func (ps *Properties) SetNum(p Prop, v uint32) {
	if p == SubscriptionID {
		ps.SubscriptionIDs = append(ps.SubscriptionIDs, v)
		return
	}
	for i := range ps.nums {
		if ps.nums[i].id == p {
			ps.nums[i].v = v
			return
		}
	}
	ps.set |= 1 << p
	ps.nums = append(ps.nums, num{p, v})
}

// SetText adds or replaces a string or binary data.
func (ps *Properties) SetText(p Prop, v string) {
	for i := range ps.strs {
		if ps.strs[i].id == p {
			ps.strs[i].v = v
			return
		}
	}
	ps.set |= 1 << p
	ps.strs = append(ps.strs, str{p, v})
}

// properties reads the properties of a packet of type t.
func (r *reader) properties(t Type, ps *Properties) {
	*ps = Properties{}
	n := r.length("property length")
	if n == 0 {
		return
	}
	q := reader{p: r.take(n, "properties")}
	if r.err != nil {
		return
	}
	for len(q.p) > 0 && q.err == nil {
		q.property(t, ps)
	}
	if q.err != nil {
		r.fail(q.err)
	}
}

// property reads one property.
func (r *reader) property(t Type, ps *Properties) {
	which := r.length("property identifier")
	if r.err != nil {
		return
	}
	// "A Control Packet which contains an Identifier which is not valid for
	// its packet type, or contains a value not of the specified data type, is
	// a Malformed Packet" MQTT 5.0 section 2.2.2.2
	if which >= propEnd || props[which].form == none {
		r.fail(malformed(fmt.Sprintf("unknown property 0x%02x", which)))
		return
	}
	id := Prop(which)
	def := &props[id]
	var n uint32
	var s, s2 string
	switch def.form {
	case fByte, fBool:
		n = uint32(r.byte(def.name))
	case fUint16:
		n = uint32(r.uint16(def.name))
	case fUint32:
		n = r.uint32(def.name)
	case fLength:
		n = uint32(r.length(def.name))
	case fString:
		s = r.string(def.name)
	case fBinary:
		s = string(r.bytes(def.name))
	case fPair:
		s = r.string(def.name)
		s2 = r.string(def.name)
	}
	if r.err != nil {
		return
	}
	if def.in>>t&1 == 0 {
		// Not section 2.2.2.2, which has this malformed as well: other servers
		// answer with a protocol error but for SUBSCRIBE and UNSUBSCRIBE, and
		// suites expect that of us.
		if t == SUBSCRIBE || t == UNSUBSCRIBE {
			r.fail(malformed(def.name + " does not belong in this packet"))
		} else {
			r.fail(protocol(def.name + " does not belong in this packet"))
		}
		return
	}
	if def.form == fBool && n > 1 {
		r.fail(protocol(def.name + " is neither 0 nor 1"))
		return
	}
	if def.pos && n == 0 {
		r.fail(protocol(def.name + " is 0"))
		return
	}
	switch {
	case id == UserProperty:
		ps.set |= 1 << id
		ps.User = append(ps.User, Pair{s, s2})
		return
	case id == SubscriptionID && t == PUBLISH:
		ps.set |= 1 << id
		ps.SubscriptionIDs = append(ps.SubscriptionIDs, n)
		return
	case ps.Has(id):
		// "It is a Protocol Error to include the ... more than once", with
		// each property of section 3.
		r.fail(protocol(def.name + " stands twice"))
		return
	case id == SubscriptionID:
		ps.SubscriptionIDs = append(ps.SubscriptionIDs, n)
	}
	ps.set |= 1 << id
	switch def.form {
	case fString, fBinary:
		ps.strs = append(ps.strs, str{id, s})
	default:
		ps.nums = append(ps.nums, num{id, n})
	}
}

// append appends the properties with their length in front.
func (ps *Properties) append(b []byte) []byte {
	if ps == nil || len(ps.nums)+len(ps.strs)+len(ps.User)+len(ps.SubscriptionIDs) == 0 {
		return append(b, 0)
	}
	return closeLen(ps.AppendList(b), len(b))
}

// AppendList appends the properties without their length.
func (ps *Properties) AppendList(b []byte) []byte {
	for _, n := range ps.nums {
		if n.id != SubscriptionID {
			b = AppendNum(b, n.id, n.v)
		}
	}
	for _, s := range ps.strs {
		b = append(b, byte(s.id))
		b = appendString(b, s.v)
	}
	for _, id := range ps.SubscriptionIDs {
		b = AppendNum(b, SubscriptionID, id)
	}
	for _, u := range ps.User {
		b = append(b, byte(UserProperty))
		b = appendString(b, u.Name)
		b = appendString(b, u.Value)
	}
	return b
}

// AppendNum appends one numeric property.
func AppendNum(b []byte, p Prop, v uint32) []byte {
	b = append(b, byte(p))
	switch props[p].form {
	case fUint16:
		return binary.BigEndian.AppendUint16(b, uint16(v))
	case fUint32:
		return binary.BigEndian.AppendUint32(b, v)
	case fLength:
		return appendLen(b, int(v))
	}
	return append(b, byte(v))
}

// AppendForward appends, of the properties of a PUBLISH or of a will as they
// stood, those that a server forwards unaltered, in their order: all but Topic
// Alias, which is between two ends, Message Expiry, which counts down, and Will
// Delay.
//
// "The Server MUST send the ... unaltered" [MQTT-3.3.2-4] [MQTT-3.3.2-15]
// [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]
func AppendForward(b, raw []byte) []byte {
	r := reader{p: raw}
	for len(r.p) > 0 {
		from := r.p
		id := Prop(r.byte(""))
		if id >= propEnd {
			break // cannot be: they have been read before
		}
		switch props[id].form {
		case fByte, fBool:
			r.take(1, "")
		case fUint16:
			r.take(2, "")
		case fUint32:
			r.take(4, "")
		case fLength:
			r.length("")
		case fString, fBinary:
			r.bytes("")
		case fPair:
			r.bytes("")
			r.bytes("")
		}
		if r.err != nil {
			break
		}
		if id != TopicAlias && id != MessageExpiry && id != WillDelay {
			b = append(b, from[:len(from)-len(r.p)]...)
		}
	}
	return b
}
