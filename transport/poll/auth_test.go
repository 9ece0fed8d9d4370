package poll

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/store/mem"
)

const tokenSecret = "0123456789abcdef0123456789abcdef"

func testTokens(t testing.TB) auth.TokenConfig {
	var k auth.TokenKey
	if err := k.UnmarshalText([]byte("test=HS256:" + tokenSecret)); err != nil {
		t.Fatal(err)
	}
	return auth.TokenConfig{Keys: []auth.TokenKey{k}}
}

func (h *house) token(user, device string, life time.Duration) string {
	h.t.Helper()
	claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(life).Unix()}
	if device != "" {
		claims["device"] = device
	}
	tk := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	tk.Header["kid"] = "test"
	s, err := tk.SignedString([]byte(tokenSecret))
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func TestLogin(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	h.dialog(strings.NewReplacer(
		"GOOD", h.token("bob", "", time.Hour), "PHONE", h.token("bob", "phone", time.Hour),
		"OLD", h.token("bob", "", -time.Hour), "NOBODY", h.token("nobody", "", time.Hour)).Replace(`
		> GET /v1/inbox
		401 {"type":"urn:posthouse:problem:not-authorized",*"field":"Authorization"}
		< WWW-Authenticate: Basic realm="posthouse", charset="UTF-8", Bearer realm="posthouse"
		> GET /v1/inbox
		+ Authorization: Basic Ym9iOndyb25n
		401 {"type":"urn:posthouse:problem:not-authorized",*
		> GET /v1/inbox
		+ Authorization: Basic !!!
		401 *
		> GET /v1/inbox
		+ Authorization: Negotiate abc
		401 *
		> GET /v1/inbox
		+ Authorization: Bearer GOOD
		200 *
		> GET /v1/inbox
		+ Authorization: bearer GOOD
		200 *
		> GET /v1/inbox
		+ Authorization: Bearer OLD
		401 {"type":"urn:posthouse:problem:token-expired",*
		< WWW-Authenticate: Basic *, Bearer realm="posthouse", error="invalid_token", *
		> GET /v1/inbox
		+ Authorization: Bearer NOBODY
		401 {"type":"urn:posthouse:problem:not-authorized",*
		> POST /v1/messages {"to":"alice","body":"hi"}
		+ Authorization: Bearer OLD
		401 *
		# A token that names a device is good for that one.
		> GET /v1/inbox?device=laptop
		+ Authorization: Bearer PHONE
		403 {"type":"urn:posthouse:problem:forbidden",*"field":"device"}
		> POST /v1/messages {"to":"alice","body":"hi"}
		+ Authorization: Bearer PHONE
		200 *
		alice> GET /v1/inbox
		200 {"messages":[{"seq":1,*"device":"phone",*}],"next":"*"}
	`))
	key, err := h.core.Auth.AddKey(t.Context(), "shop", "test")
	if err != nil {
		t.Fatal(err)
	}
	h.dialog(strings.ReplaceAll(`
		> GET /v1/presence?user=bob
		+ Authorization: Bearer KEY
		200 {"user":"bob@localhost","sessions":[]}
		> GET /v1/presence?user=nobody
		+ Authorization: Bearer KEY
		404 {"type":"urn:posthouse:problem:unknown-recipient",*
		bob> GET /v1/presence?user=alice
		403 {"type":"urn:posthouse:problem:forbidden",*
		bob> GET /v1/presence?user=BOB@localhost
		200 {"user":"bob@localhost","sessions":[]}
	`, "KEY", key))
}

// Guessing costs time, then is refused, and the door says when to come back.
func TestBusy(t *testing.T) {
	core, store := newCoreAuth(t, mem.Options{}, auth.Config{Failures: 1, MaxWait: time.Millisecond})
	h := serve(t, core, store, Config{})
	h.dialog(`
		> GET /v1/inbox
		+ Authorization: Basic Ym9iOndyb25n
		401 *
		> GET /v1/inbox
		+ Authorization: Basic Ym9iOndyb25n
		4*
		> GET /v1/inbox
		+ Authorization: Basic Ym9iOndyb25n
		429 {"type":"urn:posthouse:problem:too-many",*
		< Retry-After: 5
	`)
}

func TestSecure(t *testing.T) {
	h := newHouse(t, Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8")}}, mem.Options{})
	// The peer is on this machine, and a proxy: its word counts.
	h.dialog(`
		bob> GET /v1/inbox
		200 *
		bob> GET /v1/inbox
		+ X-Forwarded-Proto: http
		403 {"type":"urn:posthouse:problem:insecure",*
		bob> GET /v1/inbox
		+ X-Forwarded-For: 192.0.2.1
		403 {"type":"urn:posthouse:problem:insecure",*
		bob> GET /v1/inbox
		+ X-Forwarded-Proto: https
		200 *
	`)
	newHouse(t, Config{}, mem.Options{}).dialog(`
		# A proxy nobody has told us of: it may be speaking plainly with anybody.
		bob> GET /v1/inbox
		+ X-Forwarded-For: 192.0.2.1
		+ X-Forwarded-Proto: https
		403 {"type":"urn:posthouse:problem:insecure",*
	`)
	for _, c := range []struct{ forwarded, want string }{
		{"", "127.0.0.1"},
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1, 10.1.2.3", "192.0.2.1"},
		{"6.6.6.6, 192.0.2.1, 10.1.2.3", "192.0.2.1"}, // the first was written by the client
		{"192.0.2.1:1234", "192.0.2.1"},
		{"6.6.6.6, garbage", "127.0.0.1"},
		{"2001:db8::1", "2001:db8::1"},
	} {
		r := h.request("bob", "GET", "/", "", "X-Forwarded-For: "+c.forwarded)
		r.RemoteAddr = "127.0.0.1:1"
		if got := h.srv.remote(r); got != netip.MustParseAddr(c.want) {
			t.Errorf("%q: %s, want %s", c.forwarded, got, c.want)
		}
		r.RemoteAddr = "192.0.2.9:1" // not a proxy
		if got := h.srv.remote(r); got != netip.MustParseAddr("192.0.2.9") {
			t.Errorf("%q from a stranger: %s", c.forwarded, got)
		}
		r.Header.Set("X-Forwarded-Proto", "https")
		if h.srv.secure(r) {
			t.Error("a stranger's X-Forwarded-Proto was believed")
		}
	}
}
