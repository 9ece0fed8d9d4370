package mqtt

import (
	"errors"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// Redirect sends clients elsewhere, MQTT 5.0 section 4.11. Without a server
// nobody is redirected.
type Redirect struct {
	// Server is where clients shall go: host, host:port, [IPv6]:port, or several
	// of these with a space between them. When this server stops, MQTT 5
	// clients are told to use that one (0x9C); 3.1.1 has no words for it.
	Server string
	// Moved says that this server has moved there for good: nobody is let in
	// any more. MQTT 5 clients are told 0x9D and the server; others are refused
	// with 0x03, server unavailable.
	Moved bool
}

var errMoved = errors.New("mqtt: this server has moved")

// props names the server to go to; code says for how long.
//
//	"The Server sends DISCONNECT including a Server Reference and Reason Code
//	0x9C (Use another server) or 0x9D (Server moved)" section 3.14.2.2.5
func (r *Redirect) props() (ps packet.Properties, code packet.Code, ok bool) {
	if r.Server == "" {
		return ps, 0, false
	}
	ps.SetText(packet.ServerReference, r.Server)
	code = packet.UseAnotherServer
	if r.Moved {
		code = packet.ServerMoved
	}
	return ps, code, true
}

// moved refuses a CONNECT where the server has moved. It comes before the
// login: who is asked to go need not show his password.
func (c *client) moved() (gone bool) {
	ps, code, ok := c.srv.cfg.Redirect.props()
	if !ok || code != packet.ServerMoved {
		return false
	}
	c.srv.count.redirected.Add(1)
	if !c.connack(code, &ps) {
		// "The Server MUST NOT send this property if it would increase the size
		// of the packet beyond the Maximum Packet Size" section 3.2.2.3.16
		c.connack(code, nil)
	}
	c.state = ended
	return true
}

// leaving tells a client that the server stops, and where to go instead.
func (c *client) leaving() {
	if c.version == 0 {
		return
	}
	ps, code, ok := c.srv.cfg.Redirect.props()
	if !ok {
		code = packet.ServerShuttingDown
	}
	switch c.state {
	case up:
		if c.version != packet.V5 {
			return // 3.1.1 has no DISCONNECT from the server
		}
		d := packet.Disconnect{Code: code, Properties: ps}
		b := d.Append(nil, c.version)
		if len(b) > int(c.maxSize) {
			b = (&packet.Disconnect{Code: code}).Append(nil, c.version)
		}
		if ok {
			c.srv.count.redirected.Add(1)
		}
		c.c.Write(b)
	case checking, proving, claiming:
		if !ok {
			// CONNACK has no 0x8B: that is for DISCONNECT.
			code = packet.ServerUnavailable
		}
		if !c.connack(code, &ps) {
			c.connack(code, nil)
		}
	}
}
