package router_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
)

func TestRate(t *testing.T) {
	now := time.Now()
	var r router.Rate
	said := func() (n int) {
		for r.Take(5, now) {
			n++
		}
		return n
	}
	if n := said(); n != 20 || r.Full(now) {
		t.Errorf("%d at once", n)
	}
	now = now.Add(time.Second)
	if n := said(); n != 5 {
		t.Errorf("%d in a second", n)
	}
	now = now.Add(time.Hour)
	if !r.Full(now) {
		t.Error("an hour was not enough")
	}
	now = now.Add(-time.Hour) // a clock that is set back
	if n := said(); n != 20 {
		t.Errorf("%d after an hour", n)
	}
}

// ear is a peer that takes signals.
type ear struct {
	*peer
	heard []string
}

func (e *ear) Signal(device string, s *router.Signal) bool {
	e.heard = append(e.heard, fmt.Sprint(s.From, "/", s.Device, " to ", s.To, "/", device, ": ", s.Kind))
	return true
}

func TestSignal(t *testing.T) {
	r, _ := house(t, mem.Options{})
	phone, pad, deaf := &ear{peer: newPeer()}, &ear{peer: newPeer()}, newPeer()
	attach := func(device string, c router.Client) *router.Session {
		return r.AttachAt(router.Link, auth.Who{User: "bob@localhost", Device: device}, c, 0)
	}
	attach("phone", phone)
	s := attach("pad", pad)
	attach("deaf", deaf)
	tell := func(to, from, device string, want int) {
		t.Helper()
		n, err := r.Signal(to, &router.Signal{Door: router.Link, From: from, Device: device, Kind: "composing"})
		if n != want || err != nil {
			t.Errorf("to %s: told %d, %v; want %d", to, n, err, want)
		}
	}
	tell("bob", "alice@localhost", "web", 2)
	tell("bob@localhost/pad", "alice@localhost", "web", 1)
	tell("bob", "bob@localhost", "pad", 1) // not to the one that says it
	tell("alice", "bob@localhost", "pad", 0)
	s.Close()
	tell("bob", "alice@localhost", "web", 1)
	if want := []string{"alice@localhost/web to bob@localhost/pad: composing", "alice@localhost/web to bob@localhost/pad: composing"}; !slices.Equal(pad.heard, want) {
		t.Errorf("the pad heard %q", pad.heard)
	}
	if len(phone.heard) != 3 {
		t.Errorf("the phone heard %q", phone.heard)
	}
	if n := r.Stats(router.Link).Signals; n != 5 {
		t.Errorf("%d signals counted", n)
	}
	for to, want := range map[string]error{"nobody": router.ErrNoRecipient, "bob@example.org": router.ErrRemote} {
		if _, err := r.Signal(to, &router.Signal{From: "alice@localhost"}); !errors.Is(err, want) {
			t.Errorf("to %s: %v", to, err)
		}
	}
}
