package auth

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/xdg-go/scram"
)

const (
	sha1Name   = "SCRAM-SHA-1"
	sha256Name = "SCRAM-SHA-256"
	plus       = "-PLUS"

	maxSCRAM = 8192 // bytes of one message
)

var (
	// ErrMechanism: it is not one of Mechanisms.
	ErrMechanism = errors.New("auth: no such SASL mechanism")
	// ErrMalformed: the peer's SCRAM message has not the form of RFC 5802
	// section 7.
	ErrMalformed = errors.New("auth: malformed SCRAM message")
)

// Binding ties a login to the TLS connection that it goes through, so that
// nobody can stand in between.
type Binding struct {
	Type string // "tls-exporter" or "tls-server-end-point"
	Data []byte
}

// Bindings returns the channel bindings that a connection has, best first;
// none without TLS. Leaf is the certificate that the server showed on it, or
// nil.
func Bindings(state *tls.ConnectionState, leaf *x509.Certificate) []Binding {
	if state == nil {
		return nil
	}
	var bs []Binding
	// RFC 9266 wants the extended master secret with TLS 1.2. Whether it is
	// there Go does not say, so we have this one with TLS 1.3 only.
	if state.Version >= tls.VersionTLS13 {
		if data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err == nil {
			bs = append(bs, Binding{"tls-exporter", data})
		}
	}
	if leaf != nil {
		if data := endPoint(leaf); data != nil {
			bs = append(bs, Binding{"tls-server-end-point", data})
		}
	}
	return bs
}

// endPoint hashes a certificate with the hash of its signature, or SHA-256 in
// place of MD5 and SHA-1. Where the signature has no hash of its own, as with
// Ed25519, there is no such binding. RFC 5929 section 4.1
func endPoint(leaf *x509.Certificate) []byte {
	switch leaf.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		sum := sha256.Sum256(leaf.Raw)
		return sum[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(leaf.Raw)
		return sum[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(leaf.Raw)
		return sum[:]
	}
	return nil
}

// Mechanisms returns the names of the SASL mechanisms that NewSCRAM takes on a
// connection with these bindings, best first.
func Mechanisms(bindings []Binding) []string {
	m := []string{sha256Name, sha1Name}
	if len(bindings) > 0 {
		m = append([]string{sha256Name + plus, sha1Name + plus}, m...)
	}
	return m
}

// SCRAM is the server's side of one login by SCRAM-SHA-1 (RFC 5802) or
// SCRAM-SHA-256 (RFC 7677), with or without channel binding. One goroutine at
// a time may use it.
type SCRAM struct {
	auth      *Auth
	mechanism string // without -PLUS
	plus      bool
	bindings  []Binding
	from      netip.Addr

	conv *scram.ServerConversation // nil before the first step
	user string                    // canonical; empty if the name makes no sense
	acc  *account                  // nil if there is none
	err  error                     // of the store, out of the look-up
	who  Who
	done bool
}

// NewSCRAM begins a login by one of Mechanisms(bindings), from the address
// from. The error is ErrMechanism.
func (a *Auth) NewSCRAM(mechanism string, bindings []Binding, from netip.Addr) (*SCRAM, error) {
	base, isPlus := strings.CutSuffix(mechanism, plus)
	if base != sha1Name && base != sha256Name || isPlus && len(bindings) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrMechanism, mechanism)
	}
	return &SCRAM{auth: a, mechanism: base, plus: isPlus, bindings: bindings, from: from}, nil
}

// Step takes a message of the client and returns the answer. It is called
// twice: with client-first-message, answered by a challenge, and with
// client-final-message; then done is true, out goes with the success, and Who
// says who it is. It may block: run it by Auth.Go.
//
// The error is ErrMalformed, ErrDenied or ErrBusy, or ours. After one the
// login is over, and there is nothing to send but the failure.
func (s *SCRAM) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	out, done, err = s.step(ctx, in)
	s.done = s.done || done || err != nil
	if s.done {
		s.auth.count(err)
	}
	return out, done, err
}

func (s *SCRAM) step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	defer contain(&err)
	switch {
	case s.done, len(in) > maxSCRAM:
		return nil, false, ErrMalformed
	case s.conv == nil:
		out, err = s.first(ctx, string(in))
		return out, false, err
	}
	out, err = s.final(ctx, string(in))
	return out, err == nil, err
}

