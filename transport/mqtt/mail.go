package mqtt

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// The topics of the mailbox.
const (
	mailPrefix = "im/"
	toPrefix   = "im/to/"
)

// attachment is a session of the mailbox that is being made, on another
// goroutine since that may read the disk.
type attachment struct {
	mu   sync.Mutex
	done bool
	over bool // nobody wants it any more
	sess *router.Session
	err  error
	ear  *ear
}

// cancel says that nobody wants the attachment any more.
func (a *attachment) cancel() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.sess != nil {
		a.sess.Close()
		a.sess = nil
	}
}

// join attaches the client to its user's mailbox, if it is not.
func (c *client) join() {
	if c.inbox != nil {
		c.inbox.parting = false
		c.tune()
		return
	}
	if c.x != nil && c.x.mail != nil {
		return
	}
	a := &attachment{ear: &ear{bell: (*bell)(c)}}
	c.more().mail = a
	who := c.who()
	var sess *router.Session
	ok := c.srv.core.Auth.Go(func() (err error) {
		sess, err = c.srv.core.Router.Attach(background, router.MQTT, who, a.ear)
		return err
	}, func(err error) {
		a.mu.Lock()
		a.done, a.sess, a.err = true, sess, err
		if a.over && sess != nil {
			sess.Close()
			a.sess = nil
		}
		a.mu.Unlock()
		c.c.Wake()
	})
	if !ok {
		a.done, a.err = true, errBusy
		c.c.Wake()
	}
}

var errBusy = &packet.Error{Code: packet.ServerBusy, Text: "too many at once"}

// joined takes the attachment over when it is made.
func (c *client) joined() error {
	a := c.x.mail
	if a == nil {
		return nil
	}
	a.mu.Lock()
	done, sess, err := a.done, a.sess, a.err
	if done {
		a.sess = nil
	}
	a.mu.Unlock()
	if !done {
		return nil
	}
	c.x.mail = nil
	if errors.Is(err, router.ErrDevices) {
		return &packet.Error{Code: packet.QuotaExceeded, Text: "too many devices"}
	}
	if err != nil {
		c.srv.log.Error("mqtt: attach", "err", err, "user", c.user(), "device", c.device())
		return &packet.Error{Code: packet.UnspecifiedError, Text: "the mailbox cannot be read at present"}
	}
	c.inbox = &stream{c: c, sess: sess, ids: inboxIDs, place: new(place), ear: a.ear}
	if k := c.s.kept.Load(); k != nil {
		c.inbox.place, c.inbox.record = &k.inbox, relMailKey(c.s.key)
		if k.inbox.unsure { // nobody remembers; see loadPlace
			k.inbox.sent, k.inbox.unsure = min(k.inbox.sent, sess.Acked()+mailbox.Seq(c.srv.cfg.MaxInflight)), false
		}
	}
	c.tune()
	c.part() // it may have unsubscribed meanwhile
	return nil
}

// part leaves the mailbox if no subscription is for it.
func (c *client) part() {
	for i := range c.s.subs {
		if c.s.subs[i].sub == nil {
			c.tune()
			return
		}
	}
	if c.inbox == nil {
		return
	}
	// "It MUST complete the delivery of any QoS 1 or QoS 2 messages ... which it
	// has started to send to the Client" [MQTT-3.10.4-3]
	if c.inbox.parting = c.inbox.waiting() > 0; c.inbox.parting {
		return
	}
	c.inbox.close()
	c.inbox = nil
}

// waiting is how many entries take a place in the client's quota.
func (st *stream) waiting() (n int) {
	for _, fl := range st.flight {
		if fl.phase != completed {
			n++
		}
	}
	return n
}

// fromMail is the PUBLISH of an entry of the user's mailbox; ok is false if no
// subscription wants it.
func (c *client) fromMail(p *outgoing, e *mailbox.Entry) (ok bool) {
	me := c.user()
	p.topic, p.payload = []byte("im/inbox/"+e.From), e.Body
	if e.From == me && e.To != me {
		p.topic = []byte("im/sent/" + e.To)
	}
	ids, qos, ok := c.mailWants(p.topic)
	p.qos = qos
	if c.version != packet.V5 {
		return ok
	}
	var ps packet.Properties
	t := e.Type
	if t == "" {
		t = mailbox.TypeText
	}
	ps.SetText(packet.ContentType, t)
	if strings.HasPrefix(t, "text/") {
		ps.SetNum(packet.PayloadFormat, 1)
	}
	ps.SubscriptionIDs = ids
	ps.User = append(ps.User,
		packet.Pair{Name: "id", Value: e.ID},
		packet.Pair{Name: "seq", Value: strconv.FormatUint(uint64(e.Seq), 10)},
		packet.Pair{Name: "prev", Value: strconv.FormatUint(uint64(e.Prev), 10)},
		packet.Pair{Name: "from", Value: e.From},
		packet.Pair{Name: "to", Value: e.To},
		packet.Pair{Name: "time", Value: e.Time.Format("2006-01-02T15:04:05.000Z07:00")})
	if e.Device != "" {
		ps.User = append(ps.User, packet.Pair{Name: "device", Value: e.Device})
	}
	if e.Urgency != mailbox.UrgencyNormal {
		ps.User = append(ps.User, packet.Pair{Name: "urgency", Value: e.Urgency.String()})
	}
	tell(&ps, e.Attrs)
	if !e.Expires.IsZero() {
		left := max(0, e.Expires.Sub(c.c.Now()))
		ps.SetNum(packet.MessageExpiry, uint32(min((left+time.Second-1)/time.Second, forever)))
	}
	p.props = ps.AppendList(nil)
	return ok
}
