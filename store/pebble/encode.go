package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// messageVersion is the first byte of an encoded message.
const messageVersion = 1

// Flags of an encoded message.
const (
	hasExpires = 1 << iota
	hasAttrs
	knownFlags = hasExpires | hasAttrs
)

var errCorrupt = errors.New("pebble: corrupt message")

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func stringLen(s string) int { return uvarintLen(uint64(len(s))) + len(s) }

// messageLen is how many bytes appendMessage will write.
func messageLen(m *mailbox.Message) int {
	n := 3 + 8 + stringLen(m.ID) + stringLen(m.From) + stringLen(m.Device) + stringLen(m.To) + stringLen(m.Type) + len(m.Body)
	if !m.Expires.IsZero() {
		n += 8
	}
	if len(m.Attrs) > 0 {
		n += uvarintLen(uint64(len(m.Attrs)))
		for _, a := range m.Attrs {
			n += stringLen(a.Name) + stringLen(a.Value)
		}
	}
	return n
}

// appendMessage appends the encoding of m, which is messageLen(m) bytes; the
// layout is in the package comment.
func appendMessage(b []byte, m *mailbox.Message) []byte {
	var flags byte
	if !m.Expires.IsZero() {
		flags |= hasExpires
	}
	if len(m.Attrs) > 0 {
		flags |= hasAttrs
	}
	b = append(b, messageVersion, flags, byte(m.Urgency))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Time.UnixMilli()))
	if flags&hasExpires != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(m.Expires.UnixMilli()))
	}
	b = appendString(b, m.ID)
	b = appendString(b, m.From)
	b = appendString(b, m.Device)
	b = appendString(b, m.To)
	b = appendString(b, m.Type)
	if flags&hasAttrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Attrs)))
		for _, a := range m.Attrs {
			b = appendString(b, a.Name)
			b = appendString(b, a.Value)
		}
	}
	return append(b, m.Body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// messageTime is the time of an encoded message, without the rest.
func messageTime(b []byte) (time.Time, error) {
	if len(b) < 11 || b[0] != messageVersion {
		return time.Time{}, errCorrupt
	}
	return unixMilli(binary.BigEndian.Uint64(b[3:])), nil
}

// parseMessage decodes what appendMessage wrote. It copies what it needs of b,
// in one piece. A message has one encoding, so any other is refused.
func parseMessage(b []byte) (*mailbox.Message, error) {
	if len(b) < 11 {
		return nil, errCorrupt
	}
	if b[0] != messageVersion {
		return nil, fmt.Errorf("%w: version %d, this program knows %d", errCorrupt, b[0], messageVersion)
	}
	m := &mailbox.Message{Urgency: mailbox.Urgency(int8(b[2])), Time: unixMilli(binary.BigEndian.Uint64(b[3:]))}
	if m.Urgency < mailbox.UrgencyVeryLow || m.Urgency > mailbox.UrgencyHigh {
		return nil, errCorrupt
	}
	p := parser{rest: b[11:]}
	flags := b[1]
	if flags&hasExpires != 0 {
		if len(p.rest) < 8 {
			return nil, errCorrupt
		}
		m.Expires = unixMilli(binary.BigEndian.Uint64(p.rest))
		p.rest = p.rest[8:]
		if m.Expires.IsZero() {
			return nil, errCorrupt
		}
	}
	body, bad := p.check(flags&hasAttrs != 0)
	if bad || flags&^knownFlags != 0 {
		return nil, errCorrupt
	}
	p.rest, p.text = p.rest[:len(p.rest)-len(body)], string(p.rest[:len(p.rest)-len(body)])
	m.ID, m.From, m.Device, m.To, m.Type = p.string(), p.string(), p.string(), p.string(), p.string()
	if flags&hasAttrs != 0 {
		m.Attrs = make([]mailbox.Attr, p.uvarint())
		for i := range m.Attrs {
			m.Attrs[i] = mailbox.Attr{Name: p.string(), Value: p.string()}
		}
	}
	if len(body) > 0 {
		m.Body = append([]byte(nil), body...)
	}
	return m, nil
}

// parser reads strings from the front of rest. With text, a copy of the same
// bytes as a string, what it returns shares that.
type parser struct {
	rest []byte
	text string
	bad  bool
}

// check goes through the strings of a message, with p itself staying where it
// is, and returns what follows them.
func (p parser) check(attrs bool) (rest []byte, bad bool) {
	for range 5 {
		p.drop()
	}
	if attrs {
		n := p.uvarint()
		if n == 0 || n > uint64(len(p.rest)) {
			p.bad = true
		}
		for i := uint64(0); i < n && !p.bad; i++ {
			p.drop()
			p.drop()
		}
	}
	return p.rest, p.bad
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 || n != uvarintLen(v) {
		p.bad, n = true, 0
	}
	p.rest = p.rest[n:]
	return v
}

// drop passes over a string and returns its length.
func (p *parser) drop() int {
	n := p.uvarint()
	if p.bad || n > uint64(len(p.rest)) {
		p.bad = true
		return 0
	}
	p.rest = p.rest[n:]
	return int(n)
}

func (p *parser) string() string {
	n := p.drop()
	end := len(p.text) - len(p.rest)
	return p.text[end-n : end]
}

// idRecord is what is kept of a post so that a retry is known as one.
type idRecord struct {
	digest uint64
	time   time.Time
	seqs   []mailbox.Seq
}

func idRecordLen(seqs []mailbox.Seq) int {
	n := 16
	for _, s := range seqs {
		n += uvarintLen(uint64(s))
	}
	return n
}

func appendIDRecord(b []byte, digest uint64, t time.Time, seqs []mailbox.Seq) []byte {
	b = binary.BigEndian.AppendUint64(b, digest)
	b = binary.BigEndian.AppendUint64(b, uint64(t.UnixMilli()))
	for _, s := range seqs {
		b = binary.AppendUvarint(b, uint64(s))
	}
	return b
}

func parseIDRecord(b []byte) (r idRecord, err error) {
	if len(b) < 16 {
		return r, errCorrupt
	}
	r.digest, r.time = binary.BigEndian.Uint64(b), unixMilli(binary.BigEndian.Uint64(b[8:]))
	p := parser{rest: b[16:]}
	for len(p.rest) > 0 {
		r.seqs = append(r.seqs, mailbox.Seq(p.uvarint()))
		if p.bad {
			return r, errCorrupt
		}
	}
	return r, nil
}

func unixMilli(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() }
