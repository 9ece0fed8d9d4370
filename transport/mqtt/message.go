package mqtt

import (
	"encoding/binary"
	"time"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// message is what was published, without what differs between receivers. Its
// slices may point into the publisher's packet; own copies it for keeping.
type message struct {
	topic   []byte
	payload []byte
	// props are the properties to be forwarded, without their length, and
	// without topic alias and message expiry.
	props   []byte
	expires time.Time // zero: never
	from    string    // key of the publisher's session
	number  uint64    // of a retained message: how manieth it is since the server began
	qos     byte
	retain  bool
	// share is the filter of the shared subscription that a queued message is
	// for, $share/ and all; empty if it is for all others.
	share string
}

// own returns a copy of m that shares nothing with the input.
func (m *message) own() *message {
	c := *m
	b := make([]byte, 0, len(m.topic)+len(m.payload)+len(m.props))
	b = append(append(append(b, m.topic...), m.payload...), m.props...)
	t, p := len(m.topic), len(m.topic)+len(m.payload)
	c.topic, c.payload, c.props = b[:t:t], b[t:p:p], b[p:]
	return &c
}

// size is about how many bytes of memory m holds.
func (m *message) size() int { return len(m.topic) + len(m.props) + len(m.payload) }

// expiry appends the Message Expiry Interval that is left.
//
//	"The PUBLISH packet sent to a Client by the Server MUST contain a Message
//	Expiry Interval set to the received value minus the time that the
//	Application Message has been waiting in the Server" [MQTT-3.3.2-6]
func (m *message) expiry(b []byte, now time.Time) []byte {
	if m.expires.IsZero() {
		return b
	}
	left := m.expires.Sub(now)
	secs := uint32(max(0, min((left+time.Second/2)/time.Second, forever)))
	return packet.AppendNum(b, packet.MessageExpiry, secs)
}

// old reports whether a queued message was retained when it was subscribed to:
// it is then for that one filter, which is not a shared one.
func (m *message) old() bool {
	share, _, err := topic.Parse(m.share)
	return err == nil && share == ""
}

// A message in a box or record, after the version of the form:
//
//	flags   bits 0-1 QoS, bit 2 retain
//	expires Unix ms, 0 never
//	topic, properties, share, from    with their length in front
//	payload                           the rest
func (m *message) encode(share string) []byte {
	b := make([]byte, 0, 24+len(m.topic)+len(m.props)+len(share)+len(m.from)+len(m.payload))
	flags := m.qos
	if m.retain {
		flags |= 4
	}
	b = append(b, form, flags)
	var ms uint64
	if !m.expires.IsZero() {
		ms = uint64(m.expires.UnixMilli())
	}
	b = binary.AppendUvarint(b, ms)
	b = appendText(b, m.topic)
	b = appendText(b, m.props)
	b = appendText(b, share)
	b = appendText(b, m.from)
	return append(b, m.payload...)
}

// decodeMessage reads what follows the version of the form.
func decodeMessage(p []byte) (*message, bool) {
	if len(p) == 0 {
		return nil, false
	}
	m := &message{qos: p[0] & 3, retain: p[0]&4 != 0}
	f := fields{p: p[1:]}
	if ms := f.num(); ms != 0 {
		m.expires = time.UnixMilli(int64(ms))
	}
	m.topic, m.props = f.bytes(), f.bytes()
	m.share, m.from = f.text(), f.text()
	m.payload = f.p
	return m, !f.bad && len(m.topic) > 0 && m.qos < 3
}
