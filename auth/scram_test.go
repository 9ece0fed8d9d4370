package auth

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"
)

var (
	exporter = Binding{"tls-exporter", []byte("0123456789abcdef0123456789abcdef")}
	endpoint = Binding{"tls-server-end-point", []byte("fedcba9876543210fedcba9876543210")}
)

// login runs a whole SCRAM login; cb is what the client binds to, if any.
func login(t *testing.T, a *Auth, mechanism, user, password, authz string, server []Binding, cb *Binding, from netip.Addr) (Who, error) {
	t.Helper()
	h := scram.SHA256
	if strings.HasPrefix(mechanism, sha1Name) {
		h = scram.SHA1
	}
	c, err := h.NewClient(user, password, authz)
	must(t, err)
	conv := c.NewConversation()
	if cb != nil {
		conv = c.NewConversationWithChannelBinding(scram.ChannelBinding{Type: scram.ChannelBindingType(cb.Type), Data: cb.Data})
	}
	s, err := a.NewSCRAM(mechanism, server, from)
	must(t, err)
	m, err := conv.Step("")
	must(t, err)
	out, done, err := s.Step(t.Context(), []byte(m))
	if err != nil {
		return Who{}, err
	}
	if done {
		t.Error("done after the first message")
	}
	m, err = conv.Step(string(out))
	must(t, err)
	out, done, err = s.Step(t.Context(), []byte(m))
	if err != nil {
		if done || out != nil || s.Who() != (Who{}) {
			t.Errorf("failed, but %q %v %+v", out, done, s.Who())
		}
		return Who{}, err
	}
	if _, err := conv.Step(string(out)); err != nil || !conv.Valid() || !done {
		t.Errorf("the client does not believe %q: %v", out, err)
	}
	if _, _, err := s.Step(t.Context(), []byte(m)); err != ErrMalformed {
		t.Errorf("a third step: %v", err)
	}
	return s.Who(), nil
}

func TestSCRAM(t *testing.T) {
	a := newAlice(t, Config{Failures: 1000})
	must(t, a.Add(t.Context(), "zoë", "p\u00e4ss\u00a0w", RoleAdmin))
	must(t, a.Add(t.Context(), "gone", "secret", RoleUser))
	must(t, a.SetDisabled(t.Context(), "gone", true))
	must(t, a.Add(t.Context(), "nopass", "", RoleUser))
	both := []Binding{exporter, endpoint}
	other := Binding{"tls-exporter", []byte("somebody else's connection......")}
	for _, tc := range []struct {
		what, mechanism, user, password, authz string
		server                                 []Binding
		client                                 *Binding
		want                                   error
	}{
		{what: "plain", user: "alice", password: "secret"},
		{what: "full name", user: "Alice@localhost", password: "secret"},
		{what: "for himself", user: "alice", password: "secret", authz: "alice@localhost"},
		{what: "for another", user: "alice", password: "secret", authz: "zoë@localhost", want: ErrDenied},
		{what: "prepared", user: "zoë", password: "pa\u0308ss w"},
		{what: "wrong", user: "alice", password: "wrong", want: ErrDenied},
		{what: "unknown", user: "nobody", password: "secret", want: ErrDenied},
		{what: "no name", user: "a b", password: "secret", want: ErrDenied},
		{what: "disabled", user: "gone", password: "secret", want: ErrDenied},
		{what: "no password", user: "nopass", password: "secret", want: ErrDenied},
		{what: "bound", mechanism: plus, user: "alice", password: "secret", server: both, client: &exporter},
		{what: "bound to the end point", mechanism: plus, user: "alice", password: "secret", server: both, client: &endpoint},
		{what: "bound wrongly", mechanism: plus, user: "alice", password: "secret", server: both, client: &other, want: ErrDenied},
		{what: "bound to what we lack", mechanism: plus, user: "alice", password: "secret", server: both[:1], client: &endpoint, want: ErrDenied},
		{what: "PLUS, not bound", mechanism: plus, user: "alice", password: "secret", server: both, want: ErrDenied},
		{what: "bound without PLUS", user: "alice", password: "secret", server: both, client: &exporter, want: ErrDenied},
		{what: "client cannot bind", user: "alice", password: "secret", server: both},
	} {
		for _, base := range []string{sha1Name, sha256Name} {
			who, err := login(t, a, base+tc.mechanism, tc.user, tc.password, tc.authz, tc.server, tc.client, here)
			if err != tc.want {
				t.Errorf("%s, %s: %v", base, tc.what, err)
			} else if err == nil && !a.Exists(who.User) {
				t.Errorf("%s, %s: %+v", base, tc.what, who)
			}
		}
	}
	if who, err := login(t, a, sha256Name, "zoë", "päss w", "", nil, nil, here); who != (Who{User: "zoë@localhost", Role: RoleAdmin}) {
		t.Error(who, err)
	}
	if s := a.Stats(); s.Hashes != 0 || s.Accepted == 0 || s.Denied == 0 {
		t.Errorf("%+v", s)
	}
}

