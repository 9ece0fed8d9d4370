package router_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
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
