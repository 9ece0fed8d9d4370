package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
)

func TestAccounts(t *testing.T) {
	ctx, mail := t.Context(), newMail(t)
	a := open(t, mail, Config{})
	var ended []string
	a.OnChange(func(user string) { ended = append(ended, user) })

	must(t, a.Add(ctx, "Alice", "secret", RoleUser))
	must(t, a.Add(ctx, "bob@localhost", "", RoleApp))
	if !a.Exists("alice@localhost") || !a.Exists("bob@localhost") || a.Exists("carol@localhost") || a.Exists("") {
		t.Error("wrong accounts exist")
	}
	for _, tc := range []struct {
		err, want error
	}{
		{a.Add(ctx, "alice", "x", RoleUser), ErrUserExists},
		{a.Add(ctx, "a b", "x", RoleUser), address.ErrInvalid},
		{a.Add(ctx, "carol@elsewhere", "x", RoleUser), ErrName},
		{a.Add(ctx, "carol/phone", "x", RoleUser), ErrName},
		{a.Add(ctx, "carol", "x\x00", RoleUser), ErrPassword},
		{a.Add(ctx, "carol", "pha_x", RoleUser), ErrPassword},
		{a.Add(ctx, "carol", strings.Repeat("x", MaxPassword+1), RoleUser), ErrPassword},
		{a.Add(ctx, "carol", "x", Role(9)), ErrRole},
		{a.Remove(ctx, "carol"), ErrNoUser},
		{a.SetPassword(ctx, "carol", "x"), ErrNoUser},
		{a.SetRole(ctx, "alice", Role(9)), ErrRole},
		{a.SetRole(ctx, "carol", RoleApp), ErrNoUser},
		{a.SetDisabled(ctx, "carol", true), ErrNoUser},
	} {
		if !errors.Is(tc.err, tc.want) {
			t.Errorf("%v; want %v", tc.err, tc.want)
		}
	}
	if len(ended) != 0 {
		t.Errorf("sessions ended: %q", ended)
	}
	must(t, a.SetRole(ctx, "alice", RoleAdmin))
	must(t, a.SetPassword(ctx, "alice", "other"))
	must(t, a.SetDisabled(ctx, "bob", true))
	if want := []string{"alice@localhost", "alice@localhost", "bob@localhost"}; !slices.Equal(ended, want) {
		t.Errorf("sessions ended: %q", ended)
	}

	b := open(t, mail, Config{}) // after a restart
	list, err := b.List(ctx)
	must(t, err)
	if len(list) != 2 || list[0].Created.IsZero() {
		t.Fatalf("%+v", list)
	}
	for i, want := range []Account{
		{User: "alice@localhost", Role: RoleAdmin, Password: true},
		{User: "bob@localhost", Role: RoleApp, Disabled: true},
	} {
		want.Created = list[i].Created
		if list[i] != want {
			t.Errorf("%+v; want %+v", list[i], want)
		}
	}
	must(t, b.Remove(ctx, "alice"))
	if b.Exists("alice@localhost") || !b.Exists("bob@localhost") || b.Stats().Accounts != 1 {
		t.Error("wrong accounts exist")
	}
}

// The next owner of a name does not get the mail of the last.
func TestRemoveDropsBox(t *testing.T) {
	ctx, mail := t.Context(), newMail(t)
	a := open(t, mail, Config{})
	must(t, a.Add(ctx, "alice", "secret", RoleUser))
	post := func() {
		must(t, mail.PostWait(ctx, &mailbox.Post{
			Message: mailbox.Message{From: "bob@localhost", To: "alice@localhost", Body: []byte("hi")},
			Boxes:   []string{"alice@localhost"},
		}))
	}
	has := func() int {
		es, _, _ := mail.Read(ctx, nil, "alice@localhost", 0, 10, 1<<20)
		return len(es)
	}
	post()
	must(t, a.Remove(ctx, "alice"))
	if has() != 0 {
		t.Error("the box is still there")
	}
	post() // as if we had been killed before it was dropped
	must(t, a.Add(ctx, "alice", "secret", RoleUser))
	if has() != 0 {
		t.Error("a new account has old mail")
	}
}

