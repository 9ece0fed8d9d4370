package mqtt

import (
	"testing"
	"testing/synctest"
	"time"
)

// A token stands in the place of a password, for its device, until it ends.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		token, _, err := h.core.Auth.IssueToken(t.Context(), "alice", "phone", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		h.play(`
			a C: CONNECT 5 clean id=pad user=alice pw=` + token + `
			a S: CONNACK 0x85
			a S: --
			a C: CONNECT 5 clean id=phone user=bob pw=` + token + `
			a S: CONNACK 0x87
			a S: --
			a C: CONNECT 5 clean id=phone user=alice keep=30 pw=` + token + `
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 im/inbox/# q1
			a S: SUBACK #1 0x01
			b C: CONNECT 5 clean id=phone pw=` + token + `
			a S: DISCONNECT 0x8e
			a S: --
			b S: CONNACK 0x00 *
			~ 40s
			b C: PINGREQ
			b S: PINGRESP
			~ 21s
			b S: DISCONNECT 0x87
			b S: --
			~ 60s
			b C: CONNECT 5 clean id=phone pw=` + token + `
			b S: CONNACK 0x87
		`)
	})
}

// An account that is removed takes its connections and sessions along.
func TestAccountRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(`
			a C: CONNECT 5 id=a user=alice session-expiry-interval=1000
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 x q1
			a S: SUBACK #1 0x01
			away C: CONNECT 5 id=away user=alice session-expiry-interval=1000
			away S: CONNACK 0x00 *
			away --
			b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
			b S: CONNACK 0x00 *
		`)
		if err := h.core.Auth.Remove(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		h.play(`
			a S: DISCONNECT 0x87
			a S: --
			b C: PINGREQ
			b S: PINGRESP
		`)
		if st := h.srv.Stats(); st.Sessions != 1 || st.Subscriptions != 0 || st.Away != 0 {
			t.Errorf("%+v", st)
		}
	})
}
