package xmpp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/carrier"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

const (
	nsTLS     = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL    = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBind    = "urn:ietf:params:xml:ns:xmpp-bind"
	nsSM      = "urn:xmpp:sm:3"
	nsLimits  = "urn:xmpp:stream-limits:0"
	nsCarbons = "urn:xmpp:carbons:2"
	nsForward = "urn:xmpp:forward:0"
	nsSHIM    = "http://jabber.org/protocol/shim"
	nsSID     = "urn:xmpp:sid:0"
	nsBoB     = "urn:xmpp:bob"
	nsDelay   = "urn:xmpp:delay"
)

// domainOf is the domain to open a stream to: the user's, or else the name in
// the address.
func domainOf(o client.Options) string {
	if _, d, ok := strings.Cut(o.User, "@"); ok {
		return d
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return o.Addr
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return "localhost"
	}
	return host
}

// tlsFor is the configuration for cfg's side of TLS, with the name in the
// address unless it says another.
func tlsFor(cfg *tls.Config, addr string) *tls.Config {
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	return cfg
}

// connect makes a connection, logs in and binds.
func (mb *Mailbox) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	nc, err := carrier.Dial(ctx, "tcp", mb.o.Addr)
	if err != nil {
		return nil, err
	}
	s := &session{mb: mb, nc: nc, domain: domainOf(mb.o), wrote: make(chan struct{}, 1), ended: make(chan struct{})}
	s.scan.Limits = stream.Limits{Bytes: 16 << 20, Elements: 100_000, Depth: 64, Attrs: 64}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	err = s.login(ctx)
	if !stop() || err != nil {
		s.nc.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("xmpp: cannot log in: %w", err)
	}
	return s, s.begin()
}

