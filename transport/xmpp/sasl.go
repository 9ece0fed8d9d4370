package xmpp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// login is a SASL negotiation under way (RFC 6120, section 6).
type login struct {
	mechanism string
	scram     *auth.SCRAM // nil for the other mechanisms
	guess     bool        // the step under way is where a password is tried
}

// SASL mechanisms besides those of auth.
const (
	plain  = "PLAIN"       // RFC 4616
	bearer = "OAUTHBEARER" // RFC 7628
)

// bindings are the channel bindings of the connection, if they are wanted.
func (x *client) bindings() []auth.Binding {
	if !x.s.cfg.ChannelBinding {
		return nil
	}
	return auth.Bindings(x.c.TLS(), nil)
}

// appendMechanisms offers the mechanisms, best first, and the channel bindings
// that there are (XEP-0440).
func (x *client) appendMechanisms(b []byte) []byte {
	bindings := x.bindings()
	b = append(b, "<mechanisms xmlns='"+nsSASL+"'>"...)
	for _, m := range append(auth.Mechanisms(bindings), plain, bearer) {
		b = stream.AppendElement(b, "mechanism", "", m)
	}
	b = append(b, "</mechanisms>"...)
	if len(bindings) == 0 {
		return b
	}
	b = append(b, "<sasl-channel-binding xmlns='"+nsBinding+"'>"...)
	for _, c := range bindings {
		b = append(stream.AppendAttr(append(b, "<channel-binding"...), "type", c.Type), "/>"...)
	}
	return append(b, "</sasl-channel-binding>"...)
}

// saslElement handles auth, response and abort.
func (x *client) saslElement(e stream.Element) {
	switch name := string(e.Name()); {
	case name == "auth" && x.phase == atAuth:
		if !x.mayLogin() {
			x.denied("encryption-required")
			return
		}
		x.login = &login{mechanism: e.Attr("mechanism")}
		switch m := x.login.mechanism; m {
		case plain, bearer:
			x.login.guess = true
		default:
			s, err := x.s.core.Auth.NewSCRAM(m, x.bindings(), x.remote())
			if err != nil {
				x.denied("invalid-mechanism")
				return
			}
			x.login.scram = s
		}
		x.phase = atSASL
		// Without an initial response the client waits for a challenge; "="
		// stands for an empty one (RFC 6120, section 6.4.2).
		if len(bytes.TrimSpace(e.Inner())) == 0 {
			x.nonza("<challenge xmlns='" + nsSASL + "'/>")
			return
		}
		x.saslStep(e)
	case name == "response" && x.phase == atSASL:
		x.saslStep(e)
	case name == "abort" && x.phase == atSASL:
		x.denied("aborted")
	case name == "auth" || name == "response" || name == "abort":
		x.denied("malformed-request")
	default:
		x.fail(stream.UnsupportedStanza, "")
	}
}

// loginTime bounds one step of a login, the back-off included.
const loginTime = time.Minute

// saslStep hands what the client said to auth, which may take its time.
func (x *client) saslStep(e stream.Element) {
	text := e.Text()
	if text == "=" {
		text = ""
	}
	in, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		x.denied("incorrect-encoding")
		return
	}
	l := x.login
	cred := auth.Credential{From: x.remote()}
	switch l.mechanism {
	case plain:
		if cred, err = x.plain(in, cred); err != nil {
			x.denied(saslCondition(err))
			return
		}
	case bearer:
		if cred, err = x.bearer(in, cred); err != nil {
			x.denied(saslCondition(err))
			return
		}
	}
	x.wait()
	a := x.s.core.Auth
	var out []byte
	var who auth.Who
	done := true
	ok := a.Go(func() (err error) {
		// No other context: the connection may end meanwhile, and the account
		// must still be charged with the failure.
		ctx, cancel := context.WithTimeout(context.Background(), loginTime)
		defer cancel()
		if l.scram == nil {
			who, err = a.Verify(ctx, cred)
		} else if out, done, err = l.scram.Step(ctx, in); done {
			who = l.scram.Who()
		}
		return err
	}, func(err error) {
		x.later(func(x *client) { x.saslStepped(out, done, who, err) })
	})
	if !ok {
		x.proceed(atSASL)
		x.denied(saslCondition(auth.ErrBusy))
	}
}

