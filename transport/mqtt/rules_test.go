package mqtt

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// set replaces the rules behind those of the configuration.
func (h *house) set(rules ...acl.Rule) {
	h.t.Helper()
	if _, err := h.srv.Rules().Set(h.t.Context(), rules, ""); err != nil {
		h.t.Fatal(err)
	}
	h.settle()
}

func withHouse(t *testing.T, cfg Config, do func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, cfg)
		defer func() { h.stop() }()
		do(h)
	})
}

// Rules that are set are in force at once: for what is published, for what is
// subscribed to from now on and for what was subscribed to before. After a crash
// they are, too.
func TestRulesAtOnce(t *testing.T) {
	withHouse(t, Config{}, func(h *house) {
		h.play(`
			tv    C: CONNECT 5 clean id=tv user=bob
			tv    S: CONNACK 0x00 *
			tv    C: SUBSCRIBE #1 home/# q0 work/# q1
			tv    S: SUBACK #1 0x00 0x01
			phone C: CONNECT 4 id=phone user=alice
			phone S: CONNACK 0x00
			phone C: SUBSCRIBE #1 home/# q1 work/# q1
			phone S: SUBACK #1 0x01 0x01
			phone --
			cam   C: CONNECT 5 clean id=cam user=alice
			cam   S: CONNACK 0x00 *
			cam   C: PUBLISH home/a q1 #1 :before
			cam   S: PUBACK #1
			tv    S: PUBLISH home/a q0 :before
			cam   C: PUBLISH work/a q1 #2 :kept
			cam   S: PUBACK #2
			tv    S: PUBLISH work/a q1 #1 :kept
			tv    C: PUBACK #1
		`)
		h.set(acl.Rule{Users: []string{"alice"}, Publish: []string{"#"}}, acl.Rule{Subscribe: []string{"work/#"}})
		h.play(`
			cam   C: PUBLISH home/a q1 #3 :nobody hears it
			cam   S: PUBACK #3 0x10
			tv    S: (nothing)
			tv    C: PUBLISH work/a q1 #1 :not by bob
			tv    S: PUBACK #1 0x87
			tv    C: SUBSCRIBE #2 home/# q0 home/x q0 work/x q0
			tv    S: SUBACK #2 0x87 0x87 0x00
			cam   C: PUBLISH work/a q1 #4 :heard
			cam   S: PUBACK #4
			tv    S: PUBLISH work/a q1 #2 :heard
			kill
			# What waits for the phone is what it may still have.
			phone C: CONNECT 4 id=phone user=alice
			phone S: CONNACK 0x00 present
			phone S: PUBLISH work/a q1 #2 :kept
			phone S: PUBLISH work/a q1 #3 :heard
			phone C: PUBACK #2
			phone C: PUBACK #3
			phone C: SUBSCRIBE #1 home/# q1
			phone S: SUBACK #1 0x80
			tv    C: CONNECT 5 clean id=tv user=bob
			tv    S: CONNACK 0x00 *
			tv    C: PUBLISH work/a q1 #1 :not by bob
			tv    S: PUBACK #1 0x87
		`)
		// Without rules everything is allowed again. What has ended has ended.
		h.set()
		h.play(`
			tv    C: PUBLISH home/a q1 #2 :x
			tv    S: PUBACK #2 0x10
			phone S: (nothing)
			phone C: SUBSCRIBE #1 home/# q1
			phone S: SUBACK #1 0x01
			tv    C: PUBLISH home/a q1 #3 :y
			tv    S: PUBACK #3
			phone S: PUBLISH home/a q1 #4 :y
		`)
	})
}

