package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const secret = "0123456789abcdef0123456789abcdef"

var (
	private = ed25519.NewKeyFromSeed([]byte("this seed is for tests only ....")[:32])
	public  = private.Public().(ed25519.PublicKey)
)

func pemOf(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func publicPEM() string {
	der, err := x509.MarshalPKIXPublicKey(public)
	return pemOf("PUBLIC KEY", der, err)
}

func privatePEM() string {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	return pemOf("PRIVATE KEY", der, err)
}

func sign(t *testing.T, method jwt.SigningMethod, key any, kid string, c jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	s, err := tok.SignedString(key)
	must(t, err)
	return s
}

func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		hs, ed := jwt.SigningMethodHS256, jwt.SigningMethodEdDSA
		in := func(d time.Duration) int64 { return now.Add(d).Unix() }
		good := func(more ...any) jwt.MapClaims {
			c := jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)}
			for i := 0; i < len(more); i += 2 {
				if more[i+1] == nil {
					delete(c, more[i].(string))
				} else {
					c[more[i].(string)] = more[i+1]
				}
			}
			return c
		}
		keys := []TokenKey{
			{Algorithm: "HS256", Key: secret},
			{ID: "ed", Algorithm: "EdDSA", Key: publicPEM()},
		}
		a := newAlice(t, Config{Tokens: TokenConfig{Keys: keys}})
		must(t, a.Add(t.Context(), "root", "secret", RoleAdmin))
		must(t, a.Add(t.Context(), "gone", "secret", RoleUser))
		must(t, a.SetDisabled(t.Context(), "gone", true))
		strict := open(t, a.mail, Config{Tokens: TokenConfig{Keys: keys, Audience: "post", Issuer: "me", Leeway: time.Minute, Roles: true}})
		tampered := sign(t, hs, []byte(secret), "", good())
		parts := strings.Split(tampered, ".")
		payload := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root","exp":99999999999}`))

		for _, tc := range []struct {
			what  string
			a     *Auth
			token string
			want  Who
			err   error
		}{
			{"HS256", a, sign(t, hs, []byte(secret), "", good()), Who{User: "alice@localhost"}, nil},
			{"EdDSA", a, sign(t, ed, private, "ed", good("sub", "Alice@localhost")), Who{User: "alice@localhost"}, nil},
			{"EdDSA, all keys tried", a, sign(t, ed, private, "", good()), Who{User: "alice@localhost"}, nil},
			{"device", a, sign(t, hs, []byte(secret), "", good("device", "phone")), Who{User: "alice@localhost", Device: "phone"}, nil},
			{"role of the account", a, sign(t, hs, []byte(secret), "", good("sub", "root")), Who{User: "root@localhost", Role: RoleAdmin}, nil},
			{"just expired", a, sign(t, hs, []byte(secret), "", good("exp", in(-29*time.Second))), Who{User: "alice@localhost", Expires: now.Add(-29 * time.Second)}, nil},
			{"expired", a, sign(t, hs, []byte(secret), "", good("exp", in(-time.Minute))), Who{}, ErrExpired},
			{"no exp", a, sign(t, hs, []byte(secret), "", good("exp", nil)), Who{}, ErrDenied},
			{"exp is text", a, sign(t, hs, []byte(secret), "", good("exp", "soon")), Who{}, ErrDenied},
			{"not yet", a, sign(t, hs, []byte(secret), "", good("nbf", in(time.Minute))), Who{}, ErrDenied},
			{"almost", a, sign(t, hs, []byte(secret), "", good("nbf", in(20*time.Second))), Who{User: "alice@localhost"}, nil},
			{"from the future", a, sign(t, hs, []byte(secret), "", good("iat", in(time.Minute))), Who{}, ErrDenied},
			{"older than the account", a, sign(t, hs, []byte(secret), "", good("iat", in(-time.Minute))), Who{}, ErrDenied},
			{"expired and not yet", a, sign(t, hs, []byte(secret), "", good("exp", in(-time.Hour), "nbf", in(time.Hour))), Who{}, ErrDenied},
			{"expired, wrong key", a, sign(t, hs, []byte(secret+"x"), "", good("exp", in(-time.Hour))), Who{}, ErrDenied},
			{"no sub", a, sign(t, hs, []byte(secret), "", good("sub", nil)), Who{}, ErrDenied},
			{"sub with device", a, sign(t, hs, []byte(secret), "", good("sub", "alice/phone")), Who{}, ErrDenied},
			{"sub elsewhere", a, sign(t, hs, []byte(secret), "", good("sub", "alice@elsewhere")), Who{}, ErrDenied},
			{"no account", a, sign(t, hs, []byte(secret), "", good("sub", "nobody")), Who{}, ErrDenied},
			{"disabled", a, sign(t, hs, []byte(secret), "", good("sub", "gone")), Who{}, ErrDenied},
			{"bad device", a, sign(t, hs, []byte(secret), "", good("device", "a\x00")), Who{}, ErrDenied},
			{"empty device", a, sign(t, hs, []byte(secret), "", good("device", "")), Who{}, ErrDenied},
			{"device is a number", a, sign(t, hs, []byte(secret), "", good("device", 7)), Who{}, ErrDenied},
			{"role", a, sign(t, hs, []byte(secret), "", good("role", "admin")), Who{}, ErrDenied},
			{"role user", a, sign(t, hs, []byte(secret), "", good("role", "user")), Who{}, ErrDenied},
			{"wrong secret", a, sign(t, hs, []byte(secret+"x"), "", good()), Who{}, ErrDenied},
			{"kid unknown", a, sign(t, hs, []byte(secret), "other", good()), Who{}, ErrDenied},
			{"kid of the other", a, sign(t, hs, []byte(secret), "ed", good()), Who{}, ErrDenied},
			{"no algorithm", a, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", good()), Who{}, ErrDenied},
			{"HS384", a, sign(t, jwt.SigningMethodHS384, []byte(secret), "", good()), Who{}, ErrDenied},
			{"public key as secret", a, sign(t, hs, []byte(public), "ed", good()), Who{}, ErrDenied},
			{"public PEM as secret", a, sign(t, hs, []byte(publicPEM()), "", good()), Who{}, ErrDenied},
			{"payload changed", a, parts[0] + "." + payload + "." + parts[2], Who{}, ErrDenied},
			{"no signature", a, parts[0] + "." + parts[1] + ".", Who{}, ErrDenied},
			{"header changed", a, "eyJhbGciOiJub25lIn0." + parts[1] + "." + parts[2], Who{}, ErrDenied},
			{"huge", a, sign(t, hs, []byte(secret), "", good("x", strings.Repeat("x", 8192))), Who{}, ErrDenied},
			{"rubbish", a, "a.b.c", Who{}, ErrDenied},
			{"dots", a, strings.Repeat(".", 8000), Who{}, ErrDenied},
			{"one word", a, "x", Who{}, ErrDenied},

			{"aud and iss", strict, sign(t, hs, []byte(secret), "", good("aud", []string{"x", "post"}, "iss", "me")), Who{User: "alice@localhost"}, nil},
			{"role allowed", strict, sign(t, hs, []byte(secret), "", good("aud", "post", "iss", "me", "role", "app")), Who{User: "alice@localhost", Role: RoleApp}, nil},
			{"no such role", strict, sign(t, hs, []byte(secret), "", good("aud", "post", "iss", "me", "role", "king")), Who{}, ErrDenied},
			{"no aud", strict, sign(t, hs, []byte(secret), "", good("iss", "me")), Who{}, ErrDenied},
			{"other aud", strict, sign(t, hs, []byte(secret), "", good("aud", "x", "iss", "me")), Who{}, ErrDenied},
			{"no iss", strict, sign(t, hs, []byte(secret), "", good("aud", "post")), Who{}, ErrDenied},
			{"other iss", strict, sign(t, hs, []byte(secret), "", good("aud", "post", "iss", "x")), Who{}, ErrDenied},
			{"expired a while ago", strict, sign(t, hs, []byte(secret), "", good("aud", "post", "iss", "me", "exp", in(-59*time.Second))), Who{User: "alice@localhost", Expires: now.Add(-59 * time.Second)}, nil},
			{"expired, other iss", strict, sign(t, hs, []byte(secret), "", good("aud", "post", "iss", "x", "exp", in(-time.Hour))), Who{}, ErrDenied},
		} {
			who, err := tc.a.Verify(t.Context(), Credential{Token: tc.token, From: here})
			if err != tc.err {
				t.Errorf("%s: %v; want %v", tc.what, err, tc.err)
				continue
			}
			if err == nil && tc.want.Expires.IsZero() {
				tc.want.Expires = now.Add(time.Hour)
			}
			if !who.Expires.Equal(tc.want.Expires) {
				t.Errorf("%s: expires %v; want %v", tc.what, who.Expires, tc.want.Expires)
			}
			if who.Expires, tc.want.Expires = (time.Time{}), (time.Time{}); who != tc.want {
				t.Errorf("%s: %+v; want %+v", tc.what, who, tc.want)
			}
		}
		if n := a.Stats().Hashes; n != 0 {
			t.Errorf("hashed %d times", n)
		}

		// In place of the password, for its user only.
		tok := sign(t, hs, []byte(secret), "", good("device", "d"))
		if who, err := a.Verify(t.Context(), Credential{User: "alice", Password: tok, From: here}); who.Device != "d" || err != nil {
			t.Error(who, err)
		}
		if who, err := a.Verify(t.Context(), Credential{User: "root", Password: tok, From: here}); err != ErrDenied {
			t.Error(who, err)
		}
		old := sign(t, hs, []byte(secret), "", good("exp", in(-time.Hour)))
		if _, err := a.Verify(t.Context(), Credential{User: "alice", Password: old, From: here}); err != ErrExpired {
			t.Error(err)
		}
		none := newAlice(t, Config{})
		if _, err := none.Verify(t.Context(), Credential{Token: tok}); err != ErrDenied {
			t.Error("without a key:", err)
		}
	})
}

func TestIssueToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		for _, key := range []TokenKey{
			{Algorithm: "HS256", Key: secret},
			{ID: "k1", Algorithm: "EdDSA", Key: privatePEM()},
			{ID: "k2", Algorithm: "EdDSA", Key: "base64:" + base64.StdEncoding.EncodeToString(private)},
		} {
			a := newAlice(t, Config{Tokens: TokenConfig{
				Keys:     []TokenKey{{ID: "check only", Algorithm: "EdDSA", Key: publicPEM()}, key},
				Audience: "post", Issuer: "me", Life: time.Hour,
			}})
			tok, expires, err := a.IssueToken(ctx, "Alice", "phone", 0)
			must(t, err)
			if d := time.Until(expires); d <= 59*time.Minute || d > time.Hour {
				t.Errorf("good for %v", d)
			}
			who, err := a.Verify(ctx, Credential{Token: tok})
			if want := (Who{User: "alice@localhost", Device: "phone", Expires: who.Expires}); who != want || err != nil || !who.Expires.Equal(expires) {
				t.Errorf("%v: %+v, %v", key, who, err)
			}
			if _, expires, err = a.IssueToken(ctx, "alice", "", time.Minute); err != nil || time.Until(expires) > time.Minute {
				t.Error(expires, err)
			}
			time.Sleep(2 * time.Hour)
			if _, err := a.Verify(ctx, Credential{Token: tok}); err != ErrExpired {
				t.Error(err)
			}
			if _, _, err = a.IssueToken(ctx, "nobody", "", 0); !errors.Is(err, ErrNoUser) {
				t.Error(err)
			}
			if _, _, err = a.IssueToken(ctx, "alice", "a\n", 0); err == nil {
				t.Error("bad device")
			}
			if _, _, err = a.IssueToken(ctx, "alice", "", -time.Hour); err == nil {
				t.Error("negative life")
			}
			// The name's next owner is somebody else.
			tok, _, err = a.IssueToken(ctx, "alice", "", 0)
			must(t, err)
			must(t, a.Remove(ctx, "alice"))
			time.Sleep(time.Minute)
			must(t, a.Add(ctx, "alice", "secret", RoleUser))
			if _, err := a.Verify(ctx, Credential{Token: tok}); err != ErrDenied {
				t.Error("token of the older account:", err)
			}
		}
		a := newAlice(t, Config{Tokens: TokenConfig{Keys: []TokenKey{{Algorithm: "EdDSA", Key: publicPEM()}}}})
		if _, _, err := a.IssueToken(ctx, "alice", "", 0); err != ErrNoSigningKey {
			t.Error(err)
		}
	})
}

