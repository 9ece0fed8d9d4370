package mqtt

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// login is a CONNECT that is being looked at.
type login struct {
	packet packet.Connect
	key    string // of the session
	who    auth.Who
	err    error
	done   atomic.Bool // who and err are there
}

// connect is CONNECT, section 3.1.
func (c *client) connect(first byte, body []byte) error {
	lg := new(login)
	p := &lg.packet
	err := p.Decode(first, body)
	c.version = p.Version
	c.maxSize = min(p.Properties.Num(packet.MaximumPacketSize, packet.MaxRemaining+5), packet.MaxRemaining+5)
	if err != nil {
		return c.turnAway(err)
	}
	c.quiet = p.Properties.Num(packet.RequestProblem, 1) == 0
	c.clean = p.CleanStart
	c.bridge = p.Bridge
	p.Password = append([]byte(nil), p.Password...)
	if p.Will != nil {
		p.Will.Payload = append([]byte(nil), p.Will.Payload...)
	}
	if err := c.checkConnect(p); err != nil {
		return c.turnAway(err)
	}
	if inside := c.x != nil && c.x.vouched != nil && c.x.vouched.User == bridgeUser; !inside && c.moved() {
		return errMoved
	}
	c.more().login = lg
	c.state = checking
	return c.logIn(lg)
}

// logIn has it checked who the client is.
func (c *client) logIn(lg *login) error {
	p := &lg.packet
	if p.Properties.Has(packet.AuthMethod) {
		return c.beginAuth(lg)
	}
	if v := c.x.vouched; v != nil {
		lg.who = *v
		lg.done.Store(true)
		return c.checked()
	}
	cert := transport.Certificate(c.c)
	if cert != nil && !p.HasPassword {
		// The credential is the connection's; a user name must agree with it.
		return c.prove(lg, auth.Credential{User: p.User, Certificate: cert, From: c.c.Remote().Addr()})
	}
	// A name without a proof is nobody's, and so is one with a proof as long as
	// nobody has an account.
	anonymous := c.srv.cfg.Anonymous && (!p.HasPassword || c.srv.core.Auth.Stats().Accounts == 0)
	if anonymous || !p.HasUser && !p.HasPassword {
		lg.done.Store(true)
		if !anonymous {
			lg.err = auth.ErrDenied
		}
		return c.checked()
	}
	if !c.c.Secure() && !c.srv.cfg.Insecure {
		return c.turnAway(&packet.Error{Code: packet.NotAuthorized, Text: "passwords are taken under TLS only"})
	}
	return c.prove(lg, auth.Credential{User: p.User, Password: string(p.Password), From: c.c.Remote().Addr()})
}

// prove has a credential checked on another goroutine.
func (c *client) prove(lg *login, cred auth.Credential) error {
	c.c.PauseRead(true)
	ok := c.srv.core.Auth.Go(func() (err error) {
		lg.who, err = c.srv.identify(cred)
		return err
	}, func(err error) {
		lg.err = err
		lg.done.Store(true)
		c.c.Wake()
	})
	if !ok {
		lg.err = auth.ErrBusy
		lg.done.Store(true)
		return c.checked()
	}
	return nil
}

// identify checks a credential. What stands in the place of the password may be
// a token of the account's.
func (srv *Server) identify(cred auth.Credential) (auth.Who, error) {
	if strings.Count(cred.Password, ".") == 2 && strings.HasPrefix(cred.Password, "ey") {
		who, err := srv.core.Auth.Verify(background, auth.Credential{Token: cred.Password, From: cred.From})
		if a, bad := address.Parse(cred.User, srv.core.Router.Domain()); err == nil && (cred.User == "" || bad == nil && a.Bare() == who.User) {
			return who, nil
		}
	}
	return srv.core.Auth.Verify(background, cred)
}

// checkConnect keeps the rules that the codec does not know.
func (c *client) checkConnect(p *packet.Connect) error {
	if p.ClientID == "" && !p.CleanStart && p.Version != packet.V5 {
		// "If the Client supplies a zero-byte ClientId with CleanSession set
		// to 0, the Server MUST respond to the CONNECT Packet with a CONNACK
		// return code 0x02" 3.1.1 [MQTT-3.1.3-8]
		return &packet.Error{Code: packet.ClientIDNotValid, Text: "no client identifier"}
	}
	if p.ClientID == "" && p.Version == packet.V31 {
		// 3.1 section 3.1: "between 1 and 23 characters long"
		return &packet.Error{Code: packet.ClientIDNotValid, Text: "no client identifier"}
	}
	if len(p.ClientID) > c.srv.cfg.MaxClientID {
		return &packet.Error{Code: packet.ClientIDNotValid, Text: "client identifier is too long"}
	}
	return nil
}

