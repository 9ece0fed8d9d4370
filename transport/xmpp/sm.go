package xmpp

import (
	"bytes"
	"strconv"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// sm is stream management (XEP-0198) of one stream. It is also what remains of
// a stream that was lost.
type sm struct {
	keep  bool   // the stream can be resumed: what is not in the box is kept
	in    uint32 // stanzas received
	out   uint32 // stanzas sent
	acked uint32 // of these, how many the client has acknowledged
	// skew is by how much the client is known to count too high. See ack.
	skew    uint32
	unacked []outgoing
	kept    int    // bytes in unacked
	asked   bool   // our <r/> has not been answered
	askedAt uint32 // how many were sent when we asked last
}

// outgoing is something sent and not acknowledged.
type outgoing struct {
	num   uint32 // the number of the last stanza sent when it was
	seq   mailbox.Seq
	bytes []byte // of a stanza that is not in the box
}

// maxKept is how many bytes of presence, results and the like are kept for a
// resumption. A stream with more of them unacknowledged cannot be resumed.
const maxKept = 64 << 10

// sent counts a stanza. With seq it is about that entry of the box, and need not
// be kept since the box has it.
func (m *sm) sent(seq uint64, b []byte) {
	m.out++
	o := outgoing{num: m.out, seq: mailbox.Seq(seq)}
	if seq == 0 && m.keep {
		if m.kept += len(b); m.kept > maxKept {
			m.keep = false
			m.forget()
		} else {
			o.bytes = bytes.Clone(b)
		}
	}
	if o.seq != 0 || o.bytes != nil {
		m.unacked = append(m.unacked, o)
	}
}

// forget drops what is kept for a resumption that cannot be.
func (m *sm) forget() {
	m.kept = 0
	rest := m.unacked[:0]
	for _, o := range m.unacked {
		if o.seq != 0 {
			rest = append(rest, o)
		}
	}
	m.unacked = rest
}

// ack takes the client's h and returns how far it has the box, zero if nothing
// new.
//
// Not XEP-0198 #acking: an h that is too high does not end the stream. Some
// clients count what came before they enabled stream management. What they
// count too much, they count too much for ever, so it is subtracted from then
// on: otherwise they would acknowledge what they do not have.
func (m *sm) ack(h uint32) (seq mailbox.Seq) {
	h -= m.skew
	if over := int32(h - m.out); over > 0 {
		m.skew += uint32(over)
		h = m.out
	}
	if int32(h-m.acked) < 0 {
		return 0
	}
	m.acked = h
	n := 0
	for ; n < len(m.unacked) && int32(m.unacked[n].num-h) <= 0; n++ {
		m.kept -= len(m.unacked[n].bytes)
		if m.unacked[n].seq > seq {
			seq = m.unacked[n].seq
		}
	}
	if n == len(m.unacked) {
		m.unacked = nil // an idle stream keeps nothing
		m.kept = 0
	} else {
		m.unacked = m.unacked[n:]
	}
	return seq
}

// passed notes that an entry of the box was passed over, not sent.
func (m *sm) passed(seq mailbox.Seq) {
	if n := len(m.unacked); n > 0 && m.unacked[n-1].num == m.out && m.unacked[n-1].seq != 0 {
		m.unacked[n-1].seq = seq
		return
	}
	m.unacked = append(m.unacked, outgoing{num: m.out, seq: seq})
}

// smElement handles an element of XEP-0198.
func (x *client) smElement(e stream.Element) {
	switch name := string(e.Name()); {
	case name == "enable" && x.phase == atSession && x.sm == nil:
		x.enable(e)
	case name == "resume" && x.phase == atBind:
		x.resume(e)
	case name == "enable" || name == "resume":
		x.nonza("<failed xmlns='" + nsSM + "'><unexpected-request xmlns='" + nsStanzaErr + "'/></failed>")
	case x.sm == nil: // XEP-0198 does not say; it can only be a mistake
	case name == "r":
		if len(x.posts) == 0 {
			x.answer(x.sm.in)
			return
		}
		x.posts = append(x.posts, posted{num: x.sm.in}) // answered when those before it are on disk
	case name == "a":
		x.acknowledged(e)
	}
}

func (x *client) enable(e stream.Element) {
	x.sm = &sm{}
	r := e.Attr("resume")
	if (r != "true" && r != "1") || x.s.cfg.ResumeTime < 0 {
		x.nonza("<enabled xmlns='" + nsSM + "'/>")
		return
	}
	x.sm.keep = true
	x.previd = mailbox.NewID()
	x.s.lost.add(x.resource)
	x.nonza("<enabled xmlns='" + nsSM + "' id='" + x.previd + "' resume='true' max='" + itoa(int(x.s.cfg.ResumeTime.Seconds())) + "'/>")
}

// answer tells the client that everything up to stanza h is dealt with: what
// was to be stored is on disk.
func (x *client) answer(h uint32) {
	x.nonza("<a xmlns='" + nsSM + "' h='" + strconv.FormatUint(uint64(h), 10) + "'/>")
}

// handled is how many stanzas are dealt with, without a gap.
func (x *client) handled() uint32 {
	for _, p := range x.posts {
		if p.post != nil && p.num != 0 {
			return p.num - 1
		}
	}
	return x.sm.in
}

// acknowledged moves the cursor.
func (x *client) acknowledged(e stream.Element) {
	h, err := strconv.ParseUint(e.Attr("h"), 10, 32)
	if err != nil {
		x.fail(stream.InvalidXML, "")
		return
	}
	x.sm.asked = false
	if seq := x.sm.ack(uint32(h)); seq != 0 {
		x.sess.Ack(seq)
	}
	x.ask()
	if x.wants {
		x.deliver()
	}
}

// ask requests an acknowledgement of what was sent since the last request was,
// if that has been answered. A client that does not acknowledge all yet is not
// asked again for the same: it will say so by itself.
func (x *client) ask() {
	if x.sm != nil && !x.sm.asked && len(x.sm.unacked) > 0 && x.sm.askedAt != x.sm.out {
		x.sm.asked, x.sm.askedAt = true, x.sm.out
		x.nonza("<r xmlns='" + nsSM + "'/>")
	}
}

// unsettled reports whether something was written that moves the cursor when
// it has been handed to the socket.
func (x *client) unsettled() bool {
	return x.sm == nil && x.sess != nil && x.sess.Acked() < x.sess.Handed()
}

// settle does what waited for others: it counts the posts that are done, and
// without stream management moves the cursor over what the socket has taken.
func (x *client) settle() {
	x.settlePosts()
	if x.phase != atEnd && x.unsettled() && x.c.Unsent() == 0 {
		x.sess.Ack(x.sess.Handed())
	}
}

// posted is a stanza of the client in the order it came: a message on its way
// to the disk, or if post is nil a request for an acknowledgement.
type posted struct {
	num  uint32 // counted by stream management; 0 before that
	post *mailbox.Post
	id   string // as the client wrote it
	weak bool   // the id is unique in the stream only
}

// settlePosts tells the client of the messages that are on disk, in order.
func (x *client) settlePosts() {
	n := 0
	for ; n < len(x.posts); n++ {
		p := &x.posts[n]
		if p.post == nil {
			x.answer(p.num)
			continue
		}
		if !p.post.Done() {
			break
		}
		if err := p.post.Err; err != nil {
			if p.weak && x.again(p, err) {
				break
			}
			x.reject("message", p.post.To, p.id, x.faultOf(err, p.post))
		}
	}
	if n == 0 {
		return
	}
	if n == len(x.posts) {
		x.posts = nil
	} else {
		x.posts = x.posts[n:]
	}
}

func (x *client) faultOf(err error, p *mailbox.Post) fault {
	f := faultOf(err)
	if f == internalError { // that the disk is full the store has said, once
		x.s.core.Log.Error("xmpp: cannot post", "user", x.bare, "to", p.To, "err", err)
	}
	return f
}
