package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// MQTT is MQTT 3.1.1: enough of it to load a server, and no
// more, so that the generator costs little beside what it measures.
type MQTT struct{}

// Name is "mqtt".
func (MQTT) Name() string { return "mqtt" }

// Acked reports whether publishers get a PUBACK or PUBCOMP.
func (MQTT) Acked(o *Options) bool { return o.QoS > 0 }

// mqttConn is one connection.
type mqttConn struct {
	stream
	qos    byte
	packet uint16 // last packet id of a publish; the sender's
	head   []byte // fixed header and topic of name; the sender's
	name   string
	buf    []byte // the sender's

	acks []byte // answers of one round; the receiver's
}

// packet types, shifted into place (MQTT 3.1.1 section 2.2.1).
const (
	mqttConnect   = 0x10
	mqttConnack   = 0x20
	mqttPublish   = 0x30
	mqttPuback    = 0x40
	mqttPubrec    = 0x50
	mqttPubrel    = 0x62
	mqttPubcomp   = 0x70
	mqttSubscribe = 0x82
	mqttSuback    = 0x90
)

func mqttString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func mqttHead(b []byte, kind byte, n int) []byte {
	b = append(b, kind)
	return binary.AppendUvarint(b, uint64(n)) // the same code as MQTT's remaining length
}

// runID tells topics and client ids of this process from those of others.
var runID = time.Now().UnixNano() % 1e12

// Target is a topic.
func (MQTT) Target(o *Options, lane int) string { return fmt.Sprintf("bench/%d/%d", runID, lane) }

// Dial connects and waits for the CONNACK.
func (MQTT) Dial(ctx context.Context, o *Options, s Seat) (Conn, error) {
	nc, err := dial(ctx, o.Target, "mqtt", s.Role)
	if err != nil {
		return nil, err
	}
	c := &mqttConn{stream: newStream(nc, s.Role), qos: byte(o.QoS)}
	flags := byte(0x02) // clean session
	if s.Role == Away {
		flags = 0
	}
	if o.User != "" {
		flags |= 0xc0
	}
	var body []byte
	body = mqttString(body, "MQTT")
	body = append(body, 4, flags, 0, 0)
	body = mqttString(body, fmt.Sprintf("bench-%d-%d", runID, s.Number))
	if o.User != "" {
		body = mqttString(body, o.account(s.Number))
		body = mqttString(body, o.Password)
	}
	if err := c.ask(append(mqttHead(nil, mqttConnect, len(body)), body...), mqttConnack); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// ask writes a packet and reads the small one that answers it, with the last
// byte as its return code.
func (c *mqttConn) ask(p []byte, kind byte) error {
	if _, err := c.nc.Write(p); err != nil {
		return err
	}
	c.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	defer c.nc.SetReadDeadline(time.Time{})
	var b [2]byte
	if _, err := io.ReadFull(c.nc, b[:]); err != nil {
		return err
	}
	rest := make([]byte, b[1])
	if _, err := io.ReadFull(c.nc, rest); err != nil {
		return err
	}
	if b[0] != kind || len(rest) == 0 || rest[len(rest)-1] > 2 {
		return fmt.Errorf("server answered % x % x", b, rest)
	}
	if kind == mqttConnack && rest[1] != 0 {
		return fmt.Errorf("server refused the connection: return code %d", rest[1])
	}
	return nil
}

// Subscribe waits for the SUBACK.
func (c *mqttConn) Subscribe(name string) error {
	body := mqttString([]byte{0, 1}, name)
	body = append(body, c.qos)
	return c.ask(append(mqttHead(nil, mqttSubscribe, len(body)), body...), mqttSuback)
}

// Send buffers a PUBLISH.
func (c *mqttConn) Send(name string, payload []byte) error {
	if c.name != name {
		n := 2 + len(name) + len(payload)
		if c.qos > 0 {
			n += 2
		}
		c.name, c.head = name, mqttString(mqttHead(nil, mqttPublish|c.qos<<1, n), name)
	}
	c.buf = append(c.buf[:0], c.head...)
	if c.qos > 0 {
		if c.packet++; c.packet == 0 {
			c.packet = 1
		}
		c.buf = binary.BigEndian.AppendUint16(c.buf, c.packet)
	}
	c.buf = append(c.buf, payload...)
	return c.write(c.buf)
}

// Receive reads once and takes every whole packet of it.
func (c *mqttConn) Receive(got func([]byte), acked func(int)) error {
	rest, err := c.read()
	if err != nil {
		return err
	}
	c.acks = c.acks[:0]
	done := 0
	for len(rest) >= 2 {
		n, h := binary.Uvarint(rest[1:])
		if h < 0 {
			return errors.New("mqtt: remaining length is malformed")
		}
		if h == 0 || len(rest) < 1+h+int(n) {
			break
		}
		k, err := c.take(rest[0], rest[1+h:1+h+int(n)], got)
		if err != nil {
			return err
		}
		done += k
		rest = rest[1+h+int(n):]
	}
	c.keep(rest)
	if done > 0 {
		acked(done)
	}
	return c.answer(c.acks)
}

// take handles one packet and reports how many of our messages it completes.
func (c *mqttConn) take(head byte, p []byte, got func([]byte)) (int, error) {
	switch head & 0xf0 {
	case mqttPublish:
		if len(p) < 2 {
			return 0, errors.New("mqtt: PUBLISH is too short")
		}
		at := 2 + int(binary.BigEndian.Uint16(p))
		if qos := head >> 1 & 3; qos > 0 {
			kind := byte(mqttPuback)
			if qos == 2 {
				kind = mqttPubrec
			}
			if len(p) < at+2 {
				return 0, errors.New("mqtt: PUBLISH is too short")
			}
			c.acks = append(c.acks, kind, 2, p[at], p[at+1])
			at += 2
		}
		got(p[at:])
	case mqttPuback, mqttPubcomp:
		return 1, nil
	case mqttPubrec:
		if len(p) < 2 {
			return 0, errors.New("mqtt: PUBREC is too short")
		}
		c.acks = append(c.acks, mqttPubrel, 2, p[0], p[1])
	case mqttPubrel & 0xf0:
		if len(p) < 2 {
			return 0, errors.New("mqtt: PUBREL is too short")
		}
		c.acks = append(c.acks, mqttPubcomp, 2, p[0], p[1])
	}
	return 0, nil
}

// Close says DISCONNECT, if the server takes it, and closes.
func (c *mqttConn) Close() error {
	c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	return errors.Join(c.answer([]byte{0xe0, 0}), c.nc.Close())
}
