package auth

import (
	"errors"
	"testing"
	"time"
)

func TestCertificate(t *testing.T) {
	cn := func(s string) *Certificate { return &Certificate{CommonName: s} }
	for _, tt := range []struct {
		name string // what is configured
		cert *Certificate
		user string // that the client names
		ok   bool
	}{
		{"", cn("alice"), "", true},
		{"cn", cn("alice@localhost"), "", true},
		{"cn", cn("alice"), "alice", true},
		{"cn", cn("alice"), "alice@localhost", true},
		{"cn", cn("alice"), "bob", false},
		{"cn", cn("bob"), "", false},
		{"cn", cn(""), "", false},
		{"cn", cn("alice@example.org"), "", false},
		{"cn", cn("alice@localhost/phone"), "", false},
		{"cn", &Certificate{Emails: []string{"alice@localhost"}}, "", false},
		{"email", &Certificate{CommonName: "carol", Emails: []string{"alice@localhost"}}, "", true},
		{"email", &Certificate{Emails: []string{"alice@example.org", "alice@localhost"}}, "", true},
		{"email", &Certificate{Emails: []string{"alice"}}, "", false},
		{"email", &Certificate{Emails: []string{"alice@localhost", "carol@localhost"}}, "", false},
		{"email", cn("alice"), "", false},
		{"dns", &Certificate{DNS: []string{"Alice.LOCALHOST"}}, "", true},
		{"dns", &Certificate{DNS: []string{"alice.example.org"}}, "", false},
		{"dns", &Certificate{DNS: []string{"x.alice.localhost"}}, "", false},
		{"dns", &Certificate{DNS: []string{"alice"}}, "", false},
		{"uri", &Certificate{URIs: []string{"urn:dev:7", "xmpp:alice@localhost"}}, "", true},
		{"uri", &Certificate{URIs: []string{"acct:alice@localhost"}}, "", true},
		{"uri", &Certificate{URIs: []string{"https:alice@localhost"}}, "", false},
		{"uri", &Certificate{URIs: []string{"xmpp:alice@localhost?message"}}, "", false},
		{"cn", &Certificate{CommonName: "alice", NotAfter: time.Now().Add(-time.Second)}, "", false},
	} {
		a := newAlice(t, Config{CertificateName: tt.name})
		who, err := a.Verify(t.Context(), Credential{Certificate: tt.cert, User: tt.user})
		if ok := err == nil && who.User == "alice@localhost"; ok != tt.ok {
			t.Errorf("%s %+v %s: %v %v", tt.name, tt.cert, tt.user, who, err)
		}
	}
}

// A certificate is worth what its account is.
func TestCertificateOfADisabledAccount(t *testing.T) {
	a := newAlice(t, Config{})
	must(t, a.SetRole(t.Context(), "alice", RoleAdmin))
	until := time.Now().Add(time.Hour)
	c := Credential{Certificate: &Certificate{CommonName: "alice", NotAfter: until}}
	who, err := a.Verify(t.Context(), c)
	must(t, err)
	if who.Role != RoleAdmin || !who.Expires.Equal(until) {
		t.Error(who)
	}
	// Together with a password only the password counts.
	if _, err := a.Verify(t.Context(), Credential{Certificate: c.Certificate, User: "alice", Password: "wrong"}); !errors.Is(err, ErrDenied) {
		t.Error(err)
	}
	must(t, a.SetDisabled(t.Context(), "alice", true))
	if _, err := a.Verify(t.Context(), c); !errors.Is(err, ErrDenied) {
		t.Error(err)
	}
}

func TestCertificateNameIsChecked(t *testing.T) {
	if _, err := Open(t.Context(), newMail(t), Config{Domain: "localhost", CertificateName: "serial"}); err == nil {
		t.Error("taken")
	}
}
