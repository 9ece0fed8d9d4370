package xmpp

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// presence is what a client said of itself. It is in memory only.
type presence struct {
	available bool
	rest      []byte   // of the stanza, behind its addresses
	directed  []string // who else was told: RFC 6121, section 4.6
}

// maxDirected is how many addresses outside the roster one stream can tell of
// itself and have told that it is gone.
const maxDirected = 256

func (r *resource) isAvailable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.available
}

// presenceTo returns r's presence as a stanza for to, nil if it has none.
func (r *resource) presenceTo(to string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.current.available {
		return nil
	}
	return appendPresence(r.jid, to, r.current.rest)
}

func appendPresence(from, to string, rest []byte) []byte {
	b := append(make([]byte, 0, 64+len(from)+len(to)+len(rest)), "<presence"...)
	b = stream.AppendAttr(b, "from", from)
	b = stream.AppendAttr(b, "to", to)
	return append(b, rest...)
}

// presence handles a <presence/> of the client (RFC 6121, sections 3 and 4).
func (x *client) presence(e stream.Element) {
	kind := e.Attr("type")
	if _, ok := e.RawAttr("to"); ok {
		x.presenceTowards(e, kind)
		return
	}
	switch kind {
	case "", "unavailable":
	case "error", "probe": // the server's own business
		return
	default:
		x.refuse(e, badRequest)
		return
	}
	was := x.available
	rest := e.AppendTag(nil, "from", "to", "xmlns")[len("<presence"):]
	rest = e.AppendEnd(append(append(rest, '>'), e.Inner()...))
	x.available = kind == ""
	x.wants = x.available && priority(e) >= 0
	x.mu.Lock()
	x.current.available, x.current.rest = x.available, rest
	var directed []string
	if !x.available {
		directed, x.current.directed, x.current.rest = x.current.directed, nil, nil
	}
	x.mu.Unlock()
	if !was && !x.available {
		return
	}
	x.broadcast(rest, x.available)
	for _, to := range directed {
		x.passPresence(to, rest, x.available)
	}
	if !was {
		x.arrive()
	}
	if x.wants {
		x.deliver()
	}
}

// priority is what a presence says of which resource is to have messages. One
// that is negative "MUST NOT" be given any: RFC 6121, section 4.7.2.3.
func priority(e stream.Element) int {
	c, ok := e.Child(stream.NSClient, "priority")
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(c.Text()), 10, 8)
	if err != nil {
		return 0
	}
	return int(n)
}

// broadcast tells the user's own streams, this one too, and those of the
// contacts who may know (RFC 6121, section 4.4.2).
func (r *resource) broadcast(rest []byte, here bool) {
	s := r.s
	s.each(r.bare, func(o *resource) {
		if o.isAvailable() || o == r {
			o.pass(appendPresence(r.jid, o.jid, rest))
		}
	})
	ro := s.rosterOf(r.bare)
	if ro == nil {
		return
	}
	for _, c := range ro.Items {
		if c.From {
			r.passPresence(c.JID, rest, here)
		}
	}
}

// passPresence gives a presence to the available streams of an address, and to
// those who are connected by another door.
func (r *resource) passPresence(to string, rest []byte, here bool) {
	a, err := r.s.parse(to)
	if err != nil {
		return
	}
	r.s.each(a.Bare(), func(o *resource) {
		if o.isAvailable() && (a.Device == "" || a.Device == o.who.Device) {
			o.pass(appendPresence(r.jid, o.jid, rest))
		}
	})
	kind := "offline"
	if here {
		kind = "online"
	}
	r.signal(a, kind)
}

// arrive tells a stream that has become available who else is there, and who
// has asked to know (RFC 6121, sections 4.2.2 and 3.1.3).
func (x *client) arrive() {
	s := x.s
	tell := func(o *resource) {
		if o.jid != x.jid { // else it is this one, or one that it replaces
			if p := o.presenceTo(x.jid); p != nil {
				x.pass(p)
			}
		}
	}
	s.each(x.bare, tell)
	r := s.rosterOf(x.bare)
	if r == nil {
		return
	}
	for _, c := range r.Items {
		if c.To && s.rosterOf(c.JID).get(x.bare).From {
			s.each(c.JID, tell)
		}
		if c.In {
			x.pass(appendPresence(c.JID, x.bare, []byte(" type='subscribe'/>")))
		}
	}
}

var gone = []byte(" type='unavailable'/>")

// unavailable tells those who know of a stream that it is over.
func (r *resource) unavailable() {
	r.mu.Lock()
	was, directed := r.current.available, r.current.directed
	r.current = presence{}
	r.mu.Unlock()
	if was {
		r.broadcast(gone, false)
	}
	for _, to := range directed {
		r.passPresence(to, gone, false)
	}
}

