package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Will is the message to be published when a connection ends without DISCONNECT.
type Will struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
	// RawProperties are the same as they stood, without their length.
	RawProperties []byte
}

// Connect is CONNECT, MQTT 5.0 and 3.1.1 section 3.1.
type Connect struct {
	Version    Version
	CleanStart bool
	// Bridge says in mosquitto's way, by the top bit of the version below 5.0,
	// that a bridge connects.
	Bridge     bool
	KeepAlive  uint16 // seconds; zero means none
	Properties Properties
	ClientID   string
	Will       *Will
	User       string
	Password   []byte
	// HasUser and HasPassword say whether they are there; they may be empty.
	HasUser, HasPassword bool
}

// Bits of the connect flags.
const (
	flagClean    = 1 << 1
	flagWill     = 1 << 2
	flagRetain   = 1 << 5
	flagPassword = 1 << 6
	flagUser     = 1 << 7
)

// Decode reads the body of a CONNECT. Version is set as soon as it is known,
// also where the packet is refused, so that the refusal can be worded.
func (c *Connect) Decode(first byte, body []byte) error {
	*c = Connect{}
	r := reader{p: body}
	name := r.bytes("protocol name")
	version := Version(r.byte("protocol version"))
	if r.err != nil {
		return r.err
	}
	// "If the protocol name is incorrect the Server MAY disconnect the Client"
	// [MQTT-3.1.2-1]
	old := string(name) == "MQIsdp"
	if !old && string(name) != "MQTT" {
		return protocol("unknown protocol name")
	}
	// COMPAT(bridges): a bridge of mosquitto's sets the top bit of the version.
	bridge := version&0x80 != 0
	if bridge && version != 0x84 && version != 0x83 {
		bridge = false
	}
	if bridge {
		version &^= 0x80
	}
	switch {
	case old && version == V31, !old && (version == V311 || version == V5):
	case version == V31 || version == V311:
		c.Version = V311
		return &Error{UnsupportedVersion, fmt.Sprintf("version %d of %s", version, name)}
	default:
		// "If the Protocol Version is not 5 and the Server does not want to
		// accept the CONNECT packet, the Server MAY send a CONNACK packet with
		// Reason Code 0x84" [MQTT-3.1.2-2]
		c.Version = V5
		return &Error{UnsupportedVersion, fmt.Sprintf("version %d of %s", version, name)}
	}
	// [MQTT-2.1.3-1]; 3.1 leaves these bits unused, and the reserved connect
	// flag too.
	if err := flags(first, 0); err != nil && version != V31 {
		return err
	}
	c.Version, c.Bridge = version, bridge
	f := r.byte("connect flags")
	if r.err != nil {
		return r.err
	}
	// "The Server MUST validate that the reserved flag in the CONNECT packet
	// is set to 0" [MQTT-3.1.2-3]
	if f&1 != 0 && version != V31 {
		return malformed("reserved connect flag is set")
	}
	c.CleanStart = f&flagClean != 0
	qos := f >> 3 & 3
	switch {
	case qos == 3: // [MQTT-3.1.2-12]
		return malformed("will QoS 3")
	case f&flagWill == 0 && (qos != 0 || f&flagRetain != 0): // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
		return malformed("will flags without a will")
	case version != V5 && f&flagUser == 0 && f&flagPassword != 0:
		// "If the User Name Flag is set to 0, the Password Flag MUST be set
		// to 0" 3.1.1 [MQTT-3.1.2-22]; 5.0 has it free
		return malformed("password without user name")
	}
	c.KeepAlive = r.uint16("keep alive")
	if version == V5 {
		r.properties(CONNECT, &c.Properties)
		// "It is a Protocol Error to include Authentication Data if there is
		// no Authentication Method" MQTT 5.0 section 3.1.2.11.10
		if r.err == nil && c.Properties.Has(AuthData) && !c.Properties.Has(AuthMethod) {
			return protocol("authentication data without method")
		}
	}
	id := r.bytes("client identifier")
	if r.err != nil {
		return r.err
	}
	if !ValidText(id) {
		// "The ClientID MUST be a UTF-8 Encoded String" [MQTT-3.1.3-4]; "If the
		// Server rejects the ClientID it MAY respond ... 0x85" [MQTT-3.1.3-8]
		if version != V5 {
			return malformed("client identifier is not a UTF-8 string")
		}
		return &Error{ClientIDNotValid, "client identifier is not a UTF-8 string"}
	}
	c.ClientID = string(id)
	if f&flagWill != 0 {
		c.will(&r, f)
	}
	if f&flagUser != 0 {
		c.HasUser = true
		c.User = r.string("user name")
	}
	if f&flagPassword != 0 {
		c.HasPassword = true
		c.Password = r.bytes("password")
	}
	return r.done(CONNECT)
}

