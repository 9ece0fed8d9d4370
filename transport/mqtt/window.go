package mqtt

import (
	"math/bits"
	"slices"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// Packet identifiers that the server gives are cut in two, so that one tells
// where its message comes from.
//
//	    1 .. 32767   plain topics. A session that is kept: its queue, 1 + (seq-1)
//	                 mod 32767. One that is not: memory, up to 1024, see window
//	32768 .. 65535   the user's mailbox: 32768 + (seq-1) mod 32768
//
// An identifier that follows from the seq is the same after a restart:
//
//	"When a Client reconnects with Clean Start set to 0 and a session is
//	present, both the Client and Server MUST resend any unacknowledged PUBLISH
//	packets (where QoS > 0) and PUBREL packets using their original Packet
//	Identifiers" [MQTT-4.4.0-1]
const maxWindow = 1024

// phase is how far a QoS 1 or 2 message to a client has come.
type phase uint8

const (
	free      phase = iota
	published       // waits for PUBACK, or for PUBREC
	releasing       // PUBREC came; PUBREL waits for the disk
	released        // PUBREL sent, waits for PUBCOMP
	completed       // done; the cursor has not passed it
	begun1          // was published at QoS 1 on an earlier connection
	begun2          // and at QoS 2
)

// window has the QoS 1 and 2 messages in flight to a client whose session ends
// with its connection. Nothing of it is ever sent again, so that only the
// identifiers are remembered. Guarded by the client's mu.
type window struct {
	used, qos2, rel [maxWindow / 64]uint64
	next            int
	queue           []queued
	bytes           int // of queue
}

// queued is a message that waits for room in the window.
type queued struct {
	m      *message
	ids    []uint32
	qos    byte
	retain bool
}

// take finds a free identifier after the last one given, below size.
func (w *window) take(qos byte) uint16 {
	for i := 0; i <= len(w.used); i++ {
		word := (w.next/64 + i) % len(w.used)
		mask := ^uint64(0)
		if i == 0 {
			mask <<= w.next % 64
		}
		if f := ^w.used[word] & mask; f != 0 {
			b := bits.TrailingZeros64(f)
			n := word*64 + b
			w.used[word] |= 1 << b
			if qos == 2 {
				w.qos2[word] |= 1 << b
			}
			w.next = (n + 1) % maxWindow
			return uint16(n + 1)
		}
	}
	return 0
}

func (w *window) free(id uint16) {
	i, b := (id-1)/64, (id-1)%64
	w.used[i] &^= 1 << b
	w.qos2[i] &^= 1 << b
	w.rel[i] &^= 1 << b
}

// back takes back the identifier that take gave last.
func (w *window) back(id uint16) {
	w.free(id)
	w.next = int(id - 1)
}

// state says what is known of an identifier.
func (w *window) state(id uint16) (p phase, qos byte) {
	if w == nil || id < 1 || id > maxWindow {
		return free, 0
	}
	i, b := (id-1)/64, (id-1)%64
	switch {
	case w.used[i]>>b&1 == 0:
		return free, 0
	case w.rel[i]>>b&1 == 1:
		return released, 2
	case w.qos2[i]>>b&1 == 1:
		return published, 2
	}
	return published, 1
}

func (w *window) release(id uint16) { w.rel[(id-1)/64] |= 1 << ((id - 1) % 64) }

// push sends a copy to this client, from whichever goroutine. It reports
// whether the copy was sent or waits in the client's queue.
func (c *client) push(f *fanout, qos byte, retain bool, ids []uint32) bool {
	if qos == 0 && c.aliasMax == 0 {
		b := f.bytes(c.version, 0, retain, ids)
		// "The Server MUST NOT send packets exceeding Maximum Packet Size to
		// the Client" [MQTT-3.1.2-24]; "it MUST discard it without sending it
		// and then behave as if it had completed sending" [MQTT-3.1.2-25]
		if f.hold && f.pub == c && len(b) <= int(c.maxSize) {
			f.late = append(f.late, slices.Clone(b))
			return true
		}
		if len(b) > int(c.maxSize) || !c.c.Send(b) {
			f.dropped++
			return false
		}
		f.sent++
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false
	}
	if qos == 0 {
		return c.sendLocked(f, 0, retain, ids, 0)
	}
	w := c.out
	if w == nil {
		w = new(window)
		c.out = w
	}
	if len(w.queue) == 0 && c.takeQuota() {
		id := w.take(qos)
		if c.sendLocked(f, qos, retain, ids, id) {
			return true
		}
		c.quota.Add(1)
		if c.tooLong(f, qos, retain, ids) {
			w.free(id)
			return true
		}
		w.back(id)
	}
	if len(w.queue) >= c.srv.cfg.MaxQueue || w.bytes >= c.srv.cfg.MaxQueueBytes {
		f.dropped++
		return false
	}
	w.queue = append(w.queue, queued{f.own(), slices.Clone(ids), qos, retain})
	w.bytes += f.m.size()
	if len(w.queue) == 1 {
		c.c.Wake() // so that it hears when there is room
	}
	return true
}

// tooLong reports whether the packet can never be sent: "it MUST discard it
// without sending it and then behave as if it had completed sending that
// Application Message" [MQTT-3.1.2-25], the packet identifier included.
func (c *client) tooLong(f *fanout, qos byte, retain bool, ids []uint32) bool {
	return len(f.bytes(c.version, qos, retain, ids)) > int(c.maxSize)
}

// sendLocked sends one PUBLISH, under a topic alias if the client has them.
func (c *client) sendLocked(f *fanout, qos byte, retain bool, ids []uint32, id uint16) bool {
	var b []byte
	fresh := false
	if c.aliasMax > 0 {
		alias, known := c.aliases.give(fromMemory, f.m.topic, c.aliasMax)
		if fresh = alias != 0 && !known; alias != 0 {
			flags := qos << 1
			if retain {
				flags |= 1
			}
			b = f.aliased(flags, id, ids, alias, known)
		}
	}
	if b == nil {
		b = f.bytes(c.version, qos, retain, ids)
		if qos > 0 {
			setID(b, len(f.m.topic), id)
		}
	}
	if len(b) > int(c.maxSize) || !c.c.Send(b) {
		if fresh {
			c.aliases.forget(fromMemory, f.m.topic)
		}
		if qos == 0 || len(b) > int(c.maxSize) {
			f.dropped++
		}
		return false
	}
	f.sent++
	return true
}

// aliased is the PUBLISH under a topic alias; the topic itself is left out
// where the client knows the alias.
func (f *fanout) aliased(flags byte, id uint16, ids []uint32, alias uint16, known bool) []byte {
	f.tail = f.m.expiry(f.tail[:0], f.now)
	for _, id := range ids {
		f.tail = packet.AppendNum(f.tail, packet.SubscriptionID, id)
	}
	f.tail = packet.AppendNum(f.tail, packet.TopicAlias, uint32(alias))
	t := f.m.topic
	if known {
		t = nil
	}
	f.scratch = packet.AppendPublish(f.scratch[:0], packet.V5, flags, t, id, f.m.props, f.tail, f.m.payload)
	return f.scratch
}

// takeQuota takes one of what the client's Receive Maximum leaves.
//
//	"The Client uses this value to limit the number of QoS 1 and QoS 2
//	publications that it is willing to process concurrently" 3.1.2.11.3;
//	"MUST NOT send more than Receive Maximum" [MQTT-3.3.4-9]
func (c *client) takeQuota() bool {
	for {
		n := c.quota.Load()
		if n <= 0 {
			return false
		}
		if c.quota.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// drain sends what waits in the window's queue, as far as there is room.
func (c *client) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.out
	if w == nil || len(w.queue) == 0 {
		return
	}
	f := c.srv.borrow(c.c.Now())
	n := 0
	for ; n < len(w.queue) && c.c.Room() > 0; n++ {
		q := &w.queue[n]
		// "If the Message Expiry Interval has passed ... MUST delete the copy
		// of the message for that subscriber" [MQTT-3.3.2-5]
		if !q.m.expires.IsZero() && !f.now.Before(q.m.expires) {
			continue
		}
		if !c.takeQuota() {
			break
		}
		f.m, f.have = *q.m, 0
		id := w.take(q.qos)
		if !c.sendLocked(f, q.qos, q.retain, q.ids, id) {
			c.quota.Add(1)
			if !c.tooLong(f, q.qos, q.retain, q.ids) {
				w.back(id)
				break
			}
			w.free(id)
		}
	}
	c.srv.giveBack(f)
	for _, q := range w.queue[:n] {
		w.bytes -= q.m.size()
	}
	w.queue = slices.Delete(w.queue, 0, n)
	if len(w.queue) == 0 {
		w.queue = nil
	}
}