// Who shares a subscription that he may not have any more leaves it to the
// others, be he there or away.
func TestRulesAndSharedSubscriptions(t *testing.T) {
	withHouse(t, Config{}, func(h *house) {
		h.play(`
			one C: CONNECT 5 clean id=one user=alice
			one S: CONNACK 0x00 *
			one C: SUBSCRIBE #1 $share/g/job q1
			one S: SUBACK #1 0x01
			two C: CONNECT 5 id=two user=alice session-expiry-interval=1000
			two S: CONNACK 0x00 *
			two C: SUBSCRIBE #1 $share/g/job q1
			two S: SUBACK #1 0x01
			two --
			old C: CONNECT 5 id=old user=bob session-expiry-interval=1000
			old S: CONNACK 0x00 *
			old C: SUBSCRIBE #1 $share/g/job q1
			old S: SUBACK #1 0x01
			pub C: CONNECT 5 clean id=pub user=bob
			pub S: CONNACK 0x00 *
		`)
		h.set(acl.Rule{Users: []string{"alice"}, Deny: true, Subscribe: []string{"job"}}, acl.Rule{Publish: []string{"#"}, Subscribe: []string{"#"}})
		for range 4 {
			h.play(`
				pub C: PUBLISH job q1 #1 :work
				pub S: PUBACK #1
				old S: PUBLISH job q1 *
			`)
		}
		h.play(`
			one S: (nothing)
			two C: CONNECT 5 id=two user=alice
			two S: CONNACK 0x00 present*
			two S: (nothing)
		`)
	})
}

// A will that may not be published any more is not, whether its client is there
// or away.
func TestRulesAndWills(t *testing.T) {
	withHouse(t, Config{}, func(h *house) {
		h.play(`
			tv   C: CONNECT 5 clean id=tv user=bob
			tv   S: CONNACK 0x00 *
			tv   C: SUBSCRIBE #1 # q0
			tv   S: SUBACK #1 0x00
			here C: CONNECT 5 clean id=here user=alice will=lost :here
			here S: CONNACK 0x00 *
			keep C: CONNECT 5 id=keep user=alice session-expiry-interval=1000 will=lost :keep
			keep S: CONNACK 0x00 *
			away C: CONNECT 5 id=away user=alice session-expiry-interval=1000 will=lost will-delay-interval=60 :away
			away S: CONNACK 0x00 *
			away --
			good C: CONNECT 5 clean id=good user=alice will=found :good
			good S: CONNACK 0x00 *
		`)
		h.set(acl.Rule{Publish: []string{"found"}, Subscribe: []string{"#"}})
		h.play(`
			here --
			good --
			tv   S: PUBLISH found q0 :good
			kill
			tv   C: CONNECT 5 clean id=tv user=bob
			tv   S: CONNACK 0x00 *
			tv   C: SUBSCRIBE #1 # q0
			tv   S: SUBACK #1 0x00
			~ 100s
			tv   S: (nothing)
			here C: CONNECT 5 clean id=here user=alice will=lost :here
			here S: CONNACK 0x87*
			here S: --
		`)
	})
}

// Rules of the configuration come first, bind what was subscribed to before the
// server was started, and cannot be set aside.
func TestRulesOfTheFile(t *testing.T) {
	withHouse(t, Config{}, func(h *house) {
		h.play(`
			phone C: CONNECT 4 id=phone user=alice
			phone S: CONNACK 0x00
			phone C: SUBSCRIBE #1 secret q1 open q1
			phone S: SUBACK #1 0x01 0x01
			phone --
		`)
		h.cfg.ACL = []acl.Rule{{Deny: true, Subscribe: []string{"secret"}}, {Publish: []string{"#"}}, {Subscribe: []string{"open"}}}
		h.kill()
		h.set(acl.Rule{Subscribe: []string{"secret", "more"}})
		h.play(`
			tv    C: CONNECT 5 clean id=tv user=bob
			tv    S: CONNACK 0x00 *
			tv    C: SUBSCRIBE #1 secret q0 more q0 other q0
			tv    S: SUBACK #1 0x87 0x00 0x87
			tv    C: PUBLISH secret q1 #1 :x
			tv    S: PUBACK #1 0x10
			tv    C: PUBLISH open q1 #2 :y
			tv    S: PUBACK #2
			phone C: CONNECT 4 id=phone user=alice
			phone S: CONNACK 0x00 present
			phone S: PUBLISH open q1 #1 :y
			phone S: (nothing)
		`)
	})
}

