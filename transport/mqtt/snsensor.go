package mqtt

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// sensor is one client of the gateway. Its fields are the gateway's.
type sensor struct {
	g     *gateway
	at    node
	hello sn.Message // its CONNECT
	state snState
	quiet bool // nothing is said at its end

	conn   *conn.Carried
	client *client
	key    string // of the session; empty before it is up
	look   *snLook

	topics snTopics
	will   *packet.Will
	fresh  bool   // nothing but CONNECT was heard since CONNACK
	nap    uint16 // seconds that it sleeps

	in      map[uint16]uint16  // topic ids of its messages that wait for an answer, by MsgId
	asked   map[uint16]snAsked // its subscriptions that wait for an answer, by MsgId
	waiting []snItem           // for the sensor, in order
	bytes   int                // in waiting
	open    uint16             // the message of QoS 1 or 2 that it has
	turn    uint16             // of MsgIds of REGISTER

	await snAwait
	tries int
	again time.Time // when to say again what await is for

	silent time.Time // when it is lost
	when   time.Time
	index  int // in gateway.due, -1 if it is not
}

// snState is where a sensor is in the state diagram of section 6.14, and before.
type snState uint8

const (
	snLooking   snState = iota // for its account
	snWillTopic                // asked for its will's topic
	snWillMsg                  // asked for its will's message
	snEntering                 // the client has sent CONNECT
	snActive
	snAsleep
	snAwake
	snGone
)

// snAwait is what the gateway waits for from the sensor: at most one thing.
type snAwait uint8

const (
	snNothing snAwait = iota
	snWill            // WILLTOPIC or WILLMSG, by the state
	snRegack          // for the topic of the first that waits
	snAck             // PUBACK or PUBREC for the first that waits
	snComp            // PUBCOMP
)

// snAsked is a SUBSCRIBE or UNSUBSCRIBE that waits for its answer.
type snAsked struct{ topic uint16 }

// snItem is what waits for the sensor: a PUBLISH, or without a topic a PUBREL.
type snItem struct {
	topic   string
	payload []byte
	expires time.Time
	id      uint16
	qos     byte
	retain  bool
	dup     bool
	told    int // how often the topic was registered anew for it
}