func TestSCRAMDowngrade(t *testing.T) {
	a := newAlice(t, Config{})
	// The client could bind but was not told that we can.
	s, err := a.NewSCRAM(sha256Name, []Binding{exporter}, here)
	must(t, err)
	if _, _, err := s.Step(t.Context(), []byte("y,,n=alice,r=abc")); err != ErrDenied {
		t.Error(err)
	}
	s, err = a.NewSCRAM(sha256Name, nil, here)
	must(t, err)
	if _, _, err := s.Step(t.Context(), []byte("y,,n=alice,r=abc")); err != nil {
		t.Error("we really cannot:", err)
	}
}

func TestSCRAMMechanisms(t *testing.T) {
	a := newAlice(t, Config{})
	for _, m := range Mechanisms([]Binding{exporter}) {
		if _, err := a.NewSCRAM(m, []Binding{exporter}, here); err != nil {
			t.Error(err)
		}
	}
	for _, m := range []string{"", "PLAIN", "SCRAM-SHA-512", "SCRAM-SHA-1-PLUS-PLUS", "scram-sha-1", "SCRAM-SHA-256-PLUS"} {
		if _, err := a.NewSCRAM(m, nil, here); !errors.Is(err, ErrMechanism) {
			t.Errorf("%q: %v", m, err)
		}
	}
	if got := strings.Join(Mechanisms(nil), " "); got != "SCRAM-SHA-256 SCRAM-SHA-1" {
		t.Error(got)
	}
}

func TestSCRAMMalformed(t *testing.T) {
	a := newAlice(t, Config{})
	for _, in := range []string{
		"", "x", "n,,", "n,,n=alice", "n,,n=alice,x=1", "q,,n=alice,r=1", "n,x,n=alice,r=1", "n,,n==,r=1", "n,a==,n=a,r=1",
		"n,,m=ext,n=alice,r=1", "p=,,n=alice,r=1", strings.Repeat("n", maxSCRAM+1),
	} {
		s, err := a.NewSCRAM(sha256Name, nil, here)
		must(t, err)
		if _, done, err := s.Step(t.Context(), []byte(in)); done || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrDenied) {
			t.Errorf("%.40q: %v %v", in, done, err)
		}
		if _, _, err := s.Step(t.Context(), []byte("c=biws,r=1,p=AAAA")); err != ErrMalformed {
			t.Errorf("%.40q: went on: %v", in, err)
		}
	}
	for _, in := range []string{"", "c=biws", "c=biws,r=1,p=!", "c=biws,r=1,p=AAAA", "c=,r=,p="} {
		s, err := a.NewSCRAM(sha256Name, nil, here)
		must(t, err)
		_, _, err = s.Step(t.Context(), []byte("n,,n=alice,r=abc"))
		must(t, err)
		if _, done, err := s.Step(t.Context(), []byte(in)); done || err != ErrMalformed && err != ErrDenied {
			t.Errorf("%q: %v %v", in, done, err)
		}
	}
}