// A role counts as it is: that of the session for who is there, that of the
// account for who is away.
func TestRulesForRoles(t *testing.T) {
	withHouse(t, Config{}, func(h *house) {
		if err := h.core.Auth.Add(t.Context(), "root", "pw", auth.RoleAdmin); err != nil {
			t.Fatal(err)
		}
		h.play(`
			a C: CONNECT 5 id=a user=root session-expiry-interval=1000
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 x q1
			a S: SUBACK #1 0x01
			b C: CONNECT 5 id=b user=root session-expiry-interval=1000
			b S: CONNACK 0x00 *
			b C: SUBSCRIBE #1 x q1
			b S: SUBACK #1 0x01
			b --
		`)
		h.set(acl.Rule{Roles: []string{"admin"}, Publish: []string{"#"}, Subscribe: []string{"#"}})
		h.play(`
			a C: PUBLISH x q0 :1
			a S: PUBLISH x q0 :1
			b C: CONNECT 5 id=b user=root session-expiry-interval=1000
			b S: CONNACK 0x00 present*
			b --
		`)
		if err := h.core.Auth.SetRole(t.Context(), "root", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
		h.play(`
			a S: DISCONNECT 0x87
			a S: --
			b C: CONNECT 5 id=b user=root session-expiry-interval=1000
			b S: CONNACK 0x00 present*
			c C: CONNECT 5 clean id=c user=alice
			c S: CONNACK 0x00 *
		`)
		h.set(acl.Rule{Roles: []string{"admin"}, Subscribe: []string{"#"}}, acl.Rule{Publish: []string{"#"}})
		h.play(`
			c C: PUBLISH x q1 #1 :2
			c S: PUBACK #1 0x10
			b S: (nothing)
		`)
	})
}

// Clients go on while rules change under them, and in the end obey the last ones.
func TestRulesChangeUnderLoad(t *testing.T) {
	srv, addr := serveTCP(t, Config{})
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var wg sync.WaitGroup
	var denied atomic.Int32
	for i := range 8 {
		wg.Go(func() {
			c := &careful{user: "alice", id: string(rune('a' + i))}
			if err := c.connect(addr); err != nil {
				t.Error(err)
				return
			}
			defer c.nc.Close()
			for n := uint16(1); ctx.Err() == nil; n = n%60_000 + 1 {
				c.nc.Write((&packet.Subscribe{ID: n, Filters: []packet.Filter{{Topic: "t/" + c.id, Options: 1}}}).Append(nil, packet.V311))
				first, body, err := c.packet(10 * time.Second)
				if err != nil || packet.Type(first>>4) != packet.SUBACK {
					t.Errorf("%x, %v", first, err)
					return
				}
				if body[2] == 0x80 {
					denied.Add(1)
				}
			}
		})
	}
	rules := [][]acl.Rule{{{Subscribe: []string{"t/#"}}}, {{Subscribe: []string{"other"}}}}
	for i := 0; i < 200 && ctx.Err() == nil || denied.Load() == 0; i++ {
		if _, err := srv.Rules().Set(ctx, rules[i%2], ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := srv.Rules().Set(ctx, rules[1], ""); err != nil {
		t.Fatal(err)
	}
	for srv.Stats().Subscriptions > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if n := srv.Stats().Subscriptions; n > 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	stop()
	wg.Wait()
}

// The will that a sensor left with its session is not taken up again against the
// rules, and does not keep the sensor out.
func TestRulesAndASensorsWill(t *testing.T) {
	withHouse(t, sensors(), func(h *house) {
		h.stop()
		h.air = &air{}
		h.open(false)
		h.play(`
			n1 N: CONNECT n1 will 60s
			n1 G: WILLTOPICREQ
			n1 N: WILLTOPIC lost q0
			n1 G: WILLMSGREQ
			n1 N: WILLMSG :gone
			n1 G: CONNACK
			n1 N: DISCONNECT
			n1 G: DISCONNECT
		`)
		h.set(acl.Rule{Users: []string{"alice"}, Publish: []string{"found"}}, acl.Rule{Subscribe: []string{"#"}})
		h.play(`
			app C: CONNECT 4 id=app user=bob clean
			app S: CONNACK*
			app C: SUBSCRIBE #1 # q0
			app S: SUBACK #1 0x00
			n1  N: CONNECT n1 60s
			n1  G: CONNACK
			~ 91s
			n1  G: DISCONNECT
			app S: (nothing)
		`)
	})
}
