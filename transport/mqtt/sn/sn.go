// Package sn is the codec of MQTT-SN 1.2, MQTT for sensors over datagrams:
// bytes to values and back, no I/O.
//
// A datagram holds one message, whose header says its length and type:
//
//	┌────────┬──────┬───────────┐     ┌──────┬────────────┬──────┬───────────┐
//	│ length │ type │ fields    │ or  │ 0x01 │ length     │ type │ fields    │
//	│ 1 byte │ 1    │ length-2  │     │ 1    │ 2 bytes    │ 1    │ length-4  │
//	└────────┴──────┴───────────┘     └──────┴────────────┴──────┴───────────┘
//
// A topic is named by two bytes: an id that both ends registered, an id known
// beforehand, or a short name of two characters.
package sn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Type is the kind of a message (MQTT-SN 1.2 section 5.2.2).
type Type byte

// The types.
const (
	Advertise     Type = 0x00
	SearchGW      Type = 0x01
	GWInfo        Type = 0x02
	Connect       Type = 0x04
	Connack       Type = 0x05
	WillTopicReq  Type = 0x06
	WillTopic     Type = 0x07
	WillMsgReq    Type = 0x08
	WillMsg       Type = 0x09
	Register      Type = 0x0a
	Regack        Type = 0x0b
	Publish       Type = 0x0c
	Puback        Type = 0x0d
	Pubcomp       Type = 0x0e
	Pubrec        Type = 0x0f
	Pubrel        Type = 0x10
	Subscribe     Type = 0x12
	Suback        Type = 0x13
	Unsubscribe   Type = 0x14
	Unsuback      Type = 0x15
	Pingreq       Type = 0x16
	Pingresp      Type = 0x17
	Disconnect    Type = 0x18
	WillTopicUpd  Type = 0x1a
	WillTopicResp Type = 0x1b
	WillMsgUpd    Type = 0x1c
	WillMsgResp   Type = 0x1d
	// Encapsulated is a message that a forwarder carries for a node that
	// cannot reach us (section 5.5).
	Encapsulated Type = 0xfe
)

var names = map[Type]string{
	Advertise: "ADVERTISE", SearchGW: "SEARCHGW", GWInfo: "GWINFO", Connect: "CONNECT", Connack: "CONNACK",
	WillTopicReq: "WILLTOPICREQ", WillTopic: "WILLTOPIC", WillMsgReq: "WILLMSGREQ", WillMsg: "WILLMSG",
	Register: "REGISTER", Regack: "REGACK", Publish: "PUBLISH", Puback: "PUBACK", Pubcomp: "PUBCOMP",
	Pubrec: "PUBREC", Pubrel: "PUBREL", Subscribe: "SUBSCRIBE", Suback: "SUBACK", Unsubscribe: "UNSUBSCRIBE",
	Unsuback: "UNSUBACK", Pingreq: "PINGREQ", Pingresp: "PINGRESP", Disconnect: "DISCONNECT",
	WillTopicUpd: "WILLTOPICUPD", WillTopicResp: "WILLTOPICRESP", WillMsgUpd: "WILLMSGUPD", WillMsgResp: "WILLMSGRESP",
	Encapsulated: "ENCAPSULATED",
}

func (t Type) String() string {
	if s, ok := names[t]; ok {
		return s
	}
	return fmt.Sprintf("type %#02x", byte(t))
}

// Code is a return code (section 5.3.10).
type Code byte

// The return codes.
const (
	Accepted       Code = 0
	Congestion     Code = 1
	InvalidTopicID Code = 2
	NotSupported   Code = 3
)

func (c Code) String() string {
	switch c {
	case Accepted:
		return "accepted"
	case Congestion:
		return "rejected: congestion"
	case InvalidTopicID:
		return "rejected: invalid topic ID"
	case NotSupported:
		return "rejected: not supported"
	}
	return fmt.Sprintf("code %d", byte(c))
}

