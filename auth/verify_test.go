package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

func TestPassword(t *testing.T) {
	ctx := t.Context()
	a := newAlice(t, Config{})
	want := Who{User: "alice@localhost"}
	for _, name := range []string{"alice", "ALICE", "alice@localhost", "alice@LOCALHOST."} {
		if who, err := a.Verify(ctx, Credential{User: name, Password: "secret", From: here}); who != want || err != nil {
			t.Errorf("%q: %+v, %v", name, who, err)
		}
	}
	must(t, a.SetPassword(ctx, "alice", "other"))
	if _, err := a.Verify(ctx, Credential{User: "alice", Password: "secret", From: here}); err != ErrDenied {
		t.Error("the old password:", err)
	}
	if _, err := a.Verify(ctx, Credential{User: "alice", Password: "other", From: here}); err != nil {
		t.Error("the new password:", err)
	}
	must(t, a.SetRole(ctx, "alice", RoleAdmin))
	if who, err := a.Verify(ctx, Credential{User: "alice", Password: "other", From: here}); who.Role != RoleAdmin || err != nil {
		t.Error(who, err)
	}
}

// A wrong password is a line of the log, in which it does not stand.
func TestWrongPasswordIsLogged(t *testing.T) {
	var log strings.Builder
	a := newAlice(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	a.Verify(t.Context(), Credential{User: "alice", Password: "guess", From: here})
	login(t, a, sha256Name, "alice", "guess", "", nil, nil, there)
	a.Verify(t.Context(), Credential{User: "alice", Password: "secret", From: here})
	a.Verify(t.Context(), Credential{User: "alice", Password: "guess", From: here})
	got := log.String()
	if strings.Count(got, `msg="wrong password" user=alice@localhost from=192.0.2.1`) != 2 ||
		strings.Count(got, `msg="wrong password" user=alice@localhost from=2001:db8::1`) != 1 ||
		strings.Count(got, "\n") != 3 || strings.Contains(got, "guess") {
		t.Error(got)
	}
}

// RFC 7677 section 3 and RFC 5802 section 5 have these in their examples.
func TestDerive(t *testing.T) {
	salt, _ := hex.DecodeString("5b6d99689d12358eeca04b141236fa81") // W22ZaJ0SNY7soEsUEjb6gQ==
	k := derive(sha256.New, "pencil", salt, 4096)
	// wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU= is the server key
	if got := hex.EncodeToString(k.server); got != "c1f3cbc1c13a9d35a14c0990eed97629ea225863e566a4314ab99f3f00e5d9d5" {
		t.Error(got)
	}
}

func TestPrepare(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"secret", "secret"},
		{"a b", "a b"},
		{"a\u00a0b", "a b"},
		{"I\u00adX", "IX"}, // RFC 4013 section 3
		{"\u2168", "IX"},
		{"e\u0301", "é"},
		{"pass🦊", "pass🦊"}, // younger than SASLprep
	} {
		if got, err := prepare(tc.in); got != tc.want || err != nil {
			t.Errorf("%q: %q, %v", tc.in, got, err)
		}
	}
	for _, in := range []string{"", "\x07", "a\u0627b\x00", "\xff", "\u00ad", strings.Repeat("a", MaxPassword+1)} {
		if got, err := prepare(in); !errors.Is(err, ErrPassword) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// Whatever is wrong, the answer is the same and so is the work.
func TestDeniedAlike(t *testing.T) {
	ctx := t.Context()
	a := newAlice(t, Config{Failures: 1000})
	must(t, a.Add(ctx, "nopass", "", RoleApp))
	must(t, a.Add(ctx, "gone", "secret", RoleUser))
	must(t, a.SetDisabled(ctx, "gone", true))
	_, err := a.Verify(ctx, Credential{User: "alice", Password: "secret", From: here})
	must(t, err)
	for _, c := range []Credential{
		{User: "alice", Password: "wrong"},
		{User: "alice", Password: ""},
		{User: "alice", Password: "secret\x00"},
		{User: "alice", Password: strings.Repeat("x", 100_000)},
		{User: "nobody", Password: "secret"},
		{User: "alice@elsewhere", Password: "secret"},
		{User: "alice/phone", Password: "secret"},
		{User: "a b", Password: "secret"},
		{User: "", Password: "secret"},
		{},
		{User: "nopass", Password: "secret"},
		{User: "nopass", Password: ""},
		{User: "gone", Password: "secret"},
	} {
		c.From = here
		before := a.Stats().Hashes
		if _, err := a.Verify(ctx, c); err != ErrDenied {
			t.Errorf("%.40q %.20q: %v", c.User, c.Password, err)
		}
		if n := a.Stats().Hashes - before; n != 1 {
			t.Errorf("%.40q %.20q: hashed %d times", c.User, c.Password, n)
		}
	}
	must(t, a.SetDisabled(ctx, "gone", false))
	if _, err := a.Verify(ctx, Credential{User: "gone", Password: "secret", From: here}); err != nil {
		t.Error(err)
	}
}

func TestRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		a := newAlice(t, Config{Remember: time.Minute})
		hashes := func(password string, want error) uint64 {
			t.Helper()
			before := a.Stats().Hashes
			if _, err := a.Verify(ctx, Credential{User: "alice", Password: password, From: here}); err != want {
				t.Errorf("%q: %v; want %v", password, err, want)
			}
			return a.Stats().Hashes - before
		}
		if n := hashes("secret", nil); n != 1 {
			t.Errorf("first: hashed %d times", n)
		}
		for range 100 {
			if n := hashes("secret", nil); n != 0 {
				t.Fatalf("again: hashed %d times", n)
			}
		}
		time.Sleep(time.Minute + 1)
		if n := hashes("secret", nil); n != 1 {
			t.Errorf("later: hashed %d times", n)
		}
		// A wrong one is hashed, too, and until the right one comes again nothing is remembered here.
		if n := hashes("wrong", ErrDenied); n != 1 {
			t.Errorf("wrong: hashed %d times", n)
		}
		if n := hashes("secret", nil); n != 1 {
			t.Errorf("right after wrong: hashed %d times", n)
		}
		if n := hashes("secret", nil); n != 0 {
			t.Errorf("again: hashed %d times", n)
		}
		must(t, a.SetPassword(ctx, "alice", "other"))
		if n := hashes("secret", ErrDenied); n != 1 {
			t.Errorf("old password: hashed %d times", n)
		}
		must(t, a.Remove(ctx, "alice"))
		hashes("other", ErrDenied)
	})
}

