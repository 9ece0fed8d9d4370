package mqtt

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// client is one connection. Its fields belong to the methods of conn.Protocol,
// which are called one at a time, except those that say otherwise.
type client struct {
	srv *Server
	c   *conn.Conn
	s   *session // nil until CONNECT has been accepted
	x   *extra   // what few connections need, and none all the time

	queue, inbox *stream // what is read from boxes; nil if nothing is

	fan *fanout // borrowed for a round

	last     int64  // when the client was last heard, Unix nanoseconds
	patience uint32 // milliseconds that it may be silent; zero is for ever

	version packet.Version
	state   state
	role    auth.Role
	users   uint16 // length of the user in key
	clean   bool   // Clean Start
	present bool   // a session was resumed
	quiet   bool   // the client does not want reason strings
	self    bool   // in this round a copy went to this client itself
	paused  bool   // reading is paused until fewer acknowledgements wait
	bridge  bool   // the client says in mosquitto's way that it is a bridge

	end   atomic.Uint32 // 1 + the code to say goodbye with; from any goroutine
	quota atomic.Int32  // what the client's Receive Maximum leaves

	// Set before others can see the client, then constant.
	maxSize  uint32
	aliasMax uint16

	mu      sync.Mutex  // others push under it; it may be held while c.c.Send is called
	gone    bool        // guarded by mu
	stopped bool        // a method's; everything has been let go
	unruly  atomic.Bool // the rules have changed; from any goroutine
	out     *window     // guarded by mu
	aliases *aliases    // guarded by mu
}

type state uint8

const (
	waiting  state = iota // for CONNECT
	checking              // who it is
	proving               // waits for AUTH
	claiming              // waits for an older connection to let the session go
	up
	ended
)

// extra is what a client has for a while, or if it is a demanding one.
type extra struct {
	login   *login         // from CONNECT to CONNACK
	will    *will          // published unless the client says goodbye
	willed  bool           // it is on disk, of its own
	topics  []string       // by the client's topic alias, from 1
	aliased int            // bytes of topics
	acks    []pending      // what waits for the disk, in order
	open    int            // QoS 1 publications of acks
	size    int            // bytes of acks
	failed  error          // of a post whose acknowledgement is a later one
	old     *oldCopies     // retained messages still to be sent; nil if there are none
	index   *index         // of the session's subs; nil unless they are many
	until   time.Time      // when a token ends
	auth    *exchange      // enhanced authentication under way
	method  string         // of enhanced authentication, if it was used
	mail    *attachment    // of the mailbox, under way
	says    router.Rate    // how many signals it may say
	round   roundOfRecords // records to be written at the end of this round
	// vouched is who the client is where the server itself says so and keeps time
	// for it, as for a sensor or a bridge; nil for all others.
	vouched *auth.Who
}

func (c *client) more() *extra {
	if c.x == nil {
		c.x = new(extra)
	}
	return c.x
}

// bell is a client as the router and the mailbox see it.
type bell client

func (b *bell) Wake() { b.c.Wake() }

func (b *bell) End(why router.Reason) {
	code := packet.AdministrativeAction
	switch why {
	case router.Replaced:
		code = packet.SessionTakenOver
	case router.Draining:
		code = packet.ServerShuttingDown
	case router.Expired, router.Removed:
		code = packet.NotAuthorized
	}
	(*client)(b).finish(code)
}

// finish asks the client, from any goroutine, to say goodbye and go.
func (c *client) finish(code packet.Code) {
	c.end.CompareAndSwap(0, 1+uint32(code))
	c.c.Wake()
}

// key names the session, user/device; it is empty before the client has said
// who it is.
func (c *client) key() string {
	switch {
	case c.s != nil:
		return c.s.key
	case c.x != nil && c.x.login != nil:
		return c.x.login.key
	}
	return ""
}

func (c *client) user() string { return c.key()[:c.users] }
func (c *client) device() string {
	key := c.key()
	return key[min(int(c.users)+1, len(key)):]
}
func (c *client) who() auth.Who {
	return auth.Who{User: c.user(), Device: c.device(), Role: c.role}
}

// Open is called when bytes may be written.
func (c *client) Open(cn *conn.Conn) error {
	c.c = cn
	c.last = cn.Now().UnixNano()
	if c.x != nil && c.x.vouched != nil {
		return nil
	}
	cn.SetAlarm(cn.Now().Add(c.srv.cfg.ConnectTimeout))
	return nil
}

