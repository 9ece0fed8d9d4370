package mqtt

import (
	"errors"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// Enhanced authentication, MQTT 5.0 section 4.12, with SCRAM (RFC 5802, RFC 7677):
//
//	C: CONNECT  method, data: client-first
//	S: AUTH     continue, data: server-first
//	C: AUTH     continue, data: client-final
//	S: CONNACK  success, data: server-final
//
// Afterwards AUTH with 0x19 begins it again, and it ends with AUTH 0x00.

// exchange is one that is under way.
type exchange struct {
	scram *auth.SCRAM
	again bool   // re-authentication
	last  string // server-final, for CONNACK

	// What the step under way comes to, once ready is set.
	out   []byte
	done  bool
	err   error
	ready atomic.Bool
	busy  bool
}

func mechanism(name string) bool { return name == "SCRAM-SHA-256" || name == "SCRAM-SHA-1" }

// beginAuth begins with the method that CONNECT names.
func (c *client) beginAuth(lg *login) error {
	m := lg.packet.Properties.Text(packet.AuthMethod)
	if !mechanism(m) {
		// "If the Server does not support the Authentication Method supplied by
		// the Client, it MAY send a CONNACK with a Reason Code of 0x8C" [MQTT-4.12.0-1]
		return c.turnAway(&packet.Error{Code: packet.BadAuthenticationMethod, Text: m})
	}
	s, err := c.srv.core.Auth.NewSCRAM(m, nil, c.c.Remote().Addr())
	if err != nil {
		return c.turnAway(&packet.Error{Code: packet.BadAuthenticationMethod, Text: m})
	}
	c.x.method = m
	c.x.auth = &exchange{scram: s}
	return c.step([]byte(lg.packet.Properties.Text(packet.AuthData)))
}

// step gives the client's data to SCRAM, on another goroutine.
func (c *client) step(in []byte) error {
	e := c.x.auth
	e.busy = true
	e.ready.Store(false)
	if c.state != up {
		c.state = checking
		c.c.PauseRead(true)
	}
	ok := c.srv.core.Auth.Go(func() (err error) {
		e.out, e.done, err = e.scram.Step(background, in)
		return err
	}, func(err error) {
		e.err = err
		e.ready.Store(true)
		c.c.Wake()
	})
	if !ok {
		e.err = auth.ErrBusy
		e.ready.Store(true)
		return c.stepped()
	}
	return nil
}

// stepped goes on when a step is done.
func (c *client) stepped() error {
	e := c.x.auth
	if e == nil || !e.busy || !e.ready.Load() {
		return nil
	}
	e.busy = false
	if e.err != nil {
		code := packet.NotAuthorized
		switch {
		case errors.Is(e.err, auth.ErrDenied):
		case errors.Is(e.err, auth.ErrBusy):
			code = packet.ServerBusy
		case errors.Is(e.err, auth.ErrMalformed):
			code = packet.ProtocolError
		default:
			c.srv.log.Error("mqtt: login", "err", e.err)
			code = packet.UnspecifiedError
		}
		err := &packet.Error{Code: code, Text: "authentication failed"}
		if c.state == up {
			return c.refuse(packet.AUTH, err)
		}
		return c.turnAway(err)
	}
	switch {
	case !e.done:
		c.sendAuth(packet.ContinueAuthentication, e.out)
		if c.state == checking {
			c.state = proving
			c.c.PauseRead(false)
		}
	case c.state == up:
		if e.scram.Who().User != c.user() {
			return c.refuse(packet.AUTH, &packet.Error{Code: packet.NotAuthorized, Text: "another user"})
		}
		c.sendAuth(packet.Success, e.out)
		c.x.auth = nil
	default:
		lg := c.x.login
		lg.who = e.scram.Who()
		lg.done.Store(true)
		e.last = string(e.out)
		return c.checked()
	}
	return nil
}

func (c *client) sendAuth(code packet.Code, data []byte) {
	a := packet.Auth{Code: code}
	a.Properties.SetText(packet.AuthMethod, c.x.method)
	a.Properties.SetText(packet.AuthData, string(data))
	c.c.Write(a.Append(nil))
}

// authenticate is AUTH from the client, section 3.15.
func (c *client) authenticate(first byte, body []byte) error {
	var a packet.Auth
	if err := a.Decode(first, body); err != nil {
		return err
	}
	x := c.x
	if x == nil || x.method == "" || a.Properties.Text(packet.AuthMethod) != x.method {
		// "If the Client did not include an Authentication Method in the
		// CONNECT, the Client MUST NOT send an AUTH packet" [MQTT-4.12.0-7]
		return &packet.Error{Code: packet.ProtocolError, Text: "AUTH without that authentication method in CONNECT"}
	}
	data := []byte(a.Properties.Text(packet.AuthData))
	switch {
	case a.Code == packet.ContinueAuthentication && x.auth != nil && !x.auth.busy:
		return c.step(data)
	case a.Code == packet.ReAuthenticate && x.auth == nil && c.state == up:
		s, err := c.srv.core.Auth.NewSCRAM(x.method, nil, c.c.Remote().Addr())
		if err != nil {
			return err
		}
		x.auth = &exchange{scram: s, again: true}
		return c.step(data)
	}
	return &packet.Error{Code: packet.ProtocolError, Text: "AUTH out of turn"}
}
