package mqtt

import (
	"bytes"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// submit posts to the mailbox of a user: im/to/{address}.
func (c *client) submit(p *packet.Publish) error {
	may := c.users > 0 && !c.isBridge()
	if rest, ok := strings.CutPrefix(string(p.Topic), sayPrefix); ok && may {
		return c.signal(p, rest)
	}
	to, ok := strings.CutPrefix(string(p.Topic), toPrefix)
	if !ok || to == "" || !may {
		return c.decline(p, packet.NotAuthorized, "only im/to/{address} and im/signal-to/{address}/{kind} may be published to")
	}
	post := &mailbox.Post{}
	post.Body = bytes.Clone(p.Payload)
	if !utf8.Valid(post.Body) {
		post.Type = "application/octet-stream"
	}
	if ps := p.Properties; ps != nil {
		c.describe(post, ps)
	}
	if p.QoS == 2 {
		c.hold(p.ID)
		if c.s.kept.Load() != nil {
			post.Records = []mailbox.Record{{Key: gotKey(c.s.key, p.ID), Value: []byte{form}}}
		}
	}
	post.Notify = (*bell)(c)
	if err := c.srv.core.Router.Submit(router.MQTT, c.who(), to, post); err != nil {
		delete(c.s.got, p.ID)
		code := packet.TopicNameInvalid
		switch {
		case errors.Is(err, router.ErrRemote):
			code = packet.NotAuthorized
		case errors.Is(err, router.ErrNoRecipient), errors.Is(err, address.ErrInvalid):
		default:
			code = packet.ImplementationSpecificError
		}
		return c.decline(p, code, words(err))
	}
	c.answer(pending{post: post, size: len(p.Payload), t: answerTo(p.QoS), id: p.ID})
	return nil
}

// words is an error for the peer: without the package that it comes from.
func words(err error) string {
	_, text, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return err.Error()
	}
	return text
}

// mailAttr marks a user property that only MQTT clients are to see, since at
// another door its name would belong to the server.
const mailAttr = "mqtt:"

// describe takes what the properties of a PUBLISH say about a message.
func (c *client) describe(post *mailbox.Post, ps *packet.Properties) {
	if t := ps.Text(packet.ContentType); t != "" {
		post.Type = t
	}
	if ps.Has(packet.MessageExpiry) {
		post.Expires = c.c.Now().Add(time.Duration(ps.Num(packet.MessageExpiry, 0)) * time.Second)
	}
	post.Attrs = request(post.Attrs, ps)
	for _, u := range ps.User {
		switch u.Name {
		case "id":
			post.ID = u.Value
		case "urgency":
			post.Urgency, _ = mailbox.ParseUrgency(u.Value)
		default:
			if !serverSays(u.Name) {
				post.Attrs = append(post.Attrs, mailbox.Attr{Name: attrName(u.Name), Value: u.Value})
			}
		}
	}
}
