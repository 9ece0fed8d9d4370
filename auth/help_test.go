package auth

import (
	"net/netip"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

// here and there are addresses that logins come from.
var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("2001:db8::1")
)

func newMail(t testing.TB) *mailbox.Mail {
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	mail := mailbox.New(st, mailbox.Limits{})
	mail.Watch(func(string, mailbox.Seq) {})
	return mail
}

func open(t testing.TB, mail *mailbox.Mail, cfg Config) *Auth {
	cfg.Domain = "localhost"
	if cfg.Iterations == 0 {
		cfg.Iterations = minIterations
	}
	a, err := Open(t.Context(), mail, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newAlice returns an Auth with alice, whose password is "secret".
func newAlice(t testing.TB, cfg Config) *Auth {
	a := open(t, newMail(t), cfg)
	must(t, a.Add(t.Context(), "alice", "secret", RoleUser))
	return a
}
