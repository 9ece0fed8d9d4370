package xmpp

import (
	"bytes"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// The properties of a message are XEP-0131's headers:
//
//	<headers xmlns='http://jabber.org/protocol/shim'>
//	  <header name='zone'>kitchen</header>
//	</headers>
//
// The server passes them on and understands none, so that it has nothing to
// answer XEP-0131 #disco.

// plainHeaders reports whether e is nothing but names and texts, as its schema
// has it, so that all of it can be a message's properties.
func plainHeaders(e stream.Element) bool {
	for c := range e.Children() {
		name, ok := c.RawAttr("name")
		if !ok || len(name) == 0 || !c.Is(nsSHIM, "header") || !c.First().Zero() || router.Private(c.Attr("name")) {
			return false
		}
	}
	return len(bytes.TrimSpace(e.AppendText(nil))) == 0
}

func appendHeaders(as []mailbox.Attr, e stream.Element) []mailbox.Attr {
	for c := range e.Children() {
		as = append(as, mailbox.Attr{Name: c.Attr("name"), Value: c.Text()})
	}
	return as
}

// appendProperties writes a message's properties, but for those that XML
// cannot carry. A stanza that was kept with its own headers has them in extra.
func appendProperties(b []byte, e *mailbox.Entry, extra stream.Element) []byte {
	if _, ok := extra.Child(nsSHIM, "headers"); ok {
		return b
	}
	some := false
	for _, a := range e.Attrs {
		if router.Private(a.Name) || !stream.Carries(a.Name) || !stream.Carries(a.Value) {
			continue
		}
		if !some {
			some = true
			b = append(b, "<headers xmlns='"+nsSHIM+"'>"...)
		}
		b = append(stream.AppendAttr(append(b, "<header"...), "name", a.Name), '>')
		b = append(stream.AppendText(b, a.Value), "</header>"...)
	}
	if some {
		b = append(b, "</headers>"...)
	}
	return b
}
