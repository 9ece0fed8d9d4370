package xmpp

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// phase is how far a stream has come.
type phase uint8

const (
	atHeader  phase = iota // the client's stream header is due
	atAuth                 // STARTTLS or SASL is due
	atSASL                 // in the middle of SASL
	atTLS                  // in the TLS handshake
	atBind                 // bind or resume is due
	atWork                 // a worker has the next step: nothing is read
	atSession              // bound
	atEnd                  // the stream was closed by us
)

// client is one connection: the protocol that internal/conn runs. Its fields
// belong to the loop of the connection, except those that mu guards.
type client struct {
	s  *Server
	c  *conn.Conn
	in stream.Scanner
	// The stream, which may come from another connection. What runs elsewhere
	// must hold it by itself.
	*resource

	phase    phase
	ws       bool
	authed   bool
	header   bool // ours was sent on this stream
	asked    bool // we asked for a sign of life
	choked   bool // reading is paused since the connection is behind
	failures uint8
	claimed  uint32 // the h of a <resume/> that waits
	login    *login // while SASL is under way
	mark     int    // where in Out the stanza being written begins
	lastIn   time.Time
	started  time.Time

	end atomic.Pointer[router.Reason] // set by the router

	work struct {
		sync.Mutex
		gone bool          // Closed was called
		done func(*client) // what a worker wants done on the loop
	}
}

func newClient(s *Server, ws bool) *client {
	x := &client{s: s, ws: ws, resource: &resource{s: s}}
	x.in.Limits = stream.Before
	x.in.Framed = ws
	return x
}

// Open is called when the connection can be written to.
func (x *client) Open(c *conn.Conn) error {
	x.c = c
	x.started = c.Now()
	x.lastIn = x.started
	c.SetAlarm(x.started.Add(x.s.cfg.LoginTime))
	return nil
}

// Data reads what came.
func (x *client) Data(p []byte) (n int, err error) {
	x.lastIn, x.asked = x.c.Now(), false
	for n < len(p) && x.phase != atEnd && x.phase != atWork && x.phase != atTLS {
		if x.behind() {
			x.choked = true
			x.c.PauseRead(true)
			break
		}
		k, used, err := x.in.Next(p[n:])
		if err != nil {
			x.fail(err.(stream.Condition), "")
			return len(p), nil
		}
		unit := p[n : n+used]
		n += used
		switch k {
		case stream.More:
			return n, nil
		case stream.Open:
			x.open(stream.View(unit, ""))
		case stream.Stanza:
			x.element(stream.View(unit, x.def()))
		case stream.Close:
			x.closeStream(io.EOF)
		}
	}
	if x.phase == atEnd {
		n = len(p)
	}
	return n, nil
}

// behind reports whether nothing more should be read for now: too many messages
// wait for the disk, or the client does not read what it is told.
func (x *client) behind() bool {
	return len(x.posts) >= x.s.cfg.MaxPosts || x.c.Room() <= 0
}

// def is the namespace of what does not name one: a frame of RFC 7395 names
// its own.
func (x *client) def() string {
	if x.ws {
		return ""
	}
	return stream.NSClient
}

// start begins a stanza to the client; finish ends it. In between nothing else
// is written.
func (x *client) start() []byte {
	b := x.c.Out()
	x.mark = len(b)
	return b
}

// finish ends a stanza. With seq, not zero, the client has the box up to there
// when it has the stanza.
func (x *client) finish(b []byte, seq uint64) {
	x.c.SetOut(b)
	x.s.stats.stanzasOut.Add(1)
	if x.sm != nil {
		x.sm.sent(seq, b[x.mark:])
	}
	x.c.Cut()
}

// nonza writes what is no stanza.
func (x *client) nonza(s string) {
	x.c.SetOut(append(x.c.Out(), s...))
	x.c.Cut()
}

// appendXMLNS declares the namespace of a stanza where the transport has no
// stream header that does.
func (x *client) appendXMLNS(b []byte) []byte {
	if x.ws {
		return append(b, " xmlns='jabber:client'"...)
	}
	return b
}

// open answers the client's stream header.
func (x *client) open(e stream.Element) {
	if x.phase != atHeader {
		x.fail(stream.InvalidXML, "") // a second header
		return
	}
	if def, _ := e.RawAttr("xmlns"); string(e.NS()) != stream.NSStreams || string(def) != stream.NSClient {
		x.fail(stream.InvalidNamespace, "")
		return
	}
	x.opened(e)
}

