package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/posthouse-im/posthouse/address"
)

// TokenConfig says which bearer tokens are taken, and what those look like
// that the server issues itself. A token is a JWT (RFC 7519) with these claims:
//
//	sub     the user, "alice" or "alice@example.org"; he must have an account
//	exp     when it ends; required
//	device  the device that it is for, optional
//	nbf     not before, optional
//	iat     issued at, optional; not before the account was made
//	role    only if Roles is set
//
// A zero field means its default.
type TokenConfig struct {
	// Keys are the keys that tokens may be signed with, each as ID=ALGORITHM:KEY
	// or ID=ALGORITHM:file:PATH, where "ID=" may be left out. HS256 takes a
	// secret of 32 bytes or more, best as base64:...; EdDSA an Ed25519 key as
	// PEM, public or private. A token with a "kid" must be signed by the key of
	// that ID. The first key that can sign signs what "posthouse user token"
	// issues. Without a key no token is taken.
	Keys []TokenKey
	// Audience must be among a token's "aud" if it is set. Default unchecked.
	Audience string
	// Issuer must be a token's "iss" if it is set. Default unchecked.
	Issuer string
	// Leeway is how far the clocks of issuers may be off. Default 30s.
	Leeway time.Duration
	// Life is how long a token that we issue is good, if not said otherwise.
	// Default 720h.
	Life time.Duration
	// Roles lets the claim "role" (user, app, admin) say what the bearer may
	// do, instead of his account. A token that has the claim is refused
	// otherwise. Default false.
	Roles bool
}

// ErrNoSigningKey: no key is configured that could sign a token.
var ErrNoSigningKey = errors.New("auth: no key to sign tokens with is configured")

// maxToken is the greatest length of a token in bytes.
const maxToken = 8192

// tokens checks and issues bearer tokens.
type tokens struct {
	cfg    TokenConfig
	keys   []tokenKey
	signer *tokenKey // nil if there is none
	parser *jwt.Parser
}

// claims are what a token says.
type claims struct {
	Device *string `json:"device,omitempty"`
	Role   *string `json:"role,omitempty"`
	jwt.RegisteredClaims
}

