// Package packet is the wire format of MQTT 3.1, 3.1.1 and 5.0: bytes to values
// and back, both directions, without I/O.
//
//	byte 1      bytes 2..5            then
//	┌────┬────┬──────────────────┬─────────────────┬───────────┬─────────┐
//	│type│flag│ remaining length │ variable header │ properties│ payload │
//	└────┴────┴──────────────────┴─────────────────┴───────────┴─────────┘
//	                                                 (5.0 only)
//
// [Split] cuts a packet from a stream, and the Decode method of its type reads
// the body. Whatever decodes is well formed: every rule that can be kept
// without knowing what was sent before is kept here, and an [Error] names the
// reason code that 5.0 has for breaking it. Rules about state (an unknown
// packet identifier, a topic alias that was never set) belong to the server.
//
// Decoding allocates nothing for PUBLISH and the acknowledgements unless they
// carry properties; slices of a decoded packet point into the input.
package packet

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Version is the protocol level in CONNECT.
type Version byte

const (
	V31  Version = 3 // MQIsdp
	V311 Version = 4
	V5   Version = 5
)

// Type is the kind of a packet, the upper half of its first byte.
type Type byte

// MQTT 5.0 section 2.1.2.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var typeNames = [16]string{"0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

func (t Type) String() string { return typeNames[t&15] }

// Error says which rule a packet breaks, and the reason code that 5.0 has for it.
//
//	0x81 Malformed Packet  "The received packet does not conform to this specification."
//	0x82 Protocol Error    "An unexpected or out of order packet was received."
//
// So MQTT 5.0 section 3.14.2.1. By that a packet which is wrong whatever came
// before is 0x81, although the section about it says "It is a Protocol Error";
// where section 3 says so of a property, 0x82 has become usual.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("packet: %s (%s)", e.Text, e.Code) }

func malformed(text string) error { return &Error{MalformedPacket, text} }
func protocol(text string) error  { return &Error{ProtocolError, text} }

// MaxRemaining is the greatest remaining length, MQTT 5.0 section 2.1.4.
const MaxRemaining = 268_435_455

// Split finds the first packet in p: its first byte, and its body, which is
// p[n-len(body):n]. While the packet is not complete n is 0; so a length that
// is announced costs nothing. A packet longer than max bytes in all is an
// error as soon as its length is known. Zero max means no limit.
func Split(p []byte, max int) (first byte, body []byte, n int, err error) {
	if len(p) > 0 && p[0] < 0x10 { // "0: Forbidden, Reserved" section 2.1.2
		return p[0], nil, 0, protocol("packet of type 0")
	}
	if len(p) < 2 {
		return 0, nil, 0, nil
	}
	l, h := int(p[1]), 2
	if l >= 0x80 {
		l &= 0x7f
		for shift := 7; ; shift += 7 {
			// "The maximum number of bytes in the Variable Byte Integer field
			// is four." MQTT 5.0 section 1.5.5
			if h == 5 {
				return p[0], nil, 0, malformed("remaining length of more than four bytes")
			}
			if h == len(p) {
				return 0, nil, 0, nil
			}
			b := p[h]
			h++
			l |= int(b&0x7f) << shift
			if b < 0x80 {
				break
			}
		}
	}
	if max > 0 && h+l > max {
		return p[0], nil, 0, &Error{PacketTooLarge, fmt.Sprintf("%s of %d bytes, at most %d", Type(p[0]>>4), h+l, max)}
	}
	if len(p) < h+l {
		return 0, nil, 0, nil
	}
	return p[0], p[h : h+l], h + l, nil
}

// appendLen appends a variable byte integer.
func appendLen(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// lenSize is how many bytes appendLen appends.
func lenSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// closeLen inserts at b[at] the length of all that follows.
func closeLen(b []byte, at int) []byte {
	n := len(b) - at
	size := lenSize(n)
	for range size {
		b = append(b, 0)
	}
	copy(b[at+size:], b[at:at+n])
	appendLen(b[at:at], n)
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendBytes(b, s []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// reader takes fields from the front of a body. After an error it returns zeros.
type reader struct {
	p   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.p = nil
}

func (r *reader) byte(what string) byte {
	if len(r.p) < 1 {
		r.fail(malformed(what + " is missing"))
		return 0
	}
	b := r.p[0]
	r.p = r.p[1:]
	return b
}

func (r *reader) uint16(what string) uint16 {
	if len(r.p) < 2 {
		r.fail(malformed(what + " is missing"))
		return 0
	}
	n := binary.BigEndian.Uint16(r.p)
	r.p = r.p[2:]
	return n
}

func (r *reader) uint32(what string) uint32 {
	if len(r.p) < 4 {
		r.fail(malformed(what + " is missing"))
		return 0
	}
	n := binary.BigEndian.Uint32(r.p)
	r.p = r.p[4:]
	return n
}

// length reads a variable byte integer.
func (r *reader) length(what string) int {
	n := 0
	for i := 0; i < 4; i++ {
		b := r.byte(what)
		if r.err != nil {
			return 0
		}
		n |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			// "The encoded value MUST use the minimum number of bytes
			// necessary" [MQTT-1.5.5-1]
			if b == 0 && i > 0 {
				r.fail(malformed(what + " is not in its shortest form"))
				return 0
			}
			return n
		}
	}
	r.fail(malformed(what + " has more than four bytes"))
	return 0
}

func (r *reader) take(n int, what string) []byte {
	if len(r.p) < n {
		r.fail(malformed(what + " is cut off"))
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

// bytes reads binary data.
func (r *reader) bytes(what string) []byte {
	return r.take(int(r.uint16(what)), what)
}

// string reads a UTF-8 encoded string.
func (r *reader) string(what string) string {
	b := r.bytes(what)
	if r.err == nil && !ValidText(b) {
		r.fail(malformed(what + " is not a UTF-8 string"))
		return ""
	}
	return string(b)
}

// ValidText reports whether b may stand as a UTF-8 encoded string.
//
//	"MUST be well-formed UTF-8 ... MUST NOT include encodings of code points
//	between U+D800 and U+DFFF" [MQTT-1.5.4-1]
//	"MUST NOT include an encoding of the null character U+0000" [MQTT-1.5.4-2]
//	"SHOULD NOT include ... U+0001..U+001F control characters, U+007F..U+009F
//	control characters, ... non-characters ... A Server or Client MAY treat it
//	as a Malformed Packet" MQTT 5.0 section 1.5.4
//
// Control characters are refused, since no other door can carry them in a name.
func ValidText(b []byte) bool {
	i := 0
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 || c >= 0x7f {
			break
		}
	}
	for i < len(b) {
		c := b[i]
		if c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || r >= 0x80 && r < 0xa0 {
			return false
		}
		i += n
	}
	return true
}

// done fails if anything is left.
func (r *reader) done(t Type) error {
	if r.err == nil && len(r.p) > 0 {
		r.err = malformed(fmt.Sprintf("%s has %d bytes too many", t, len(r.p)))
	}
	return r.err
}

// flags checks the lower half of the first byte.
//
//	"Where a flag bit is marked as 'Reserved' it ... MUST be set to the value
//	listed" [MQTT-2.1.3-1]
func flags(first, want byte) error {
	if first&15 != want {
		return malformed(fmt.Sprintf("%s with flags %x", Type(first>>4), first&15))
	}
	return nil
}