// Data takes the packets that are complete.
func (c *client) Data(p []byte) (n int, err error) {
	n, err = c.packets(p)
	if n > 0 {
		c.last = c.c.Now().UnixNano()
	}
	if c.fan != nil {
		c.srv.giveBack(c.fan)
		c.fan = nil
	}
	return n, c.over(err)
}

// over lets everything go if err ends the connection.
func (c *client) over(err error) error {
	if err != nil {
		c.stop(err)
	}
	return err
}

func (c *client) packets(p []byte) (n int, err error) {
	if c.state == waiting && len(p) > 0 && packet.Type(p[0]>>4) != packet.CONNECT {
		// "After a Network Connection is established by a Client to a Server,
		// the first packet sent ... MUST be a CONNECT packet" [MQTT-3.1.0-1]
		return 0, errors.New("mqtt: first packet is " + packet.Type(p[0]>>4).String())
	}
	for c.state == waiting || c.state == proving || c.state == up && !c.paused {
		first, body, size, err := packet.Split(p[n:], c.srv.cfg.MaxPacket)
		if err != nil {
			return n, c.refuse(packet.Type(first>>4), err)
		}
		if size == 0 {
			break
		}
		n += size
		if err := c.packet(first, body); err != nil {
			return n, c.refuse(packet.Type(first>>4), err)
		}
	}
	if n > 0 && c.state == up {
		return n, c.settle()
	}
	return n, nil
}

// Wake hears that something may have come: an end, a login, a session, a post,
// an entry, room.
func (c *client) Wake() error { return c.over(c.wake()) }

func (c *client) wake() error {
	if code := c.end.Load(); code != 0 && c.state != ended {
		return c.bye(packet.Code(code - 1))
	}
	switch c.state {
	case checking:
		if c.x.auth != nil {
			return c.stepped()
		}
		return c.checked()
	case claiming:
		return c.enter()
	case up:
		return c.settle()
	}
	return nil
}

// settle does what a round has left to do.
func (c *client) settle() error {
	defer func() { c.self = false }()
	if c.unruly.Load() && c.unruly.Swap(false) {
		c.obey()
	}
	if c.x != nil {
		if err := c.stepped(); err != nil {
			return err
		}
		c.writeRound()
		if err := c.acknowledge(); err != nil {
			return c.refuse(0, err)
		}
		c.sendOld()
		if err := c.joined(); err != nil {
			return c.refuse(0, err)
		}
	}
	c.drain()
	if c.queue != nil {
		if err := c.queue.pump(); err != nil {
			return c.refuse(0, err)
		}
	}
	if c.inbox != nil {
		c.hear()
		if err := c.inbox.pump(); err != nil {
			return c.refuse(0, err)
		}
		if c.inbox.parting {
			c.part()
		}
	}
	return nil
}

// packet dispatches one packet.
func (c *client) packet(first byte, body []byte) error {
	t := packet.Type(first >> 4)
	if c.state == waiting {
		return c.connect(first, body)
	}
	if c.state == proving && t != packet.AUTH {
		// "If the initial CONNECT ... included an Authentication Method ... the
		// Client MUST NOT send any packets other than AUTH or DISCONNECT packets
		// until it has received a CONNACK" [MQTT-3.1.2-30]
		return c.turnAway(&packet.Error{Code: packet.ProtocolError, Text: t.String() + " before CONNACK"})
	}
	switch t {
	case packet.PUBLISH:
		return c.publish(first, body)
	case packet.PUBACK, packet.PUBREC, packet.PUBREL, packet.PUBCOMP:
		var a packet.Ack
		if err := a.Decode(c.version, first, body); err != nil {
			return err
		}
		return c.acked(t, &a)
	case packet.SUBSCRIBE:
		return c.subscribe(first, body)
	case packet.UNSUBSCRIBE:
		return c.unsubscribe(first, body)
	case packet.PINGREQ:
		if err := packet.DecodeEmpty(first, body); err != nil {
			return err
		}
		// "The Server MUST send a PINGRESP packet in response" [MQTT-3.12.4-1]
		c.c.Meter().Beat()
		c.write(packet.AppendEmpty(c.c.Out(), packet.PINGRESP))
		return nil
	case packet.DISCONNECT:
		return c.disconnect(first, body)
	case packet.AUTH:
		if c.version == packet.V5 {
			return c.authenticate(first, body)
		}
	case packet.CONNECT:
		// "The Server MUST process a second CONNECT packet sent from a Client
		// as a Protocol Error and close the Network Connection" [MQTT-3.1.0-2]
		return &packet.Error{Code: packet.ProtocolError, Text: "second CONNECT"}
	}
	switch t {
	case packet.SUBACK, packet.UNSUBACK, packet.PINGRESP:
		if first&15 != 0 { // [MQTT-2.1.3-1]
			return &packet.Error{Code: packet.MalformedPacket, Text: t.String() + " with flags"}
		}
	}
	return &packet.Error{Code: packet.ProtocolError, Text: t.String() + " from a client"}
}