func TestVerifyEndsWithContext(t *testing.T) {
	a := newAlice(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range cap(a.hashing) {
		a.hashing <- struct{}{}
	}
	if _, err := a.Verify(ctx, Credential{User: "alice", Password: "secret"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A panic ends what waits for the check, and neither the server nor the pool.
func TestPanicInACheck(t *testing.T) {
	a := open(t, newMail(t), Config{})
	for range 3 {
		why := make(chan error)
		if !a.Go(func() error { panic("a bug") }, func(err error) { why <- err }) {
			t.Fatal("no room")
		}
		if err := <-why; err == nil || !strings.HasPrefix(err.Error(), "auth: panic: a bug\n") || errors.Is(err, ErrDenied) {
			t.Errorf("the check ended with %v", err)
		}
	}
	if n := a.Stats().Failed; n != 3 {
		t.Errorf("%d failed, want 3", n)
	}
}

func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, newMail(t), Config{Workers: 2, Queue: 3})
		var ran atomic.Int32
		var once sync.Once
		gate := make(chan struct{})
		defer once.Do(func() { close(gate) })
		f := func() error { <-gate; ran.Add(1); return nil }
		then := func(error) {}
		for i := range 5 {
			if !a.Go(f, then) {
				t.Fatalf("check %d was refused", i)
			}
		}
		if a.Go(f, then) {
			t.Error("there was no limit")
		}
		once.Do(func() { close(gate) })
		synctest.Wait()
		if ran.Load() != 5 {
			t.Errorf("%d ran", ran.Load())
		}
		if !a.Go(f, then) {
			t.Error("still full")
		}
		a.Close()
		if ran.Load() != 6 {
			t.Error("Close did not wait")
		}
		if a.Go(f, then) {
			t.Error("ran after Close")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	a := newAlice(b, Config{Iterations: defaultIterations})
	c := Credential{User: "alice", Password: "secret", From: here}
	b.Run("hashed", func(b *testing.B) {
		for b.Loop() {
			a.changed("alice@localhost")
			a.Verify(b.Context(), c)
		}
	})
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Verify(b.Context(), c)
		}
	})
	b.Run("exists", func(b *testing.B) {
		for b.Loop() {
			a.Exists("alice@localhost")
		}
	})
}

// panics is a store whose reads fail in the worst way.
type panics struct {
	mailbox.Store
	now atomic.Bool
}

func (p *panics) Get(ctx context.Context, key string) ([]byte, error) {
	if p.now.Load() {
		panic("out of order")
	}
	return p.Store.Get(ctx, key)
}

// What panics while a login is checked ends that login and not the server, and
// gives its place back.
func TestPanicIsContained(t *testing.T) {
	st := &panics{Store: mem.New(mem.Options{})}
	a := open(t, mailbox.New(st, mailbox.Limits{}), Config{})
	must(t, a.Add(t.Context(), "alice", "secret", RoleUser))
	st.now.Store(true)
	for range cap(a.hashing) + 1 {
		_, err := a.Verify(t.Context(), Credential{User: "alice", Password: "secret", From: here})
		if err == nil || errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "out of order") {
			t.Fatalf("Verify: %v", err)
		}
	}
	s, err := a.NewSCRAM(sha256Name, nil, here)
	must(t, err)
	if _, _, err := s.Step(t.Context(), []byte("n,,n=alice,r=x")); err == nil || errors.Is(err, ErrMalformed) {
		t.Errorf("Step: %v", err)
	}
	st.now.Store(false)
	if _, err := a.Verify(t.Context(), Credential{User: "alice", Password: "secret", From: here}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
