package mqtt

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// will is the message that a client leaves behind, section 3.1.2.5.
type will struct {
	m      message
	expiry uint32 // seconds, from when it is published
	lasts  bool   // expiry was given
	delay  time.Duration
	user   string
}

// checkWill says at CONNECT whether the will may be published later.
//
//	"If a Server receives a CONNECT packet containing a Will QoS that exceeds its
//	capabilities, it MUST reject the connection. It SHOULD use a CONNACK packet
//	with Reason Code 0x9B" [MQTT-3.2.2-12], and with 0x9A for Will Retain
//	[MQTT-3.2.2-13]
func (c *client) checkWill(w *packet.Will) error {
	if err := c.srv.cfg.supported(w.QoS, w.Retain); err != nil {
		return err
	}
	if topic.CheckName([]byte(w.Topic)) != nil {
		return &packet.Error{Code: packet.TopicNameInvalid, Text: "will topic"}
	}
	if isMail(w.Topic) || !c.srv.mayPublish(c, []byte(w.Topic)) {
		return &packet.Error{Code: packet.NotAuthorized, Text: "will topic"}
	}
	return nil
}

// setWill changes the will of a client that is connected, or with nil takes it
// back.
func (c *client) setWill(p *packet.Will) error {
	var w *will
	if p != nil {
		if err := c.checkWill(p); err != nil {
			return err
		}
		w = newWill(p, c)
	}
	c.more().will = w
	if c.s.kept.Load() != nil {
		c.srv.write([]mailbox.Record{sessionRecord(c.s, w, time.Time{})})
	} else {
		c.keepWill(w)
	}
	return nil
}

// keepWill has w on disk while the client is connected, although its session is
// not kept: being killed, a server closes the connection, too, and the next run
// publishes the will.
func (c *client) keepWill(w *will) {
	if w == nil {
		c.srv.write(c.forgetWill())
		return
	}
	c.more().willed = true
	c.srv.write([]mailbox.Record{willRecord(c.s.key, w)})
}

// forgetWill returns what ends the record of keepWill, if there is one.
func (c *client) forgetWill() []mailbox.Record {
	if c.x == nil || !c.x.willed {
		return nil
	}
	c.x.willed = false
	return []mailbox.Record{willRecord(c.s.key, nil)}
}

// willRecord is the record of a will; without one it ends.
func willRecord(key string, w *will) mailbox.Record {
	r := mailbox.Record{Key: willPrefix + key}
	if w != nil {
		r.Value = w.encode(appendText([]byte{form}, w.user))
	}
	return r
}

// loadWills publishes the wills of those who were connected when the server was
// killed.
func (srv *Server) loadWills(ctx context.Context) error {
	wills := map[string]*will{}
	err := srv.scan(ctx, willPrefix, func(key string, f *fields) bool {
		w, ok := decodeWill(f, f.text())
		wills[key] = w
		return ok
	})
	if err != nil {
		return err
	}
	for key, w := range wills {
		if gone := willRecord(key, nil); srv.orphan(w.user) {
			srv.write([]mailbox.Record{gone})
		} else {
			srv.publishWill(w, gone)
		}
	}
	return nil
}

func newWill(w *packet.Will, c *client) *will {
	ps := &w.Properties
	return &will{
		m: message{
			topic: []byte(w.Topic), payload: w.Payload, qos: w.QoS, retain: w.Retain,
			from: c.key(), props: packet.AppendForward(nil, w.RawProperties),
		},
		expiry: ps.Num(packet.MessageExpiry, 0), lasts: ps.Has(packet.MessageExpiry),
		delay: time.Duration(ps.Num(packet.WillDelay, 0)) * time.Second,
		user:  c.user(),
	}
}

// encode appends w to a session's record.
func (w *will) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(w.delay/time.Second))
	var e uint64
	if w.lasts {
		e = uint64(w.expiry) + 1
	}
	b = binary.AppendUvarint(b, e)
	return append(b, w.m.encode("")[1:]...)
}

// decodeWill reads what encode appended.
func decodeWill(f *fields, user string) (*will, bool) {
	w := &will{delay: time.Duration(f.num()) * time.Second, user: user}
	if e := f.num(); e > 0 {
		w.expiry, w.lasts = uint32(e-1), true
	}
	m, ok := decodeMessage(f.p)
	if !ok || f.bad {
		return nil, false
	}
	w.m = *m
	return w, true
}

// publishWill publishes w like any message, and writes records with it. Nobody
// waits for that to be on disk.
func (srv *Server) publishWill(w *will, records ...mailbox.Record) {
	f := srv.borrow(time.Now())
	defer srv.giveBack(f)
	f.m = w.m
	f.m.retain = f.m.retain && srv.cfg.retains() // it may be from before
	if w.lasts {
		f.m.expires = f.now.Add(time.Duration(w.expiry) * time.Second)
	}
	srv.publishOwn(f, w.user, records...)
}

// publishOwn publishes f.m on the server's own account.
func (srv *Server) publishOwn(f *fanout, user string, records ...mailbox.Record) {
	if f.m.retain {
		srv.retaining.Lock()
		defer srv.retaining.Unlock()
		rs, _ := srv.retain(f)
		records = append(records, rs...)
	}
	srv.deliver(f)
	for _, p := range srv.posts(f, user, records) {
		srv.core.Mail.Post(p)
	}
}
