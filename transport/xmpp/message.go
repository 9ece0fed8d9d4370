package xmpp

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// Properties of a message that this door keeps for its own readers.
const (
	// attrStanza is the content of the stanza as it came, without a plain body
	// (which is the message's Body) and without what the server stamps.
	attrStanza = "xmpp:stanza"
	// attrNS has the declarations of prefixes that attrStanza needs.
	attrNS   = "xmpp:ns"
	attrType = "xmpp:type" // unless chat
	attrLang = "xmpp:lang" // xml:lang
	attrID   = "xmpp:id"   // the id attribute, where the message has another id
)

// typeStanza is the media type of a message that is a stanza without a body,
// such as a receipt or an encrypted message (RFC 3923, section 10).
const typeStanza = "application/xmpp+xml"

// content is what the server looks for inside a message.
type content struct {
	body     stream.Element // the first <body/>
	bodies   int
	data     stream.Element // XEP-0231
	headers  stream.Element // XEP-0131, if they become properties of the message
	origin   string         // XEP-0359 origin-id
	others   int            // child elements besides those and what is stripped
	states   int            // of others, chat states
	state    string         // XEP-0085, the first of them
	nostore  bool           // XEP-0334: no-store or no-permanent-store
	stripped int
}

// stamped reports whether c is something that only the server may say, about
// a message of a client: whoever sends it forges it.
func (x *client) stamped(c stream.Element) bool {
	switch string(c.Name()) {
	case "stanza-id": // XEP-0359 #security: "MUST … strip … stanza-ids by itself"
		return string(c.NS()) == nsSID
	case "delay":
		return string(c.NS()) == nsDelay
	case "sent", "received": // XEP-0280 #security
		return string(c.NS()) == nsCarbons
	}
	return false
}

func (x *client) look(e stream.Element) (ct content) {
	headers := 0
	for c := range e.Children() {
		name := string(c.Name())
		switch ns := string(c.NS()); {
		case x.stamped(c):
			ct.stripped++
		case name == "body" && ns == stream.NSClient:
			if ct.bodies++; ct.bodies == 1 {
				ct.body = c
			}
		case name == "data" && ns == nsBoB && c.Attr("cid") != "" && ct.data.Zero():
			ct.data = c
		case name == "headers" && ns == nsSHIM:
			headers++
			ct.headers = c
		case name == "origin-id" && ns == nsSID:
			ct.origin = c.Attr("id")
		case ns == nsHints && (name == "no-store" || name == "no-permanent-store"):
			ct.nostore = true
			ct.others++
		case ns == nsChatStates:
			if ct.states++; ct.states == 1 {
				ct.state = name
			}
			ct.others++
		default:
			ct.others++
		}
	}
	if headers != 1 || ct.bodies == 0 && ct.data.Zero() || !plainHeaders(ct.headers) {
		ct.headers = stream.Element{}
		ct.others += headers
	}
	return ct
}

// message takes a <message/> from the client. Num is its number for stream
// management, zero if there is none.
func (x *client) message(e stream.Element, num uint32) {
	kind := e.Attr("type")
	to := x.bare
	switch kind {
	case "error":
		return // "MUST NOT" be answered: RFC 6120, section 8.3.1; nor is it mail
	case "groupchat":
		x.refuse(e, noGroups)
		return
	case "chat", "normal", "headline":
	default:
		kind = "normal" // RFC 6121, section 5.2.2
	}
	if _, ok := e.RawAttr("to"); ok {
		to = e.Attr("to")
	}
	a, ok := x.local(e, to)
	if !ok {
		return
	}
	if a.User == "" {
		x.refuse(e, serviceUnavailable)
		return
	}
	ct := x.look(e)
	if kind == "headline" || ct.nostore || ct.bodies == 0 && ct.data.Zero() && ct.others == ct.states {
		x.ephemeral(e, a, kind)
		if ct.bodies == 0 && isState(ct.state) {
			x.signal(a, ct.state)
		}
		return
	}
	p, err := x.post(e, &ct, kind)
	if err != nil {
		x.refuse(e, badRequest)
		return
	}
	weak := ct.origin == ""
	id := e.Attr("id")
	if err := x.s.core.Router.Submit(router.XMPP, x.who, a.String(), p); err != nil {
		x.refuse(e, x.faultOf(err, p))
		return
	}
	x.posts = append(x.posts, posted{num: num, post: p, id: id, weak: weak && id != ""})
}

var errBadData = errors.New("xmpp: data that is not base64")