func TestAppKeys(t *testing.T) {
	ctx, mail := t.Context(), newMail(t)
	a := open(t, mail, Config{})
	must(t, a.Add(ctx, "shop", "secret", RoleAdmin))
	must(t, a.Add(ctx, "alice", "secret", RoleUser))
	key, err := a.AddKey(ctx, "shop", "web")
	must(t, err)
	if !strings.HasPrefix(key, "pha_") || len(key) != 47 {
		t.Errorf("key %q", key)
	}
	other, err := a.AddKey(ctx, "shop", "worker")
	must(t, err)

	want := Who{User: "shop@localhost", Role: RoleApp}
	for _, c := range []Credential{{Token: key}, {User: "shop", Password: key}, {User: "Shop@localhost", Password: other}} {
		if who, err := a.Verify(ctx, c); who != want || err != nil {
			t.Errorf("%+v: %+v, %v", c, who, err)
		}
	}
	for _, c := range []Credential{
		{Token: key[:46]}, {Token: key + "x"}, {Token: "pha_"}, {User: "alice", Password: key},
		{User: "nobody", Password: key}, {User: "shop", Token: key}, {Password: key, Token: key},
		{Token: newAppKey()}, {User: "shop", Password: newAppKey()},
	} {
		if who, err := a.Verify(ctx, c); err != ErrDenied {
			t.Errorf("%+v: %+v, %v", c, who, err)
		}
	}
	// No key is to be found in the store.
	must(t, mail.Scan(ctx, "", func(k string, v []byte) bool {
		if strings.Contains(k, key[4:]) || bytes.Contains(v, []byte(key[4:])) {
			t.Errorf("record %q has the key", k)
		}
		return true
	}))

	if _, err := a.AddKey(ctx, "shop", "web"); !errors.Is(err, ErrKeyExists) {
		t.Error(err)
	}
	for _, label := range []string{"", "a\nb", "\xff", strings.Repeat("x", 65)} {
		if _, err := a.AddKey(ctx, "shop", label); !errors.Is(err, ErrLabel) {
			t.Errorf("%q: %v", label, err)
		}
	}
	if _, err := a.AddKey(ctx, "nobody", "x"); !errors.Is(err, ErrNoUser) {
		t.Error(err)
	}
	if err := a.RemoveKey(ctx, "shop", "x"); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	must(t, a.RemoveKey(ctx, "shop", "web"))
	if _, err := a.Verify(ctx, Credential{Token: key}); err != ErrDenied {
		t.Error(err)
	}
	b := open(t, mail, Config{})
	if ks, err := b.ListKeys(ctx, "shop"); err != nil || len(ks) != 1 || ks[0].Label != "worker" {
		t.Error(ks, err)
	}
	for i := range MaxKeys - 1 {
		_, err := b.AddKey(ctx, "shop", fmt.Sprint(i))
		must(t, err)
	}
	if _, err := b.AddKey(ctx, "shop", "one more"); !errors.Is(err, ErrManyKeys) {
		t.Error(err)
	}
	// With the account go its keys.
	must(t, b.SetDisabled(ctx, "shop", true))
	if _, err := b.Verify(ctx, Credential{Token: other}); err != ErrDenied {
		t.Error(err)
	}
	must(t, b.Remove(ctx, "shop"))
	must(t, mail.Scan(ctx, keyPrefix, func(k string, _ []byte) bool {
		t.Errorf("record %q is left", k)
		return true
	}))
}

func TestRole(t *testing.T) {
	for _, r := range []Role{RoleUser, RoleApp, RoleAdmin} {
		b, err := r.MarshalText()
		must(t, err)
		var back Role
		if err := back.UnmarshalText(b); err != nil || back != r {
			t.Error(r, back, err)
		}
	}
	if _, err := ParseRole("root"); !errors.Is(err, ErrRole) {
		t.Error(err)
	}
}

func FuzzAccount(f *testing.F) {
	k := keys{4096, []byte("salt"), []byte("stored"), []byte("server")}
	f.Add((&account{}).encode())
	f.Add((&account{role: RoleAdmin, disabled: true, sha1: k, sha256: k, apps: []appKey{{label: "web"}, {label: "x"}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAccount(b)
		if err != nil {
			return
		}
		c, err := decodeAccount(a.encode())
		if err != nil || !bytes.Equal(a.encode(), c.encode()) {
			t.Fatalf("%x: %+v; %+v, %v", b, a, c, err)
		}
	})
}

// What others keep of somebody goes with his account, and what does not is told.
func TestOnRemove(t *testing.T) {
	a := newAlice(t, Config{})
	var calls []string
	var fails error
	a.OnChange(func(user string) { calls = append(calls, "end "+user) })
	a.OnRemove(func(_ context.Context, user string) error {
		if a.Exists(user) {
			t.Error("called before the account was removed")
		}
		calls = append(calls, "forget "+user)
		return fails
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the client has left
	must(t, a.Remove(ctx, "alice"))
	if want := []string{"end alice@localhost", "forget alice@localhost"}; !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
	must(t, a.Add(t.Context(), "alice", "secret", RoleUser))
	fails = errors.New("disk full")
	if err := a.Remove(t.Context(), "alice"); !errors.Is(err, fails) {
		t.Error(err)
	}
	// As long as it fails nobody gets the name.
	if err := a.Add(t.Context(), "alice", "secret", RoleUser); !errors.Is(err, fails) || a.Exists("alice@localhost") {
		t.Error(err)
	}
	fails, calls = nil, nil
	must(t, a.Add(t.Context(), "alice", "secret", RoleUser))
	must(t, a.Add(t.Context(), "carol", "secret", RoleUser))
	must(t, a.ForgetRemoved(t.Context()))
	if want := []string{"forget alice@localhost"}; !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
}

// What was not forgotten when the server was killed is when it is back.
func TestForgetRemoved(t *testing.T) {
	a := newAlice(t, Config{})
	a.OnRemove(func(context.Context, string) error { return errors.New("killed") })
	if err := a.Remove(t.Context(), "alice"); err == nil {
		t.Error("not killed")
	}
	b := open(t, a.mail, Config{})
	var calls []string
	b.OnRemove(func(_ context.Context, user string) error {
		calls = append(calls, user)
		return nil
	})
	must(t, b.ForgetRemoved(t.Context()))
	must(t, b.ForgetRemoved(t.Context()))
	if want := []string{"alice@localhost"}; !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
}