func (x *client) opened(e stream.Element) {
	to := e.Attr("to")
	if to != "" && !x.serves(to) {
		x.fail(stream.HostUnknown, "")
		return
	}
	if v := e.Attr("version"); !strings.HasPrefix(v, "1.") {
		x.fail(stream.UnsupportedVersion, "")
		return
	}
	x.sendHeader()
	x.sendFeatures()
	if x.authed {
		x.phase = atBind
	} else {
		x.phase = atAuth
	}
}

func (x *client) sendHeader() {
	if x.header {
		return
	}
	x.header = true
	id := rand.Text()
	if x.ws {
		x.nonza("<open xmlns='" + stream.NSFraming + "' from='" + x.s.domain + "' id='" + id + "' version='1.0' xml:lang='en'/>")
		return
	}
	x.nonza("<?xml version='1.0'?><stream:stream from='" + x.s.domain + "' id='" + id + "' version='1.0' xml:lang='en' xmlns='" +
		stream.NSClient + "' xmlns:stream='" + stream.NSStreams + "'>")
}

// mayLogin reports whether SASL is offered: under TLS, and without it only
// when nobody can listen and either the operator allows it or, for a
// WebSocket, there is no STARTTLS to ask for.
func (x *client) mayLogin() bool {
	return x.c.TLS() != nil || (x.s.cfg.Insecure || x.ws) && x.c.Secure()
}

func (x *client) sendFeatures() {
	b := x.c.Out()
	b = append(b, "<stream:features"...)
	if x.ws {
		b = append(b, " xmlns:stream='"+stream.NSStreams+"'"...)
	}
	b = append(b, '>')
	if !x.authed {
		if x.mayStartTLS() {
			b = append(b, "<starttls xmlns='"+nsTLS+"'>"...)
			if !x.mayLogin() {
				b = append(b, "<required/>"...)
			}
			b = append(b, "</starttls>"...)
		}
		if x.mayLogin() {
			b = x.appendMechanisms(b)
		}
	} else {
		b = append(b, "<bind xmlns='"+nsBind+"'/><session xmlns='"+nsSession+"'><optional/></session><sm xmlns='"+nsSM+"'/><ver xmlns='"+nsRosterVer+"'/>"...)
	}
	b = x.appendLimits(b)
	b = append(b, "</stream:features>"...)
	x.c.SetOut(b)
	x.c.Cut()
}

// appendLimits announces what a stanza may hold (XEP-0478).
func (x *client) appendLimits(b []byte) []byte {
	b = append(b, "<limits xmlns='"+nsLimits+"'>"...)
	b = stream.AppendElement(b, "max-bytes", "", itoa(x.in.Limits.Bytes))
	return append(b, "</limits>"...)
}

func (x *client) mayStartTLS() bool { return !x.ws && x.c.TLS() == nil && x.s.cfg.TLS != nil }

// element handles a first-level element.
func (x *client) element(e stream.Element) {
	if x.ws && x.framing(e) {
		return
	}
	switch {
	case e.Is(stream.NSStreams, "error"):
		x.closeStream(errors.New("xmpp: the client ended the stream with an error"))
	case x.phase == atHeader: // on WebSocket: something else than <open/>
		x.fail(stream.InvalidXML, "")
	case x.phase == atAuth, x.phase == atSASL:
		x.authElement(e)
	case string(e.NS()) == nsSM:
		x.smElement(e)
	case string(e.NS()) != stream.NSClient:
		x.fail(stream.UnsupportedStanza, "")
	case x.phase == atBind:
		x.bindElement(e)
	default:
		x.stanza(e)
	}
}

// framing handles the open and close of RFC 7395, section 3.
func (x *client) framing(e stream.Element) bool {
	switch {
	case e.Is(stream.NSFraming, "open"):
		if x.phase != atHeader {
			x.fail(stream.InvalidXML, "")
		} else {
			x.opened(e)
		}
	case e.Is(stream.NSFraming, "close"):
		x.closeStream(io.EOF)
	default:
		return false
	}
	return true
}

// authElement is what may come before a login.
func (x *client) authElement(e stream.Element) {
	switch ns := string(e.NS()); {
	case ns == nsTLS && string(e.Name()) == "starttls" && x.phase == atAuth:
		if !x.mayStartTLS() {
			x.nonza("<failure xmlns='" + nsTLS + "'/>")
			x.closeStream(errors.New("xmpp: starttls where there is none"))
			return
		}
		x.nonza("<proceed xmlns='" + nsTLS + "'/>")
		x.phase = atTLS
		if err := x.c.StartTLS(x.s.cfg.TLS); err != nil {
			x.closeStream(err)
		}
	case ns == nsSASL:
		x.saslElement(e)
	default:
		x.fail(stream.NotAuthorized, "")
	}
}

