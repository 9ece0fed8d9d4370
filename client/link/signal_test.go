package link

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/store/mem"
)

func TestSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		heard := make(chan string, 100)
		listen := func(name string) func(*Config) {
			return func(c *Config) {
				c.OnSignal = func(s Signal) {
					heard <- fmt.Sprintf("%s: %s/%s %s %q", name, s.From, s.Device, s.Kind, s.Body)
				}
			}
		}
		next := func(want string) {
			t.Helper()
			synctest.Wait()
			got := "nothing"
			select {
			case got = <-heard:
			default:
			}
			if got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		}
		alice := h.login(t, "alice", "phone", listen("alice"), func(c *Config) {
			c.ShowTo = func(who string) bool { return who == "bob@localhost" }
		})
		wire := h.last()
		bob := h.login(t, "bob", "pad", listen("bob"))
		deaf := h.login(t, "bob", "deaf")
		if !alice.Signal("bob", "composing", nil) || !alice.Signal("bob/pad", "x-poke", []byte("hi")) {
			t.Error("lost")
		}
		next(`bob: alice@localhost/phone composing ""`)
		next(`bob: alice@localhost/phone x-poke "hi"`)
		if deaf.Signal("alice", "composing", nil) || alice.Signal("bob", "", nil) || alice.Signal("bob", "x", make([]byte, 1025)) {
			t.Error("said what it cannot say")
		}
		// Bob asks; she is online, then not, then again by herself.
		bob.Signal("alice", "ask", nil)
		next(`alice: bob@localhost/pad ask ""`)
		next(`bob: alice@localhost/phone online ""`)
		if !bob.Online("alice@localhost") || bob.Online("carol@localhost") {
			t.Error("who is online?")
		}
		wire.Close()
		next(`bob: alice@localhost/phone offline ""`)
		if bob.Online("alice@localhost") {
			t.Error("still online")
		}
		time.Sleep(time.Minute)
		next(`bob: alice@localhost/phone online ""`)
		alice.Hide("bob@localhost")
		next(`bob: alice@localhost/phone offline ""`)
		alice.Close()
		next("nothing")
		if alice.Signal("bob", "composing", nil) {
			t.Error("said after Close")
		}
	})
}
