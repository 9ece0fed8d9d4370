package packet

import (
	"encoding/binary"
	"fmt"
)

// Ack is PUBACK, PUBREC, PUBREL or PUBCOMP, sections 3.4 to 3.7.
type Ack struct {
	ID   uint16
	Code Code
	// Properties is nil if there are none.
	Properties *Properties
}

// ackFlags is the lower half of the first byte of an acknowledgement.
func ackFlags(t Type) byte {
	if t == PUBREL {
		return 2 // [MQTT-3.6.1-1]
	}
	return 0
}

// again takes DUP out of the first byte of PUBREL, SUBSCRIBE and UNSUBSCRIBE,
// which a client of 3.1 sets where it sends them a second time: 3.1 section 2.1.
func again(v Version, first byte) byte {
	switch t := Type(first >> 4); {
	case v == V31 && (t == PUBREL || t == SUBSCRIBE || t == UNSUBSCRIBE):
		return first &^ 8
	}
	return first
}

// Decode reads the body of the acknowledgement that first names.
func (a *Ack) Decode(v Version, first byte, body []byte) error {
	*a = Ack{}
	t := Type(first >> 4)
	if err := flags(again(v, first), ackFlags(t)); err != nil {
		return err
	}
	r := reader{p: body}
	a.ID = r.uint16("packet identifier")
	if r.err == nil && a.ID == 0 { // [MQTT-2.2.1-3]
		return protocol("packet identifier 0")
	}
	if v == V5 && len(r.p) > 0 {
		if a.Code = Code(r.byte("reason code")); !a.Code.valid(t) {
			return protocol(fmt.Sprintf("%s with reason code 0x%02x", t, byte(a.Code)))
		}
		if len(r.p) > 0 {
			a.Properties = new(Properties)
			r.properties(t, a.Properties)
		}
	}
	return r.done(t)
}

// AppendAck appends an acknowledgement. "The Reason Code and Property Length
// can be omitted if the Reason Code is 0x00 (Success) and there are no
// Properties" MQTT 5.0 section 3.4.2.1
func AppendAck(b []byte, v Version, t Type, id uint16, code Code, reason string) []byte {
	first := byte(t)<<4 | ackFlags(t)
	switch {
	case v != V5 || code == Success && reason == "":
		return append(b, first, 2, byte(id>>8), byte(id))
	case reason == "":
		return append(b, first, 3, byte(id>>8), byte(id), byte(code))
	}
	b = append(b, first)
	at := len(b)
	b = append(b, byte(id>>8), byte(id), byte(code))
	b = appendReason(b, reason)
	return closeLen(b, at)
}

// AckSize is how many bytes AppendAck appends to 5.0 at most, if there is a reason.
func AckSize(reason string) int {
	n := 3 + len(reason)
	n += lenSize(n) + 3
	return 1 + lenSize(n) + n
}

// appendReason appends properties that are a reason string or none.
func appendReason(b []byte, reason string) []byte {
	if reason == "" {
		return append(b, 0)
	}
	b = appendLen(b, 3+len(reason))
	b = append(b, byte(ReasonString))
	return appendString(b, reason)
}

// Disconnect is DISCONNECT, section 3.14.
type Disconnect struct {
	Code       Code
	Properties Properties
}

// Decode reads the body of a DISCONNECT.
func (d *Disconnect) Decode(v Version, first byte, body []byte) error {
	*d = Disconnect{}
	if err := flags(first, 0); err != nil { // [MQTT-3.14.1-1]
		return err
	}
	r := reader{p: body}
	if v == V5 && len(body) > 0 {
		if d.Code = Code(r.byte("reason code")); !d.Code.valid(DISCONNECT) {
			return protocol(fmt.Sprintf("DISCONNECT with reason code 0x%02x", byte(d.Code)))
		}
		if len(r.p) > 0 {
			r.properties(DISCONNECT, &d.Properties)
		}
	}
	return r.done(DISCONNECT)
}

// Append appends the packet.
func (d *Disconnect) Append(b []byte, v Version) []byte {
	if v != V5 {
		return append(b, byte(DISCONNECT)<<4, 0)
	}
	return appendShort(b, DISCONNECT, d.Code, &d.Properties)
}

// Auth is AUTH, section 3.15.
type Auth struct {
	Code       Code
	Properties Properties
}

// Decode reads the body of an AUTH.
func (a *Auth) Decode(first byte, body []byte) error {
	*a = Auth{}
	if err := flags(first, 0); err != nil { // [MQTT-3.15.1-1]
		return err
	}
	r := reader{p: body}
	if len(body) > 0 {
		if a.Code = Code(r.byte("reason code")); !a.Code.valid(AUTH) {
			return protocol(fmt.Sprintf("AUTH with reason code 0x%02x", byte(a.Code)))
		}
		if len(r.p) > 0 {
			r.properties(AUTH, &a.Properties)
		}
	}
	return r.done(AUTH)
}

// Append appends the packet.
func (a *Auth) Append(b []byte) []byte { return appendShort(b, AUTH, a.Code, &a.Properties) }

// appendShort appends a packet of a code and properties, both left out where
// they say nothing.
func appendShort(b []byte, t Type, code Code, ps *Properties) []byte {
	b = append(b, byte(t)<<4)
	at := len(b)
	switch {
	case len(ps.nums)+len(ps.strs)+len(ps.User) > 0:
		b = append(b, byte(code))
		b = ps.append(b)
	case code != Success:
		b = append(b, byte(code))
	}
	return closeLen(b, at)
}

// DecodeEmpty reads PINGREQ, PINGRESP, or a 3.1.1 DISCONNECT.
func DecodeEmpty(first byte, body []byte) error {
	if err := flags(first, 0); err != nil {
		return err
	}
	r := reader{p: body}
	return r.done(Type(first >> 4))
}

// AppendEmpty appends a packet that has no body.
func AppendEmpty(b []byte, t Type) []byte { return append(b, byte(t)<<4, 0) }

func appendID(b []byte, id uint16) []byte { return binary.BigEndian.AppendUint16(b, id) }
