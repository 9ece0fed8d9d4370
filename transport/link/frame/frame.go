// Package frame is the codec of the link protocol: bytes to values and back,
// and the values' text form. It does no I/O and holds no connection.
//
// The protocol is specified in the package comment of transport/link. Two
// levels are here. A [Frame] is what stands on the wire, with its numbers
// relative to what went before. [MsgWriter], [MsgReader], [SendWriter] and
// [SendReader] keep the state of one direction of one connection and turn
// whole messages into frames and back.
//
// What decodes encodes to the same bytes: there is one encoding of each frame.
package frame

import (
	"errors"
	"fmt"
)

// Protocol is what link is called where a carrier has to be told what it
// carries: as WebSocket subprotocol and, with QUIC, in ALPN (RFC 7301).
const Protocol = "posthouse.link.1"

// Type is the kind of a frame.
type Type byte

// The types of version 1.0. A Send or a Msg has five flags in its type. Zero is
// never assigned, nor is 0x16, with which a TLS handshake begins.
const (
	TypeHello   Type = 0x01
	TypeWelcome Type = 0x02
	TypeClose   Type = 0x03
	TypePing    Type = 0x04
	TypePong    Type = 0x05
	TypeSet     Type = 0x06
	TypeStored  Type = 0x07
	TypeRefused Type = 0x08
	TypeAck     Type = 0x09
	TypeTrimmed Type = 0x0a
	// Those that follow are said only to who asked for them by a bit of caps.
	TypeSignal     Type = 0x10
	TypeSignalled  Type = 0x11
	TypeDevices    Type = 0x12
	TypeDeviceList Type = 0x13
	TypeMsg        Type = 0x40 // to 0x5f
	TypeSend       Type = 0x60 // to 0x7f

	flagBits = 0x1f
	ackBit   = 0x80 // on any frame of the client's: an acknowledgement stands first in the payload

	maxPing = 32
)

// Version is the version of the protocol that this package speaks.
const (
	Major = 1
	Minor = 0
)

// Errors of decoding. All are the peer's fault.
var (
	// ErrMalformed: the bytes are not what the type says.
	ErrMalformed = errors.New("link: malformed frame")
	// ErrTooLong: the frame is longer than was agreed.
	ErrTooLong = errors.New("link: frame over the agreed size")
)

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, a...))
}

// Frame is one unit on the wire. String is its text form, which [Parse] reads;
// secrets are left out of it.
type Frame interface {
	Type() Type
	String() string
	// lead is the first byte: the type, and flags if it has any.
	lead() byte
	// head appends the payload up to the body.
	head(b []byte) []byte
	// tail is the body, which ends the payload.
	tail() []byte
}

// Raw is a frame that has not been decoded.
type Raw struct {
	Type Type
	// Ack is how many places the acknowledgement on the frame's back goes
	// forward; zero if it carries none.
	Ack uint64
	// Flags are those in the type of a Send or Msg.
	Flags byte
	// Payload is part of the slice given to Next.
	Payload []byte
}

// Next takes the first frame from p, whose payload may have max bytes. N is
// how many bytes it takes up, zero if p does not hold all of it yet. A frame
// that is too long is known by its first bytes.
func Next(p []byte, max int) (r Raw, n int, err error) {
	if len(p) == 0 {
		return r, 0, nil
	}
	if p[0]&^ackBit == 0 {
		return r, 0, malformed("type 0")
	}
	size, k, err := uvarint(p[1:])
	if err != nil || k == 0 {
		return r, 0, err
	}
	if size > uint64(max) {
		return r, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, size, max)
	}
	n = 1 + k + int(size)
	if len(p) < n {
		return r, 0, nil
	}
	r.Type, r.Payload = Type(p[0]&^ackBit), p[1+k:n:n]
	if r.Type >= TypeMsg {
		r.Type, r.Flags = r.Type&^flagBits, byte(r.Type&flagBits)
	}
	if p[0]&ackBit != 0 {
		a, k, err := uvarint(r.Payload)
		switch {
		case err != nil:
			return r, 0, err
		case k == 0 || a == 0:
			return r, 0, malformed("acknowledgement of nothing")
		}
		r.Ack, r.Payload = a, r.Payload[k:]
	}
	return r, n, nil
}

// Append appends f's encoding to b.
func Append(b []byte, f Frame) []byte { return AppendAck(b, f, 0) }

// AppendAck appends f with an acknowledgement of ack places on its back, none
// if ack is zero.
func AppendAck(b []byte, f Frame, ack uint64) []byte {
	var h [128]byte
	head, tail := f.head(h[:0]), f.tail()
	return appendParts(b, f.lead(), ack, head, tail)
}

func appendParts(b []byte, lead byte, ack uint64, head, tail []byte) []byte {
	n := len(head) + len(tail)
	if ack != 0 {
		b = append(b, lead|ackBit)
		b = appendUvarint(b, uint64(n+lenUvarint(ack)))
		b = appendUvarint(b, ack)
	} else {
		b = append(b, lead)
		b = appendUvarint(b, uint64(n))
	}
	b = append(b, head...)
	return append(b, tail...)
}

