package xmpp

import (
	"errors"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// fault is a stanza error (RFC 6120, section 8.3).
type fault struct {
	kind      string // auth, cancel, modify, wait
	condition string
	text      string
}

// RFC 6120, section 8.3.3, with the types that it recommends.
var (
	badRequest         = fault{"modify", "bad-request", ""}
	conflict           = fault{"cancel", "conflict", "this id was used before for another message"}
	internalError      = fault{"cancel", "internal-server-error", ""}
	itemNotFound       = fault{"cancel", "item-not-found", ""}
	jidMalformed       = fault{"modify", "jid-malformed", ""}
	notAcceptable      = fault{"modify", "not-acceptable", ""}
	remoteNotFound     = fault{"cancel", "remote-server-not-found", ""}
	serviceUnavailable = fault{"cancel", "service-unavailable", ""}
	tooLarge           = fault{"modify", "policy-violation", "too large"}
	tooBusy            = fault{"wait", "resource-constraint", ""}
	noGroups           = fault{"cancel", "service-unavailable", "there are no groups here"}
)

// faultOf turns an error of the core into XMPP's words. Who asks for somebody
// who is not there hears the same as of somebody who will not answer.
func faultOf(err error) fault {
	switch {
	case errors.Is(err, router.ErrNoRecipient):
		return serviceUnavailable
	case errors.Is(err, router.ErrRemote):
		return remoteNotFound
	case errors.Is(err, address.ErrInvalid):
		return jidMalformed
	case errors.Is(err, mailbox.ErrConflict):
		return conflict
	case errors.Is(err, mailbox.ErrTooLarge):
		return tooLarge
	case errors.Is(err, mailbox.ErrInvalid):
		return badRequest
	case errors.Is(err, mailbox.ErrUnavailable), errors.Is(err, mailbox.ErrClosed):
		return tooBusy
	}
	return internalError
}

// append writes the <error/> element.
func (f fault) append(b []byte) []byte {
	b = append(b, "<error"...)
	b = stream.AppendAttr(b, "type", f.kind)
	b = append(b, '>')
	b = stream.AppendElement(b, f.condition, nsStanzaErr, "")
	if f.text != "" {
		b = stream.AppendElement(b, "text", nsStanzaErr, f.text)
	}
	return append(b, "</error>"...)
}

// local returns what e, a stanza from this client, is addressed to. An address
// that is none, or at another server, is refused.
func (x *client) local(e stream.Element, to string) (a address.Address, ok bool) {
	a, err := x.s.parse(to)
	switch {
	case err != nil:
		x.refuse(e, jidMalformed)
	case a.Domain != x.s.domain:
		x.refuse(e, remoteNotFound)
	default:
		return a, true
	}
	return a, false
}

// refuse answers e, a stanza from this client, with an error. An error is
// never answered with one.
func (x *client) refuse(e stream.Element, f fault) {
	if t, _ := e.RawAttr("type"); string(t) == "error" || string(e.Name()) == "iq" && string(t) == "result" {
		return
	}
	x.reject(string(e.Name()), e.Attr("to"), e.Attr("id"), f)
}

// reject sends an error in answer to a stanza called name.
func (x *client) reject(name, to, id string, f fault) {
	b := append(x.start(), '<')
	b = append(b, name...)
	b = x.appendXMLNS(b)
	b = stream.AppendAttr(b, "type", "error")
	if to != "" && stream.Carries(to) {
		b = stream.AppendAttr(b, "from", to)
	}
	b = stream.AppendAttr(b, "to", x.jid)
	if id != "" {
		b = stream.AppendAttr(b, "id", id)
	}
	b = append(b, '>')
	b = f.append(b)
	b = append(append(append(b, "</"...), name...), '>')
	x.finish(b, 0)
}