func newTokens(cfg TokenConfig) (*tokens, error) {
	setDefault(&cfg.Leeway, 30*time.Second)
	setDefault(&cfg.Life, 30*24*time.Hour)
	if cfg.Leeway < 0 || cfg.Life < 0 {
		return nil, errors.New("auth: tokens: leeway or life is negative")
	}
	t := &tokens{cfg: cfg}
	for i, c := range cfg.Keys {
		k, err := c.read()
		if err != nil {
			return nil, fmt.Errorf("auth: token key %d: %w", i+1, err)
		}
		for _, other := range t.keys {
			if k.id != "" && k.id == other.id {
				return nil, fmt.Errorf("auth: token key %d: its id %q is another's, too", i+1, k.id)
			}
		}
		t.keys = append(t.keys, k)
	}
	for i := range t.keys {
		if t.keys[i].sign != nil {
			t.signer = &t.keys[i]
			break
		}
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg(), jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(cfg.Leeway),
		jwt.WithStrictDecoding(),
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	t.parser = jwt.NewParser(options...)
	return t, nil
}

// looksLikeToken reports whether s begins as every JWT does, with {" in
// base64, and has three parts.
func looksLikeToken(s string) bool {
	return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2
}

// keyFor gives the parser the keys that t may be signed with. The key decides
// the algorithm, not the token.
//
// "Libraries MUST enable the caller to specify a supported set of algorithms
// ... each key MUST be used with exactly one algorithm" — RFC 8725 section 3.1
func (ts *tokens) keyFor(t *jwt.Token) (any, error) {
	kid, named := t.Header["kid"]
	var set jwt.VerificationKeySet
	for _, k := range ts.keys {
		if k.alg == t.Method.Alg() && (!named || k.id != "" && k.id == kid) {
			set.Keys = append(set.Keys, k.verify)
		}
	}
	if len(set.Keys) == 0 {
		return nil, ErrDenied
	}
	return set, nil
}

// parse checks everything about a token but the account.
func (ts *tokens) parse(token string) (*claims, error) {
	if len(token) > maxToken || len(ts.keys) == 0 {
		return nil, ErrDenied
	}
	var c claims
	_, err := ts.parser.ParseWithClaims(token, &c, ts.keyFor)
	switch {
	case err == nil:
	case onlyExpired(err):
		return nil, ErrExpired
	default:
		return nil, ErrDenied
	}
	if c.Role != nil && !ts.cfg.Roles {
		return nil, ErrDenied
	}
	return &c, nil
}

// onlyExpired reports whether err, of a token whose signature is good, is that
// it has expired and nothing else.
func onlyExpired(err error) bool {
	if !errors.Is(err, jwt.ErrTokenExpired) {
		return false
	}
	for _, other := range []error{
		jwt.ErrTokenUnverifiable, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenNotValidYet, jwt.ErrTokenUsedBeforeIssued,
		jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer, jwt.ErrTokenRequiredClaimMissing,
	} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// verifyToken says who the bearer of a token is.
func (a *Auth) verifyToken(ctx context.Context, token string) (Who, error) {
	c, err := a.tokens.parse(token)
	if err != nil {
		return Who{}, err
	}
	user, err := a.userName(c.Subject)
	if err != nil {
		return Who{}, ErrDenied
	}
	acc, err := a.load(ctx, user)
	if err != nil {
		return Who{}, err
	}
	if acc == nil || acc.disabled {
		return Who{}, ErrDenied
	}
	// A token of an older account of that name. The claim has whole seconds.
	if c.IssuedAt != nil && c.IssuedAt.Add(a.tokens.cfg.Leeway).Before(acc.created.Truncate(time.Second)) {
		return Who{}, ErrDenied
	}
	who := Who{User: user, Role: acc.role, Expires: c.ExpiresAt.Time}
	if c.Device != nil {
		if who.Device, err = address.ParseDevice(*c.Device); err != nil {
			return Who{}, ErrDenied
		}
	}
	if c.Role != nil {
		if who.Role, err = ParseRole(*c.Role); err != nil {
			return Who{}, ErrDenied
		}
	}
	return who, nil
}

// IssueToken signs a bearer token for a user's account, good for life or, if
// that is zero, for TokenConfig.Life. Device may be empty; then the bearer
// names his device himself. The error may be ErrNoSigningKey, ErrNoUser or
// ErrName.
func (a *Auth) IssueToken(ctx context.Context, user, device string, life time.Duration) (token string, expires time.Time, err error) {
	user, err = a.userName(user)
	if err != nil {
		return "", time.Time{}, err
	}
	k := a.tokens.signer
	if k == nil {
		return "", time.Time{}, ErrNoSigningKey
	}
	if _, err := a.get(ctx, user); err != nil {
		return "", time.Time{}, err
	}
	cfg := a.tokens.cfg
	setDefault(&life, cfg.Life)
	now := time.Now().Truncate(time.Second)
	expires = now.Add(life).Truncate(time.Second).UTC()
	if !expires.After(now) {
		return "", time.Time{}, errors.New("auth: a token must be good for a second or more")
	}
	c := claims{RegisteredClaims: jwt.RegisteredClaims{
		Subject:   user,
		Issuer:    cfg.Issuer,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(expires),
	}}
	if cfg.Audience != "" {
		c.Audience = jwt.ClaimStrings{cfg.Audience}
	}
	if device != "" {
		if device, err = address.ParseDevice(device); err != nil {
			return "", time.Time{}, err
		}
		c.Device = &device
	}
	t := jwt.NewWithClaims(k.method, c)
	if k.id != "" {
		t.Header["kid"] = k.id
	}
	token, err = t.SignedString(k.sign)
	return token, expires, err
}