// Who says who has logged in, once Step has returned done.
func (s *SCRAM) Who() Who { return s.who }

func (s *SCRAM) first(ctx context.Context, in string) ([]byte, error) {
	h := scram.SHA256
	if s.mechanism == sha1Name {
		h = scram.SHA1
	}
	srv, err := h.NewServer(func(name string) (scram.StoredCredentials, error) {
		k := s.lookUp(ctx, name)
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(k.salt), Iters: k.iters},
			StoredKey:  k.stored,
			ServerKey:  k.server,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	// gs2-cbind-flag: "p=" cb-name, "n" or "y". RFC 5802 section 7
	flag, _, _ := strings.Cut(in, ",")
	cbType, bound := strings.CutPrefix(flag, "p=")
	switch {
	case bound && !s.plus:
		// Who binds takes the mechanism with -PLUS: RFC 5802 section 6.
		return nil, ErrDenied
	case s.plus:
		s.conv = srv.NewConversationWithChannelBindingRequired(s.binding(cbType))
	case len(s.bindings) > 0:
		// "y" means that somebody hid our -PLUS mechanisms from the client.
		s.conv = srv.NewConversationWithChannelBinding(s.binding(""))
	default:
		s.conv = srv.NewConversation()
	}
	out, err := s.conv.Step(in)
	switch {
	case s.err != nil:
		return nil, s.err
	case err == nil:
		return []byte(out), nil
	case out == "" || out == scram.ErrInvalidEncoding || out == scram.ErrInvalidUsernameEncoding:
		return nil, ErrMalformed
	}
	return nil, ErrDenied
}

// binding returns the one of that type, else the first.
func (s *SCRAM) binding(cbType string) scram.ChannelBinding {
	b := s.bindings[0]
	for _, other := range s.bindings {
		if other.Type == cbType {
			b = other
		}
	}
	return scram.ChannelBinding{Type: scram.ChannelBindingType(b.Type), Data: b.Data}
}

// lookUp returns the keys of name, or such as no password fits.
func (s *SCRAM) lookUp(ctx context.Context, name string) keys {
	user, err := s.auth.userName(name)
	if err == nil {
		s.user = user
		s.acc, s.err = s.auth.load(ctx, user)
	}
	size := sha256.Size
	if s.mechanism == sha1Name {
		size = sha1.Size
	}
	k := s.auth.fake(s.mechanism, s.user, size)
	if s.acc != nil && s.acc.sha256.iters != 0 {
		real := s.acc.sha256
		if s.mechanism == sha1Name {
			real = s.acc.sha1
		}
		if s.acc.disabled {
			real.stored = k.stored // the right salt, but no proof fits
		}
		k = real
	}
	return k
}

func (s *SCRAM) final(ctx context.Context, in string) ([]byte, error) {
	name := s.auth.names.hash(s.user)
	// This is the guess, so here it waits; a salt was for everybody.
	wait, ok := s.auth.slow.admit(name, s.from)
	switch {
	case !ok:
		return nil, ErrBusy
	case wait > 0:
		if err := s.auth.wait(ctx, wait); err != nil {
			return nil, err
		}
	}
	out, err := s.conv.Step(in)
	if err != nil && out == "" {
		return nil, ErrMalformed
	}
	// The authorization identity, if there is one, must be the user himself.
	if authz := s.conv.AuthzID(); err == nil && authz != "" {
		if u, e := s.auth.userName(authz); e != nil || u != s.user {
			err = ErrDenied
		}
	}
	if err == nil {
		if err = s.unchanged(ctx); err != nil && !errors.Is(err, ErrDenied) {
			return nil, err
		}
	}
	if err != nil || !s.conv.Valid() {
		s.auth.wrong(s.user, name, s.from)
		return nil, ErrDenied
	}
	s.auth.slow.succeeded(name, s.from)
	s.who = Who{User: s.user, Role: s.acc.role}
	return []byte(out), nil
}

// unchanged denies an account that was removed, disabled or given another
// password while its client was thinking.
func (s *SCRAM) unchanged(ctx context.Context) error {
	acc, err := s.auth.load(ctx, s.user)
	if err != nil {
		return err
	}
	if acc == nil || s.acc == nil || acc.disabled || string(acc.sha256.salt) != string(s.acc.sha256.salt) {
		return ErrDenied
	}
	s.acc = acc
	return nil
}
