package auth

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// try logs in and says how it ended and how long it took.
func try(t *testing.T, a *Auth, user, password string, from netip.Addr) (took time.Duration, err error) {
	start := time.Now()
	_, err = a.Verify(t.Context(), Credential{User: user, Password: password, From: from})
	return time.Since(start), err
}

func TestBackoffAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlice(t, Config{Failures: 3, MaxWait: 5 * time.Second})
		var took []time.Duration
		for i := range 8 { // at another name each, so that only the address counts
			d, err := try(t, a, fmt.Sprint("name", i), "x", here)
			want := ErrDenied
			if i == 7 {
				want = ErrBusy
			}
			if err != want {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
			took = append(took, d)
		}
		s := time.Second
		if got, want := fmt.Sprint(took), fmt.Sprint([]time.Duration{0, 0, 0, 0, s, 2 * s, 4 * s, 0}); got != want {
			t.Errorf("waited %v; want %v", got, want)
		}
		// Neither does the right password help there, nor does another address suffer.
		if _, err := try(t, a, "alice", "secret", here); err != ErrBusy {
			t.Error(err)
		}
		if d, err := try(t, a, "alice", "secret", there); err != nil || d != 0 {
			t.Error(err, d)
		}
		// It is forgotten after a while.
		time.Sleep(10 * time.Minute)
		for i := range 4 {
			if d, err := try(t, a, fmt.Sprint("name", i), "x", here); err != ErrDenied || d != 0 {
				t.Error(err, d)
			}
		}
	})
}

func TestBackoffAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlice(t, Config{Failures: 3, MaxWait: 10 * time.Second})
		if _, err := try(t, a, "alice", "secret", here); err != nil { // at home
			t.Fatal(err)
		}
		must(t, a.SetPassword(t.Context(), "alice", "hunter2"))
		key, err := a.AddKey(t.Context(), "alice", "k")
		must(t, err)
		i := 0
		next := func() netip.Addr { // each a network of its own
			i++
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", i))
		}
		var took []time.Duration
		for range 8 {
			d, err := try(t, a, "alice", "x", next())
			if err != ErrDenied {
				t.Fatal(err)
			}
			took = append(took, d)
		}
		s := time.Second
		if got, want := fmt.Sprint(took), fmt.Sprint([]time.Duration{0, 0, 0, 0, s, 2 * s, 4 * s, 4 * s}); got != want {
			t.Errorf("waited %v; want %v", got, want)
		}
		// The owner: at once at home, soon elsewhere, at once with a key.
		if d, err := try(t, a, "alice", "hunter2", here); err != nil || d != 0 {
			t.Error("at home:", err, d)
		}
		if d, err := try(t, a, "alice", "hunter2", there); err != nil || d != 4*s {
			t.Error("elsewhere:", err, d)
		}
		if d, err := try(t, a, "alice", key, next()); err != nil || d != 0 {
			t.Error("with a key:", err, d)
		}
		// A success does not give the attackers another three.
		if d, err := try(t, a, "alice", "x", next()); err != ErrDenied || d == 0 {
			t.Error("attacker after a success:", err, d)
		}
		// A name that nobody has is held the same way.
		for range 4 {
			try(t, a, "nobody", "x", next())
		}
		if d, err := try(t, a, "nobody", "x", next()); err != ErrDenied || d != s {
			t.Error("unknown name:", err, d)
		}
	})
}

// Many attackers at once: the account takes one attempt in four seconds, and
// its owner is served in the end although he has never been here before.
func TestBackoffUnderSiege(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlice(t, Config{})
		stop := time.Now().Add(20 * time.Minute)
		var all sync.WaitGroup
		for i := range 60 {
			from := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", i+1))
			all.Go(func() {
				for time.Now().Before(stop) {
					try(t, a, "alice", "x", from)
					time.Sleep(time.Second)
				}
			})
		}
		all.Go(func() {
			time.Sleep(10 * time.Minute)
			for start := time.Now(); ; time.Sleep(7 * time.Second) {
				if _, err := try(t, a, "alice", "secret", here); err == nil {
					t.Logf("the owner was in after %v", time.Since(start))
					return
				} else if time.Now().After(stop) {
					t.Error("the owner was kept out")
					return
				}
			}
		})
		all.Wait()
		if n := a.Stats().Hashes; n > 400 {
			t.Errorf("the attackers had %d guesses in 20 minutes", n)
		}
	})
}

func TestBackoffHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlice(t, Config{Failures: 3})
		must(t, a.Add(t.Context(), "bob", "secret", RoleUser))
		for _, user := range []string{"alice", "bob"} {
			if _, err := try(t, a, user, "secret", here); err != nil {
				t.Fatal(err)
			}
		}
		// Alice's old phone goes on and on. That concerns nobody else here.
		for range 10 {
			try(t, a, "alice", "old", here)
		}
		if _, err := try(t, a, "alice", "secret", here); err != ErrBusy {
			t.Error("alice:", err)
		}
		if d, err := try(t, a, "bob", "secret", here); err != nil || d != 0 {
			t.Error("bob:", err, d)
		}
		if d, err := try(t, a, "carol", "x", here); err != ErrDenied || d != 0 {
			t.Error("carol:", err, d)
		}
		if d, err := try(t, a, "alice", "secret", there); err != nil || d != 0 {
			t.Error("alice elsewhere:", err, d)
		}
	})
}

func TestBackoffRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlice(t, Config{Failures: 1, Workers: 4})
		var busy, denied int
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 8 {
			from := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", i+1))
			try(t, a, fmt.Sprint("a", i), "x", from)
			try(t, a, fmt.Sprint("a", i), "x", from)
			all.Go(func() {
				_, err := try(t, a, fmt.Sprint("b", i), "x", from)
				mu.Lock()
				defer mu.Unlock()
				switch err {
				case ErrBusy:
					busy++
				case ErrDenied:
					denied++
				}
			})
		}
		all.Wait()
		if denied != 2 || busy != 6 {
			t.Errorf("%d waited, %d were refused; there is room for two", denied, busy)
		}
	})
}

func TestNetwork(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:0:1:2:3:4:5", "2001:db8:0:1::"},
		{"fe80::1%eth0", "fe80::"},
	} {
		if got := network(netip.MustParseAddr(tc.in)); got.String() != tc.want {
			t.Errorf("%s: %s", tc.in, got)
		}
	}
	if network(netip.Addr{}).IsValid() {
		t.Error("no address became one")
	}
}

func TestRecentIsBounded(t *testing.T) {
	r := recent[int, int]{max: 10}
	for i := range 1000 {
		r.put(i, i)
		if v, ok := r.get(i); !ok || v != i {
			t.Fatal(i)
		}
		if _, ok := r.get(0); !ok { // used all the time, so kept
			t.Fatalf("0 was dropped at %d", i)
		}
		if n := len(r.young) + len(r.old); n > 20 {
			t.Fatalf("%d entries", n)
		}
	}
	r.del(0)
	if _, ok := r.get(0); ok {
		t.Error("still there")
	}
}
