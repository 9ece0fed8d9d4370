package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/posthouse-im/posthouse/internal/acl"
)

// [MQTT-3.3.1-5] to [MQTT-3.3.1-13]: retained messages.
func TestRetained(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: PUBLISH r/1 q1 #1 retain content-type=t user-property=b:2 user-property=a:1 user-property=b:1 :one
		a S: PUBACK #1 0x10
		a C: PUBLISH r/2 q0 retain :two
		a C: PUBLISH $r q0 retain :refused
		a C: PUBLISH r/3 q1 #2 retain message-expiry-interval=10 :short
		a S: PUBACK #2 0x10
		kill
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: SUBSCRIBE #1 r/1 q1 subscription-identifier=7
		b S: SUBACK #1 0x01
		b S: PUBLISH r/1 q1 #1 retain content-type=t subscription-identifier=7 user-property=b:2 user-property=a:1 user-property=b:1 :one
		b C: PUBACK #1
		~ 4s
		b C: SUBSCRIBE #2 r/3 q0
		b S: SUBACK #2 0x00
		b S: PUBLISH r/3 q0 retain message-expiry-interval=6 :short
		~ 7s
		# Retain handling 1: only if it is new; 2: never; 0: each time.
		b C: SUBSCRIBE #3 r/1 0x11 r/+ 0x20 r/2 0x10
		b S: SUBACK #3 0x01 0x00 0x00
		b S: PUBLISH r/2 q0 retain :two
		b S: (nothing)
		b C: SUBSCRIBE #4 r/# q0
		b S: SUBACK #4 0x00
		b S: PUBLISH r/* 
		b S: PUBLISH r/* 
		b S: (nothing)
		c C: CONNECT 4 clean id=c user=bob
		c S: CONNACK 0x00
		# Empty clears, and is itself sent on as a normal message [MQTT-3.3.1-6].
		c C: SUBSCRIBE #1 r/2 q0
		c S: SUBACK #1 0x00
		c S: PUBLISH r/2 q0 retain :two
		c C: PUBLISH r/2 q0 retain :
		c S: PUBLISH r/2 q0 :
		c C: SUBSCRIBE #2 r/2 q0
		c S: SUBACK #2 0x00
		c S: (nothing)
		kill
		c C: CONNECT 4 clean id=c user=bob
		c S: CONNACK 0x00
		c C: SUBSCRIBE #1 r/# q0
		c S: SUBACK #1 0x00
		c S: PUBLISH r/1 q0 retain :one
		c S: (nothing)
	`)
}

// [MQTT-3.3.1-12] [MQTT-3.3.1-13]: retain as published.
func TestRetainAsPublished(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 plain/+ q0 keep/+ 0x08
		a S: SUBACK #1 0x00 0x00
		a C: PUBLISH plain/x q0 retain :1
		a S: PUBLISH plain/x q0 :1
		a C: PUBLISH keep/x q0 retain :1
		a S: PUBLISH keep/x q0 retain :1
		a C: PUBLISH keep/x q0 :1
		a S: PUBLISH keep/x q0 :1
	`)
}

// A kept session's retained messages wait in its queue until acknowledged.
func TestRetainedForAKeptSession(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: PUBLISH r q1 #1 retain :one
		a S: PUBACK #1
		a C: SUBSCRIBE #1 r q1
		a S: SUBACK #1 0x01
		a S: PUBLISH r q1 #1 retain :one
		a --
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBLISH r q1 #1 retain dup :one
		a C: PUBACK #1
		a S: (nothing)
	`)
}

// [MQTT-3.3.4-2] to [MQTT-3.3.4-5]: one copy, the highest QoS, all identifiers.
func TestOverlapping(t *testing.T) {
	for _, expiry := range []string{"0", "100"} {
		dialogue(t, Config{}, `
			a C: CONNECT 5 clean id=a user=alice session-expiry-interval=`+expiry+`
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 x/y q1 subscription-identifier=1
			a S: SUBACK #1 0x01
			a C: SUBSCRIBE #2 x/+ q0 subscription-identifier=268435455
			a S: SUBACK #2 0x00
			a C: SUBSCRIBE #3 # q2
			a S: SUBACK #3 0x02
			b C: CONNECT 5 clean id=b user=bob
			b S: CONNACK 0x00 *
			b C: PUBLISH x/y q2 #1 :both
			b S: PUBREC #1
			a S: PUBLISH x/y q2 #1 subscription-identifier=1 subscription-identifier=268435455 :both
			a S: (nothing)
			b C: PUBLISH $SYS/x q1 #2 :no
			b S: PUBACK #2 0x87
			a C: SUBSCRIBE #4 zero q0 subscription-identifier=0
			a S: DISCONNECT 0x82
		`)
	}
}

// [MQTT-3.8.3-3]: no local.
func TestNoLocal(t *testing.T) {
	for _, expiry := range []string{"0", "100"} {
		dialogue(t, Config{}, `
			a C: CONNECT 5 clean id=a user=alice session-expiry-interval=`+expiry+`
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 x 0x05
			a S: SUBACK #1 0x01
			a C: PUBLISH x q1 #1 :mine
			a S: PUBACK #1
			b C: CONNECT 4 clean id=a user=bob
			b S: CONNACK 0x00
			b C: PUBLISH x q1 #1 :his
			a S: PUBLISH x q1 *
			a C: SUBSCRIBE #2 $share/g/x 0x05
			a S: DISCONNECT 0x82
		`)
	}
}

// Section 4.8.2: a shared subscription's messages go to one of its clients,
// to one that is connected if there is one.
func TestShared(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
		b S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 $share/g/x/+ q1
		a S: SUBACK #1 0x01
		b C: SUBSCRIBE #1 $share/g/x/+ q1 subscription-identifier=9
		b S: SUBACK #1 0x01
		p C: CONNECT 4 clean id=p user=bob
		p S: CONNACK 0x00
		p C: PUBLISH x/1 q1 #1 :1
		p S: PUBACK #1
		p C: PUBLISH x/2 q1 #2 :2
		p S: PUBACK #2
		p C: PUBLISH x/3 q0 :3
		a S: PUBLISH x/1 q1 #1 :1
		a S: PUBLISH x/3 q0 :3
		a S: (nothing)
		b S: PUBLISH x/2 q1 #1 subscription-identifier=9 :2
		b C: PUBACK #1
		# b is away: a gets all of them.
		b --
		p C: PUBLISH x/4 q1 #1 :4
		p S: PUBACK #1
		p C: PUBLISH x/5 q1 #2 :5
		p S: PUBACK #2
		a S: PUBLISH x/4 q1 #2 :4
		a S: PUBLISH x/5 q1 #3 :5
		# Nobody is there: it waits for b.
		a --
		p C: PUBLISH x/6 q1 #1 :6
		p S: PUBACK #1
		p C: PUBLISH x/7 q0 :7
		kill
		b C: CONNECT 5 id=b user=bob session-expiry-interval=1000
		b S: CONNACK 0x00 present *
		b S: PUBLISH x/6 q1 #2 subscription-identifier=9 :6
		b C: PUBACK #2
		b C: UNSUBSCRIBE #2 $share/g/x/+
		b S: UNSUBACK #2 0x00
		b S: (nothing)
	`)
}

// The turns of a shared subscription are even, among those who are connected,
// and go on when one leaves.
func TestSharedFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(written(5, `
			a up
			a sub $share/g/x/# q0
			b up
			b sub $share/g/x/# q0
			c up
			c sub $share/g/x/# q0
			away kept new
			away sub $share/g/x/# q1
			away --
			late C: CONNECT 5 id=late user=bob session-expiry-interval=60
			late S: CONNACK*
			late sub $share/g/x/# q1
			late --
			p up
		`))
		publish := func(n int) {
			for i := range n {
				h.play(fmt.Sprintf("p C: PUBLISH x/%d q%d #1 :x", i%7, i%2))
				if i%2 == 1 {
					h.play("p S: PUBACK #1")
				}
			}
		}
		heard := func(who string) (n int) {
			for h.peers[who].read() != "(nothing)" {
				n++
			}
			return n
		}
		publish(120)
		for _, who := range []string{"a", "b", "c"} {
			if n := heard(who); n != 40 {
				t.Errorf("%s heard %d of 120", who, n)
			}
		}
		h.play("a --")
		publish(120)
		for _, who := range []string{"b", "c"} {
			if n := heard(who); n != 60 {
				t.Errorf("%s heard %d of 120", who, n)
			}
		}
	})
}

// [MQTT-3.1.2-8]: the will.
func TestWill(t *testing.T) {
	dialogue(t, Config{}, `
		w C: CONNECT 5 clean id=w user=alice
		w S: CONNACK 0x00 *
		w C: SUBSCRIBE #1 will/# q1
		w S: SUBACK #1 0x01
		a C: CONNECT 5 clean id=a user=bob will=will/a q1 retain content-type=t :gone
		a S: CONNACK 0x00 *
		a --
		w S: PUBLISH will/a q1 #1 content-type=t :gone
		w C: PUBACK #1
		# A goodbye takes the will back [MQTT-3.14.4-3], unless it asks for it.
		a C: CONNECT 5 clean id=a user=bob will=will/b :gone
		a S: CONNACK 0x00 *
		a C: DISCONNECT
		a S: --
		w S: (nothing)
		a C: CONNECT 5 clean id=a user=bob will=will/b :asked
		a S: CONNACK 0x00 *
		a C: DISCONNECT 0x04
		a S: --
		w S: PUBLISH will/b q0 :asked
		# Delayed: not if the client is back in time, and at the end of the session at the latest.
		a C: CONNECT 5 id=a user=bob session-expiry-interval=60 will=will/c will-delay-interval=20 :late
		a S: CONNACK 0x00 *
		a --
		~ 15s
		a C: CONNECT 5 id=a user=bob session-expiry-interval=60 will=will/c will-delay-interval=20 :late
		a S: CONNACK 0x00 present *
		~ 15s
		w C: PINGREQ
		w S: PINGRESP
		a --
		~ 19s
		w C: PINGREQ
		w S: PINGRESP
		~ 2s
		w S: PUBLISH will/c q0 :late
		a C: CONNECT 5 id=a user=bob session-expiry-interval=5 will=will/d will-delay-interval=20 :ended
		a S: CONNACK 0x00 present *
		a --
		~ 6s
		w S: PUBLISH will/d q0 :ended
		# A clean start ends the session, and so publishes the will.
		a C: CONNECT 5 id=a user=bob session-expiry-interval=60 will=will/e will-delay-interval=20 :wiped
		a S: CONNACK 0x00 *
		a --
		a C: CONNECT 5 clean id=a user=bob
		a S: CONNACK 0x00 *
		w S: PUBLISH will/e q0 :wiped
		a C: DISCONNECT
		a S: --
		# Refused clients have none.
		a C: CONNECT 5 clean id=a user=bob pw=no will=will/f :never
		a S: CONNACK 0x87
		a S: --
		w S: (nothing)
		a C: CONNECT 5 clean id=a user=bob will=im/inbox/alice :forged
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 5 clean id=a user=bob will=$SYS/x :forged
		a S: CONNACK 0x87
		a S: --
		# Keep alive [MQTT-3.1.2-22].
		a C: CONNECT 5 clean id=a user=bob keep=10 will=will/g :silent
		a S: CONNACK 0x00 *
		~ 14s
		a C: PINGREQ
		a S: PINGRESP
		~ 16s
		a S: DISCONNECT 0x8d
		a S: --
		w S: PUBLISH will/g q0 :silent
	`)
}

// The will of a session that is not kept is on disk as long as it may have to be
// published, and no longer.
func TestWillOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		for _, end := range []string{"a C: DISCONNECT\na S: --", "a C: DISCONNECT 0x04\na S: --", "a --", "b C: CONNECT 5 clean id=a user=alice\nb S: CONNACK*\na S: DISCONNECT 0x8e\na S: --\nb --", "rules"} {
			h.play("a C: CONNECT 5 clean id=a user=alice will=will :gone\na S: CONNACK*")
			for _, want := range []bool{true, false} {
				v, err := h.store.Get(t.Context(), willPrefix+"alice@localhost/a")
				if err != nil || (v != nil) != want {
					t.Errorf("%q: on disk %t, want %t, %v", end, v != nil, want, err)
				}
				switch {
				case !want:
				case end == "rules":
					h.set(acl.Rule{Publish: []string{"other"}})
					h.settle()
				default:
					h.play(end)
				}
			}
		}
	})
}

// A goodbye that asks for the will does not shorten its delay, but ends the
// session earlier if it says so, and the will is not later than that.
func TestWillAfterGoodbye(t *testing.T) {
	for goodbye, wait := range map[string]int{
		"DISCONNECT 0x04": 20,
		"DISCONNECT 0x04 session-expiry-interval=5":  5,
		"DISCONNECT 0x04 session-expiry-interval=0":  0,
		"DISCONNECT 0x04 session-expiry-interval=90": 20,
	} {
		script := `
			w C: CONNECT 5 clean id=w user=alice
			w S: CONNACK 0x00 *
			w C: SUBSCRIBE #1 will q1
			w S: SUBACK #1 0x01
			a C: CONNECT 5 id=a user=bob session-expiry-interval=60 will=will will-delay-interval=20 :gone
			a S: CONNACK 0x00 *
			a C: ` + goodbye + `
			a S: --
		`
		if wait > 0 {
			script += fmt.Sprintf("~ %ds\nw C: PINGREQ\nw S: PINGRESP\n", wait-2)
		}
		dialogue(t, Config{}, script+"~ 3s\nw S: PUBLISH will q0 :gone\nw S: (nothing)")
	}
}

// Section 3.3.2.3.4: topic aliases, theirs and ours.
func TestTopicAliases(t *testing.T) {
	dialogue(t, Config{TopicAliasMaximum: 2}, `
		a C: CONNECT 5 clean id=a user=alice topic-alias-maximum=1
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 # q1
		a S: SUBACK #1 0x01
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 topic-alias-maximum=2 maximum-packet-size=1179648 receive-maximum=1024 *
		b C: PUBLISH first q0 topic-alias=2 :1
		a S: PUBLISH first q0 topic-alias=1 :1
		b C: PUBLISH q1 #1 topic-alias=2 :2
		b S: PUBACK #1
		a S: PUBLISH  q1 #1 topic-alias=1 :2
		b C: PUBLISH second q0 topic-alias=2 :3
		a S: PUBLISH second q0 :3
		b C: PUBLISH q0 topic-alias=2 :4
		a S: PUBLISH second q0 :4
		b C: PUBLISH q0 topic-alias=1 :unset
		b S: DISCONNECT 0x82
		b S: --
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH x q0 topic-alias=3 :over
		b S: DISCONNECT 0x94
		b S: --
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH x q0 topic-alias=0 :zero
		b S: DISCONNECT 0x94
	`)
}

// [MQTT-3.1.2-24] [MQTT-3.1.2-25], and 0x95 for what is too large for us.
func TestMaximumPacketSize(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, expiry := range []string{"0", "100"} {
		dialogue(t, Config{MaxPacket: 200}, `
			a C: CONNECT 5 clean id=a user=alice maximum-packet-size=60 session-expiry-interval=`+expiry+`
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 x q1
			a S: SUBACK #1 0x01
			b C: CONNECT 5 clean id=b user=bob
			b S: CONNACK 0x00 *
			b C: PUBLISH x q1 #1 :`+long+`
			b S: PUBACK #1
			b C: PUBLISH x q1 #2 :short
			b S: PUBACK #2
			a S: PUBLISH x q1 #*
			b C: PUBLISH x q0 :`+long+long+`
			b S: DISCONNECT 0x95
		`)
	}
}

// [MQTT-3.3.2-5] [MQTT-3.3.2-6]: message expiry counts down and bites.
func TestMessageExpiry(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 id=a user=alice session-expiry-interval=100
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 x q1
		a S: SUBACK #1 0x01
		a --
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH x q1 #1 message-expiry-interval=5 :short
		b S: PUBACK #1
		b C: PUBLISH x q1 #2 message-expiry-interval=50 :long
		b S: PUBACK #2
		~ 10s
		a C: CONNECT 5 id=a user=alice session-expiry-interval=100
		a S: CONNACK 0x00 present *
		a S: PUBLISH x q1 #2 message-expiry-interval=40 :long
		a S: (nothing)
	`)
}

// Also in memory, where a client acknowledges slowly.
func TestMessageExpiryInMemory(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice receive-maximum=1
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 x q1
		a S: SUBACK #1 0x01
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH x q1 #1 message-expiry-interval=5 :sent
		b S: PUBACK #1
		b C: PUBLISH x q1 #2 message-expiry-interval=5 :short
		b S: PUBACK #2
		b C: PUBLISH x q1 #3 message-expiry-interval=50 :long
		b S: PUBACK #3
		a S: PUBLISH x q1 #1 message-expiry-interval=5 :sent
		~ 10s
		a C: PUBACK #1
		a S: PUBLISH x q1 #2 message-expiry-interval=40 :long
		a S: (nothing)
	`)
}

// [MQTT-3.1.3-6] [MQTT-3.2.2-16] [MQTT-3.2.2-21]: what CONNACK tells.
func TestConnack(t *testing.T) {
	dialogue(t, Config{MaxKeepalive: 60e9}, `
		a C: CONNECT 5 clean id= user=alice keep=120
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024 server-keep-alive=60 assigned-client-identifier=auto-*
		b C: CONNECT 4 clean id= user=alice keep=0
		b S: CONNACK 0x00
		c C: CONNECT 5 clean id=c user=alice keep=30
		c S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024
		d C: CONNECT 5 clean id=d user=alice pw=x authentication-method=UNKNOWN
		d S: CONNACK 0x8c*
		d S: --
	`)
}

// Who may do what, and how a refusal is said.
func TestACL(t *testing.T) {
	cfg := Config{
		Anonymous: true, AnonymousTopics: []string{"public/#"}, Refused: []string{"test/nosubscribe"},
		ACL: []acl.Rule{
			{Users: []string{"bob"}, Subscribe: []string{"#"}},
			{Deny: true, Publish: []string{"home/lock"}, Subscribe: []string{"home/secret/#"}},
			{Publish: []string{"home/#", "dev/%c/up"}, Subscribe: []string{"home/#", "user/%u/+", "test/#"}},
			{Users: []string{"bob"}, Publish: []string{"#"}},
		},
	}
	dialogue(t, cfg, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		# home/# would bring what is under home/secret, and so would home/+: that of home/secret itself.
		a C: SUBSCRIBE #1 home/a q1 home/# q1 home/+ q1 home/secret/x q1 # q1 user/alice/x q1 user/bob/x q0 test/nosubscribe q0 test/x q0 other q0
		a S: SUBACK #1 0x01 0x87 0x87 0x87 0x87 0x01 0x87 0x80 0x00 0x87
		a C: PUBLISH home/a q1 #1 :x
		a S: PUBLISH home/a q1 #1 :x
		a S: PUBACK #1
		a C: PUBLISH home/lock q1 #1 :x
		a S: PUBACK #1 0x87
		a C: PUBLISH dev/a/up q1 #1 :x
		a S: PUBACK #1 0x10
		a C: PUBLISH dev/b/up q2 #1 :x
		a S: PUBREC #1 0x87
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: SUBSCRIBE #1 # q1 $SYS/# q0
		b S: SUBACK #1 0x01 0x80
		# 3.1.1 has no word for a refused publish: it is acknowledged and dropped [MQTT-3.3.5-2].
		b C: PUBLISH home/lock q1 #1 :x
		b S: PUBACK #1
		n C: CONNECT 5 clean id=n
		n S: CONNACK 0x00 *
		n C: SUBSCRIBE #1 public/x q0 home/a q0 im/inbox/# q0 # q0
		n S: SUBACK #1 0x00 0x87 0x87 0x87
		n C: PUBLISH im/to/alice q1 #1 :x
		n S: PUBACK #1 0x87*
		n C: PUBLISH public/x q1 #1 :x
		n S: PUBLISH public/x q0 :x
		n S: PUBACK #1
	`)
}

// $SYS: statistics for those who ask, never by a leading wildcard [MQTT-4.7.2-1].
func TestSys(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 # q0 +/broker/# q0
		a S: SUBACK #1 0x00 0x00
		~ 11s
		a S: (nothing)
		a C: SUBSCRIBE #1 $SYS/broker/clients/connected q0
		a S: SUBACK #1 0x00
		a S: PUBLISH $SYS/broker/clients/connected q0 retain :1
		~ 11s
		a S: PUBLISH $SYS/broker/clients/connected q0 :1
	`)
}

// The statistics that others have, too: what is told of a minute is the
// average of what went on.
func TestSysLoad(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 $SYS/broker/load/publish/received/1min q0 $SYS/broker/clients/maximum q0
		a S: SUBACK #1 0x00 0x00
		a S: PUBLISH $SYS/broker/clients/maximum q0 retain *
		a C: PUBLISH x q0 :1
		a C: PUBLISH x q0 :2
		~ 10s
		a S: PUBLISH $SYS/broker/clients/maximum q0 :1
		# Two in ten seconds are twelve a minute, of which exp(-1/6) is still to be believed.
		a S: PUBLISH $SYS/broker/load/publish/received/1min q0 :1.84
	`)
}

// A client that asks for no problem information gets none [MQTT-3.1.2-29].
func TestNoProblemInformation(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice request-problem-information=0
		a S: CONNACK 0x00 *
		a C: PUBLISH im/to/nobody q1 #1 :x
		a S: PUBACK #1 0x90
	`)
}

// The server says why it goes.
func TestGoodbye(t *testing.T) {
	dialogue(t, Config{ConnectTimeout: 5e9}, `
		slow C: RAW 10 20
		~ 6s
		slow S: --
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: CONNECT 5 clean id=a user=alice
		a S: DISCONNECT 0x82
		a S: --
	`)
}

// Section 4.12: SCRAM-SHA-256 by AUTH is played in scram_test.go; here what is
// out of turn.
func TestAuthOutOfTurn(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: AUTH 0x19 authentication-method=SCRAM-SHA-256
		a S: DISCONNECT 0x82
		a S: --
		a C: CONNECT 5 clean id=a authentication-method=SCRAM-SHA-256 authentication-data=`+hexOf("n,,n=alice,r=abc")+`
		a S: AUTH 0x18 *
		a C: PINGREQ
		a S: CONNACK 0x82
		a S: --
		a C: CONNECT 5 clean id=a authentication-method=SCRAM-SHA-256 authentication-data=00
		a S: CONNACK 0x82*
		a S: --
	`)
}