func (s *session) login(ctx context.Context) error {
	o := s.mb.o
	if o.TLS != nil {
		if err := s.handshake(ctx, o.TLS); err != nil {
			return err
		}
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	if _, ok := f.Child(nsTLS, "starttls"); ok && o.TLS == nil {
		if err := s.write("<starttls xmlns='" + nsTLS + "'/>"); err != nil {
			return err
		}
		e, err := s.next()
		if err != nil {
			return err
		}
		if !e.Is(nsTLS, "proceed") {
			return errors.New("xmpp: STARTTLS refused")
		}
		if len(s.buf) > 0 {
			return errors.New("xmpp: bytes in the clear behind STARTTLS")
		}
		if err := s.handshake(ctx, o.StartTLS); err != nil {
			return err
		}
		if f, err = s.open(); err != nil {
			return err
		}
	}
	if err := s.authenticate(f); err != nil {
		return err
	}
	if f, err = s.open(); err != nil {
		return err
	}
	return s.bind(f)
}

func (s *session) handshake(ctx context.Context, cfg *tls.Config) error {
	tc := tls.Client(s.nc, tlsFor(cfg, s.mb.o.Addr))
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	s.nc = tc
	return nil
}

// open begins a stream and returns the server's features.
func (s *session) open() (stream.Element, error) {
	s.scan.Reset()
	h := append([]byte("<?xml version='1.0'?><stream:stream"), " version='1.0' xmlns='"+stream.NSClient+"' xmlns:stream='"+stream.NSStreams+"'"...)
	h = append(stream.AppendAttr(h, "to", s.domain), '>')
	if err := s.write(string(h)); err != nil {
		return stream.Element{}, err
	}
	f, err := s.next()
	if err == nil && !f.Is(stream.NSStreams, "features") {
		err = errors.New("xmpp: no stream features")
	}
	return f, err
}

// authenticate logs in, by the best way that both know.
func (s *session) authenticate(f stream.Element) error {
	ms, ok := f.Child(nsSASL, "mechanisms")
	if !ok {
		return &client.Refused{Code: "encryption-required", Text: "the server takes no login here"}
	}
	has := map[string]bool{}
	for m := range ms.Children() {
		has[m.Text()] = true
	}
	o := s.mb.o
	_, isTLS := s.nc.(*tls.Conn)
	user, _, _ := strings.Cut(o.User, "@")
	switch {
	case o.Token != "" && has["OAUTHBEARER"] && isTLS:
		return s.sasl("OAUTHBEARER", "n,,\x01auth=Bearer "+o.Token+"\x01\x01", nil)
	case o.Token != "":
		return &client.Refused{Code: "invalid-mechanism", Text: "the server takes no token here"}
	case has["SCRAM-SHA-256"]:
		return s.scram(scram.SHA256, "SCRAM-SHA-256", user)
	case has["SCRAM-SHA-1"]:
		return s.scram(scram.SHA1, "SCRAM-SHA-1", user)
	case has["PLAIN"] && isTLS:
		return s.sasl("PLAIN", "\x00"+user+"\x00"+o.Password, nil)
	}
	return &client.Refused{Code: "invalid-mechanism", Text: "no common SASL mechanism"}
}

func (s *session) scram(h scram.HashGeneratorFcn, name, user string) error {
	c, err := h.NewClient(user, s.mb.o.Password, "")
	if err != nil {
		return err
	}
	conv := c.NewConversation()
	first, err := conv.Step("")
	if err != nil {
		return err
	}
	if err := s.sasl(name, first, conv.Step); err != nil {
		return err
	}
	if !conv.Valid() {
		return errors.New("xmpp: the server did not prove that it knows the password")
	}
	return nil
}

// sasl carries out one SASL exchange (RFC 6120, section 6.4).
func (s *session) sasl(mechanism, first string, step func(string) (string, error)) error {
	out := "<auth xmlns='" + nsSASL + "' mechanism='" + mechanism + "'>" + base64.StdEncoding.EncodeToString([]byte(first)) + "</auth>"
	for {
		if err := s.write(out); err != nil {
			return err
		}
		e, err := s.next()
		if err != nil {
			return err
		}
		switch {
		case e.Is(nsSASL, "failure"):
			r := &client.Refused{Code: string(e.First().Name())}
			if t, ok := e.Child(nsSASL, "text"); ok {
				r.Text = t.Text()
			}
			return r
		case !e.Is(nsSASL, "challenge") && !e.Is(nsSASL, "success"):
			return errors.New("xmpp: unexpected answer to a login")
		}
		text := e.Text()
		if text == "=" { // nothing (RFC 6120, section 6.4.2)
			text = ""
		}
		in, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		done := e.Is(nsSASL, "success")
		if done && (step == nil || len(in) == 0) {
			return nil
		}
		if step == nil {
			return errors.New("xmpp: unexpected challenge")
		}
		answer, err := step(string(in))
		if err != nil || done {
			return err
		}
		out = "<response xmlns='" + nsSASL + "'>" + base64.StdEncoding.EncodeToString([]byte(answer)) + "</response>"
	}
}

// bind binds the device and turns on stream management.
func (s *session) bind(f stream.Element) error {
	if _, ok := f.Child(nsSM, "sm"); !ok {
		return errors.New("xmpp: the server has no stream management (XEP-0198)")
	}
	if l, ok := f.Child(nsLimits, "limits"); ok {
		if m, ok := l.Child(nsLimits, "max-bytes"); ok {
			s.limit, _ = strconv.Atoi(m.Text())
		}
	}
	b := []byte("<iq type='set' id='bind'><bind xmlns='" + nsBind + "'>")
	if d := s.mb.o.Device; d != "" {
		b = stream.AppendElement(b, "resource", "", d)
	}
	if err := s.write(string(b) + "</bind></iq>"); err != nil {
		return err
	}
	e, err := s.next()
	if err != nil {
		return err
	}
	if e.Attr("type") == "error" {
		return refusal(e)
	}
	bind, _ := e.Child(nsBind, "bind")
	jid, _ := bind.Child(nsBind, "jid")
	a, err := address.ParseJID(jid.Text())
	if err != nil {
		return err
	}
	s.me = a
	if err := s.write("<iq type='set' id='carbons'><enable xmlns='" + nsCarbons + "'/></iq><enable xmlns='" + nsSM + "'/>"); err != nil {
		return err
	}
	for {
		e, err := s.next()
		if err != nil {
			return err
		}
		switch {
		case e.Is(nsSM, "enabled"):
			return nil
		case e.Is(nsSM, "failed"):
			return errors.New("xmpp: stream management refused")
		}
	}
}

// refusal is the error in a stanza.
func refusal(e stream.Element) error {
	r := &client.Refused{Code: "undefined-condition"}
	if f, ok := e.Child(stream.NSClient, "error"); ok {
		for c := range f.Children() {
			if string(c.Name()) == "text" {
				r.Text = c.Text()
			} else if r.Code == "undefined-condition" {
				r.Code = string(c.Name())
			}
		}
	}
	return r
}

// deadline is for a write to a peer that does not read.
const deadline = 30 * time.Second