func (it *snItem) size() int { return len(it.topic) + len(it.payload) + 48 }

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
	if !g.srv.core.Auth.Go(func() { // reads the disk
		look.read(g.srv, user, m)
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
func (l *snLook) read(srv *Server, user string, m sn.Message) {
	if user != "" {
		if l.who, l.err = srv.core.Auth.Vouched(background, user); l.err != nil {
			return
		}
	}
	if m.Flags.Clean() || m.Flags.Will() {
		return
	}
	who := l.who
	who.Device = deviceName(m.Name)
	key := snWillKey(who.User + "/" + who.Device)
	v, err := srv.core.Mail.Get(background, key)
	if l.err = err; err != nil || v == nil {
		return
	}
	f := openRecord(v)
	if w, ok := decodeWill(&f, who.User); ok && srv.rules.MayPublish(who, w.m.topic) {
		l.will = &packet.Will{Topic: string(w.m.topic), Payload: w.m.payload, QoS: w.m.qos, Retain: w.m.retain}
	}
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

// setWill changes the will of a sensor that is connected.
func (s *sensor) setWill(w *packet.Will) error {
	if err := s.client.setWill(w); err != nil {
		return err
	}
	s.will = w
	s.keepWill()
	return nil
}

// keepWill has the disk remember the will for as long as the session lasts.
func (s *sensor) keepWill() {
	if s.client.s.kept.Load() == nil {
		return
	}
	rec := mailbox.Record{Key: snWillKey(s.key)}
	if s.will != nil {
		rec.Value = newWill(s.will, s.client).encode([]byte{form})
	}
	s.g.srv.write([]mailbox.Record{rec})
}

// tolerate is how long somebody may be silent who said secs: a tenth longer,
// and half as long again up to a minute (section 7.2).
func tolerate(secs uint16, none time.Duration) time.Duration {
	d := time.Duration(secs) * time.Second
	switch {
	case d == 0:
		return none
	case d > time.Minute:
		return d + d/10
	}
	return d + d/2
}

// listen has the sensor be lost if nothing is heard of it for d.
func (s *sensor) listen(d time.Duration) { s.silent = time.Now().Add(d) }

func (s *sensor) sleeps() bool { return s.state == snAsleep || s.state == snAwake }

// heard takes a message from the sensor.
func (s *sensor) heard(m sn.Message) {
	s.fresh = false
	switch {
	case s.sleeps():
		s.listen(tolerate(s.nap, s.g.cfg.MaxSilence))
	case s.state == snActive:
		s.listen(tolerate(s.hello.Duration, s.g.cfg.MaxSilence))
	}
	s.message(m)
	s.settle()
}

func (s *sensor) message(m sn.Message) {
	up := s.state >= snActive && s.state < snGone
	switch {
	case m.Type == sn.WillTopic && s.state == snWillTopic:
		s.willTopic(m)
	case m.Type == sn.WillMsg && s.state == snWillMsg:
		s.will.Payload = slices.Clone(m.Data)
		s.enter()
	case m.Type == sn.Disconnect && !up:
		s.end(packet.Success)
	case !up:
		// It does not wait for CONNACK, or this was sent before CONNECT.
		s.g.srv.count.sn.malformed.Add(1)
	case m.Type == sn.Register:
		s.register(m)
	case m.Type == sn.Publish:
		s.publish(m)
	case m.Type == sn.Pubrel:
		s.conn.Input(packet.AppendAck(nil, packet.V5, packet.PUBREL, m.ID, packet.Success, ""))
	case m.Type == sn.Subscribe || m.Type == sn.Unsubscribe:
		s.subscribe(m)
	case m.Type == sn.Regack, m.Type == sn.Puback, m.Type == sn.Pubrec, m.Type == sn.Pubcomp:
		s.answered(m)
	case m.Type == sn.Pingreq:
		if m.Name == s.hello.Name && s.sleeps() {
			s.rise(snAwake) // section 6.14; PINGRESP follows when all is said
			s.await, s.tries = snNothing, 0
			return
		}
		s.say(sn.Message{Type: sn.Pingresp})
	case m.Type == sn.Disconnect:
		s.leave(m)
	case m.Type == sn.WillTopicUpd || m.Type == sn.WillMsgUpd:
		s.updateWill(m)
	case m.Type == sn.Pingresp:
	default:
		s.g.srv.count.sn.malformed.Add(1)
	}
}

func (s *sensor) willTopic(m sn.Message) {
	s.will = nil
	if m.Name == "" {
		s.enter()
		return
	}
	s.will = &packet.Will{Topic: m.Name, QoS: min(m.Flags.QoS(), 2), Retain: m.Flags.Retain()}
	s.ask(snWillMsg)
}

// updateWill is WILLTOPICUPD or WILLMSGUPD, section 6.4.
func (s *sensor) updateWill(m sn.Message) {
	answer := sn.Message{Type: sn.WillTopicResp}
	var w *packet.Will
	switch {
	case m.Type == sn.WillTopicUpd && m.Name == "":
	case m.Type == sn.WillTopicUpd:
		w = &packet.Will{Topic: m.Name, QoS: min(m.Flags.QoS(), 2), Retain: m.Flags.Retain()}
		if s.will != nil {
			w.Payload = s.will.Payload
		}
	case s.will == nil:
		s.say(sn.Message{Type: sn.WillMsgResp, Code: sn.NotSupported})
		return
	default:
		answer.Type = sn.WillMsgResp
		c := *s.will
		w = &c
		w.Payload = slices.Clone(m.Data)
	}
	if err := s.setWill(w); err != nil {
		s.g.srv.count.refused.Add(1)
		answer.Code = sn.NotSupported
	}
	s.say(answer)
}

// register is REGISTER from the sensor, section 6.5.
func (s *sensor) register(m sn.Message) {
	a := sn.Message{Type: sn.Regack, ID: m.ID}
	if topic.CheckName([]byte(m.Name)) != nil {
		a.Code = sn.NotSupported
	} else if tp := s.topics.add(m.Name, s.g.cfg.MaxTopics, false); tp == nil {
		a.Code = s.congested()
	} else {
		tp.known = true
		a.TopicID = tp.id
	}
	s.say(a)
}

func (s *sensor) congested() sn.Code {
	s.g.srv.count.sn.congested.Add(1)
	return sn.Congestion
}

// publish is PUBLISH from the sensor, section 6.6.
func (s *sensor) publish(m sn.Message) {
	qos := m.Flags.QoS()
	mute := qos == sn.QoSNone
	a := sn.Message{Type: sn.Puback, TopicID: m.TopicID, ID: m.ID}
	name := s.topicName(m.Flags.Topic(), m.TopicID)
	if mute {
		qos = 0
	}
	_, waits := s.in[m.ID]
	_, held := s.client.s.got[m.ID]
	switch {
	case name == "":
		a.Code = sn.InvalidTopicID
	case topic.CheckName([]byte(name)) != nil, qos > 0 && m.ID == 0:
		a.Code = sn.NotSupported
	case qos > 0 && waits:
		return // said again; the answer is on its way
	case qos > 0 && !held && len(s.in)+len(s.client.s.got) >= s.g.cfg.MaxInflight:
		a.Code = s.congested()
	}
	if a.Code != sn.Accepted {
		if !mute {
			s.say(a)
		}
		return
	}
	p := packet.Publish{Topic: []byte(name), Payload: m.Data, QoS: qos, Retain: m.Flags.Retain(), Dup: m.Flags.Dup()}
	if qos > 0 {
		p.ID = m.ID
		if s.in == nil {
			s.in = map[uint16]uint16{}
		}
		s.in[m.ID] = m.TopicID
	} else {
		p.Dup = false // "MUST be set to 0 for all QoS 0 messages" [MQTT-3.3.1-2]
	}
	s.conn.Input(p.Append(nil, packet.V5))
}

// subscribe is SUBSCRIBE or UNSUBSCRIBE, sections 6.9 and 6.10.
func (s *sensor) subscribe(m sn.Message) {
	a := sn.Message{Type: sn.Suback, ID: m.ID}
	refuse := func(code sn.Code) {
		if a.Code = code; m.Type == sn.Unsubscribe {
			a = sn.Message{Type: sn.Unsuback, ID: m.ID} // which has no code
		}
		s.say(a)
	}
	filter, asked := m.Name, snAsked{}
	switch kind := m.Flags.Topic(); kind {
	case sn.Named:
	case sn.Predefined:
		asked.topic = m.TopicID
		fallthrough
	default:
		if filter = s.topicName(kind, m.TopicID); filter == "" {
			refuse(sn.InvalidTopicID)
			return
		}
	}
	share, _, err := topic.Parse(filter)
	if err != nil || m.ID == 0 {
		refuse(sn.NotSupported)
		return
	}
	if _, ok := s.asked[m.ID]; ok {
		return // said again; the answer is on its way
	}
	full := len(s.client.s.subs) >= s.g.cfg.MaxTopics && s.client.find(filter) < 0
	if len(s.asked) >= s.g.cfg.MaxInflight || m.Type == sn.Subscribe && full {
		refuse(s.congested())
		return
	}
	if m.Type == sn.Subscribe && m.Flags.Topic() == sn.Named && share == "" && !topic.HasWildcard(filter) {
		// SUBACK tells the id that it is registered by (section 6.9).
		tp := s.topics.add(filter, s.g.cfg.MaxTopics, false)
		if tp == nil {
			refuse(s.congested())
			return
		}
		asked.topic = tp.id
	}
	if s.asked == nil {
		s.asked = map[uint16]snAsked{}
	}
	s.asked[m.ID] = asked
	if m.Type == sn.Unsubscribe {
		p := packet.Unsubscribe{ID: m.ID, Filters: []string{filter}}
		s.conn.Input(p.Append(nil, packet.V5))
		return
	}
	p := packet.Subscribe{ID: m.ID, Filters: []packet.Filter{{Topic: filter, Options: packet.Options(min(m.Flags.QoS(), 2))}}}
	s.conn.Input(p.Append(nil, packet.V5))
}

// leave is DISCONNECT, which with a duration begins a sleep.
func (s *sensor) leave(m sn.Message) {
	if m.Duration == 0 {
		s.end(packet.Success)
		return
	}
	s.nap = m.Duration
	s.rest()
	s.listen(tolerate(s.nap, s.g.cfg.MaxSilence))
	s.say(sn.Message{Type: sn.Disconnect})
}

// rest has the sensor sleep: what is for it waits.
func (s *sensor) rest() {
	s.rise(snAsleep)
	s.await, s.tries = snNothing, 0
}

func (s *sensor) rise(to snState) {
	was := s.sleeps()
	s.state = to
	switch now := s.sleeps(); {
	case now && !was:
		s.g.srv.count.sn.asleep.Add(1)
	case was && !now:
		s.g.srv.count.sn.asleep.Add(-1)
	}
}

// end ends the connection: with Success as the sensor asked for, else as if it
// were lost.
func (s *sensor) end(code packet.Code) {
	if s.conn.Over() {
		return
	}
	switch {
	case s.key == "":
		s.conn.Close()
	case code == packet.Success:
		s.conn.Input((&packet.Disconnect{}).Append(nil, packet.V5))
	default:
		s.client.finish(code)
		s.conn.Step()
	}
	s.settle()
}

// settle does what any event may have left to do.
func (s *sensor) settle() {
	if s.state == snGone {
		return
	}
	s.pump()
	if s.conn.Over() {
		s.gone()
	}
	s.g.schedule(s)
}

// gone lets go of a sensor whose connection has ended.
func (s *sensor) gone() {
	if !s.quiet {
		if s.key == "" && s.state == snEntering {
			s.say(sn.Message{Type: sn.Connack, Code: sn.Congestion})
		} else {
			s.say(sn.Message{Type: sn.Disconnect})
		}
	}
	s.rise(snGone)
	g := s.g
	g.srv.count.sn.clients.Add(-1)
	if g.nodes[s.at] == s {
		delete(g.nodes, s.at)
	}
	if g.keys[s.key] == s {
		delete(g.keys, s.key)
	}
	s.waiting, s.bytes = nil, 0
}

// next is when the sensor is to be looked at.
func (s *sensor) next() time.Time {
	if s.state == snGone {
		return time.Time{}
	}
	at := s.silent
	for _, t := range [...]time.Time{s.again, s.conn.Due()} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// ring looks at the time.
func (s *sensor) ring(now time.Time) {
	if at := s.conn.Due(); !at.IsZero() && !now.Before(at) {
		s.conn.Ring()
	}
	switch {
	case !now.Before(s.silent):
		// "the gateway will consider that client as lost and activates for
		// example the Will feature for that client" section 6.14
		s.g.srv.count.sn.lost.Add(1)
		s.end(packet.KeepAliveTimeout)
	case s.await == snNothing:
		s.again = time.Time{}
	case !now.Before(s.again):
		s.late()
	}
	s.settle()
}

// say sends one message to the sensor.
func (s *sensor) say(m sn.Message) {
	n := s.g.send(s.at, m)
	if s.conn != nil {
		s.conn.Moved(0, n)
	}
}

// returnCode words a reason in the few that there are (section 5.3.10).
func returnCode(code packet.Code) sn.Code {
	switch {
	case !code.Failed():
		return sn.Accepted
	case code == packet.QuotaExceeded, code == packet.ServerBusy, code == packet.ServerUnavailable,
		code == packet.UnspecifiedError, code == packet.ReceiveMaximumExceeded:
		return sn.Congestion
	}
	return sn.NotSupported
}
