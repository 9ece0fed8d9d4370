package xmpp

import (
	"bytes"
	"runtime/debug"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// iq handles an <iq/> (RFC 6120, section 8.2.3).
func (x *client) iq(e stream.Element) {
	kind := e.Attr("type")
	request := kind == "get" || kind == "set"
	if _, ok := e.RawAttr("id"); !ok || !request && kind != "result" && kind != "error" {
		x.refuse(e, badRequest)
		return
	}
	child, n := stream.Element{}, 0
	for c := range e.Children() {
		if n++; n == 1 {
			child = c
		}
	}
	if request && n != 1 {
		x.refuse(e, badRequest)
		return
	}
	to := x.bare
	if v, ok := e.RawAttr("to"); ok && string(v) != x.bare {
		a, ok := x.local(e, e.Attr("to"))
		if !ok {
			return
		}
		if a.User != "" && a.Device != "" {
			x.route(e, a.Bare(), a.Device, a.String())
			return
		}
		to = a.Bare()
	}
	if !request {
		return // the answer to our ping
	}
	for _, h := range handlers {
		if h.kind == kind && string(child.Name()) == h.name && string(child.NS()) == h.ns && h.to.has(x, to) {
			h.do(x, e, child, to)
			return
		}
	}
	// RFC 6121, section 8.5.2.1.3: what the server does not know for an
	// account, it does not know for no account either.
	x.refuse(e, serviceUnavailable)
}

// whom says to whom a request may be addressed.
type whom uint8

const (
	toServer whom = 1 << iota
	toSelf        // the own bare address, also by not saying
	toOther       // the bare address of somebody else here
)

func (w whom) has(x *client, to string) bool {
	switch to {
	case x.bare:
		return w&toSelf != 0
	case x.s.domain:
		return w&toServer != 0
	}
	return w&toOther != 0
}

type handler struct {
	kind, name, ns string
	to             whom
	do             func(x *client, e, child stream.Element, to string)
}

var handlers = []handler{
	{"get", "ping", nsPing, toServer | toSelf, func(x *client, e, p stream.Element, to string) { x.c.Meter().Beat(); x.iqEmpty(e, p, to) }},
	{"get", "query", nsRoster, toSelf, func(x *client, e, q stream.Element, _ string) { x.rosterGet(e, q) }},
	{"set", "query", nsRoster, toSelf, func(x *client, e, q stream.Element, _ string) { x.rosterSet(e, q) }},
	{"get", "query", nsDiscoInfo, toServer | toSelf, (*client).discoInfo},
	{"get", "query", nsDiscoItems, toServer | toSelf, (*client).discoItems},
	{"set", "session", nsSession, toServer | toSelf, (*client).iqEmpty}, // RFC 3921, section 3: nothing to do
	{"set", "enable", nsCarbons, toServer | toSelf, func(x *client, e, c stream.Element, to string) { x.carbons = true; x.iqEmpty(e, c, to) }},
	{"set", "disable", nsCarbons, toServer | toSelf, func(x *client, e, c stream.Element, to string) { x.carbons = false; x.iqEmpty(e, c, to) }},
	{"get", "query", nsVersion, toServer, (*client).iqVersion},
	{"get", "time", nsTime, toServer, (*client).iqTime},
	{"get", "vCard", nsVCard, toSelf | toOther, (*client).vcardGet},
	{"set", "vCard", nsVCard, toSelf, (*client).vcardSet},
	{"get", "query", nsPrivate, toSelf, (*client).privateGet},
	{"set", "query", nsPrivate, toSelf, (*client).privateSet},
}

// startResult begins the answer to e, up to the last attribute.
func (x *client) startResult(e stream.Element) []byte {
	b := append(x.start(), "<iq"...)
	b = x.appendXMLNS(b)
	b = append(b, " type='result'"...)
	if to := e.Attr("to"); to != "" {
		b = stream.AppendAttr(b, "from", to)
	}
	b = stream.AppendAttr(b, "to", x.jid)
	return stream.AppendAttr(b, "id", e.Attr("id"))
}

func (x *client) iqEmpty(e, _ stream.Element, _ string) {
	x.finish(append(x.startResult(e), "/>"...), 0)
}

// features are what disco#info says of the server, and of an account.
var (
	serverFeatures = []string{nsDiscoInfo, nsDiscoItems, nsPing, nsVersion, nsTime, nsCarbons, nsVCard, nsPrivate, nsSM, "msgoffline"}
	ownFeatures    = []string{nsDiscoInfo, nsDiscoItems, nsSID, nsVCard}
)

// discoInfo answers XEP-0030 #info.
func (x *client) discoInfo(e, q stream.Element, to string) {
	if q.Attr("node") != "" {
		x.refuse(e, itemNotFound)
		return
	}
	b := append(x.startResult(e), "><query xmlns='"+nsDiscoInfo+"'>"...)
	features := ownFeatures
	if to == x.s.domain {
		b = append(b, "<identity category='server' type='im' name='Posthouse'/>"...)
		features = serverFeatures
	} else {
		b = append(b, "<identity category='account' type='registered'/>"...)
	}
	for _, f := range features {
		b = append(stream.AppendAttr(append(b, "<feature"...), "var", f), "/>"...)
	}
	x.finish(append(b, "</query></iq>"...), 0)
}

// discoItems answers XEP-0030 #items: there is nothing below.
func (x *client) discoItems(e, q stream.Element, _ string) {
	b := append(x.startResult(e), "><query xmlns='"+nsDiscoItems+"'"...)
	if n := q.Attr("node"); n != "" {
		b = stream.AppendAttr(b, "node", n)
	}
	x.finish(append(b, "/></iq>"...), 0)
}

func (x *client) iqVersion(e, _ stream.Element, _ string) {
	b := append(x.startResult(e), "><query xmlns='"+nsVersion+"'><name>Posthouse</name>"...)
	b = stream.AppendElement(b, "version", "", version())
	x.finish(append(b, "</query></iq>"...), 0)
}

func (x *client) iqTime(e, _ stream.Element, _ string) {
	b := append(x.startResult(e), "><time xmlns='"+nsTime+"'><tzo>+00:00</tzo>"...)
	b = stream.AppendElement(b, "utc", "", time.Now().UTC().Format("2006-01-02T15:04:05Z"))
	x.finish(append(b, "</time></iq>"...), 0)
}

// route passes an <iq/> on to another stream here.
func (x *client) route(e stream.Element, bare, device, to string) {
	o := x.s.stream(bare, device)
	if o == nil {
		x.refuse(e, serviceUnavailable) // RFC 6121, section 8.5.3.2.3
		return
	}
	b := e.AppendTag(nil, "to", "from", "xmlns")
	b = stream.AppendAttr(b, "from", x.jid)
	b = stream.AppendAttr(b, "to", to)
	b = append(b, '>')
	if !o.pass(e.AppendEnd(append(b, e.Inner()...))) {
		x.refuse(e, tooBusy)
	}
}

// atWork has f done by the user's worker; if there is too much to do e is
// refused.
func (x *client) atWork(e stream.Element, f func()) {
	if !x.s.work.do(x.bare, f) {
		x.refuse(e, tooBusy)
	}
}

// maxStored is how large a vCard or a private element may be.
const maxStored = 128 << 10

// get answers e with what is stored under key, or with none.
func (x *client) get(e stream.Element, key string, answer func(v []byte) (inner string, f *fault)) {
	id, to, r := e.Attr("id"), e.Attr("to"), x.resource
	x.atWork(e, func() {
		ctx, cancel := storeContext()
		defer cancel()
		v, err := r.s.core.Mail.Get(ctx, key)
		if err != nil {
			r.passError("iq", to, id, r.s.workFault(err, r.bare))
			return
		}
		inner, f := answer(v)
		if f != nil {
			r.passError("iq", to, id, *f)
			return
		}
		r.passResult(to, id, inner)
	})
}

// put stores value under key and answers e.
func (x *client) put(e stream.Element, key string, value []byte) {
	if len(value) > maxStored || len(key) > mailbox.MaxName {
		x.refuse(e, tooLarge)
		return
	}
	id, r := e.Attr("id"), x.resource
	value = bytes.Clone(value)
	x.atWork(e, func() {
		ctx, cancel := storeContext()
		defer cancel()
		err := r.s.here(r.bare)
		if err == nil {
			err = r.s.core.Mail.Put(ctx, mailbox.Record{Key: key, Value: value})
		}
		if err != nil {
			r.passError("iq", "", id, r.s.workFault(err, r.bare))
			return
		}
		r.passResult("", id, "")
	})
}

// alone returns an element's bytes if they mean the same in another place:
// its default namespace is its own, and it uses no prefix of those around it.
func alone(c stream.Element) ([]byte, bool) {
	_, ok := c.RawAttr("xmlns")
	if _, err := stream.Parse(c.Raw(), stream.After, stream.NSClient); err != nil || !ok {
		return nil, false
	}
	return c.Raw(), true
}

func vcardKey(bare string) string { return "xmpp:vcard:" + bare }

// vcardGet answers XEP-0054 #retrieve. Who is not there has no vCard, like who
// has not set one.
func (x *client) vcardGet(e, _ stream.Element, to string) {
	self := to == x.bare
	x.get(e, vcardKey(to), func(v []byte) (string, *fault) {
		switch {
		case v != nil:
			return string(v), nil
		case self:
			return "<vCard xmlns='" + nsVCard + "'/>", nil
		}
		return "", &serviceUnavailable
	})
}

func (x *client) vcardSet(e, c stream.Element, _ string) {
	v, ok := alone(c)
	if !ok {
		x.refuse(e, badRequest)
		return
	}
	x.put(e, vcardKey(x.bare), v)
}

func privatePrefix(bare string) string { return "xmpp:private:" + bare + ":" }

// privateKey names the place of a private element (XEP-0049).
func (x *client) privateKey(c stream.Element) string {
	return privatePrefix(x.bare) + string(c.NS()) + " " + string(c.Name())
}

func (x *client) privateGet(e, q stream.Element, _ string) {
	c := q.First()
	if c.Zero() || string(c.NS()) == nsPrivate || len(x.privateKey(c)) > mailbox.MaxName {
		x.refuse(e, badRequest)
		return
	}
	empty := string(stream.AppendElement(nil, string(c.Name()), string(c.NS()), ""))
	x.get(e, x.privateKey(c), func(v []byte) (string, *fault) {
		if v == nil {
			return "<query xmlns='" + nsPrivate + "'>" + empty + "</query>", nil
		}
		return "<query xmlns='" + nsPrivate + "'>" + string(v) + "</query>", nil
	})
}

func (x *client) privateSet(e, q stream.Element, _ string) {
	c := q.First()
	if c.Zero() || string(c.NS()) == nsPrivate {
		x.refuse(e, badRequest)
		return
	}
	v, ok := alone(c)
	if !ok {
		x.refuse(e, badRequest)
		return
	}
	x.put(e, x.privateKey(c), v)
}

// version is the server's own, as the Go tool stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
