package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Centrifuge is the protocol of Centrifugo and of its library, in Protocol
// Buffers over WebSocket (github.com/centrifugal/protocol, client.proto):
// enough of it to load a server that lets anybody in.
type Centrifuge struct{}

// Name is "centrifuge".
func (Centrifuge) Name() string { return "centrifuge" }

// Acked is always so: each publish gets a reply.
func (Centrifuge) Acked(*Options) bool { return true }

// Target is a channel.
func (Centrifuge) Target(o *Options, lane int) string { return fmt.Sprintf("bench%d-%d", runID, lane) }

// fields of client.proto as tags of Protocol Buffers: number << 3 | wire type.
const (
	cfID        = 1 << 3   // Command and Reply; a number
	cfError     = 2<<3 | 2 // Reply
	cfPush      = 4<<3 | 2
	cfConnect   = 4<<3 | 2 // Command
	cfSubscribe = 5<<3 | 2
	cfPublish   = 7<<3 | 2
	cfPublished = 8<<3 | 2 // Reply
	cfPub       = 4<<3 | 2 // Push
	cfPubData   = 4<<3 | 2 // Publication
	cfChannel   = 1<<3 | 2 // SubscribeRequest, PublishRequest
	cfData      = 2<<3 | 2 // PublishRequest
)

// cfConn is one connection.
type cfConn struct {
	stream
	id  uint64 // of the last command
	buf []byte // the sender's
	req []byte
}

// Dial connects and waits for the reply.
func (Centrifuge) Dial(ctx context.Context, o *Options, s Seat) (Conn, error) {
	nc, err := dial(ctx, o.Target, "centrifuge-protobuf", s.Role)
	if err != nil {
		return nil, err
	}
	c := &cfConn{stream: newStream(nc, s.Role)}
	if err := c.ask(cfConnect, nil); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

func pbBytes[B string | []byte](b []byte, tag byte, v B) []byte {
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

// command appends one with its length in front.
func (c *cfConn) command(b []byte, kind byte, request []byte) []byte {
	c.id++
	n := 1 + uvarintLen(c.id) + 1 + uvarintLen(uint64(len(request))) + len(request)
	b = binary.AppendUvarint(b, uint64(n))
	b = binary.AppendUvarint(append(b, cfID), c.id)
	return pbBytes(b, kind, request)
}

func uvarintLen(v uint64) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], v)
}

// ask sends a command and waits for its reply.
func (c *cfConn) ask(kind byte, request []byte) error {
	if _, err := c.nc.Write(c.command(nil, kind, request)); err != nil {
		return err
	}
	b := make([]byte, 0, 1024)
	for {
		n, err := c.nc.Read(b[len(b):cap(b)])
		if err != nil {
			return err
		}
		b = b[:len(b)+n]
		reply, rest, err := pbNext(b)
		if err != nil {
			return err
		}
		if reply == nil {
			continue
		}
		c.in = append(c.in, rest...)
		return eachField(reply, func(tag byte, v []byte) error {
			if tag == cfError {
				return fmt.Errorf("server answered error %q", v)
			}
			return nil
		})
	}
}

// Subscribe waits for the reply.
func (c *cfConn) Subscribe(name string) error {
	return c.ask(cfSubscribe, pbBytes(nil, cfChannel, name))
}

// Send buffers a publish.
func (c *cfConn) Send(name string, payload []byte) error {
	c.req = pbBytes(c.req[:0], cfChannel, name)
	c.req = pbBytes(c.req, cfData, payload)
	c.buf = c.command(c.buf[:0], cfPublish, c.req)
	return c.write(c.buf)
}

// Receive reads once and takes every whole reply of it.
func (c *cfConn) Receive(got func([]byte), acked func(int)) error {
	rest, err := c.read()
	if err != nil {
		return err
	}
	var pong []byte
	done := 0
	for {
		var reply []byte
		if reply, rest, err = pbNext(rest); err != nil {
			return err
		}
		if reply == nil {
			break
		}
		if len(reply) == 0 { // a ping is an empty reply, a pong an empty command
			pong = append(pong, 0)
			continue
		}
		err := eachField(reply, func(tag byte, v []byte) error {
			switch tag {
			case cfPush:
				return eachField(v, func(tag byte, v []byte) error {
					if tag != cfPub {
						return nil
					}
					return eachField(v, func(tag byte, v []byte) error {
						if tag == cfPubData {
							got(v)
						}
						return nil
					})
				})
			case cfPublished:
				done++
			case cfError:
				return fmt.Errorf("server answered error %q", v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	c.keep(rest)
	if done > 0 {
		acked(done)
	}
	return c.answer(pong)
}

// Close closes.
func (c *cfConn) Close() error { return c.nc.Close() }

var errProtobuf = errors.New("centrifuge: malformed message")

// pbNext takes one message with its length in front off b: nil if it is not whole.
func pbNext(b []byte) (m, rest []byte, err error) {
	n, h := binary.Uvarint(b)
	if h < 0 {
		return nil, b, errProtobuf
	}
	if h == 0 || uint64(len(b)-h) < n {
		return nil, b, nil
	}
	return b[h : h+int(n) : h+int(n)], b[h+int(n):], nil
}

// eachField calls f for the fields of a message; v is nil for numbers.
func eachField(b []byte, f func(tag byte, v []byte) error) error {
	for len(b) > 0 {
		tag, h := binary.Uvarint(b)
		if h <= 0 {
			return errProtobuf
		}
		b = b[h:]
		n, h := binary.Uvarint(b)
		if h <= 0 {
			return errProtobuf
		}
		b = b[h:]
		var v []byte
		switch tag & 7 {
		case 0:
		case 2:
			if uint64(len(b)) < n {
				return errProtobuf
			}
			v, b = b[:n:n], b[n:]
		default:
			return errProtobuf
		}
		if tag < 0x80 {
			if err := f(byte(tag), v); err != nil {
				return err
			}
		}
	}
	return nil
}