// turnAway answers a CONNECT with a refusal and ends the connection.
func (c *client) turnAway(err error) error {
	c.srv.count.refused.Add(1)
	var e *packet.Error
	if errors.As(err, &e) && c.version != 0 {
		// A malformed CONNECT of 3.1.1 is answered with nothing: "the Server
		// MUST close the Network Connection" 3.1.1 [MQTT-4.8.0-1]
		if c.version == packet.V5 || e.Code != packet.MalformedPacket && e.Code != packet.ProtocolError {
			c.connack(e.Code, nil)
		}
	}
	c.state = ended
	return err
}

// connack writes CONNACK.
//
//	"A Server MAY send a CONNACK packet with a Reason Code of 0x80 or greater
//	... MUST then close the Network Connection" [MQTT-3.1.4-6]
func (c *client) connack(code packet.Code, props *packet.Properties) (fits bool) {
	// 3.1 has no Session Present; the bit is unused there.
	a := packet.Connack{Code: code, SessionPresent: code == packet.Success && c.present && c.version != packet.V31}
	if c.version != packet.V5 {
		c3, ok := code.For3()
		if !ok {
			return false
		}
		a.Code = packet.Code(c3)
	} else if props != nil {
		a.Properties = *props
	}
	b := a.Append(nil, c.version)
	if fits = len(b) <= int(c.maxSize); fits {
		c.c.Write(b)
	}
	return fits
}

// checked goes on when it is known who the client is.
func (c *client) checked() error {
	lg := c.x.login
	if lg == nil || !lg.done.Load() {
		return nil
	}
	if lg.err != nil {
		code, text := packet.UnspecifiedError, words(lg.err)
		switch {
		case errors.Is(lg.err, auth.ErrBusy):
			code = packet.ServerBusy
		case errors.Is(lg.err, auth.ErrDenied), errors.Is(lg.err, auth.ErrExpired):
			code = c.denied(&lg.packet)
		default:
			c.srv.log.Error("mqtt: login", "err", lg.err)
			text = "internal error"
		}
		return c.turnAway(&packet.Error{Code: code, Text: text})
	}
	p := &lg.packet
	id := p.ClientID
	if id == "" {
		// "the Server MUST treat this as a special case and assign a unique
		// ClientID to that Client" [MQTT-3.1.3-6]
		id = "auto-" + rand.Text()[:16]
		p.ClientID = id
		lg.who.Device = ""
	} else if lg.who.Device != "" && lg.who.Device != id {
		return c.turnAway(&packet.Error{Code: packet.ClientIDNotValid, Text: "the token is for another device"})
	} else {
		p.ClientID = ""
	}
	// Client identifiers are each user's own, so that nobody can take over the
	// session of another.
	lg.key = lg.who.User + "/" + deviceName(id)
	c.users, c.role = uint16(len(lg.who.User)), lg.who.Role
	if w := p.Will; w != nil {
		// "MUST ... 0x87" where the will may not be published, so that the
		// client learns of it now.
		if err := c.checkWill(w); err != nil {
			return c.turnAway(err)
		}
	}
	c.state = claiming
	c.c.PauseRead(true)
	return c.enter()
}

// denied is the word for a login that failed. 3.1.1 tells apart "The data in the
// user name or password is malformed" (4) and "The Client is not authorized to
// connect" (5), section 3.2.2.3. So a name that no account can have is the first,
// and whatever else is wrong the second, never which. 5.0 rewords them to "Bad
// User Name or Password" (0x86) and "Not authorized" (0x87), and would let us say
// 0x86 for a wrong password; but the clients of who moves here from mosquitto or
// HiveMQ know 5 and 0x87 for it.
func (c *client) denied(p *packet.Connect) packet.Code {
	if _, err := address.Parse(p.User, c.srv.core.Router.Domain()); p.User != "" && err != nil {
		return packet.BadUserNameOrPassword
	}
	return packet.NotAuthorized
}

