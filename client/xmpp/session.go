package xmpp

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// session is one connection that is bound.
type session struct {
	mb     *Mailbox
	nc     net.Conn
	domain string
	me     address.Address
	limit  int // of a stanza in bytes; zero if not told

	scan stream.Scanner
	buf  []byte // read and not looked at
	unit []byte // what next returned last

	// Guarded by Mailbox.mu.
	sent  uint32 // stanzas sent since stream management began
	in    uint32 // stanzas received since then
	h     uint32 // what of them was acknowledged
	seqs  []place
	wbuf  []byte // to be written
	leave bool

	wrote chan struct{} // bell: there is something in wbuf
	ended chan struct{} // closed when reading has ended
	mu    sync.Mutex    // one writer at a time
}

// place is a message received and not acknowledged.
type place struct {
	num uint32
	seq uint64
}

func (s *session) write(p string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nc.SetWriteDeadline(time.Now().Add(deadline))
	_, err := io.WriteString(s.nc, p)
	return err
}

// next reads the next first-level element. It is valid until the next call.
func (s *session) next() (stream.Element, error) {
	for {
		for len(s.buf) > 0 {
			k, n, err := s.scan.Next(s.buf)
			if err != nil {
				return stream.Element{}, err
			}
			if k == stream.More {
				break
			}
			s.unit = append(s.unit[:0], s.buf[:n]...)
			s.buf = s.buf[n:]
			switch k {
			case stream.Close:
				return stream.Element{}, io.EOF
			case stream.Stanza:
				e := stream.View(s.unit, stream.NSClient)
				if e.Is(stream.NSStreams, "error") {
					end := &Ended{Condition: string(e.First().Name())}
					for c := range e.Children() {
						if string(c.Name()) == "text" {
							end.Text = c.Text()
						}
					}
					return stream.Element{}, end
				}
				return e, nil
			}
		}
		chunk := make([]byte, 16<<10)
		n, err := s.nc.Read(chunk)
		s.buf = append(s.buf, chunk[:n]...)
		if n == 0 && err != nil {
			return stream.Element{}, err
		}
	}
}

// begin goes live: what was not answered is sent again, and presence asks for
// what waits.
func (s *session) begin() error {
	mb := s.mb
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.leaving {
		s.nc.Close()
		return client.ErrClosed
	}
	mb.live = s
	s.sent++
	s.queue([]byte("<presence/>"))
	for _, d := range mb.queue {
		s.send(d)
	}
	return nil
}

// queue has p written; mb.mu is held.
func (s *session) queue(p []byte) {
	s.wbuf = append(s.wbuf, p...)
	select {
	case s.wrote <- struct{}{}:
	default:
	}
}

// writer writes what is queued, until the session ends.
func (s *session) writer() {
	for {
		select {
		case <-s.wrote:
		case <-s.ended:
			return
		}
		s.mb.mu.Lock()
		p, leave := s.wbuf, s.leave
		s.wbuf = nil
		s.mb.mu.Unlock()
		if err := s.write(string(p)); err != nil {
			s.nc.Close() // the reader hears of it
			return
		}
		if leave {
			s.nc.SetReadDeadline(time.Now().Add(goodbyeTime))
		}
	}
}

// goodbye ends the stream in order: what was acknowledged goes out first.
func (s *session) goodbye() {
	s.mb.mu.Lock()
	s.leave = true
	s.queue([]byte("</stream:stream>"))
	s.mb.mu.Unlock()
	select {
	case <-s.ended:
	case <-time.After(goodbyeTime):
		s.nc.Close()
	}
}

