package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// session is one connection.
type session struct {
	mb   *mailbox
	nc   net.Conn
	in   []byte        // read and not yet decoded; the reader's
	idle time.Duration // the keep alive in force
	room uint16        // the server's receive maximum

	mu       sync.Mutex       // held while writing, by this client's own goroutines only
	waiting  map[uint16]*send // published and not answered; guarded by mu
	sent     map[*send]bool   // guarded by mu
	id       uint16           // the last packet identifier used; guarded by mu
	leaving  bool             // guarded by mu
	lastRead time.Time        // guarded by mu
	failed   error            // of a write; guarded by mu
}

// connect dials, logs in and subscribes.
func (mb *mailbox) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var nc net.Conn
	var err error
	if mb.o.TLS != nil {
		nc, err = (&tls.Dialer{Config: mb.o.TLS}).DialContext(ctx, "tcp", mb.o.Addr)
	} else {
		nc, err = (&net.Dialer{}).DialContext(ctx, "tcp", mb.o.Addr)
	}
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	s := &session{mb: mb, nc: nc, waiting: map[uint16]*send{}, sent: map[*send]bool{}}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	err = s.login()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) login() error {
	o := &s.mb.o
	c := packet.Connect{Version: packet.V5, CleanStart: true, KeepAlive: uint16(keepAlive / time.Second), ClientID: o.Device,
		User: o.User, HasUser: o.User != "", Password: []byte(o.Password), HasPassword: o.Password != ""}
	c.Properties.SetNum(packet.ReceiveMaximum, window)
	c.Properties.SetNum(packet.MaximumPacketSize, maxPacket)
	if _, err := s.nc.Write(c.Append(nil)); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	first, body, err := s.next()
	if err != nil {
		return err
	}
	var ack packet.Connack
	if packet.Type(first>>4) != packet.CONNACK {
		return unexpected(first)
	}
	if err := ack.Decode(packet.V5, first, body); err != nil {
		return err
	}
	if ack.Code.Failed() {
		return refused(ack.Code, &ack.Properties)
	}
	s.idle = time.Duration(ack.Properties.Num(packet.ServerKeepAlive, uint32(keepAlive/time.Second))) * time.Second
	s.room = uint16(ack.Properties.Num(packet.ReceiveMaximum, 65535))
	sub := packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "im/inbox/#", Options: 1}, {Topic: "im/sent/#", Options: 1}}}
	if _, err := s.nc.Write(sub.Append(nil, packet.V5)); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	// "The Server is permitted to start sending PUBLISH packets matching the
	// Subscription before the Server sends the SUBACK" MQTT 5.0 section 3.8.4:
	// the SUBACK is therefore read by run. Packet identifier 1 stays its own.
	s.id = 1
	s.lastRead = time.Now()
	return nil
}

// next reads one packet.
func (s *session) next() (first byte, body []byte, err error) {
	for {
		first, body, n, err := packet.Split(s.in, maxPacket)
		if err != nil {
			return 0, nil, err
		}
		if n > 0 {
			s.in = s.in[n:]
			return first, body, nil
		}
		if cap(s.in)-len(s.in) < 4096 {
			b := make([]byte, len(s.in), max(64<<10, 2*len(s.in)))
			copy(b, s.in)
			s.in = b
		}
		k, err := s.nc.Read(s.in[len(s.in):cap(s.in)])
		s.in = s.in[:len(s.in)+k]
		if k == 0 && err != nil {
			return 0, nil, fmt.Errorf("mqtt: %w", err)
		}
		s.mu.Lock()
		s.lastRead = time.Now()
		s.mu.Unlock()
	}
}

// run reads until the connection ends, closes it and leaves nothing running.
func (s *session) run() error {
	done := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() { s.beat(done) }) // ends with done
	err := s.read()
	close(done)
	s.nc.Close()
	beat.Wait()
	return err
}

// beat sends a PINGREQ at each keep alive and closes the connection when the
// server has been silent for longer than it may.
func (s *session) beat(done <-chan struct{}) {
	if s.idle == 0 {
		return
	}
	tick := time.NewTicker(s.idle)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		silent := time.Since(s.lastRead)
		s.writeLocked(packet.AppendEmpty(nil, packet.PINGREQ))
		s.mu.Unlock()
		if silent > s.idle+answerTime {
			s.nc.Close()
		}
	}
}

