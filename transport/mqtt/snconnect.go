package mqtt

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// snLook is what is read about a sensor before it is let in.
type snLook struct {
	done atomic.Bool
	who  auth.Who
	will *packet.Will
	err  error
}

// connect is CONNECT, section 6.2, from a sensor that may be here already.
func (g *gateway) connect(s *sensor, at node, m sn.Message) {
	if s != nil {
		if s.reconnect(m) {
			s.settle()
			return
		}
		// It began anew. What it had been connected as ends as if it were lost:
		// the will is published, unless it sleeps, section 6.3.
		s.quiet = true
		s.end(packet.SessionTakenOver)
	}
	a := g.account(m.Name, at.addr.Addr())
	switch {
	case m.Name == "" || len(m.Name) > g.srv.cfg.MaxClientID, a == nil && !g.srv.cfg.Anonymous:
		g.srv.count.refused.Add(1)
		g.send(at, sn.Message{Type: sn.Connack, Code: sn.NotSupported})
		return
	}
	s = &sensor{g: g, at: at, hello: m, index: -1, look: new(snLook)}
	s.client = &client{srv: g.srv, x: &extra{vouched: new(auth.Who)}}
	var err error
	if s.conn, err = g.carriage.Open(s, s.client, at.addr, g.local); err != nil {
		g.srv.count.sn.congested.Add(1)
		g.send(at, sn.Message{Type: sn.Connack, Code: sn.Congestion})
		return
	}
	g.nodes[at] = s
	g.srv.count.sn.clients.Add(1)
	s.listen(time.Duration(g.cfg.Retries+2) * g.cfg.Retry)
	look, user := s.look, ""
	if a != nil {
		user = a.User
	}
	if !g.srv.core.Auth.Go(func() error { return look.read(g.srv, user, m) }, func(err error) {
		look.err = err
		look.done.Store(true)
		s.Ready()
	}) {
		look.err = auth.ErrBusy
		look.done.Store(true)
		s.found()
	}
	s.settle()
}

// read looks up the account, and the will that the sensor left with the
// session: without clean session and the Will flag all that is stored of it
// stays in force, the will too (section 6.3), unless the rules are now against it.
func (l *snLook) read(srv *Server, user string, m sn.Message) (err error) {
	if user != "" {
		if l.who, err = srv.core.Auth.Vouched(background, user); err != nil {
			return err
		}
	}
	if m.Flags.Clean() || m.Flags.Will() {
		return nil
	}
	who := l.who
	who.Device = deviceName(m.Name)
	key := snWillKey(who.User + "/" + who.Device)
	v, err := srv.core.Mail.Get(background, key)
	if err != nil || v == nil {
		return err
	}
	f := openRecord(v)
	if w, ok := decodeWill(&f, who.User); ok && srv.rules.MayPublish(who, w.m.topic) {
		l.will = &packet.Will{Topic: string(w.m.topic), Payload: w.m.payload, QoS: w.m.qos, Retain: w.m.retain}
	}
	return nil
}

// reconnect takes a CONNECT from where a sensor is connected already. It
// reports whether the sensor goes on as it is.
func (s *sensor) reconnect(m sn.Message) bool {
	if m.Name != s.hello.Name {
		return false
	}
	same := m.Flags == s.hello.Flags && m.Duration == s.hello.Duration
	switch {
	case s.state < snEntering && same:
		if s.await == snWill {
			s.repeat() // our question was lost
		}
		return true
	case s.state == snEntering && same:
		return true
	case s.state == snActive && same && s.fresh:
		s.say(sn.Message{Type: sn.Connack}) // CONNACK was lost
		return true
	case s.sleeps() && !m.Flags.Clean():
		// It becomes active, section 6.14; the connection is the same.
		s.hello = m
		s.rise(snActive)
		s.listen(tolerate(m.Duration, s.g.cfg.MaxSilence))
		if m.Flags.Will() {
			s.ask(snWillTopic)
			return true
		}
		s.fresh = true
		s.say(sn.Message{Type: sn.Connack})
		return true
	}
	return false
}

// found goes on when it is known who the sensor is.
func (s *sensor) found() {
	l := s.look
	if l == nil || !l.done.Load() {
		return
	}
	s.look = nil
	if l.err != nil {
		code := sn.Congestion
		if errors.Is(l.err, auth.ErrDenied) {
			code = sn.NotSupported
		} else if !errors.Is(l.err, auth.ErrBusy) {
			s.g.log.Error("mqtt-sn: login", "err", l.err)
		}
		s.g.srv.count.refused.Add(1)
		s.say(sn.Message{Type: sn.Connack, Code: code})
		s.quiet = true
		s.conn.Close()
		return
	}
	key := l.who.User + "/" + deviceName(s.hello.Name)
	if srv := s.g.srv; !s.hello.Flags.Clean() && srv.count.sessions.Load() >= int64(s.g.cfg.MaxSessions) && !srv.sessions.has(key) {
		s.say(sn.Message{Type: sn.Connack, Code: s.congested()})
		s.quiet = true
		s.conn.Close()
		return
	}
	*s.client.x.vouched = l.who
	s.will = l.will
	if s.hello.Flags.Will() {
		s.ask(snWillTopic)
		return
	}
	s.enter()
}

// enter has the client say CONNECT, with all that is known now.
func (s *sensor) enter() {
	s.await = snNothing
	if s.state == snWillMsg || s.state == snWillTopic {
		if s.key != "" { // it was asleep, and goes on
			s.state, s.fresh = snActive, true
			code := sn.Accepted
			if err := s.setWill(s.will); err != nil {
				code = sn.NotSupported
			}
			s.say(sn.Message{Type: sn.Connack, Code: code})
			return
		}
	}
	s.state = snEntering
	p := packet.Connect{Version: packet.V5, CleanStart: s.hello.Flags.Clean(), ClientID: s.hello.Name, Will: s.will}
	p.Properties.SetNum(packet.ReceiveMaximum, 1)
	p.Properties.SetNum(packet.MaximumPacketSize, uint32(s.g.cfg.longest()))
	p.Properties.SetNum(packet.RequestProblem, 0)
	if !s.hello.Flags.Clean() {
		p.Properties.SetNum(packet.SessionExpiry, forever)
	}
	s.conn.Input(p.Append(nil))
}

// entered is the answer to it.
func (s *sensor) entered(code packet.Code) {
	if s.quiet {
		return
	}
	if code.Failed() {
		s.quiet = true
		s.say(sn.Message{Type: sn.Connack, Code: returnCode(code)})
		return
	}
	s.state, s.fresh = snActive, true
	s.key = s.client.key()
	s.g.keys[s.key] = s
	s.keepWill()
	s.say(sn.Message{Type: sn.Connack})
	s.listen(tolerate(s.hello.Duration, s.g.cfg.MaxSilence))
}
