package client_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
)

// A word of the moment is said by whichever way there is, and lost without one.
func TestSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		heard := make(chan link.Signal, 10)
		bob, err := link.Open(t.Context(), link.Config{
			Options:  client.Options{User: "bob", Password: "secret", Device: "pad"},
			Dial:     h.tcp,
			OnSignal: func(g link.Signal) { heard <- g },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer bob.Close()
		links := func(c *client.Config) {
			c.Ways = []client.Way{link.Way("link", link.Config{Dial: h.tcp, OnSignal: func(link.Signal) {}})}
		}
		polls := func(c *client.Config) { c.Ways = h.ways()[2:] }
		for way, only := range map[string]func(*client.Config){"online link": links, "online poll": polls} {
			h.refuse.Store(true)
			alice := h.open(t, "alice", only)
			if alice.Signal("bob", "composing", nil) {
				t.Errorf("%s: said without a connection", way)
			}
			h.refuse.Store(false)
			alice.await(way)
			if !alice.Signal("bob", "x-poke", []byte{0, 255}) || !alice.Signal("bob/pad", "composing", nil) {
				t.Errorf("%s: lost at once", way)
			}
			got := map[string]string{}
			for range 2 {
				select {
				case g := <-heard:
					got[g.Kind] = g.From + " " + string(g.Body)
				case <-time.After(time.Minute):
					t.Fatalf("%s: not heard", way)
				}
			}
			if got["composing"] != "alice@localhost " || got["x-poke"] != "alice@localhost \x00\xff" {
				t.Errorf("%s: %q", way, got)
			}
			if way == "online poll" && alice.Signal("bob", "online", nil) {
				t.Error("presence was said by poll")
			}
			alice.Close()
		}
	})
}
