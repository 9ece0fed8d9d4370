package router_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
)

func TestDevices(t *testing.T) { synctest.Test(t, testDevices) }

func testDevices(t *testing.T) {
	r, ml := house(t, mem.Options{})
	const bob = "bob@localhost"
	for range 3 {
		say(t, r, who("alice", "web"), "bob", "", "hi")
	}
	list := func(want string) {
		t.Helper()
		ds, err := r.Devices(t.Context(), bob)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, d := range ds {
			got += fmt.Sprint(d.Name, " ", d.Online, " ", d.Behind, "; ")
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	list("")
	ml.MoveCursor(bob, "old", 1)
	list("old false 2; ")
	time.Sleep(time.Second)
	p := newPeer()
	s, err := r.Attach(t.Context(), router.Link, auth.Who{User: bob, Device: "phone"}, p)
	if err != nil {
		t.Fatal(err)
	}
	list("phone true 3; old false 2; ")
	next(t, s, p, 10)
	s.Ack(3)
	list("phone true 0; old false 2; ")

	r.Forget(bob, "old")
	r.Forget(bob, "never")
	list("phone true 0; ")
	// The one that is connected is ended, and what it still acknowledges does
	// not bring it back.
	r.Forget(bob, "phone")
	if end := p.ended(); len(end) != 1 || end[0] != router.Removed {
		t.Errorf("ended with %v", end)
	}
	say(t, r, who("alice", "web"), "bob", "", "hi")
	s.Next(nil, 10)
	s.Ack(4)
	s.Close()
	list("")
}

// So many devices an account may have. A new one beyond that takes the place of
// the one that was there least lately, but not of one that is connected.
func TestDevicesAreBounded(t *testing.T) { synctest.Test(t, testDevicesAreBounded) }

func testDevicesAreBounded(t *testing.T) {
	st := mem.New(mem.Options{})
	defer st.Close()
	ml := mailbox.New(st, mailbox.Limits{Devices: 3})
	r := router.New(t.Context(), ml, accounts{"alice@localhost", "bob@localhost"}, "localhost")
	var gone []string
	r.OnForget(func(user, device string) { gone = append(gone, user+" "+device) })
	say(t, r, who("alice", "a"), "bob", "1", "one")
	p := newPeer()
	come := func(device string) (*router.Session, error) {
		return r.Attach(t.Context(), router.Link, who("bob", device), p)
	}
	has := func(want ...string) {
		t.Helper()
		ds, err := r.Devices(t.Context(), "bob@localhost")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range ds {
			got = append(got, d.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("devices %q, want %q", got, want)
		}
	}
	var open []*router.Session
	for _, device := range []string{"d1", "d2", "d3"} {
		s, err := come(device)
		if err != nil {
			t.Fatal(err)
		}
		next(t, s, p, 1)
		s.Ack(1)
		time.Sleep(time.Second)
		open = append(open, s)
	}
	if _, err := come("d4"); err != router.ErrDevices {
		t.Errorf("a fourth, while three are connected: %v", err)
	}
	if err := r.Admit(t.Context(), "bob@localhost", "d4"); err != router.ErrDevices {
		t.Errorf("the same, who knows his place: %v", err)
	}
	if s, err := come("d2"); err != nil { // one of the three, once more
		t.Error(err)
	} else {
		s.Close()
	}
	open[1].Close()
	open[0].Close()
	has("d1", "d2", "d3")
	s, err := come("d4")
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, p, 1)
	s.Ack(1)
	has("d2", "d3", "d4")
	if want := []string{"bob@localhost d1"}; !slices.Equal(gone, want) {
		t.Errorf("forgotten are %q", gone)
	}
	s.Close()
	open[2].Close()
}
