package mqtt

import (
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
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
	case topic.CheckName([]byte(name)) != nil, qos > 0 && m.ID == 0,
		s.g.srv.cfg.supported(qos, m.Flags.Retain()) != nil:
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
