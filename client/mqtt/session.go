package mqtt

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// session is one connection.
type session struct {
	nc     net.Conn
	r      *bufio.Reader
	alive  time.Duration // how often to speak
	max    int           // the greatest packet that the server takes; zero is any
	window int           // the server's receive maximum
	pongs  chan struct{}
}

// connect connects, logs in and subscribes.
func (mb *Mailbox) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	nc, err := mb.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Now()) })
	s, err := mb.login(nc)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	return s, nil
}

func (mb *Mailbox) login(nc net.Conn) (*session, error) {
	o := mb.o
	// The cursor is the device's and needs no session: a clean start.
	c := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: o.Device, KeepAlive: uint16(keepAlive / time.Second)}
	c.Properties.SetNum(packet.ReceiveMaximum, Window)
	if o.User != "" {
		c.User, c.HasUser = o.User, true
	}
	if pw := o.Password + o.Token; pw != "" {
		c.Password, c.HasPassword = []byte(pw), true
	}
	if _, err := nc.Write(c.Append(nil)); err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	s := &session{nc: nc, r: bufio.NewReader(nc), alive: keepAlive, pongs: make(chan struct{}, 1)}
	first, body, err := readPacket(s.r)
	if err != nil {
		return nil, fmt.Errorf("mqtt: connect: %w", err)
	}
	var a packet.Connack
	if packet.Type(first>>4) != packet.CONNACK {
		return nil, fmt.Errorf("mqtt: %s instead of CONNACK", packet.Type(first>>4))
	}
	if err := a.Decode(packet.V5, first, body); err != nil {
		return nil, err
	}
	if a.Code.Failed() {
		return nil, refusal(a.Code, a.Properties.Text(packet.ReasonString))
	}
	if k := a.Properties.Num(packet.ServerKeepAlive, 0); k > 0 {
		s.alive = time.Duration(k) * time.Second
	}
	s.max = int(a.Properties.Num(packet.MaximumPacketSize, 0))
	s.window = int(a.Properties.Num(packet.ReceiveMaximum, 65535))
	sub := packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "im/inbox/#", Options: 1}, {Topic: "im/sent/#", Options: 1}}}
	if _, err := nc.Write(sub.Append(nil, packet.V5)); err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	return s, nil
}

// refusal is the server's no, unless it may be another answer later.
func refusal(code packet.Code, text string) error {
	switch code {
	case packet.ServerBusy, packet.ServerUnavailable, packet.ServerShuttingDown, packet.KeepAliveTimeout,
		packet.ConnectionRateExceeded, packet.UnspecifiedError, packet.QuotaExceeded, packet.MessageRateTooHigh:
		return fmt.Errorf("mqtt: %s %s", code, text)
	}
	return &client.Refused{Code: code.String(), Text: text}
}

// readPacket reads one packet; its body belongs to the caller.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	head := make([]byte, 0, 5)
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		head = append(head, b)
		// A packet of that length and nothing in it tells how long it is.
		if len(head) >= 2 && b < 0x80 {
			break
		}
		if len(head) == 5 {
			return 0, nil, errors.New("mqtt: malformed remaining length")
		}
	}
	n := 0
	for i, b := range head[1:] {
		n |= int(b&0x7f) << (7 * i)
	}
	body = make([]byte, 0, min(n, 64<<10)) // not more than what is there
	for len(body) < n {
		chunk := min(n-len(body), max(64<<10, len(body)))
		at := len(body)
		body = append(body, make([]byte, chunk)...)
		if _, err := io.ReadFull(r, body[at:]); err != nil {
			return 0, nil, err
		}
	}
	return head[0], body, nil
}

// serve runs a connection to its end.
func (mb *Mailbox) serve(ctx context.Context, s *session) error {
	mb.mu.Lock()
	mb.written, mb.unacked, mb.quota = 0, nil, s.window
	mb.mu.Unlock()
	ring(mb.work)
	read := make(chan error, 1)
	go func() { read <- mb.read(s) }() // ends when nc is closed, below
	err := mb.write(ctx, s, read)
	s.nc.Close()
	if err == nil {
		err = <-read
	}
	return err
}

// read takes packets until the connection ends.
func (mb *Mailbox) read(s *session) error {
	for {
		first, body, err := readPacket(s.r)
		if err != nil {
			return fmt.Errorf("mqtt: %w", err)
		}
		switch t := packet.Type(first >> 4); t {
		case packet.PUBLISH:
			var p packet.Publish
			if err := p.Decode(packet.V5, first, body); err != nil {
				return err
			}
			mb.receive(&p)
		case packet.PUBACK:
			var a packet.Ack
			if err := a.Decode(packet.V5, first, body); err != nil {
				return err
			}
			mb.answered(&a)
		case packet.PINGRESP:
			ring(s.pongs)
		case packet.SUBACK:
			var a packet.Suback
			if err := a.Decode(packet.V5, first, body); err != nil {
				return err
			}
			for _, c := range a.Codes {
				if c.Failed() {
					return refusal(c, "the mailbox cannot be subscribed to")
				}
			}
		case packet.DISCONNECT:
			var d packet.Disconnect
			if err := d.Decode(packet.V5, first, body); err != nil {
				return err
			}
			return refusal(d.Code, d.Properties.Text(packet.ReasonString))
		default:
			return fmt.Errorf("mqtt: unexpected %s", t)
		}
	}
}

