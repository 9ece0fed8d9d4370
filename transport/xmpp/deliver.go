package xmpp

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// maxInline is how large data may be that is sent within a stanza.
//
// XEP-0231 #usecases: "it is RECOMMENDED that the data … be less than 8 kilobytes".
const maxInline = 8 << 10

const batch = 32

// maxUnacked is how many stanzas may be unacknowledged before a client gets no
// more messages.
const maxUnacked = 1024

var batches = sync.Pool{New: func() any { return new([batch]mailbox.Entry) }}

// deliver writes what is behind the device's place in its box, as long as the
// connection can take it.
func (x *client) deliver() {
	buf := batches.Get().(*[batch]mailbox.Entry)
	wrote := false
	for x.c.Room() > 0 && x.phase == atSession && (x.sm == nil || len(x.sm.unacked) < maxUnacked) {
		entries, err := x.sess.Next(buf[:0], batch)
		var trimmed *mailbox.TrimmedError
		switch {
		case errors.As(err, &trimmed):
			if x.sm != nil {
				x.sess.Owe()
			}
			x.tellGap(trimmed.After+1, trimmed.First-1)
			wrote = true
			continue
		case err != nil:
			x.s.core.Log.Error("xmpp: cannot read", "user", x.bare, "err", err)
			x.fail(stream.InternalServerError, "")
		}
		for i := range entries {
			x.entry(&entries[i])
		}
		if len(entries) == 0 {
			break
		}
		wrote = true
	}
	clear(buf[:])
	batches.Put(buf)
	if !wrote || x.phase != atSession {
		return
	}
	if x.sm != nil {
		x.ask()
		return
	}
	// The round's bytes are handed to the socket when the round is over: look
	// again then, and if the peer is slow from time to time.
	x.c.Wake()
	x.setAlarm()
}

// entry writes one entry of the box.
func (x *client) entry(e *mailbox.Entry) {
	own := e.From == x.bare && address.Bare(e.To) != x.bare
	if own && !x.carbons {
		x.skip(e.Seq)
		return
	}
	b := append(x.start(), "<message"...)
	b = x.appendXMLNS(b)
	if own {
		// XEP-0280 #outbound: "from" the user's bare address.
		b = stream.AppendAttr(b, "from", x.bare)
		b = stream.AppendAttr(b, "to", x.jid)
		b = x.appendType(b, e)
		b = append(b, "><sent xmlns='"+nsCarbons+"'><forwarded xmlns='"+nsForward+"'><message xmlns='"+stream.NSClient+"'"...)
		b = x.appendMessage(b, e, e.To)
		b = append(b, "</forwarded></sent></message>"...)
	} else {
		b = x.appendMessage(b, e, x.jid)
	}
	x.finish(b, uint64(e.Seq))
}

// skip notes that an entry was not written.
func (x *client) skip(seq mailbox.Seq) {
	if x.sm == nil {
		return // goes with what was written
	}
	x.sm.passed(seq)
	if s := x.sm.ack(x.sm.acked + x.sm.skew); s != 0 {
		x.sess.Ack(s)
	}
}

func (x *client) appendType(b []byte, e *mailbox.Entry) []byte {
	kind, ok := e.Attr(attrType)
	if !ok {
		kind = "chat"
	}
	return stream.AppendAttr(b, "type", kind)
}

// appendMessage writes the rest of a message behind "<message".
func (x *client) appendMessage(b []byte, e *mailbox.Entry, to string) []byte {
	from := e.From
	if d, err := address.ParseDevice(e.Device); err == nil && d == e.Device {
		from += "/" + d // another door may know a device by what is no resource
	}
	b = stream.AppendAttr(b, "from", from)
	b = stream.AppendAttr(b, "to", to)
	b = x.appendType(b, e)
	id := e.ID
	if v, ok := e.Attr(attrID); ok {
		id = v
	}
	b = stream.AppendAttr(b, "id", id)
	if lang, ok := e.Attr(attrLang); ok {
		b = stream.AppendAttr(b, "xml:lang", lang)
	}
	extra, decl := x.extra(e)
	b = append(append(b, decl...), '>')
	b = x.appendBody(b, e, extra)
	b = append(b, extra.Inner()...)
	b = appendProperties(b, e, extra)
	b = append(b, "<stanza-id xmlns='"+nsSID+"'"...)
	b = stream.AppendAttr(b, "by", x.bare)
	b = stream.AppendAttr(b, "id", itoa(int(e.Seq)))
	b = append(b, "/><origin-id xmlns='"+nsSID+"'"...)
	b = stream.AppendAttr(b, "id", e.ID)
	b = append(b, "/>"...)
	if e.Time.Before(x.since) {
		b = append(b, "<delay xmlns='"+nsDelay+"'"...)
		b = stream.AppendAttr(b, "from", x.s.domain)
		b = stream.AppendAttr(b, "stamp", stamp(e.Time))
		b = append(b, "/>"...)
	}
	return append(b, "</message>"...)
}

