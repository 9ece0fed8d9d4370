package poll

import (
	"errors"
	"net/http"
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// login says who sends r, from Basic (RFC 7617), Bearer (RFC 6750), or without
// either from the certificate of its connection.
func (s *Server) login(r *http.Request) (auth.Who, error) {
	cred, ok := credential(r)
	if !ok && r.Header.Get("Authorization") == "" {
		cred.Certificate = auth.CertificateOf(r.TLS)
		ok = cred.Certificate != nil
	}
	if !ok {
		return auth.Who{}, wire.NewProblem(wire.NotAuthorized, "Authorization", "Basic with a password or application key, or Bearer with a token")
	}
	if !s.secure(r) {
		why := "use https"
		if forwarded(r) {
			why = "it came by a proxy that the server does not trust, or that did not say X-Forwarded-Proto: https"
		}
		return auth.Who{}, wire.NewProblem(wire.Insecure, "Authorization", why)
	}
	cred.From = s.remote(r)
	// Verify bounds how many are checked at once, and this goroutine may block.
	return s.core.Auth.Verify(r.Context(), cred)
}

func credential(r *http.Request) (c auth.Credential, ok bool) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		c.Token = strings.TrimSpace(rest)
		return c, c.Token != ""
	case strings.EqualFold(scheme, "Basic"):
		c.User, c.Password, ok = r.BasicAuth()
		return c, ok && c.User != ""
	}
	return c, false
}

// device settles which device who is, and has its account charged with what goes
// over the connection from now on.
func (s *Server) device(r *http.Request, who *auth.Who, asked string) error {
	if err := device(who, asked); err != nil {
		return err
	}
	if c, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
		c.charge(s.core.Costs, who.User, who.Device)
	}
	return nil
}

// device settles which device who is: his token's, the one asked for, or the
// default.
func device(who *auth.Who, asked string) error {
	switch {
	case who.Device != "" && asked != "" && asked != who.Device:
		return wire.NewProblem(wire.Forbidden, "device", "the token is for another device")
	case who.Device != "":
	case asked != "":
		d, err := address.ParseDevice(asked)
		if err != nil {
			return wire.NewProblem(wire.BadField, "device", "not a name that a device can have")
		}
		who.Device = d
	default:
		who.Device = DefaultDevice
	}
	return nil
}

// challenge adds what a 401 must say (RFC 9110 section 11.6.1).
func challenge(h http.Header, k wire.Kind) {
	h.Add("WWW-Authenticate", `Basic realm="posthouse", charset="UTF-8"`)
	bearer := `Bearer realm="posthouse"`
	if k == wire.TokenExpired {
		// "invalid_token: The access token provided is expired, revoked,
		// malformed, or invalid for other reasons." RFC 6750 section 3.1
		bearer += `, error="invalid_token", error_description="the token has expired"`
	}
	h.Add("WWW-Authenticate", bearer)
}

func authProblem(err error) *wire.Problem {
	switch {
	case errors.Is(err, auth.ErrDenied):
		return wire.NewProblem(wire.NotAuthorized, "Authorization", "unknown user, wrong password or bad token")
	case errors.Is(err, auth.ErrExpired):
		return wire.NewProblem(wire.TokenExpired, "Authorization", "")
	case errors.Is(err, auth.ErrBusy):
		return wire.NewProblem(wire.TooMany, "", "too many failed logins from there, or too many at once")
	}
	return nil
}