// receive takes a message.
func (mb *Mailbox) receive(p *packet.Publish) {
	m := client.Message{Body: p.Payload}
	if ps := p.Properties; ps != nil {
		get := func(name string) string { v, _ := ps.Get(name); return v }
		m.Seq, _ = strconv.ParseUint(get("seq"), 10, 64)
		m.Prev, _ = strconv.ParseUint(get("prev"), 10, 64)
		m.ID, m.From, m.To, m.Device = get("id"), get("from"), get("to"), get("device")
		m.Time, _ = time.Parse(time.RFC3339Nano, get("time"))
		m.Type, m.Urgency = ps.Text(packet.ContentType), cmp.Or(get("urgency"), "normal")
		if ps.Has(packet.MessageExpiry) { // what is left of it, in seconds
			m.Expires = time.Now().Add(time.Duration(ps.Num(packet.MessageExpiry, 0)) * time.Second).UTC()
		}
		m.Attrs = attrsOf(ps)
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if p.QoS > 0 {
		mb.unacked = append(mb.unacked, place{m.Seq, p.ID})
	}
	if m.Seq <= mb.got {
		ring(mb.work) // it was given to the program before; perhaps acknowledged
		return
	}
	mb.got = m.Seq
	mb.inbox.Put(m)
}

// answered is PUBACK for a message that was sent.
func (mb *Mailbox) answered(a *packet.Ack) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	for i, s := range mb.queue[:mb.written] {
		if s.packet != a.ID {
			continue
		}
		mb.queue = append(mb.queue[:i:i], mb.queue[i+1:]...)
		mb.written--
		mb.quota++
		if a.Code.Failed() {
			text := ""
			if a.Properties != nil {
				text = a.Properties.Text(packet.ReasonString)
			}
			s.err = &client.Refused{Code: a.Code.String(), Text: text}
		}
		close(s.done)
		ring(mb.work)
		return
	}
}

// write writes what there is until the connection ends. Nil says that the
// reader knows why.
func (mb *Mailbox) write(ctx context.Context, s *session, read chan error) error {
	ping := time.NewTimer(s.alive)
	defer ping.Stop()
	pong := time.NewTimer(0)
	<-pong.C
	defer pong.Stop()
	waiting := false
	var buf []byte
	for {
		buf = mb.collect(buf[:0], s)
		if len(buf) > 0 {
			s.nc.SetWriteDeadline(time.Now().Add(connectTime))
			if _, err := s.nc.Write(buf); err != nil {
				return fmt.Errorf("mqtt: %w", err)
			}
			ping.Reset(s.alive)
			continue
		}
		select {
		case <-mb.work:
		case err := <-read:
			return err
		case <-ping.C:
			s.nc.SetWriteDeadline(time.Now().Add(answerTime))
			if _, err := s.nc.Write(packet.AppendEmpty(nil, packet.PINGREQ)); err != nil {
				return fmt.Errorf("mqtt: %w", err)
			}
			ping.Reset(s.alive)
			if !waiting {
				waiting = true
				pong.Reset(answerTime)
			}
		case <-s.pongs:
			waiting = false
			pong.Stop()
		case <-pong.C:
			return errors.New("mqtt: no answer to PINGREQ")
		case <-ctx.Done():
			s.nc.SetWriteDeadline(time.Now().Add(goodbyeTime))
			buf = mb.collect(buf[:0], s)
			buf = (&packet.Disconnect{}).Append(buf, packet.V5)
			s.nc.Write(buf)
			// The server closes when it has read all of that. Without waiting
			// the next connection of this device might be there before.
			s.nc.SetReadDeadline(time.Now().Add(goodbyeTime))
			<-read
			return client.ErrClosed
		}
	}
}

const chunk = 64 << 10 // written at once, or one message

// collect appends what is to be written: acknowledgements, then messages.
func (mb *Mailbox) collect(b []byte, s *session) []byte {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	n := 0
	for n < len(mb.unacked) && mb.unacked[n].seq <= mb.acked {
		b = packet.AppendAck(b, packet.V5, packet.PUBACK, mb.unacked[n].id, packet.Success, "")
		n++
	}
	mb.unacked = mb.unacked[n:]
	for mb.written < len(mb.queue) && mb.quota > 0 && len(b) < chunk && !mb.leaving {
		d := mb.queue[mb.written]
		mb.nextID = max(1, mb.nextID+1)
		for mb.busyLocked(mb.nextID) {
			mb.nextID = max(1, mb.nextID+1)
		}
		d.packet = mb.nextID
		at := len(b)
		b = d.append(b)
		if s.max > 0 && len(b)-at > s.max {
			b = b[:at]
			d.err = &client.Refused{Code: packet.PacketTooLarge.String(), Text: "message too large"}
			close(d.done)
			mb.queue = append(mb.queue[:mb.written:mb.written], mb.queue[mb.written+1:]...)
			continue
		}
		mb.written++
		mb.quota--
	}
	return b
}

func (mb *Mailbox) busyLocked(id uint16) bool {
	for _, s := range mb.queue[:mb.written] {
		if s.packet == id {
			return true
		}
	}
	return false
}

// append appends the PUBLISH of d.
func (d *sending) append(b []byte) []byte {
	var ps packet.Properties
	if d.Type != "" {
		ps.SetText(packet.ContentType, d.Type)
	}
	if d.Expires > 0 {
		ps.SetNum(packet.MessageExpiry, uint32(min(int64((d.Expires+time.Second-1)/time.Second), 1<<32-1)))
	}
	ps.User = append(ps.User, packet.Pair{Name: "id", Value: d.ID})
	if d.Urgency != "" {
		ps.User = append(ps.User, packet.Pair{Name: "urgency", Value: d.Urgency})
	}
	setAttrs(&ps, d.Attrs)
	p := packet.Publish{Topic: []byte("im/to/" + d.To), ID: d.packet, QoS: 1, Properties: &ps, Payload: d.Body}
	return p.Append(b, packet.V5)
}
