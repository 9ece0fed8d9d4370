package mqtt

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// The topics of words of the moment: the last level is the word, the payload
// what belongs to it.
const (
	sayPrefix  = "im/signal-to/" // and {address}/{kind}
	hearPrefix = "im/signal/"    // and {from}/{kind}
)

// ear is a client as the router sees it while it reads the mailbox: it takes
// words of the moment, too.
type ear struct {
	*bell
	mu    sync.Mutex
	hears bool             // guarded by mu; a subscription is for them
	words []*router.Signal // guarded by mu; to be written
}

// maxWords is how many may wait for a connection.
const maxWords = 32

var _ router.Hearer = (*ear)(nil)

// Signal implements router.Hearer. What cannot be told at once is dropped.
func (e *ear) Signal(_ string, s *router.Signal) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.hears {
		return false
	}
	if len(e.words) >= maxWords {
		e.srv.count.dropped.Add(1)
		return false
	}
	e.words = append(e.words, s)
	e.Wake()
	return true
}

// tune follows the subscriptions: whether there are any for words of the
// moment, and any for what comes to the user. While there are none of those
// the mailbox is not read, and its cursor stays: a client that subscribes to
// im/sent/# in one packet and to im/inbox/# in the next would lose what waits.
func (c *client) tune() {
	st := c.inbox
	if st == nil {
		return
	}
	hears := false
	st.deaf = true
	for i := range c.s.subs {
		if sb := &c.s.subs[i]; sb.sub == nil {
			switch second, _, _ := strings.Cut(sb.filter[len(mailPrefix):], "/"); second {
			case "signal":
				hears = true
			case "+", "#":
				hears, st.deaf = true, false
			case "inbox":
				st.deaf = false
			}
		}
	}
	st.ear.mu.Lock()
	defer st.ear.mu.Unlock()
	if st.ear.hears = hears; !hears {
		st.ear.words = nil
	}
}

// hear writes what others have said.
func (c *client) hear() {
	e := c.inbox.ear
	e.mu.Lock()
	words := e.words
	e.words = nil
	e.mu.Unlock()
	for _, s := range words {
		c.tell(s)
	}
}

// tell writes one word, at QoS 0, if there is room for it. A word that is no
// level of a topic has none here.
func (c *client) tell(s *router.Signal) {
	if strings.ContainsAny(s.Kind, "/+#\x00") || !utf8.ValidString(s.Kind) {
		return
	}
	name := []byte(hearPrefix + s.From + "/" + s.Kind)
	ids, _, ok := c.mailWants(name)
	if !ok {
		return
	}
	var props []byte
	if c.version == packet.V5 {
		ps := packet.Properties{SubscriptionIDs: ids}
		if s.Device != "" {
			ps.User = append(ps.User, packet.Pair{Name: "device", Value: s.Device})
		}
		props = ps.AppendList(nil)
	}
	size := packet.PublishSize(c.version, 0, len(name), len(props), len(s.Body))
	if c.c.Room() <= 0 || size > int(c.maxSize) {
		c.srv.count.dropped.Add(1)
		return
	}
	c.srv.count.sent.Add(1)
	c.write(packet.AppendPublish(c.c.Out(), c.version, 0, name, 0, props, nil, s.Body))
}

// signal passes on what the client says: im/signal-to/{address}/{kind}. It is
// kept nowhere, whatever its QoS and whether it is to be retained.
func (c *client) signal(p *packet.Publish, rest string) error {
	i := strings.LastIndexByte(rest, '/')
	if i <= 0 || i == len(rest)-1 || len(rest)-1-i > router.MaxKind {
		return c.decline(p, packet.TopicNameInvalid, "a signal goes to im/signal-to/{address}/{kind}")
	}
	to, kind := rest[:i], rest[i+1:]
	switch {
	case kind == "online" || kind == "offline":
		// Who is told that a device has gone depends on whom it told that it
		// is there, and that is kept for connections of link and XMPP.
		return c.decline(p, packet.NotAuthorized, "presence is not said over MQTT")
	case len(p.Payload) > router.MaxSignal:
		return c.decline(p, packet.QuotaExceeded, "the signal is too long")
	case !c.more().says.Take(c.srv.cfg.SignalRate, c.c.Now()):
		c.srv.count.dropped.Add(1)
		return c.decline(p, packet.QuotaExceeded, "too many signals")
	}
	s := &router.Signal{Door: router.MQTT, From: c.user(), Device: c.device(), Kind: kind, Body: slices.Clone(p.Payload)}
	if _, err := c.srv.core.Router.Signal(to, s); err != nil {
		code := packet.TopicNameInvalid
		if errors.Is(err, router.ErrRemote) {
			code = packet.NotAuthorized
		}
		return c.decline(p, code, words(err))
	}
	return c.swallow(p)
}