// TopicKind says what the two bytes that name a topic are (section 5.3.4).
type TopicKind byte

const (
	// Named: in SUBSCRIBE and UNSUBSCRIBE the topic's name or filter itself,
	// elsewhere an id that was registered.
	Named TopicKind = 0
	// Predefined: an id known to both beforehand.
	Predefined TopicKind = 1
	// Short: two characters, which are the name.
	Short TopicKind = 2
)

// QoSNone is QoS −1: a PUBLISH without a connection, never answered.
const QoSNone = 3

// Flags is the octet of that name (section 5.3.4).
type Flags byte

const (
	flagDup    Flags = 0x80
	flagRetain Flags = 0x10
	flagWill   Flags = 0x08
	flagClean  Flags = 0x04
)

// MakeFlags returns an octet. qos is 0, 1, 2 or QoSNone.
func MakeFlags(dup bool, qos byte, retain, will, clean bool, kind TopicKind) Flags {
	f := Flags(qos&3)<<5 | Flags(kind&3)
	for _, b := range [...]struct {
		on  bool
		bit Flags
	}{{dup, flagDup}, {retain, flagRetain}, {will, flagWill}, {clean, flagClean}} {
		if b.on {
			f |= b.bit
		}
	}
	return f
}

func (f Flags) Dup() bool        { return f&flagDup != 0 }
func (f Flags) QoS() byte        { return byte(f >> 5 & 3) }
func (f Flags) Retain() bool     { return f&flagRetain != 0 }
func (f Flags) Will() bool       { return f&flagWill != 0 }
func (f Flags) Clean() bool      { return f&flagClean != 0 }
func (f Flags) Topic() TopicKind { return TopicKind(f & 3) }

// Message is one message; which fields it has depends on Type.
type Message struct {
	Type  Type
	Flags Flags
	// ID is the MsgId that pairs a request with its answer.
	ID uint16
	// TopicID names the topic by its id, or by a short name (section 5.3.11).
	TopicID uint16
	Code    Code
	// Gateway is the GwId; Radius of SEARCHGW and of an encapsulated
	// message's Ctrl.
	Gateway, Radius byte
	// Duration is in seconds: of ADVERTISE, CONNECT (keep alive) and
	// DISCONNECT (sleep; HasDuration tells zero from none).
	Duration    uint16
	HasDuration bool
	// Name is a client id, topic name, topic filter or will topic.
	Name string
	// Data is a payload, a will message, a gateway's address, or the id of
	// the node an encapsulated message is from. It aliases the input.
	Data []byte
	// Inner is the encapsulated message. It aliases the input.
	Inner []byte
}

// Errors of Decode.
var (
	ErrLength  = errors.New("mqtt-sn: length does not fit the datagram")
	ErrType    = errors.New("mqtt-sn: no such message type")
	ErrShort   = errors.New("mqtt-sn: message is too short for its type")
	ErrLong    = errors.New("mqtt-sn: message is too long for its type")
	ErrUTF8    = errors.New("mqtt-sn: name is not UTF-8, or holds U+0000")
	ErrTopic   = errors.New("mqtt-sn: topic id type is reserved")
	ErrVersion = errors.New("mqtt-sn: protocol id is not 1")
)

// protocolID is that of 1.2, and the only one (section 5.3.8).
const protocolID = 1

// fields reads the fields of a message, one after another.
type fields struct {
	b   []byte
	err error
}