// Decode decodes r. A type that this version does not know gives an *Unknown.
// The frame may hold parts of r.Payload.
func Decode(r Raw) (Frame, error) {
	type decoder interface {
		Frame
		Decode(payload []byte) error
	}
	var f decoder
	switch r.Type {
	case TypeHello:
		f = new(Hello)
	case TypeWelcome:
		f = new(Welcome)
	case TypeClose:
		f = new(Close)
	case TypePing:
		f = new(Ping)
	case TypePong:
		f = new(Pong)
	case TypeSet:
		f = new(Set)
	case TypeStored:
		f = new(Stored)
	case TypeRefused:
		f = new(Refused)
	case TypeSend:
		s := new(Send)
		return s, s.Decode(r)
	case TypeMsg:
		m := new(Msg)
		return m, m.Decode(r)
	case TypeAck:
		f = new(Ack)
	case TypeTrimmed:
		f = new(Trimmed)
	case TypeSignal:
		f = new(Signal)
	case TypeSignalled:
		f = new(Signalled)
	case TypeDevices:
		f = new(Devices)
	case TypeDeviceList:
		f = new(DeviceList)
	default:
		return &Unknown{T: r.Type, Payload: r.Payload}, nil
	}
	if err := f.Decode(r.Payload); err != nil {
		return nil, err
	}
	return f, nil
}

// Unknown is a frame of a type that this version does not know. It is skipped.
type Unknown struct {
	T       Type
	Payload []byte
}

func (f *Unknown) Type() Type           { return f.T }
func (f *Unknown) lead() byte           { return byte(f.T) }
func (f *Unknown) head(b []byte) []byte { return b }
func (f *Unknown) tail() []byte         { return f.Payload }

// Ping asks for a Pong with the same payload, of up to 32 bytes; an empty one
// is a heartbeat.
type Ping struct{ Payload []byte }

// Pong answers a Ping.
type Pong struct{ Payload []byte }

func (f *Ping) Type() Type           { return TypePing }
func (f *Ping) lead() byte           { return byte(TypePing) }
func (f *Ping) head(b []byte) []byte { return b }
func (f *Ping) tail() []byte         { return f.Payload }
func (f *Pong) Type() Type           { return TypePong }
func (f *Pong) lead() byte           { return byte(TypePong) }
func (f *Pong) head(b []byte) []byte { return b }
func (f *Pong) tail() []byte         { return f.Payload }

// Decode reads the payload of a frame.
func (f *Ping) Decode(p []byte) error {
	if len(p) > maxPing {
		return malformed("ping of %d bytes, at most %d", len(p), maxPing)
	}
	f.Payload = p
	return nil
}

// Decode reads the payload of a frame.
func (f *Pong) Decode(p []byte) error { return (*Ping)(f).Decode(p) }

// Ack says that the device has stored everything up to Step places beyond
// what it acknowledged before.
type Ack struct{ Step uint64 }

func (f *Ack) Type() Type           { return TypeAck }
func (f *Ack) lead() byte           { return byte(TypeAck) }
func (f *Ack) head(b []byte) []byte { return appendUvarint(b, f.Step) }
func (f *Ack) tail() []byte         { return nil }

// Decode reads the payload of a frame.
func (f *Ack) Decode(p []byte) error {
	r := reader{p: p}
	f.Step = r.positive()
	return r.end()
}

// Trimmed says that the Step entries behind the last one delivered are gone
// by retention and will not come.
type Trimmed struct{ Step uint64 }

func (f *Trimmed) Type() Type           { return TypeTrimmed }
func (f *Trimmed) lead() byte           { return byte(TypeTrimmed) }
func (f *Trimmed) head(b []byte) []byte { return appendUvarint(b, f.Step) }
func (f *Trimmed) tail() []byte         { return nil }

// Decode reads the payload of a frame.
func (f *Trimmed) Decode(p []byte) error { return (*Ack)(f).Decode(p) }

// Run is Count successive sends that are stored, at successive places of the
// recipient's box. Step is from the place last told on this connection to the
// first one's.
type Run struct {
	Count     uint64
	Step      int64
	Duplicate bool // they had been stored before
}

// Stored answers the oldest sends that are not answered yet.
type Stored struct{ Runs []Run }

func (f *Stored) Type() Type   { return TypeStored }
func (f *Stored) lead() byte   { return byte(TypeStored) }
func (f *Stored) tail() []byte { return nil }
func (f *Stored) head(b []byte) []byte {
	for _, r := range f.Runs {
		n := r.Count << 1
		if r.Duplicate {
			n |= 1
		}
		b = appendUvarint(b, n)
		b = appendVarint(b, r.Step)
	}
	return b
}

// Decode reads the payload of a frame. It uses the space of f.Runs.
func (f *Stored) Decode(p []byte) error {
	r := reader{p: p}
	f.Runs = f.Runs[:0]
	for len(r.p) > 0 && r.err == nil {
		n := r.uvarint()
		f.Runs = append(f.Runs, Run{Count: n >> 1, Duplicate: n&1 != 0, Step: r.varint()})
		if n>>1 == 0 {
			r.fail("run of nothing")
		}
	}
	if r.err == nil && len(f.Runs) == 0 {
		r.fail("nothing stored")
	}
	return r.end()
}

// Refused answers the oldest send that is not answered yet: nothing of it was
// stored. The connection lives on.
type Refused struct {
	Code RefusedCode
	Text string
}

func (f *Refused) Type() Type   { return TypeRefused }
func (f *Refused) lead() byte   { return byte(TypeRefused) }
func (f *Refused) tail() []byte { return nil }
func (f *Refused) head(b []byte) []byte {
	b = appendUvarint(b, uint64(f.Code))
	return appendString(b, f.Text)
}

// Decode reads the payload of a frame.
func (f *Refused) Decode(p []byte) error {
	r := reader{p: p}
	f.Code = RefusedCode(r.uvarint())
	f.Text = r.string()
	return r.end()
}

// AppendStored is Append of a Stored with runs, for the path that is walked
// most.
func AppendStored(b []byte, runs []Run) []byte {
	var h [128]byte
	f := Stored{Runs: runs}
	return appendParts(b, byte(TypeStored), 0, f.head(h[:0]), nil)
}