// Secured is called when STARTTLS has succeeded: a new stream begins, and
// nothing that was said in the clear counts (RFC 6120, section 5.4.3.3).
func (x *client) Secured(tls.ConnectionState) error {
	x.restart()
	return nil
}

// restart expects a new stream header.
func (x *client) restart() {
	x.in.Reset()
	x.phase, x.header = atHeader, false
}

// stanza handles a stanza of a bound stream.
func (x *client) stanza(e stream.Element) {
	x.s.stats.stanzasIn.Add(1)
	var num uint32
	if x.sm != nil {
		x.sm.in++
		num = x.sm.in
	}
	if !x.fromSelf(e) {
		// RFC 6120, section 8.1.2.1: "the server … MUST … return … <invalid-from/>".
		x.fail(stream.InvalidFrom, "")
		return
	}
	switch string(e.Name()) {
	case "message":
		x.message(e, num)
	case "presence":
		x.presence(e)
	case "iq":
		x.iq(e)
	default:
		x.fail(stream.UnsupportedStanza, "")
	}
}

// fromSelf reports whether a stanza names nobody else as its sender.
func (x *client) fromSelf(e stream.Element) bool {
	from, ok := e.RawAttr("from")
	if !ok || string(from) == x.jid || string(from) == x.bare {
		return true
	}
	a, err := x.s.parse(e.Attr("from"))
	return err == nil && (a.String() == x.jid || a.String() == x.bare)
}

// Wake is called when something has changed elsewhere.
func (x *client) Wake() error {
	if x.phase == atEnd {
		return nil
	}
	if why := x.end.Load(); why != nil {
		x.ended(*why)
		return nil
	}
	x.work.Lock()
	done := x.work.done
	x.work.done = nil
	x.work.Unlock()
	if done != nil {
		done(x)
	}
	if x.phase == atEnd || x.takeover() {
		return nil
	}
	x.settle()
	if x.c.Room() > 0 {
		for _, p := range x.take() {
			x.forward(p)
		}
	}
	if x.phase == atSession && x.wants {
		x.deliver()
	}
	if x.choked && !x.behind() && x.phase != atWork {
		x.choked = false
		x.c.PauseRead(false)
	}
	return nil
}

// forward writes a stanza that came from somebody else.
func (x *client) forward(p []byte) {
	b := x.start()
	if x.ws {
		i := 1
		for p[i] != ' ' && p[i] != '>' && p[i] != '/' {
			i++
		}
		b = append(b, p[:i]...)
		b = x.appendXMLNS(b)
		p = p[i:]
	}
	x.finish(append(b, p...), 0)
}

// later has f called on the loop of x, by a worker that x waits for. It
// reports whether x is still connected.
func (x *client) later(f func(*client)) bool {
	x.work.Lock()
	gone := x.work.gone
	if !gone {
		x.work.done = f
	}
	x.work.Unlock()
	if !gone {
		x.c.Wake()
	}
	return !gone
}

// wait stops reading until proceed is called.
func (x *client) wait() {
	x.phase = atWork
	x.c.PauseRead(true)
}

func (x *client) proceed(next phase) {
	x.phase, x.choked = next, false
	x.c.PauseRead(false)
}

// bell is a client as the router sees it.
type bell client

var _ router.Client = (*bell)(nil)

// Wake may be called from any goroutine.
func (b *bell) Wake() { b.c.Wake() }

// Meter counts what the device costs. It may be called from any goroutine.
func (b *bell) Meter() *cost.Meter { return b.c.Meter() }

// End may be called from any goroutine.
func (b *bell) End(why router.Reason) {
	b.end.CompareAndSwap(nil, &why)
	b.c.Wake()
}

// ended says why the server ends the stream.
func (x *client) ended(why router.Reason) {
	switch why {
	case router.Replaced:
		x.fail(stream.Conflict, "this resource was bound anew")
	case router.Draining:
		x.fail(stream.SystemShutdown, "")
	default:
		x.fail(stream.NotAuthorized, string(why))
	}
}

// Goodbye is called when the server drains.
func (x *client) Goodbye() {
	if x.c == nil {
		return
	}
	if x.sm != nil {
		x.settle()
		x.sm.keep = false // there will be nobody to resume with
	}
	x.fail(stream.SystemShutdown, "")
}