func (f *fields) byte() byte {
	if len(f.b) < 1 {
		f.err = ErrShort
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) uint16() uint16 {
	if len(f.b) < 2 {
		f.err = ErrShort
		return 0
	}
	v := binary.BigEndian.Uint16(f.b)
	f.b = f.b[2:]
	return v
}

func (f *fields) rest() []byte {
	b := f.b
	f.b = nil
	return b
}

func (f *fields) name() string {
	b := f.rest()
	if !utf8.Valid(b) {
		f.err = ErrUTF8
		return ""
	}
	for _, c := range b {
		if c == 0 {
			f.err = ErrUTF8
		}
	}
	return string(b)
}

// Decode reads the one message of a datagram.
func Decode(p []byte) (Message, error) {
	body, err := unframe(p)
	if err != nil {
		return Message{}, err
	}
	m := Message{Type: Type(body[0])}
	if m.Type == Encapsulated {
		// The length covers the header alone; the inner message follows it.
		return decodeEncapsulated(p)
	}
	f := fields{b: body[1:]}
	switch m.Type {
	case Advertise:
		m.Gateway, m.Duration = f.byte(), f.uint16()
	case SearchGW:
		m.Radius = f.byte()
	case GWInfo:
		m.Gateway, m.Data = f.byte(), f.rest()
	case Connect:
		m.Flags = Flags(f.byte())
		if v := f.byte(); f.err == nil && v != protocolID {
			return m, ErrVersion
		}
		m.Duration, m.Name = f.uint16(), f.name()
	case Connack, WillTopicResp, WillMsgResp:
		m.Code = Code(f.byte())
	case WillTopicReq, WillMsgReq, Pingresp:
	case WillTopic, WillTopicUpd:
		// "An empty WILLTOPIC message is a WILLTOPIC message without Flags
		// and WillTopic field ... it is used to delete the Will" section 5.4.7
		if len(f.b) > 0 {
			m.Flags, m.Name = Flags(f.byte()), f.name()
		}
	case WillMsg, WillMsgUpd:
		m.Data = f.rest()
	case Register:
		m.TopicID, m.ID, m.Name = f.uint16(), f.uint16(), f.name()
	case Regack, Puback:
		m.TopicID, m.ID, m.Code = f.uint16(), f.uint16(), Code(f.byte())
	case Publish:
		m.Flags, m.TopicID, m.ID, m.Data = Flags(f.byte()), f.uint16(), f.uint16(), f.rest()
		if f.err == nil && m.Flags.Topic() > Short {
			return m, ErrTopic
		}
	case Pubcomp, Pubrec, Pubrel, Unsuback:
		m.ID = f.uint16()
	case Subscribe, Unsubscribe:
		m.Flags, m.ID = Flags(f.byte()), f.uint16()
		switch m.Flags.Topic() {
		case Named:
			m.Name = f.name()
		case Predefined, Short:
			m.TopicID = f.uint16()
		default:
			return m, ErrTopic
		}
	case Suback:
		m.Flags, m.TopicID, m.ID, m.Code = Flags(f.byte()), f.uint16(), f.uint16(), Code(f.byte())
	case Pingreq:
		m.Name = f.name()
	case Disconnect:
		if len(f.b) > 0 {
			m.Duration, m.HasDuration = f.uint16(), true
		}
	default:
		return m, fmt.Errorf("%w: %#02x", ErrType, body[0])
	}
	if f.err == nil && len(f.b) > 0 {
		f.err = ErrLong
	}
	if f.err != nil {
		return m, fmt.Errorf("%w: %v", f.err, m.Type)
	}
	return m, nil
}

// unframe takes off the length. What it returns holds at least the type.
func unframe(p []byte) ([]byte, error) {
	n, head := 0, 1
	switch {
	case len(p) < 2:
		return nil, ErrLength
	case p[0] == 1:
		if len(p) < 4 {
			return nil, ErrLength
		}
		n, head = int(binary.BigEndian.Uint16(p[1:])), 3
	default:
		n = int(p[0])
	}
	if n <= head || n > len(p) || n < len(p) && Type(p[head]) != Encapsulated {
		return nil, ErrLength
	}
	return p[head:n], nil
}

func decodeEncapsulated(p []byte) (Message, error) {
	body, err := unframe(p)
	if err != nil {
		return Message{}, err
	}
	f := fields{b: body[1:]}
	m := Message{Type: Encapsulated, Radius: f.byte() & 3, Data: f.rest(), Inner: p[headLen(p)+len(body):]}
	switch {
	case f.err != nil:
		return m, fmt.Errorf("%w: %v", f.err, m.Type)
	case len(m.Inner) == 0:
		return m, fmt.Errorf("%w: %v", ErrShort, m.Type)
	}
	return m, nil
}

func headLen(p []byte) int {
	if p[0] == 1 {
		return 3
	}
	return 1
}

// Append appends the encoding of m to b.
func Append(b []byte, m Message) []byte {
	start := len(b)
	b = append(b, 0, byte(m.Type))
	u16 := binary.BigEndian.AppendUint16
	switch m.Type {
	case Advertise:
		b = u16(append(b, m.Gateway), m.Duration)
	case SearchGW:
		b = append(b, m.Radius)
	case GWInfo:
		b = append(append(b, m.Gateway), m.Data...)
	case Connect:
		b = append(u16(append(b, byte(m.Flags), protocolID), m.Duration), m.Name...)
	case Connack, WillTopicResp, WillMsgResp:
		b = append(b, byte(m.Code))
	case WillTopic, WillTopicUpd:
		if m.Name != "" || m.Flags != 0 {
			b = append(append(b, byte(m.Flags)), m.Name...)
		}
	case WillMsg, WillMsgUpd:
		b = append(b, m.Data...)
	case Register:
		b = append(u16(u16(b, m.TopicID), m.ID), m.Name...)
	case Regack, Puback:
		b = append(u16(u16(b, m.TopicID), m.ID), byte(m.Code))
	case Publish:
		b = append(u16(u16(append(b, byte(m.Flags)), m.TopicID), m.ID), m.Data...)
	case Pubcomp, Pubrec, Pubrel, Unsuback:
		b = u16(b, m.ID)
	case Subscribe, Unsubscribe:
		b = u16(append(b, byte(m.Flags)), m.ID)
		if m.Flags.Topic() == Named {
			b = append(b, m.Name...)
		} else {
			b = u16(b, m.TopicID)
		}
	case Suback:
		b = append(u16(u16(append(b, byte(m.Flags)), m.TopicID), m.ID), byte(m.Code))
	case Pingreq:
		b = append(b, m.Name...)
	case Disconnect:
		if m.HasDuration {
			b = u16(b, m.Duration)
		}
	case Encapsulated:
		b = append(append(b, m.Radius), m.Data...)
	}
	b = frame(b, start)
	return append(b, m.Inner...)
}

// frame writes the length of the message that begins at start.
func frame(b []byte, start int) []byte {
	n := len(b) - start
	if n < 256 {
		b[start] = byte(n)
		return b
	}
	// "If the message length is smaller than 256 octets, it is recommended to
	// use the shorter 1-octet format" section 5.2.1; else three octets.
	b = append(b, 0, 0)
	copy(b[start+3:], b[start+1:])
	b[start] = 1
	binary.BigEndian.PutUint16(b[start+1:], uint16(n+2))
	return b
}

// MaxLength is the longest message that the length field can say.
const MaxLength = 65535

// String is the text form for logs and dialogues.
func (m Message) String() string {
	s := m.Type.String()
	if m.Name != "" {
		s += fmt.Sprintf(" %q", m.Name)
	}
	if m.TopicID != 0 {
		s += fmt.Sprintf(" topic %d", m.TopicID)
	}
	if m.ID != 0 {
		s += fmt.Sprintf(" id %d", m.ID)
	}
	if m.Flags != 0 {
		s += fmt.Sprintf(" flags %#02x", byte(m.Flags))
	}
	if m.Duration != 0 || m.HasDuration {
		s += fmt.Sprintf(" %d s", m.Duration)
	}
	switch m.Type {
	case Connack, Regack, Puback, Suback, WillTopicResp, WillMsgResp:
		s += " " + m.Code.String()
	}
	if len(m.Data) > 0 {
		s += fmt.Sprintf(" %d bytes", len(m.Data))
	}
	return s
}