func (c *Connect) will(r *reader, f byte) {
	w := &Will{QoS: f >> 3 & 3, Retain: f&flagRetain != 0}
	if c.Version == V5 {
		head := *r
		r.properties(will, &w.Properties)
		n := head.length("")
		if r.err == nil {
			w.RawProperties = bytes.Clone(head.p[:n])
		}
		if t := w.Properties.Text(ResponseTopic); r.err == nil && w.Properties.Has(ResponseTopic) && !ValidTopic([]byte(t)) {
			r.fail(protocol("response topic with a wildcard"))
		}
	}
	t := r.string("will topic")
	if r.err == nil && !ValidTopic([]byte(t)) {
		r.fail(malformed("will topic is empty or has a wildcard"))
	}
	w.Topic = t
	w.Payload = r.bytes("will payload")
	c.Will = w
}

// Append appends the packet.
func (c *Connect) Append(b []byte) []byte {
	b = append(b, byte(CONNECT)<<4)
	at := len(b)
	name := "MQTT"
	if c.Version == V31 {
		name = "MQIsdp"
	}
	b = appendString(b, name)
	var f byte
	if c.CleanStart {
		f |= flagClean
	}
	if w := c.Will; w != nil {
		f |= flagWill | w.QoS<<3
		if w.Retain {
			f |= flagRetain
		}
	}
	if c.HasUser {
		f |= flagUser
	}
	if c.HasPassword {
		f |= flagPassword
	}
	v := byte(c.Version)
	if c.Bridge && c.Version != V5 {
		v |= 0x80
	}
	b = append(b, v, f)
	b = binary.BigEndian.AppendUint16(b, c.KeepAlive)
	if c.Version == V5 {
		b = c.Properties.append(b)
	}
	b = appendString(b, c.ClientID)
	if w := c.Will; w != nil {
		if c.Version == V5 {
			b = w.Properties.append(b)
		}
		b = appendString(b, w.Topic)
		b = appendBytes(b, w.Payload)
	}
	if c.HasUser {
		b = appendString(b, c.User)
	}
	if c.HasPassword {
		b = appendBytes(b, c.Password)
	}
	return closeLen(b, at)
}

// Connack is CONNACK, section 3.2. In 3.1.1 Code holds a Code3.
type Connack struct {
	SessionPresent bool
	Code           Code
	Properties     Properties
}

// Decode reads the body of a CONNACK.
func (c *Connack) Decode(v Version, first byte, body []byte) error {
	*c = Connack{}
	if err := flags(first, 0); err != nil {
		return err
	}
	r := reader{p: body}
	f := r.byte("acknowledge flags")
	c.Code = Code(r.byte("reason code"))
	if r.err != nil {
		return r.err
	}
	if f > 1 { // "Bits 7-1 are reserved and MUST be set to 0" [MQTT-3.2.2-1]
		return malformed("reserved acknowledge flag is set")
	}
	c.SessionPresent = f == 1
	if v == V5 {
		if !c.Code.valid(CONNACK) {
			return malformed("reason code of CONNACK")
		}
		r.properties(CONNACK, &c.Properties)
	}
	return r.done(CONNACK)
}

// Append appends the packet.
func (c *Connack) Append(b []byte, v Version) []byte {
	b = append(b, byte(CONNACK)<<4)
	at := len(b)
	var f byte
	if c.SessionPresent {
		f = 1
	}
	b = append(b, f, byte(c.Code))
	if v == V5 {
		b = c.Properties.append(b)
	}
	return closeLen(b, at)
}