// enter goes on when the session is free.
func (c *client) enter() error {
	s := c.srv.sessions.claim(c.key(), c)
	if s == nil {
		return nil // woken when it is
	}
	lg := c.x.login
	p := &lg.packet
	if srv := c.srv; srv.orphan(lg.who.User) { // removed since he was asked who he is
		srv.discard(s)
		return c.turnAway(&packet.Error{Code: packet.NotAuthorized, Text: "the account is no more"})
	}
	expiry := p.Properties.Num(packet.SessionExpiry, 0)
	if c.version != packet.V5 && !p.CleanStart {
		expiry = forever // 3.1.1 keeps a session without limit
	}
	life := c.srv.clampExpiry(expiry)
	if life > 0 && s.kept.Load() == nil && c.srv.count.sessions.Load() >= int64(c.srv.cfg.MaxSessions) {
		return c.turnAway(&packet.Error{Code: packet.QuotaExceeded, Text: "too many sessions are kept"})
	}
	c.s = s
	c.x.login = nil
	props := &packet.Properties{}
	var w *will
	if p.Will != nil {
		w = newWill(p.Will, c)
	}
	c.srv.adopt(c, s, w, life)
	if c.version == packet.V5 {
		c.answerProps(p, props, expiry, life)
	}
	c.quota.Store(int32(min(int(p.Properties.Num(packet.ReceiveMaximum, 65535)), c.srv.cfg.MaxInflight)))
	c.aliasMax = uint16(min(p.Properties.Num(packet.TopicAliasMaximum, 0), 1024))
	if c.aliasMax > 0 {
		c.aliases = new(aliases)
	}
	c.keepalive(p.KeepAlive, props)
	c.x.will = w
	if !lg.who.Expires.IsZero() {
		c.x.until = lg.who.Expires
	}
	if c.x.method == "" && c.x.will == nil && c.x.until.IsZero() && c.x.auth == nil {
		c.x = nil
	}
	c.state = up
	c.c.Meter().Login(c.c.Now())
	c.srv.count.clients.Add(1)
	c.srv.count.connected.Add(1)
	// "The Server MUST acknowledge the CONNECT packet with a CONNACK packet
	// containing a 0x00 (Success) Reason Code" [MQTT-3.1.4-5]
	if !c.connack(packet.Success, props) {
		return errors.New("mqtt: the client cannot take a CONNACK") // [MQTT-3.1.2-24]
	}
	c.start(s)
	c.setAlarm()
	c.c.PauseRead(false)
	c.srv.log.Info("session began", "user", c.user(), "device", c.device(), "from", c.c.Remote().Addr(), "version", c.version)
	return c.settle()
}

// answerProps fills in what a 5.0 client is told.
func (c *client) answerProps(p *packet.Connect, ps *packet.Properties, asked uint32, life time.Duration) {
	cfg := &c.srv.cfg
	if given := uint32(life / time.Second); given != asked { // [MQTT-3.2.2-21]
		ps.SetNum(packet.SessionExpiry, given)
	}
	ps.SetNum(packet.TopicAliasMaximum, uint32(cfg.TopicAliasMaximum))
	ps.SetNum(packet.MaximumPacketSize, uint32(cfg.MaxPacket))
	ps.SetNum(packet.ReceiveMaximum, uint32(cfg.ReceiveMaximum))
	if most := cfg.maxQoS(); most < 2 {
		// "If a Server does not support QoS 1 or QoS 2 PUBLISH packets it MUST
		// send a Maximum QoS in the CONNACK packet specifying the highest QoS it
		// supports" [MQTT-3.2.2-9]
		ps.SetNum(packet.MaximumQoS, uint32(most))
	}
	if !cfg.retains() { // section 3.2.2.3.5
		ps.SetNum(packet.RetainAvailable, 0)
	}
	if p.ClientID != "" { // [MQTT-3.2.2-16]
		ps.SetText(packet.AssignedClientID, p.ClientID)
	}
	if slices.ContainsFunc(p.Properties.User, func(u packet.Pair) bool { return u.Name == viaName }) {
		ps.User = append(ps.User, packet.Pair{Name: viaName, Value: c.srv.node})
	}
	if c.x.method != "" {
		ps.SetText(packet.AuthMethod, c.x.method)
		if c.x.auth != nil && c.x.auth.last != "" {
			ps.SetText(packet.AuthData, c.x.auth.last)
		}
		c.x.auth = nil
	}
}

// clampExpiry is the time that a session is kept, for the seconds asked.
func (srv *Server) clampExpiry(secs uint32) time.Duration {
	return min(time.Duration(secs)*time.Second, srv.cfg.MaxSessionExpiry)
}

// keepalive settles how long the client may be silent.
//
//	"If the Server returns a Server Keep Alive on the CONNACK packet, the
//	Client MUST use this value instead" [MQTT-3.2.2-21]
func (c *client) keepalive(secs uint16, ps *packet.Properties) {
	if c.x.vouched != nil {
		return
	}
	k := time.Duration(secs) * time.Second
	if c.version == packet.V5 {
		most := c.srv.cfg.MaxKeepalive
		if most == 0 {
			most = 10 * time.Minute
			most = max(30*time.Second, min(c.srv.core.Interval("", c.c.Remote().Addr()), most))
		}
		if most = most.Truncate(time.Second); k == 0 || k > most {
			k = most
			ps.SetNum(packet.ServerKeepAlive, uint32(min(k/time.Second, 65535)))
		}
	}
	c.patience = uint32(keepalive.Patience(k) / time.Millisecond)
}