// stamp writes a time as XEP-0082 has it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// extra returns the element whose content goes behind the body, and the
// declarations that it needs. What is kept is checked once more: the reader's
// stream depends on it, and another door may have let it in.
func (x *client) extra(e *mailbox.Entry) (extra stream.Element, decl string) {
	var raw []byte
	if e.Type == typeStanza {
		raw = e.Body
	} else if v, ok := e.Attr(attrStanza); ok {
		decl, _ = e.Attr(attrNS)
		raw = append(append(append([]byte("<message"), decl...), '>'), v...)
		raw = append(raw, "</message>"...)
	} else {
		return extra, ""
	}
	limits := x.s.limits
	limits.Bytes = len(raw)
	extra, err := stream.Parse(raw, limits, stream.NSClient)
	if err != nil || !extra.Is(stream.NSClient, "message") {
		return stream.Element{}, ""
	}
	for c := range extra.Children() {
		if x.stamped(c) {
			return stream.Element{}, ""
		}
	}
	return extra, extra.Declarations()
}

// appendBody writes what the message says, unless extra does.
func (x *client) appendBody(b []byte, e *mailbox.Entry, extra stream.Element) []byte {
	if _, ok := extra.Child(stream.NSClient, "body"); ok && isText(e.Type) {
		return b
	}
	switch {
	case e.Type == typeStanza && !extra.Zero():
		return b
	case isText(e.Type) && len(e.Body) <= x.s.limits.Bytes && stream.Carries(e.Body):
		return stream.AppendElement(b, "body", "", e.Body)
	}
	if _, ok := extra.Child(stream.NSClient, "body"); !ok {
		say := e.Body
		if !isReadable(e.Type) || len(say) > x.s.limits.Bytes || !stream.Carries(say) {
			say = []byte(describe(e.Type, len(e.Body)))
			if len(e.Body) > maxInline {
				say = fmt.Appendf(say, ", too large for XMPP: it is message %d at /v1/inbox", e.Seq)
			}
		}
		b = stream.AppendElement(b, "body", "", say)
	}
	if len(e.Body) > maxInline {
		return b
	}
	sum := sha1.Sum(e.Body) // XEP-0231 #cid wants a hash for the name, not for security
	b = append(b, "<data xmlns='"+nsBoB+"'"...)
	b = stream.AppendAttr(b, "cid", "sha1+"+hex.EncodeToString(sum[:])+"@bob.xmpp.org")
	b = stream.AppendAttr(b, "type", mediaType(e.Type))
	b = append(b, '>')
	b = base64.StdEncoding.AppendEncode(b, e.Body)
	return append(b, "</data>"...)
}

// isText reports whether a body of type t is the text of a chat.
func isText(t string) bool {
	if t == "" || t == mailbox.TypeText {
		return true
	}
	m, p, err := mime.ParseMediaType(t)
	return err == nil && m == "text/plain" && (p["charset"] == "" || strings.EqualFold(p["charset"], "utf-8"))
}

// isReadable reports whether a body of type t tells a person something as it
// stands, although it is not the text of a chat: Markdown, JSON.
func isReadable(t string) bool {
	m, p, err := mime.ParseMediaType(t)
	utf8 := p["charset"] == "" || strings.EqualFold(p["charset"], "utf-8")
	return err == nil && utf8 && (strings.HasPrefix(m, "text/") || m == "application/json" || strings.HasSuffix(m, "+json"))
}

func mediaType(t string) string {
	if t == "" {
		return mailbox.TypeText // which XML cannot carry
	}
	return t
}

// describe is what a reader sees of data that his client cannot show.
func describe(t string, size int) string {
	return fmt.Sprintf("[%s, %d bytes]", mediaType(t), size)
}

// tellGap tells the client that entries are gone. With stream management it is
// told again until it has acknowledged that.
func (x *client) tellGap(from, to mailbox.Seq) {
	b := append(x.start(), "<message"...)
	b = x.appendXMLNS(b)
	b = stream.AppendAttr(b, "from", x.s.domain)
	b = stream.AppendAttr(b, "to", x.jid)
	b = append(b, " type='headline'>"...)
	b = stream.AppendElement(b, "body", "", fmt.Sprintf("Messages %d to %d were removed by retention before this device had read them.", from, to))
	x.finish(append(b, "</message>"...), uint64(to))
}
