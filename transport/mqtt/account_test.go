package mqtt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
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

// ofAlice are the records that the door has of alice.
func ofAlice(t *testing.T, store mailbox.Store) (keys []string) {
	t.Helper()
	err := mailbox.New(store, mailbox.Limits{}).Scan(t.Context(), "mqtt/", func(key string, _ []byte) bool {
		if strings.Contains(key, "alice@localhost") {
			keys = append(keys, key)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// An account that is removed takes its connections and sessions along, with
// what waits for them and what they would have left behind. The next of that
// name begins anew.
func TestAccountRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{SysInterval: 1000 * time.Hour})
		defer func() { h.stop() }()
		begin := `
			a C: CONNECT 5 id=a user=alice session-expiry-interval=1000 will=w/a :gone
			a S: CONNACK 0x00 t*
			a C: SUBSCRIBE #1 x q1
			a S: SUBACK #1 0x01
			away C: CONNECT 5 id=away user=alice session-expiry-interval=1000 will=w/away will-delay-interval=250 :gone
			away S: CONNACK 0x00 t*
			away C: SUBSCRIBE #1 y q2
			away S: SUBACK #1 0x02
			away --
			short C: CONNECT 5 clean id=short user=alice will=w/short :gone
			short S: CONNACK 0x00 t*
		`
		h.play(begin + `
			b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
			b S: CONNACK 0x00 t*
			b C: SUBSCRIBE #1 w/# q1
			b S: SUBACK #1 0x01
			b C: PUBLISH y q2 #2 :waits
			b S: PUBREC #2
		`)
		// And what belongs to no session any more, as a crash may leave it.
		if err := h.core.Mail.Put(t.Context(), mailbox.Record{Key: subKey("alice@localhost/old", "x"), Value: []byte{form}}); err != nil {
			t.Fatal(err)
		}
		if err := h.core.Auth.Remove(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if st := h.srv.Stats(); st.Sessions != 1 || st.Subscriptions != 1 || st.Away != 0 {
			t.Errorf("%+v", st)
		}
		if left := ofAlice(t, h.store); left != nil {
			t.Errorf("left: %q", left)
		}
		h.play(`
			a S: DISCONNECT 0x87
			a S: --
			short S: DISCONNECT 0x87
			short S: --
			~ 300s
			b S: (nothing)
		`)
		if err := h.core.Auth.Add(t.Context(), "alice", "pw", 0); err != nil {
			t.Fatal(err)
		}
		h.play(begin + `
			a S: (nothing)
			away C: CONNECT 5 id=away user=alice session-expiry-interval=1000
			away S: CONNACK 0x00 present*
			away S: (nothing)
		`)
	})
}

// Who was asked who he is before his account was removed, and would come in only
// now, does not.
func TestAccountRemovedAtTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sensors())
		h.stop()
		h.air = new(air)
		h.open(false)
		defer func() { h.stop() }()
		h.play(`
			n1 N: CONNECT n1 60s
			n1 G: CONNACK
			n1 N: SUBSCRIBE x q1 #1
			n1 G: SUBACK*
			n1 N: DISCONNECT
			n1 G: DISCONNECT
			n1 N: CONNECT n1 will 60s
			n1 G: WILLTOPICREQ
			n1 N: WILLTOPIC w/n1
			n1 G: WILLMSGREQ
		`)
		if err := h.core.Auth.Remove(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		h.play(`
			n1 N: WILLMSG :gone
			n1 G: CONNACK rejected: not supported
			n1 N: CONNECT n1 60s
			n1 G: CONNACK rejected: not supported
		`)
		if left := ofAlice(t, h.store); left != nil {
			t.Errorf("left: %q", left)
		}
	})
}

// leaves is alice, who has a kept session with a will, and bob, who waits for it.
const leaves = `
	b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
	b S: CONNACK 0x00 t*
	b C: SUBSCRIBE #1 w q1
	b S: SUBACK #1 0x01
	b --
	a C: CONNECT 5 id=a user=alice session-expiry-interval=1000 will=w q1 will-delay-interval=500 :gone
	a S: CONNACK 0x00 t*
	a C: SUBSCRIBE #1 x q1
	a S: SUBACK #1 0x01
`

// The same where no server runs; and where it was killed between the removal of
// the account and the end of its sessions, the next run ends them.
func TestAccountRemovedAway(t *testing.T) {
	killed := errors.New("killed")
	for name, dies := range map[string]func(*mailbox.Mail) error{
		"off":           nil,
		"killed before": func(*mailbox.Mail) error { return killed },
		"killed behind": func(mail *mailbox.Mail) error {
			return errors.Join(Forget(context.Background(), mail, "alice@localhost"), killed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, Config{})
				h.play(leaves + `
					a C: PUBLISH x q1 #1 :waits
					a S: PUBACK #1
				`)
				box := h.srv.sessions.shard("alice@localhost/a").all["alice@localhost/a"].kept.Load().box
				h.stop()
				mail := mailbox.New(h.store, mailbox.Limits{})
				accounts := func() *auth.Auth {
					a, err := auth.Open(t.Context(), mail, auth.Config{Domain: "localhost", Iterations: 4096})
					if err != nil {
						t.Fatal(err)
					}
					a.OnRemove(func(ctx context.Context, user string) error { return Forget(ctx, mail, user) })
					return a
				}
				a := accounts()
				if dies != nil {
					a.OnRemove(func(context.Context, string) error { return dies(mail) })
				}
				if err := a.Remove(t.Context(), "alice"); errors.Is(err, killed) != (dies != nil) {
					t.Error(err)
				}
				a.Close()
				a = accounts()
				if err := a.ForgetRemoved(t.Context()); err != nil {
					t.Error(err)
				}
				if left := ofAlice(t, h.store); left != nil {
					t.Errorf("left: %q", left)
				}
				if info, err := mail.Info(t.Context(), box); err != nil || info.First <= info.Last {
					t.Errorf("the queue is there: %+v %v", info, err)
				}
				if err := a.Add(t.Context(), "alice", "pw", 0); err != nil {
					t.Error(err)
				}
				a.Close()
				h.open(false)
				defer func() { h.stop() }()
				h.play(`
					a C: CONNECT 5 id=a user=alice session-expiry-interval=1000
					a S: CONNACK 0x00 t*
					~ 600s
					b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
					b S: CONNACK 0x00 present*
					b S: (nothing)
				`)
			})
		})
	}
}

// A store of a time when nobody kept in mind what was still to be forgotten: its
// sessions without an account end when they are read.
func TestAccountRemovedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(leaves)
		h.stop()
		mail := mailbox.New(h.store, mailbox.Limits{})
		short := &will{m: message{topic: []byte("w"), payload: []byte("gone"), qos: 1}, user: "alice@localhost"}
		if err := mail.Put(t.Context(), mailbox.Record{Key: "auth/user/alice@localhost"}, willRecord("alice@localhost/short", short)); err != nil {
			t.Fatal(err)
		}
		h.open(false)
		h.play(`
			~ 600s
			b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
			b S: CONNACK 0x00 present*
			b S: (nothing)
		`)
		if left := ofAlice(t, h.store); left != nil {
			t.Errorf("left: %q", left)
		}
	})
}
