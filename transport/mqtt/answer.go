package mqtt

import (
	"errors"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// pending is an answer that waits until its post, if it has one, and all
// answers before it are done. "The Server MUST send PUBACK packets in the
// order in which the corresponding PUBLISH packets were received"
// [MQTT-4.6.0-2], and PUBREC likewise [MQTT-4.6.0-3].
type pending struct {
	post   *mailbox.Post // nil: none
	part   bool          // post is one of several of a message: an error belongs to the next
	size   int           // of post, about
	raw    []byte        // a packet made before; or else
	t      packet.Type   // zero: nothing is said
	id     uint16
	code   packet.Code
	reason string
}

func (c *client) pause(on bool) {
	if c.paused != on {
		c.paused = on
		c.c.PauseRead(on)
	}
}

// idle reports whether no answer waits.
func (c *client) idle() bool { return c.x == nil || len(c.x.acks) == 0 }

// answer says a at once if it may, or in its turn. A client of which too much
// waits for the disk is not read from until there is less.
func (c *client) answer(a pending) {
	if a.post == nil && c.idle() {
		c.speak(a)
		return
	}
	x := c.more()
	x.acks = append(x.acks, a)
	x.size += a.size
	if a.t == packet.PUBACK {
		x.open++
	}
	// One more than Receive Maximum, so that who exceeds that is told so.
	if len(x.acks) > c.srv.cfg.ReceiveMaximum || x.size > 4*c.srv.cfg.MaxPacket {
		c.pause(true)
	}
}

func (c *client) speak(a pending) {
	switch {
	case a.raw != nil:
		if len(a.raw) <= int(c.maxSize) {
			c.c.Write(a.raw)
		}
	case a.t != 0:
		if a.t == packet.PUBREC && a.code.Failed() && c.version == packet.V5 {
			delete(c.s.got, a.id) // the identifier is free again, section 4.3.3
		}
		if a.t == packet.PUBREL {
			switch {
			case a.id < inboxIDs.base && c.queue != nil:
				c.queue.confirm(a.id)
			case a.id >= inboxIDs.base && c.inbox != nil:
				c.inbox.confirm(a.id)
			}
		}
		c.say(a.t, a.id, a.code, a.reason)
	}
}

// acknowledge says what has become due.
func (c *client) acknowledge() error {
	x := c.x
	n := 0
	for ; n < len(x.acks); n++ {
		a := &x.acks[n]
		if a.post != nil {
			if !a.post.Done() {
				break
			}
			x.size -= a.size
			err := a.post.Err
			if a.part {
				x.failed = errors.Join(x.failed, err)
				continue
			}
			if err == nil {
				err, x.failed = x.failed, nil
			}
			if err != nil {
				if err := c.unsaved(a, err); err != nil {
					return err
				}
			} else if a.raw != nil {
				c.saved(a.post.Records)
			}
		}
		if a.t == packet.PUBACK {
			x.open--
		}
		c.speak(*a)
	}
	if n == 0 {
		return nil
	}
	rest := copy(x.acks, x.acks[n:])
	clear(x.acks[rest:])
	if x.acks = x.acks[:rest]; rest == 0 && cap(x.acks) > 64 {
		x.acks = nil
	}
	if rest <= c.srv.cfg.ReceiveMaximum/2 && x.size <= 2*c.srv.cfg.MaxPacket {
		c.pause(false)
	}
	return nil
}

// unsaved words the failure of a post.
func (c *client) unsaved(a *pending, err error) error {
	switch {
	case errors.Is(err, mailbox.ErrTooLarge):
		a.code, a.reason = packet.QuotaExceeded, "message too large"
	case errors.Is(err, mailbox.ErrConflict):
		a.code, a.reason = packet.ImplementationSpecificError, "id was used before with another payload"
	case errors.Is(err, mailbox.ErrInvalid):
		a.code, a.reason = packet.ImplementationSpecificError, "invalid message"
	default:
		if !errors.Is(err, mailbox.ErrUnavailable) { // the store has said that, once
			c.srv.log.Error("mqtt: post", "err", err, "user", c.user(), "device", c.device())
		}
		a.code, a.reason = packet.UnspecifiedError, "cannot be stored at present"
		switch {
		case a.t == 0 && a.raw == nil: // at QoS 0 nobody waits to hear
		case c.version == packet.V5 && (a.t == packet.PUBACK || a.t == packet.PUBREC):
		default:
			// There is no word for it; the client will try again.
			return &packet.Error{Code: packet.UnspecifiedError, Text: a.reason}
		}
	}
	return nil
}