// write gives back the buffer that c.c.Out returned.
func (c *client) write(b []byte) { c.c.SetOut(b) }

// say writes a packet about a message that was received. If a copy of it was
// sent to this same client in this round, it goes behind that copy.
func (c *client) say(t packet.Type, id uint16, code packet.Code, reason string) {
	if c.quiet {
		// "If the value is 0 the Server ... MUST NOT send a Reason String or
		// User Properties on any packet other than PUBLISH, CONNACK, or
		// DISCONNECT" [MQTT-3.1.2-29]
		reason = ""
	}
	if reason != "" && packet.AckSize(reason) > int(c.maxSize) {
		// "The sender MUST NOT send this property if it would increase the size
		// of the PUBACK packet beyond the Maximum Packet Size specified by the
		// receiver" [MQTT-3.4.2-2] [MQTT-3.5.2-2]
		reason = ""
	}
	if c.self && t == packet.PUBACK {
		c.c.Send(packet.AppendAck(nil, c.version, t, id, code, reason))
		return
	}
	c.write(packet.AppendAck(c.c.Out(), c.version, t, id, code, reason))
}

// refuse ends the connection about a packet of type t: 5.0 is told why.
//
//	"When a Server detects a Malformed Packet or Protocol Error ... it MUST
//	close the Network Connection" [MQTT-4.13.1-1]; it may say why first.
func (c *client) refuse(t packet.Type, err error) error {
	var e *packet.Error
	if c.state == proving {
		return c.turnAway(err)
	}
	if !errors.As(err, &e) || c.state != up || c.version != packet.V5 {
		return err
	}
	c.srv.log.Debug("client broke the protocol", "user", c.user(), "device", c.device(), "err", err)
	c.goodbye(e.Code)
	return err
}

// goodbye writes DISCONNECT. It has no reason string: what a client may be told
// is in the code, the rest is in our log.
func (c *client) goodbye(code packet.Code) {
	if c.version == packet.V5 { // 3.1.1 has no DISCONNECT from the server
		c.write((&packet.Disconnect{Code: code}).Append(c.c.Out(), c.version))
	}
}

// bye ends the connection on the server's own account.
func (c *client) bye(code packet.Code) error {
	switch {
	case c.state == up:
		c.goodbye(code)
	case c.state == checking || c.state == proving || c.state == claiming:
		c.connack(code, nil)
	}
	c.close(errors.New("mqtt: " + code.String()))
	return nil
}

// close ends the connection, after what was written has been sent.
func (c *client) close(why error) {
	c.c.Close(why)
	c.stop(why)
}

// disconnect is DISCONNECT from the client, section 3.14.
func (c *client) disconnect(first byte, body []byte) error {
	var d packet.Disconnect
	if err := d.Decode(c.version, first, body); err != nil {
		return err
	}
	if d.Properties.Has(packet.SessionExpiry) {
		e := d.Properties.Num(packet.SessionExpiry, 0)
		var was uint32
		if c.s.kept.Load() != nil {
			was = uint32(c.s.kept.Load().expiry / time.Second)
		}
		// "If the Session Expiry Interval in the CONNECT packet was zero, then
		// it is a Protocol Error to set a non-zero Session Expiry Interval in
		// the DISCONNECT packet" MQTT 5.0 section 3.14.2.2.2
		if was == 0 && e != 0 {
			return &packet.Error{Code: packet.ProtocolError, Text: "session expiry raised from 0"}
		}
		if c.s.kept.Load() != nil {
			c.s.kept.Load().expiry = c.srv.clampExpiry(e)
		}
	}
	// "On receipt of DISCONNECT the Server: MUST discard any Will Message
	// associated with the current Connection without publishing it" if the
	// reason is 0 [MQTT-3.14.4-3]; 0x04 asks for it.
	if d.Code == packet.Success && c.x != nil {
		c.x.will = nil
	}
	c.close(io.EOF)
	return nil
}