// Alarm is called when there was nothing for some time.
func (x *client) Alarm() error {
	now := x.c.Now()
	if !x.authed || x.phase != atSession && x.phase != atWork {
		if x.phase != atEnd && now.Sub(x.started) >= x.s.cfg.LoginTime {
			x.fail(stream.ConnectionTimeout, "no login in time")
		} else {
			x.c.SetAlarm(x.started.Add(x.s.cfg.LoginTime))
		}
		return nil
	}
	if !x.who.Expires.IsZero() && !now.Before(x.who.Expires) {
		x.ended(router.Expired)
		return nil
	}
	x.settle()
	interval := x.interval()
	idle := now.Sub(x.lastIn)
	switch {
	case idle >= keepalive.Patience(interval) && x.asked:
		x.fail(stream.ConnectionTimeout, "")
		return nil
	case idle >= interval && !x.asked:
		x.asked = true
		x.ping()
	}
	x.setAlarm()
	return nil
}

// interval is how long the connection may stay silent, on the network that it
// comes from.
func (x *client) interval() time.Duration {
	return x.s.core.Interval("", x.remote())
}

// setAlarm waits for the next moment at which silence means something.
func (x *client) setAlarm() {
	at := x.lastIn.Add(x.interval())
	if x.asked {
		at = x.lastIn.Add(keepalive.Patience(x.interval()))
	}
	if x.unsettled() {
		if soon := x.c.Now().Add(time.Second); soon.Before(at) {
			at = soon
		}
	}
	if end := x.who.Expires; !end.IsZero() && end.Before(at) {
		at = end
	}
	x.c.SetAlarm(at)
}

// ping asks for a sign of life.
func (x *client) ping() {
	x.c.Meter().Beat()
	if x.sm != nil {
		x.sm.asked = true
		x.nonza("<r xmlns='" + nsSM + "'/>")
		return
	}
	b := append(x.start(), "<iq"...)
	b = x.appendXMLNS(b)
	b = stream.AppendAttr(b, "from", x.s.domain)
	b = stream.AppendAttr(b, "to", x.jid)
	b = stream.AppendAttr(b, "id", "ping-"+rand.Text()[:8])
	x.finish(append(b, " type='get'><ping xmlns='"+nsPing+"'/></iq>"...), 0)
}

// fail ends the stream with an error (RFC 6120, section 4.9).
func (x *client) fail(why stream.Condition, text string) {
	if x.phase == atEnd {
		return
	}
	x.sendHeader()
	x.s.stats.streamErrors.Add(1)
	b := append(x.c.Out(), "<stream:error"...)
	if x.ws {
		b = append(b, " xmlns:stream='"+stream.NSStreams+"'"...)
	}
	b = stream.AppendElement(append(b, '>'), string(why), nsStreamErr, "")
	if text != "" {
		b = stream.AppendElement(b, "text", nsStreamErr, text)
	}
	x.c.SetOut(append(b, "</stream:error>"...))
	x.c.Cut()
	if why == stream.Conflict || why == stream.NotAuthorized {
		x.sm = nil // nothing to resume
	}
	x.closeStream(why)
}

// closeStream ends our side of the stream, and the connection. A stream that
// the client closed is not to be resumed.
func (x *client) closeStream(why error) {
	if x.phase == atEnd {
		return
	}
	if why == io.EOF {
		x.settle() // what is done by now is still acknowledged
		x.sm = nil
	}
	x.sendHeader()
	if x.ws {
		x.nonza("<close xmlns='" + stream.NSFraming + "'/>")
	} else {
		x.nonza("</stream:stream>")
	}
	x.phase = atEnd
	x.c.Close(why)
}

// Closed is called when the connection has ended.
func (x *client) Closed(why error) {
	x.phase = atEnd
	x.work.Lock()
	x.work.gone, x.work.done = true, nil
	x.work.Unlock()
	r := x.resource
	if r.sess == nil {
		r.leave()
		return
	}
	r.detach(x.c)
	if r.sm == nil || !r.sm.keep || !x.s.lost.hold(r) {
		r.leave()
	}
	x.s.core.Log.Info("session ended", "door", "xmpp", "user", r.bare, "device", r.who.Device, "reason", why)
}

func (x *client) remote() netip.Addr {
	if x.c == nil {
		return netip.Addr{}
	}
	return x.c.Remote().Addr()
}