// presenceTowards handles a presence with an address.
func (x *client) presenceTowards(e stream.Element, kind string) {
	a, ok := x.local(e, e.Attr("to"))
	if !ok || a.User == "" { // to the server: it has no use for it
		return
	}
	switch kind {
	case "subscribe", "subscribed", "unsubscribe", "unsubscribed":
		if a.Bare() != x.bare {
			x.subscription(e, kind, a.Bare())
		}
	case "", "unavailable":
		rest := e.AppendTag(nil, "from", "to", "xmlns")[len("<presence"):]
		rest = e.AppendEnd(append(append(rest, '>'), e.Inner()...))
		to := a.String()
		x.mu.Lock()
		i := slices.Index(x.current.directed, to)
		switch {
		case kind != "" && i >= 0:
			x.current.directed = slices.Delete(x.current.directed, i, i+1)
		case kind == "" && i < 0 && len(x.current.directed) < maxDirected:
			x.current.directed = append(x.current.directed, to)
		case kind == "" && i < 0:
			x.mu.Unlock()
			x.refuse(e, tooBusy)
			return
		}
		x.mu.Unlock()
		x.passPresence(to, rest, kind == "")
	}
}

// subscription carries out a change of who sees whose presence (RFC 6121,
// section 3): first in the roster of the one who asks for it, then, on that
// one's worker, in the other's.
func (x *client) subscription(e stream.Element, kind, other string) {
	r, s, id := x.resource, x.s, e.Attr("id")
	x.atWork(e, func() {
		if err := s.subscribe(r.bare, kind, other); err != nil {
			r.passError("presence", other, id, s.workFault(err, r.bare))
		}
	})
}

// subscribe blocks; call it on the worker of user.
func (s *Server) subscribe(user, kind, other string) error {
	was, _, err := s.change(user, other, func(c *contact) bool {
		switch kind {
		case "subscribe": // section 3.1.2
			if c.To {
				return false
			}
			c.Ask, c.Hidden = true, false
		case "subscribed": // section 3.1.5
			if !c.In {
				return false
			}
			c.In, c.From, c.Hidden = false, true, false
		case "unsubscribe": // section 3.3.2
			if !c.To && !c.Ask {
				return false
			}
			c.To, c.Ask = false, false
		case "unsubscribed": // sections 3.2.2 and 3.1.5
			if !c.From && !c.In {
				return false
			}
			c.From, c.In = false, false
		}
		return true
	})
	if err != nil {
		return err
	}
	if kind == "subscribed" && !was.In || kind == "unsubscribed" && !was.From && !was.In {
		return nil // nobody asked: section 3.1.5 has the server ignore it
	}
	if kind == "unsubscribed" && was.From {
		s.showAll(user, other, true)
	}
	if s.core.Auth.Exists(other) {
		s.tell(user, kind, other)
	}
	return nil
}

// parted ends what was between user and a contact that was removed (RFC 6121,
// section 2.5.2).
func (s *Server) parted(user string, was contact) {
	if was.From {
		s.showAll(user, was.JID, true)
	}
	if was.To || was.Ask {
		s.tell(user, "unsubscribe", was.JID)
	}
	if was.From {
		s.tell(user, "unsubscribed", was.JID)
	}
}

// tell has the contact's side of a subscription change carried out on his
// worker.
func (s *Server) tell(user, kind, other string) {
	ok := s.work.do(other, func() {
		if err := s.told(other, kind, user); err != nil {
			s.core.Log.Error("xmpp: subscription not stored", "user", other, "err", err)
		}
	})
	if !ok {
		s.core.Log.Error("xmpp: subscription dropped: too much waits for the disk", "user", other)
	}
}

// told blocks; call it on the worker of user. From has sent kind to him.
func (s *Server) told(user, kind, from string) error {
	was, is, err := s.change(user, from, func(c *contact) bool {
		switch kind {
		case "subscribe": // section 3.1.3
			if c.From || c.In {
				return false
			}
			c.In = true
		case "subscribed": // section 3.1.6
			if !c.Ask {
				return false
			}
			c.Ask, c.To = false, true
		case "unsubscribe": // section 3.3.3
			if !c.From && !c.In {
				return false
			}
			c.From, c.In = false, false
		case "unsubscribed": // section 3.2.3
			if !c.To && !c.Ask {
				return false
			}
			c.To, c.Ask = false, false
		}
		return true
	})
	if errors.Is(err, errGone) {
		return nil // and nobody to tell
	}
	if err != nil {
		return err
	}
	changed := was.To != is.To || was.From != is.From || was.Ask != is.Ask || was.In != is.In
	switch {
	case kind == "subscribe" && is.From:
		// "the contact's server MUST … reply": he agreed before.
		s.tell(user, "subscribed", from)
		s.showAll(user, from, false)
	case !changed && kind != "subscribe":
		return nil
	}
	if kind != "subscribe" || is.In {
		rest := []byte(" type='" + kind + "'/>")
		s.each(user, func(o *resource) {
			if o.isAvailable() {
				o.pass(appendPresence(from, user, rest))
			}
		})
	}
	switch kind {
	case "subscribed":
		s.showAll(from, user, false)
	case "unsubscribe":
		if was.From {
			s.showAll(user, from, true)
		}
	}
	return nil
}

// showAll tells other the presence of every stream of user, or that they are
// gone.
func (s *Server) showAll(user, other string, unavailable bool) {
	s.each(user, func(r *resource) {
		if !r.isAvailable() {
			return
		}
		s.each(other, func(o *resource) {
			p := r.presenceTo(o.jid)
			if unavailable {
				p = appendPresence(r.jid, o.jid, gone)
			}
			if p != nil && o.isAvailable() {
				o.pass(p)
			}
		})
	})
}