// post makes a post of a stanza.
func (x *client) post(e stream.Element, ct *content, kind string) (*mailbox.Post, error) {
	p := &mailbox.Post{Notify: x.resource}
	id := e.Attr("id")
	p.ID = id
	if ct.origin != "" && ct.origin != id {
		p.ID = ct.origin
		if id != "" {
			p.Attrs = append(p.Attrs, mailbox.Attr{Name: attrID, Value: id})
		}
	}
	if kind != "chat" {
		p.Attrs = append(p.Attrs, mailbox.Attr{Name: attrType, Value: kind})
	}
	if lang := e.Attr("xml:lang"); lang != "" {
		p.Attrs = append(p.Attrs, mailbox.Attr{Name: attrLang, Value: lang})
	}
	if !ct.headers.Zero() {
		p.Attrs = appendHeaders(p.Attrs, ct.headers)
	}
	taken := func(c stream.Element) bool {
		return x.stamped(c) || isOrigin(c) || !ct.headers.Zero() && c.Is(nsSHIM, "headers")
	}
	drop := taken
	switch {
	case !ct.data.Zero():
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(ct.data.Text()), ""))
		if err != nil {
			return nil, errBadData
		}
		p.Body, p.Type = data, ct.data.Attr("type")
		if p.Type == "" {
			p.Type = "application/octet-stream"
		}
		drop = func(c stream.Element) bool { return taken(c) || c.Is(nsBoB, "data") }
		if say := ct.body.Text(); ct.others == 0 && ct.bodies > 0 && (say == describe(p.Type, len(data)) || say == string(data)) {
			return p, nil // as what we say ourselves, which is made anew
		}
		if ct.others == 0 && ct.bodies == 0 {
			return p, nil
		}
	case ct.bodies == 0:
		b := append(append([]byte("<message xmlns='"+stream.NSClient+"'"), e.Declarations()...), '>')
		p.Body = append(e.AppendInner(b, drop), "</message>"...)
		p.Type = typeStanza
		return p, nil
	default:
		p.Body = ct.body.AppendText(nil)
		if ct.bodies == 1 && plainTag(ct.body) {
			if ct.others == 0 {
				return p, nil
			}
			drop = func(c stream.Element) bool { return taken(c) || c.Is(stream.NSClient, "body") }
		}
	}
	p.Attrs = append(p.Attrs, mailbox.Attr{Name: attrStanza, Value: string(e.AppendInner(nil, drop))})
	if ns := e.Declarations(); ns != "" {
		p.Attrs = append(p.Attrs, mailbox.Attr{Name: attrNS, Value: ns})
	}
	return p, nil
}

func isOrigin(c stream.Element) bool { return c.Is(nsSID, "origin-id") }

// plainTag reports whether an element has no attributes to be kept.
func plainTag(e stream.Element) bool { return len(e.AppendTag(nil, "xmlns")) == len("<body") }

// again posts a message anew that was refused because its id had been used for
// another one. An id attribute need be unique in its stream only (RFC 6120,
// section 8.1.3), and there are clients that count from 1 on each: their
// messages must not be lost. An origin-id must be unique (XEP-0359 #rules).
func (x *client) again(p *posted, err error) bool {
	if !errors.Is(err, mailbox.ErrConflict) {
		return false
	}
	old := p.post
	fresh := &mailbox.Post{Message: old.Message, Notify: old.Notify}
	fresh.ID = ""
	fresh.Attrs = append(fresh.Attrs, mailbox.Attr{Name: attrID, Value: p.id})
	if x.s.core.Router.Submit(router.XMPP, x.who, old.To, fresh) != nil {
		return false
	}
	p.post, p.weak = fresh, false
	return true
}

// ephemeral passes on what is not kept: to the recipient's streams that are
// there, or to the one named.
func (x *client) ephemeral(e stream.Element, to address.Address, kind string) {
	bare := to.Bare()
	if !x.s.core.Auth.Exists(bare) {
		x.refuse(e, serviceUnavailable)
		return
	}
	b := e.AppendTag(nil, "to", "from", "xmlns", "type")
	b = stream.AppendAttr(b, "from", x.jid)
	b = stream.AppendAttr(b, "to", to.String())
	b = stream.AppendAttr(b, "type", kind)
	b = append(b, '>')
	b = e.AppendEnd(e.AppendInner(b, x.stamped))
	x.s.each(bare, func(o *resource) {
		if o != x.resource && o.isAvailable() && (to.Device == "" || o.who.Device == to.Device) {
			o.pass(b)
		}
	})
}
