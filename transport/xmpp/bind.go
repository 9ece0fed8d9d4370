package xmpp

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

func itoa(n int) string { return strconv.Itoa(n) }

// parse reads an address as a client writes it. What has no @ is a server,
// unless one of our users is called so: at every door a user may be named
// without the domain, and people type it.
func (s *Server) parse(jid string) (address.Address, error) {
	a, err := address.ParseJID(jid)
	if err == nil && a.User == "" && a.Domain != s.domain {
		if u, err := address.Parse(jid, s.domain); err == nil && s.core.Auth.Exists(u.Bare()) {
			return u, nil
		}
	}
	return a, err
}

// name returns the bare address of a user as he types it, with the domain or
// without.
func (s *Server) name(user string) (string, error) {
	a, err := address.Parse(user, s.domain)
	return a.Bare(), err
}

// serves reports whether a stream may be opened to this name.
func (x *client) serves(to string) bool {
	d, err := address.ParseDomain(to)
	return err == nil && d == x.s.domain
}

// bindElement is what may come between a login and a resource.
func (x *client) bindElement(e stream.Element) {
	bind, ok := e.Child(nsBind, "bind")
	if string(e.Name()) != "iq" || e.Attr("type") != "set" || !ok {
		// RFC 6120, section 7.1: "the server MUST NOT process [other] stanzas".
		x.fail(stream.NotAuthorized, "bind a resource first")
		return
	}
	id, want := e.Attr("id"), ""
	if r, ok := bind.Child(nsBind, "resource"); ok {
		want = r.Text()
	}
	x.jid = x.bare // until then, for errors
	if x.who.Device != "" && want != "" && want != x.who.Device {
		x.reject("iq", "", id, fault{"cancel", "not-allowed", "the token names another device"})
		x.jid = ""
		return
	}
	device := x.who.Device
	if want != "" {
		d, err := address.ParseDevice(want)
		if err != nil {
			x.reject("iq", "", id, badRequest)
			x.jid = ""
			return
		}
		device = d
	}
	if device == "" {
		device = x.s.freeDevice(x.bare)
	}
	x.who.Device = device
	x.jid = x.bare + "/" + device
	x.wait()
	x.attach(func(x *client, sess *router.Session, err error) {
		if err != nil {
			why := internalError
			if errors.Is(err, router.ErrDevices) {
				// "If the account has reached a limit on the number of simultaneous
				// connected resources allowed, the server MUST return a
				// <resource-constraint/> stanza error" RFC 6120 section 7.6.2.1
				why = tooBusy
			} else {
				x.s.core.Log.Error("xmpp: cannot attach", "user", x.bare, "device", device, "err", err)
			}
			x.reject("iq", "", id, why)
			x.jid = ""
			x.proceed(atBind)
			return
		}
		x.enter(sess)
		b := append(x.start(), "<iq"...)
		b = x.appendXMLNS(b)
		b = append(b, " type='result'"...)
		b = stream.AppendAttr(b, "id", id)
		b = append(b, "><bind xmlns='"+nsBind+"'>"...)
		b = stream.AppendElement(b, "jid", "", x.jid)
		x.finish(append(b, "</bind></iq>"...), 0)
	})
}

// enter begins the session.
func (x *client) enter(sess *router.Session) {
	x.sess = sess
	x.since = x.c.Now()
	x.c.Meter().Login(x.since)
	x.proceed(atSession)
	x.setAlarm()
	x.s.core.Log.Info("session began", "door", "xmpp", "user", x.bare, "device", x.who.Device, "from", x.remote())
}

var (
	errBusy = errors.New("xmpp: too much waits for the disk")
	// errUnfinished is of work that panicked, which the worker logs.
	errUnfinished = errors.New("xmpp: not done")
)

// attach makes the router's session on a worker and calls then on the loop.
func (x *client) attach(then func(*client, *router.Session, error)) {
	r, s := x.resource, x.s
	r.c.Store(x.c)
	ok := s.work.do(r.bare, func() {
		ctx, cancel := storeContext()
		defer cancel()
		var sess *router.Session
		err := errUnfinished
		defer func() {
			if err != nil {
				s.part(r)
			}
			if !x.later(func(x *client) { then(x, sess, err) }) {
				s.part(r)
				if sess != nil {
					sess.Close()
				}
			}
		}()
		s.lost.drop(r.jid)
		sess, err = s.session(ctx, r, (*bell)(x))
	})
	if !ok {
		x.later(func(x *client) { then(x, nil, errBusy) })
	}
}

// session makes the router's session of r. It blocks.
func (s *Server) session(ctx context.Context, r *resource, c router.Client) (*router.Session, error) {
	if err := s.join(ctx, r); err != nil {
		return nil, err
	}
	return s.core.Router.Attach(ctx, router.XMPP, r.who, c)
}

// freeDevice names the device of a client that does not say.
func (s *Server) freeDevice(bare string) string {
	const name = "xmpp"
	for _, p := range s.core.Router.Presence(bare) {
		if p.Device == name {
			return name + "-" + strings.ToLower(rand.Text()[:8])
		}
	}
	return name
}