func TestTokenKeys(t *testing.T) {
	file := func(s string) string {
		p := filepath.Join(t.TempDir(), "key")
		must(t, os.WriteFile(p, []byte(s), 0o600))
		return p
	}
	b64 := func(b []byte) string { return "base64:" + base64.RawURLEncoding.EncodeToString(b) }
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	for _, text := range []string{
		"HS256:" + secret,
		"k=HS256:" + b64([]byte(secret)),
		"HS256:file:" + file(secret+"\n"),
		"k=EdDSA:file:" + file(privatePEM()),
		"EdDSA:" + publicPEM(),
		"EdDSA:" + b64(public),
		"EdDSA:file:" + file(b64(private)+"\n"),
	} {
		var k TokenKey
		must(t, k.UnmarshalText([]byte(text)))
		if _, err := k.read(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if s := k.String(); strings.Contains(s, secret) || k.Key != "" && strings.Contains(s, k.Key) {
			t.Errorf("String shows the key: %s", s)
		}
	}
	broken := append([]byte{}, private...)
	broken[63]++
	for text, want := range map[string]string{
		"HS256":                    "a token key is",
		"HS256:":                   "has no key",
		"HS256:short":              "at least 32",
		"HS256:base64:!!":          "not base64",
		"HS256:" + publicPEM():     "HS256 takes a secret",
		"HS256:file:/does/not/be":  "no such file",
		"RS256:" + secret:          "there are HS256 and EdDSA",
		"none:" + secret:           "there are HS256 and EdDSA",
		"EdDSA:" + secret:          "not PEM",
		"EdDSA:" + b64(public[1:]): "31 bytes",
		"EdDSA:" + b64(broken):     "does not belong",
		"EdDSA:" + pemOf("PRIVATE KEY", ecDER, err):            "not an Ed25519 key",
		"EdDSA:" + pemOf("CERTIFICATE", []byte("x"), nil):      "takes a PUBLIC KEY or PRIVATE KEY",
		"EdDSA:" + pemOf("PUBLIC KEY", []byte("rubbish"), nil): "asn1",
	} {
		var k TokenKey
		err := k.UnmarshalText([]byte(text))
		if err == nil {
			_, err = k.read()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v; want %q", text, err, want)
		}
	}
	if _, err := (TokenKey{Algorithm: "HS256", Key: secret, File: "x"}).read(); err == nil {
		t.Error("both key and file")
	}
}

func TestOpenErrors(t *testing.T) {
	k := TokenKey{ID: "a", Algorithm: "HS256", Key: secret}
	for _, cfg := range []Config{
		{},
		{Domain: "Example.org"},
		{Domain: "a b"},
		{Domain: "x", Iterations: 100},
		{Domain: "x", Workers: 1},
		{Domain: "x", Queue: -1},
		{Domain: "x", Failures: -1},
		{Domain: "x", MaxWait: -1},
		{Domain: "x", Tokens: TokenConfig{Leeway: -1}},
		{Domain: "x", Tokens: TokenConfig{Keys: []TokenKey{{}}}},
		{Domain: "x", Tokens: TokenConfig{Keys: []TokenKey{k, k}}},
	} {
		if _, err := Open(t.Context(), newMail(t), cfg); err == nil {
			t.Errorf("%+v: opened", cfg)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OTl9.")
	f.Add("eyJhbGciOiJFZERTQSIsImtpZCI6W119.eyJzdWIiOjF9.AA")
	ts, err := newTokens(TokenConfig{Keys: []TokenKey{{Algorithm: "HS256", Key: secret}, {ID: "ed", Algorithm: "EdDSA", Key: publicPEM()}}})
	must(f, err)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := ts.parse(s); err == nil {
			t.Fatalf("%q is good", s)
		}
	})
}