// saslStepped goes on with the answer of auth.
func (x *client) saslStepped(out []byte, done bool, who auth.Who, err error) {
	x.proceed(atSASL)
	answer := base64.StdEncoding.EncodeToString(out)
	switch {
	case err != nil:
		if saslCondition(err) == "temporary-auth-failure" && !errors.Is(err, auth.ErrBusy) {
			x.s.core.Log.Error("xmpp: login", "err", err)
		}
		x.denied(saslCondition(err))
	case !done:
		x.login.guess = true
		x.nonza("<challenge xmlns='" + nsSASL + "'>" + answer + "</challenge>")
	default:
		x.who, x.bare = who, who.User
		x.authed, x.login = true, nil
		x.s.stats.logins.Add(1)
		x.in.Relax(x.s.limits)
		x.nonza("<success xmlns='" + nsSASL + "'>" + answer + "</success>")
		x.restart()
	}
}

var (
	errAuthzid   = errors.New("xmpp: to act for another user")
	errMalformed = errors.New("xmpp: malformed SASL message")
)

// saslCondition is RFC 6120's word (section 6.5) for why a login fails.
func saslCondition(err error) string {
	switch {
	case errors.Is(err, auth.ErrDenied):
		return "not-authorized"
	case errors.Is(err, auth.ErrExpired):
		return "credentials-expired"
	case errors.Is(err, errAuthzid):
		return "invalid-authzid"
	case errors.Is(err, errMalformed), errors.Is(err, auth.ErrMalformed):
		return "malformed-request"
	}
	return "temporary-auth-failure"
}

// plain reads "[authzid] NUL authcid NUL passwd" (RFC 4616, section 2). Nobody
// may act for another: the authorization identity is the user or nothing.
func (x *client) plain(in []byte, c auth.Credential) (auth.Credential, error) {
	parts := bytes.Split(in, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return c, errMalformed
	}
	c.User, c.Password = string(parts[1]), string(parts[2])
	if authz := string(parts[0]); authz != "" && !x.same(authz, c.User) {
		return c, errAuthzid
	}
	return c, nil
}

// same reports whether two names mean one user here.
func (x *client) same(a, b string) bool {
	ua, err1 := x.s.name(a)
	ub, err2 := x.s.name(b)
	return err1 == nil && err2 == nil && ua == ub
}

// bearer reads "n,a=user, ^A auth=Bearer TOKEN ^A ^A" (RFC 7628, section 3.1).
func (x *client) bearer(in []byte, c auth.Credential) (auth.Credential, error) {
	parts := strings.Split(string(in), "\x01")
	if !strings.HasPrefix(parts[0], "n,") && !strings.HasPrefix(parts[0], "y,") {
		return c, errMalformed
	}
	for _, p := range parts[1:] {
		if v, ok := strings.CutPrefix(p, "auth="); ok {
			kind, token, _ := strings.Cut(v, " ")
			if strings.EqualFold(kind, "Bearer") {
				c.Token = strings.TrimSpace(token)
			}
		}
	}
	if c.Token == "" {
		return c, errMalformed
	}
	return c, nil
}

// denied refuses a login. After too many wrong passwords the stream is over.
//
// A client that cannot do what a mechanism asks for is not guessing, and may
// try the next; Limits.Sum bounds how often.
func (x *client) denied(condition string) {
	guess := x.login != nil && x.login.guess
	x.login, x.phase = nil, atAuth
	x.nonza("<failure xmlns='" + nsSASL + "'><" + condition + "/></failure>")
	x.s.stats.failed.Add(1)
	if !guess {
		return
	}
	if x.failures++; int(x.failures) >= x.s.cfg.LoginTries {
		// RFC 6120, section 6.4.5: "if the maximum number of retries is exceeded,
		// the receiving entity MUST close the stream with a stream error".
		x.fail(stream.PolicyViolation, "too many failed logins")
	}
}