// serve reads until the connection ends.
func (s *session) serve() error {
	var writing sync.WaitGroup
	writing.Go(s.writer) // ends with ended
	defer func() {
		close(s.ended)
		s.nc.Close()
		writing.Wait()
	}()
	for {
		e, err := s.next()
		if err != nil {
			return err
		}
		s.mb.mu.Lock()
		err = s.element(e)
		s.mb.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// element handles what the server says; mb.mu is held.
func (s *session) element(e stream.Element) error {
	switch {
	case e.Is(nsSM, "r"):
		s.answer()
	case e.Is(nsSM, "a"):
		h, err := strconv.ParseUint(e.Attr("h"), 10, 32)
		if err != nil {
			return errors.New("xmpp: a wrong acknowledgement")
		}
		s.answered(uint32(h))
	case string(e.NS()) == stream.NSClient:
		s.in++
		switch string(e.Name()) {
		case "message":
			s.message(e)
		case "iq":
			s.iq(e)
		}
		s.advance()
	}
	return nil
}

// iq answers the server's pings, and what it may ask otherwise.
func (s *session) iq(e stream.Element) {
	kind := e.Attr("type")
	if kind != "get" && kind != "set" {
		return
	}
	b := stream.AppendAttr([]byte("<iq"), "id", e.Attr("id"))
	if from := e.Attr("from"); from != "" {
		b = stream.AppendAttr(b, "to", from)
	}
	if _, ok := e.Child("urn:xmpp:ping", "ping"); ok {
		b = append(b, " type='result'/>"...)
	} else {
		b = append(b, " type='error'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"...)
	}
	s.sent++
	s.queue(b)
}

// send queues a draft; mb.mu is held.
func (s *session) send(d *sending) {
	b, err := s.encode(d.Draft)
	if err == nil && s.limit > 0 && len(b) > s.limit {
		err = &client.Refused{Code: "policy-violation", Text: fmt.Sprintf("%d bytes as a stanza, at most %d", len(b), s.limit)}
	}
	if err != nil {
		s.settle(d, err)
		return
	}
	s.sent++
	d.num = s.sent
	s.queue(append(b, "<r xmlns='"+nsSM+"'/>"...))
}

// settle tells the sender what became of a draft.
func (s *session) settle(d *sending, err error) {
	q := s.mb.queue
	for i, o := range q {
		if o == d {
			s.mb.queue = append(q[:i:i], q[i+1:]...)
			break
		}
	}
	d.done <- err
}

// answered takes the server's word for the first h stanzas.
func (s *session) answered(h uint32) {
	for len(s.mb.queue) > 0 {
		d := s.mb.queue[0]
		if d.num == 0 || int32(d.num-h) > 0 {
			return
		}
		s.settle(d, nil)
	}
}

// typeText is the media type of a draft that names none.
const typeText = "text/plain; charset=utf-8"

func isText(t string) bool {
	if t == "" || t == typeText {
		return true
	}
	m, p, err := mime.ParseMediaType(t)
	return err == nil && m == "text/plain" && (p["charset"] == "" || strings.EqualFold(p["charset"], "utf-8"))
}

func (s *session) encode(d client.Draft) ([]byte, error) {
	to := d.To
	if !strings.Contains(to, "@") {
		to += "@" + s.me.Domain
	}
	if !stream.Carries(to) || !stream.Carries(d.ID) || !stream.Carries(d.Type) {
		return nil, &client.Refused{Code: "bad-request", Text: "an address, id or type that XML cannot carry"}
	}
	b := []byte("<message type='chat'")
	b = stream.AppendAttr(b, "to", to)
	b = stream.AppendAttr(b, "id", d.ID)
	b = append(b, '>')
	if isText(d.Type) && stream.Carries(d.Body) {
		b = stream.AppendElement(b, "body", "", d.Body)
	} else {
		t := d.Type
		if t == "" {
			t = typeText
		}
		sum := sha1.Sum(d.Body)
		b = stream.AppendElement(b, "body", "", fmt.Sprintf("[%s, %d bytes]", t, len(d.Body)))
		b = append(b, "<data xmlns='"+nsBoB+"'"...)
		b = stream.AppendAttr(b, "cid", "sha1+"+hex.EncodeToString(sum[:])+"@bob.xmpp.org")
		b = stream.AppendAttr(b, "type", t)
		b = append(b, '>')
		b = base64.StdEncoding.AppendEncode(b, d.Body)
		b = append(b, "</data>"...)
	}
	if len(d.Attrs) > 0 {
		b = append(b, "<headers xmlns='"+nsSHIM+"'>"...)
		for _, a := range d.Attrs {
			if a.Name == "" || !stream.Carries(a.Name) || !stream.Carries(a.Value) {
				return nil, &client.Refused{Code: "bad-request", Text: "a property that XML cannot carry"}
			}
			b = append(stream.AppendAttr(append(b, "<header"...), "name", a.Name), '>')
			b = append(stream.AppendText(b, a.Value), "</header>"...)
		}
		b = append(b, "</headers>"...)
	}
	b = append(b, "<origin-id xmlns='"+nsSID+"'"...)
	b = stream.AppendAttr(b, "id", d.ID)
	return append(b, "/></message>"...), nil
}

// message takes a message from the server.
func (s *session) message(e stream.Element) {
	if e.Attr("type") == "error" {
		id := e.Attr("id")
		for _, d := range s.mb.queue {
			if d.ID == id && d.num != 0 {
				s.settle(d, refusal(e))
				return
			}
		}
		return
	}
	inner := e
	if c, ok := e.Child(nsCarbons, "sent"); ok && e.Attr("from") == s.me.Bare() {
		f, _ := c.Child(nsForward, "forwarded")
		if m, ok := f.Child(stream.NSClient, "message"); ok {
			inner = m
		}
	}
	seq := s.place(inner)
	if seq == 0 {
		return // not from the mailbox: a chat state for example
	}
	s.seqs = append(s.seqs, place{s.in, seq})
	if seq <= s.mb.got {
		return // had it on the connection before
	}
	m := client.Message{Seq: seq, Prev: s.mb.got, Time: time.Now().UTC(), ID: inner.Attr("id")}
	if o, ok := inner.Child(nsSID, "origin-id"); ok {
		m.ID = o.Attr("id")
	}
	if a, err := address.ParseJID(inner.Attr("from")); err == nil {
		m.From, m.Device = a.Bare(), a.Device
	}
	if a, err := address.ParseJID(inner.Attr("to")); err == nil {
		if m.To = a.Bare(); m.To != s.me.Bare() {
			m.To = a.String()
		}
	}
	if d, ok := inner.Child(nsDelay, "delay"); ok {
		if t, err := time.Parse(time.RFC3339, d.Attr("stamp")); err == nil {
			m.Time = t
		}
	}
	if h, ok := inner.Child(nsSHIM, "headers"); ok {
		for c := range h.Children() {
			if c.Is(nsSHIM, "header") {
				m.Attrs = append(m.Attrs, client.Attr{Name: c.Attr("name"), Value: c.Text()})
			}
		}
	}
	body, hasBody := inner.Child(stream.NSClient, "body")
	data, hasData := inner.Child(nsBoB, "data")
	switch {
	case hasData:
		m.Type = data.Attr("type")
		p, err := base64.StdEncoding.DecodeString(data.Text())
		if err != nil {
			m.Type, p = "", []byte(body.Text())
		}
		m.Body = p
		if isText(m.Type) {
			m.Type = ""
		}
	case hasBody:
		m.Body = body.AppendText([]byte{})
	default:
		m.Type, m.Body = "application/xmpp+xml", append([]byte(nil), inner.Raw()...)
	}
	s.mb.got = seq
	s.mb.inbox.Put(m)
}

// place is a message's place in the user's box, by the server's own stanza-id
// (XEP-0359); anybody else's is not believed.
func (s *session) place(e stream.Element) uint64 {
	for c := range e.Children() {
		if c.Is(nsSID, "stanza-id") && c.Attr("by") == s.me.Bare() {
			n, _ := strconv.ParseUint(c.Attr("id"), 10, 64)
			return n
		}
	}
	return 0
}

// acknowledge says that the program has everything up to seq.
func (s *session) acknowledge(uint64) {
	if s.advance() {
		s.answer()
	}
}

// advance moves h over what is acknowledged, and what need not be.
func (s *session) advance() bool {
	n := 0
	for n < len(s.seqs) && s.seqs[n].seq <= s.mb.acked {
		n++
	}
	s.seqs = s.seqs[n:]
	was := s.h
	if s.h = s.in; len(s.seqs) > 0 {
		s.h = s.seqs[0].num - 1
	}
	return s.h != was
}

func (s *session) answer() {
	s.queue([]byte("<a xmlns='" + nsSM + "' h='" + strconv.FormatUint(uint64(s.h), 10) + "'/>"))
}