// A challenge says nothing about whether the user exists, also after a restart.
func TestSCRAMTellsNothing(t *testing.T) {
	mail := newMail(t)
	challenge := func(a *Auth, mechanism, user string) string {
		s, err := a.NewSCRAM(mechanism, nil, here)
		must(t, err)
		out, _, err := s.Step(t.Context(), []byte("n,,n="+user+",r=abc"))
		must(t, err)
		_, salt, _ := strings.Cut(string(out), ",")
		return salt
	}
	a := open(t, mail, Config{})
	must(t, a.Add(t.Context(), "alice", "secret", RoleUser))
	must(t, a.Add(t.Context(), "nopass", "", RoleUser))
	b := open(t, mail, Config{})
	seen := map[string]string{}
	for _, m := range Mechanisms(nil) {
		for _, user := range []string{"alice", "nobody", "nopass", "somebody"} {
			one := challenge(a, m, user)
			if len(one) != len("s=0123456789012345678901==,i=4096") || !strings.HasSuffix(one, ",i=4096") {
				t.Errorf("%s: %q", user, one)
			}
			if two := challenge(a, m, strings.ToUpper(user)); two != one {
				t.Errorf("%s: %q, then %q", user, one, two)
			}
			if two := challenge(b, m, user); two != one {
				t.Errorf("%s: %q, after a restart %q", user, one, two)
			}
			if other, ok := seen[one]; ok {
				t.Errorf("%s and %s have one salt", user, other)
			}
			seen[one] = user
		}
	}
}

func TestSCRAMChangedMeanwhile(t *testing.T) {
	a := newAlice(t, Config{})
	c, err := scram.SHA256.NewClient("alice", "secret", "")
	must(t, err)
	conv := c.NewConversation()
	s, err := a.NewSCRAM(sha256Name, nil, here)
	must(t, err)
	m, _ := conv.Step("")
	out, _, err := s.Step(t.Context(), []byte(m))
	must(t, err)
	must(t, a.SetPassword(t.Context(), "alice", "other"))
	m, err = conv.Step(string(out))
	must(t, err)
	if _, _, err := s.Step(t.Context(), []byte(m)); err != ErrDenied {
		t.Error(err)
	}
}

func TestSCRAMBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlice(t, Config{Failures: 3})
		var took []time.Duration
		for range 5 {
			start := time.Now()
			if _, err := login(t, a, sha1Name, "alice", "wrong", "", nil, nil, here); err != ErrDenied {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		if took[3] != 0 || took[4] != time.Second {
			t.Errorf("waited %v", took)
		}
		// One count for all doors.
		if d, err := try(t, a, "alice", "wrong", here); err != ErrDenied || d != 2*time.Second {
			t.Error(err, d)
		}
		for range 3 {
			try(t, a, "alice", "wrong", here)
		}
		if _, err := login(t, a, sha1Name, "alice", "secret", "", nil, nil, here); err != ErrBusy {
			t.Error(err)
		}
	})
}

func FuzzSCRAM(f *testing.F) {
	f.Add("n,,n=alice,r=abc", "c=biws,r=abc,p=AAAA", false)
	f.Add("y,a=alice,n=al=2Cice,r=abc", "c=eSwsAAAA,r=abc,x=1,p=AAAA", true)
	f.Add("p=tls-exporter,,n=alice,r=abc", "c=", true)
	a := open(f, newMail(f), Config{})
	must(f, a.Add(f.Context(), "alice", "secret", RoleUser))
	i := 0
	f.Fuzz(func(t *testing.T, first, final string, bind bool) {
		i++ // from another address each time, so that nothing waits
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		var bs []Binding
		if bind {
			bs = []Binding{exporter}
		}
		for _, m := range Mechanisms(bs) {
			s, err := a.NewSCRAM(m, bs, from)
			must(t, err)
			if _, _, err := s.Step(t.Context(), []byte(first)); err != nil {
				continue
			}
			a.slow = newBackoff(1000, time.Second)
			if _, done, err := s.Step(t.Context(), []byte(final)); done || err == nil {
				t.Fatalf("%q, %q: logged in", first, final)
			}
		}
	})
}
