package xmpp

import (
	"slices"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// Chat states (XEP-0085) and presence are words of the moment: those of other
// doors are told here, and ours there, by the router. Between XMPP streams the
// whole stanza is passed on.

// states are the chat states, XEP-0085 #definitions.
var states = []string{"active", "composing", "gone", "inactive", "paused"}

func isState(s string) bool { return slices.Contains(states, s) }

// signal tells those who are connected by another door.
func (r *resource) signal(to address.Address, kind string) {
	// Nobody of that name is no error here: it was one before.
	r.s.core.Router.Signal(to.String(), &router.Signal{Door: router.XMPP, From: r.bare, Device: r.who.Device, Kind: kind})
}

var _ router.Hearer = (*bell)(nil)

// Signal implements router.Hearer. What XMPP has no word for is dropped.
func (b *bell) Signal(device string, s *router.Signal) bool {
	if s.Door == router.XMPP {
		return false // it had the stanza
	}
	r := b.s.stream(s.To, device)
	if r == nil || !r.isAvailable() {
		return false
	}
	from := s.From
	if d, err := address.ParseDevice(s.Device); err == nil && d == s.Device {
		from += "/" + d
	}
	switch {
	case s.Kind == "online":
		return r.pass(appendPresence(from, r.jid, []byte("/>")))
	case s.Kind == "offline":
		return r.pass(appendPresence(from, r.jid, gone))
	case !isState(s.Kind):
		return false
	}
	p := stream.AppendAttr([]byte("<message"), "from", from)
	p = stream.AppendAttr(p, "to", r.jid)
	p = append(p, " type='chat'><"+s.Kind+" xmlns='"+nsChatStates+"'/></message>"...)
	return r.pass(p)
}