// Alarm looks at the time.
func (c *client) Alarm() error { return c.over(c.alarm()) }

func (c *client) alarm() error {
	now := c.c.Now()
	if c.state == waiting || c.state == checking || c.state == proving || c.state == claiming {
		c.state = ended
		return conn.ErrTimeout
	}
	if c.state != up {
		return nil
	}
	if c.x != nil && !c.x.until.IsZero() && !now.Before(c.x.until) {
		return c.bye(packet.NotAuthorized)
	}
	// "If the Keep Alive value is non-zero and the Server does not receive an
	// MQTT Control Packet from the Client within one and a half times the Keep
	// Alive time period, it MUST close the Network Connection" [MQTT-3.1.2-22]
	if c.patience > 0 && now.Sub(time.Unix(0, c.last)) >= c.silence() {
		c.goodbye(packet.KeepAliveTimeout)
		return conn.ErrTimeout
	}
	c.setAlarm()
	return nil
}

func (c *client) silence() time.Duration { return time.Duration(c.patience) * time.Millisecond }

func (c *client) setAlarm() {
	var at time.Time
	if c.patience > 0 {
		at = time.Unix(0, c.last).Add(c.silence())
	}
	if c.x != nil && !c.x.until.IsZero() && (at.IsZero() || c.x.until.Before(at)) {
		at = c.x.until
	}
	c.c.SetAlarm(at)
}

// Goodbye is called when the server drains.
func (c *client) Goodbye() {
	c.leaving()
	c.c.Close(conn.ErrDrain)
}

// Meter counts what the device costs. It may be called from any goroutine.
func (c *client) Meter() *cost.Meter { return c.c.Meter() }

// Closed is called last.
func (c *client) Closed(why error) { c.stop(why) }

// stop ends all but the connection itself, which may linger until the peer has
// taken what was written: others need not wait for the session until then.
func (c *client) stop(why error) {
	if c.stopped {
		return
	}
	c.stopped = true
	c.state = ended
	c.mu.Lock()
	c.gone = true
	c.out = nil
	c.aliases = nil
	c.mu.Unlock()
	if c.queue != nil {
		c.queue.close()
	}
	if c.inbox != nil {
		c.inbox.close()
	}
	if c.x != nil {
		c.x.mail.cancel()
		c.x.old.close()
	}
	if c.s != nil {
		c.srv.core.Costs.Book(c.user(), c.device(), router.MQTT.String(), c.c.Meter())
		c.leave()
		c.srv.log.Info("session ended", "user", c.user(), "device", c.device(), "reason", why)
	} else if key := c.key(); key != "" {
		c.srv.sessions.leave(key, c, true)
	}
}

// leave lets the session go, and sees to the will.
func (c *client) leave() {
	s, srv := c.s, c.srv
	srv.count.clients.Add(-1)
	s.client.CompareAndSwap(c, nil)
	var w *will
	if c.x != nil {
		w = c.x.will
	}
	k := s.kept.Load()
	switch {
	case srv.orphan(c.user()):
		srv.discard(s)
		k, w = nil, nil
	case k != nil && k.expiry == 0:
		srv.wipe(s)
		k = nil
	}
	// "The Will Message MUST be published after the Network Connection is
	// subsequently closed and either the Will Delay Interval has elapsed or
	// the Session ends" [MQTT-3.1.2-8]
	gone := c.forgetWill()
	if w != nil && (k == nil || w.delay == 0) {
		srv.publishWill(w, gone...)
		w, gone = nil, nil
	}
	srv.write(gone)
	if k == nil {
		srv.unsubscribeAll(s)
		s.got = nil
		srv.sessions.leave(s.key, c, true)
		return
	}
	// Before the session is free for others, so that they find all of it.
	srv.away(s, w, time.Now())
	srv.sessions.leave(s.key, c, false)
}