func (s *session) read() error {
	for {
		first, body, err := s.next()
		if err != nil {
			return err
		}
		switch t := packet.Type(first >> 4); t {
		case packet.PUBLISH:
			var p packet.Publish
			if err := p.Decode(packet.V5, first, body); err != nil {
				return err
			}
			s.mb.arrive(s, message(&p), p.ID)
		case packet.PUBACK:
			var a packet.Ack
			if err := a.Decode(packet.V5, first, body); err != nil {
				return err
			}
			s.answered(&a)
		case packet.SUBACK:
			var a packet.Suback
			if err := a.Decode(packet.V5, first, body); err != nil {
				return err
			}
			for _, c := range a.Codes {
				if c.Failed() {
					return refused(c, &a.Properties)
				}
			}
		case packet.DISCONNECT:
			var d packet.Disconnect
			if err := d.Decode(packet.V5, first, body); err != nil {
				return err
			}
			return refused(d.Code, &d.Properties)
		case packet.PINGRESP:
		default:
			return unexpected(first)
		}
	}
}

// push publishes what waits and was not published on this connection.
func (s *session) push() {
	s.mb.mu.Lock()
	sends := append([]*send(nil), s.mb.sends...)
	s.mb.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for _, w := range sends {
		if s.sent[w] {
			continue
		}
		// "The Client MUST NOT send more than Receive Maximum QoS 1 and QoS 2
		// PUBLISH packets for which it has not received PUBACK" [MQTT-3.3.4-7]
		if len(s.waiting) >= int(s.room) {
			break
		}
		for {
			if s.id++; s.id > 1 && s.waiting[s.id] == nil {
				break
			}
		}
		w.p.ID = s.id
		s.waiting[s.id], s.sent[w] = w, true
		b = w.p.Append(b, packet.V5)
	}
	s.writeLocked(b)
}

// answered takes a PUBACK.
func (s *session) answered(a *packet.Ack) {
	s.mu.Lock()
	w := s.waiting[a.ID]
	delete(s.waiting, a.ID)
	delete(s.sent, w)
	s.mu.Unlock()
	if w == nil {
		return
	}
	if a.Code.Failed() {
		w.err = refused(a.Code, a.Properties)
	}
	mb := s.mb
	mb.mu.Lock()
	for i, o := range mb.sends {
		if o == w {
			mb.sends = append(mb.sends[:i:i], mb.sends[i+1:]...)
			break
		}
	}
	more := len(mb.sends) > 0
	mb.mu.Unlock()
	close(w.done)
	if more {
		s.push()
	}
}

func (s *session) puback(ids []uint16) {
	var b []byte
	for _, id := range ids {
		b = packet.AppendAck(b, packet.V5, packet.PUBACK, id, packet.Success, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeLocked(b)
}

// writeLocked writes b; the reader notices when that fails.
func (s *session) writeLocked(b []byte) {
	if len(b) == 0 || s.failed != nil || s.leaving {
		return
	}
	s.nc.SetWriteDeadline(time.Now().Add(answerTime))
	if _, s.failed = s.nc.Write(b); s.failed != nil {
		s.nc.Close()
	}
}

// goodbye says DISCONNECT. The server hangs up when it has taken all that was
// written before; who comes back as this device after Close finds it so.
func (s *session) goodbye() {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := packet.Disconnect{}
	s.writeLocked(d.Append(nil, packet.V5))
	s.leaving = true
	s.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
}

// publish makes the packet of a draft, and its id if it has none.
func publish(d *client.Draft) packet.Publish {
	if d.ID == "" {
		d.ID = rand.Text()
	}
	ps := new(packet.Properties)
	if d.Type != "" {
		ps.SetText(packet.ContentType, d.Type)
	}
	if d.Expires > 0 {
		ps.SetNum(packet.MessageExpiry, uint32((d.Expires+time.Second-1)/time.Second))
	}
	ps.User = append(ps.User, packet.Pair{Name: "id", Value: d.ID})
	if d.Urgency != "" {
		ps.User = append(ps.User, packet.Pair{Name: "urgency", Value: d.Urgency})
	}
	return packet.Publish{Topic: []byte("im/to/" + d.To), Payload: d.Body, QoS: 1, Properties: ps}
}

// message reads a PUBLISH of im/inbox/… or im/sent/….
func message(p *packet.Publish) client.Message {
	m := client.Message{Body: append([]byte(nil), p.Payload...)}
	topic := string(p.Topic)
	if from, ok := strings.CutPrefix(topic, "im/inbox/"); ok {
		m.From = from
	} else if to, ok := strings.CutPrefix(topic, "im/sent/"); ok {
		m.To = to
	}
	if p.Properties == nil {
		return m
	}
	m.Type = p.Properties.Text(packet.ContentType)
	for _, u := range p.Properties.User {
		switch u.Name {
		case "id":
			m.ID = u.Value
		case "from":
			m.From = u.Value
		case "to":
			m.To = u.Value
		case "device":
			m.Device = u.Value
		case "seq":
			m.Seq, _ = strconv.ParseUint(u.Value, 10, 64) // zero: not told
		case "prev":
			m.Prev, _ = strconv.ParseUint(u.Value, 10, 64)
		case "time":
			m.Time, _ = time.Parse(time.RFC3339, u.Value)
		}
	}
	return m
}
