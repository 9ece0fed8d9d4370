package xmpp

import (
	"slices"
	"testing"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

// The next one of a name has nothing of the last one, whatever others still
// have to say to him.
func TestForget(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{}, -1)
	defer h.close()
	keys := func() (all []string) {
		h.core.Mail.Scan(t.Context(), "xmpp:", func(key string, _ []byte) bool {
			all = append(all, key)
			return true
		})
		return all
	}
	s := h.server
	for _, kind := range []string{"subscribe", "subscribed"} {
		for _, err := range []error{s.told("bob@localhost", kind, "alice@localhost"), s.told("alice@localhost", kind, "bob@localhost")} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	stay := append(keys(), vcardKey("bobby@localhost"), privatePrefix("alice@localhost")+"ns x")
	stay = slices.DeleteFunc(stay, func(key string) bool { return key == rosterKey("bob@localhost") })
	for _, key := range append(stay, vcardKey("bob@localhost"), privatePrefix("bob@localhost")+"ns x", privatePrefix("bob@localhost")+"ns y") {
		if err := h.core.Mail.Put(t.Context(), mailbox.Record{Key: key, Value: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	h.core.Auth.OnRemove(s.Forget)
	if err := h.core.Auth.Remove(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	slices.Sort(stay)
	if got := keys(); !slices.Equal(got, stay) {
		t.Errorf("left are %q, want %q", got, stay)
	}
	if err := s.told("bob@localhost", "unsubscribe", "alice@localhost"); err != nil {
		t.Error(err)
	}
	if _, _, err := s.change("bob@localhost", "alice@localhost", func(c *contact) bool { c.Hidden = false; return true }); err == nil {
		t.Error("the roster of nobody was changed")
	}
	if got := keys(); !slices.Equal(got, stay) {
		t.Errorf("afterwards there are %q", got)
	}
	if err := h.core.Auth.Add(t.Context(), "bob", "new", auth.RoleUser); err != nil {
		t.Fatal(err)
	}
	if r, err := s.readRoster(t.Context(), "bob@localhost"); err != nil || len(r.Items) != 0 {
		t.Errorf("the next bob's contacts: %+v, %v", r, err)
	}
}
