package mqtt

import (
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/posthouse-im/posthouse/store/mem"
)

// [MQTT-3.1.2-5] [MQTT-4.1.0-1]: what came while the client was away is there
// when it is back, also when the server was ended meanwhile.
func TestKeptSession(t *testing.T) {
	dialogue(t, Config{}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a/# q1 b q2
		phone S: SUBACK #1 0x01 0x02
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a/1 q1 #1 :one
		tv    S: PUBACK #1
		tv    C: PUBLISH a/2 q0 :not kept
		tv    C: PUBLISH a/3 q2 #2 :two
		tv    S: PUBREC #2
		tv    C: PUBREL #2
		tv    S: PUBCOMP #2
		tv    C: PUBLISH b q2 #3 :three
		tv    S: PUBREC #3
		kill
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a/1 q1 #1 :one
		phone S: PUBLISH a/3 q1 #2 :two
		phone S: PUBLISH b q2 #3 :three
		phone C: PUBACK #1
		phone C: PUBACK #2
		phone C: PUBREC #3
		phone S: PUBREL #3
		# Released: after a restart only PUBREL comes again [MQTT-4.4.0-1].
		kill
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBREL #3
		phone C: PUBCOMP #3
		phone S: (nothing)
		kill
		phone C: CONNECT 5 id=phone user=alice
		phone S: CONNACK 0x00 present *
		phone S: (nothing)
		# Without a session expiry it ends with this connection.
		phone --
		phone C: CONNECT 5 id=phone user=alice
		phone S: CONNACK 0x00 topic*
	`)
}

// When the disk is full nothing is taken, but reading goes on; also for a client
// that subscribes again each time, as most do.
func TestReadingFromAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(`
			phone C: CONNECT 5 id=phone user=alice session-expiry-interval=100
			phone S: CONNACK 0x00 *
			phone C: SUBSCRIBE #1 im/inbox/# q1 a q1
			phone S: SUBACK #1 0x01 0x01
			phone --
			tv    C: CONNECT 4 clean id=tv user=bob
			tv    S: CONNACK 0x00
			tv    C: PUBLISH im/to/alice q1 #1 :one
			tv    S: PUBACK #1
		`)
		full := func() { h.store.(*mem.Store).Fail(syscall.ENOSPC) }
		full()
		h.play(`
			tv    C: PUBLISH im/to/alice q1 #2 :two
			tv    S: --
			phone C: CONNECT 5 id=phone user=alice session-expiry-interval=100
			phone S: CONNACK 0x00 present *
			phone S: PUBLISH im/inbox/bob@localhost q1 #32768 * :one
			phone C: SUBSCRIBE #1 im/inbox/# q1 a q1
			phone S: SUBACK #1 0x01 0x01
			phone C: PUBACK #32768
			phone --
		`)
		h.store.(*mem.Store).Fail(nil)
		h.kill() // what is known from the disk counts, too
		full()
		h.play(`
			phone C: CONNECT 5 id=phone user=alice session-expiry-interval=100
			phone S: CONNACK 0x00 present *
			phone C: SUBSCRIBE #1 im/inbox/# q1
			phone S: SUBACK #1 0x01
			# Another one than what is on disk has to go there.
			phone C: SUBSCRIBE #2 im/inbox/# q0
			phone S: DISCONNECT 0x80
			phone S: --
			phone C: CONNECT 5 id=phone user=alice session-expiry-interval=100
			phone S: CONNACK 0x00 present *
			phone C: SUBSCRIBE #1 im/inbox/# q0
			phone S: DISCONNECT 0x80
			phone S: --
		`)
		h.store.(*mem.Store).Fail(nil)
	})
}

// Another user's client of the same identifier is another client.
func TestClientIDsAreEachUsersOwn(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=same user=alice
		a S: CONNACK 0x00
		b C: CONNECT 4 id=same user=bob
		b S: CONNACK 0x00
		a C: PINGREQ
		a S: PINGRESP
	`)
}

// [MQTT-3.1.4-3]: the older connection of a client is ended with 0x8E.
func TestTakeOver(t *testing.T) {
	dialogue(t, Config{}, `
		one C: CONNECT 5 id=phone user=alice session-expiry-interval=100
		one S: CONNACK 0x00 topic*
		one C: SUBSCRIBE #1 a q1
		one S: SUBACK #1 0x01
		two C: CONNECT 5 id=phone user=alice session-expiry-interval=100
		one S: DISCONNECT 0x8e
		one S: --
		two S: CONNACK 0x00 present *
		tv  C: CONNECT 4 clean id=tv user=bob
		tv  S: CONNACK 0x00
		tv  C: PUBLISH a q1 #1 :x
		tv  S: PUBACK #1
		two S: PUBLISH a q1 #1 :x
		# Not acknowledged: the third has it again, as it was.
		three C: CONNECT 4 id=phone user=alice
		two   S: DISCONNECT 0x8e
		two   S: --
		three S: CONNACK 0x00 present
		three S: PUBLISH a q1 #1 dup :x
	`)
}

// Section 3.1.2.11.2, and [MQTT-3.14.2-2]: expiry may be changed but not
// raised from zero.
func TestSessionExpiry(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 id=a user=alice session-expiry-interval=60
		a S: CONNACK 0x00 topic*
		a C: DISCONNECT
		a S: --
		~ 59s
		a C: CONNECT 5 id=a user=alice session-expiry-interval=60
		a S: CONNACK 0x00 present *
		a --
		~ 61s
		a C: CONNECT 5 id=a user=alice session-expiry-interval=60
		a S: CONNACK 0x00 topic*
		a C: DISCONNECT session-expiry-interval=0
		a S: --
		a C: CONNECT 5 id=a user=alice
		a S: CONNACK 0x00 topic*
		a C: DISCONNECT session-expiry-interval=1
		a S: DISCONNECT 0x82
		a S: --
	`)
}

// The expiry counts on while the server is down.
func TestSessionExpiryAcrossRestart(t *testing.T) {
	dialogue(t, Config{MaxSessionExpiry: 3600e9}, `
		a C: CONNECT 5 id=a user=alice session-expiry-interval=4294967295
		a S: CONNACK 0x00 session-expiry-interval=3600 *
		a C: SUBSCRIBE #1 x q1
		a S: SUBACK #1 0x01
		a --
		~ 1000s
		kill
		~ 2500s
		a C: CONNECT 5 id=a user=alice session-expiry-interval=3600
		a S: CONNACK 0x00 present *
		a --
		kill
		~ 3601s
		a C: CONNECT 5 id=a user=alice session-expiry-interval=3600
		a S: CONNACK 0x00 topic*
	`)
}

// [MQTT-3.1.2-4]: a clean start forgets the session, [MQTT-3.1.2-6] and its queue.
func TestCleanStart(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 x q1
		a S: SUBACK #1 0x01
		a --
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH x q1 #1 :old
		b S: PUBACK #1
		a C: CONNECT 4 clean id=a user=alice
		a S: CONNACK 0x00
		b C: PUBLISH x q1 #1 :unheard
		b S: PUBACK #1
		a S: (nothing)
		a --
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 x q1
		a S: SUBACK #1 0x01
		kill
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH x q1 #1 :new
		b S: PUBACK #1
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBLISH x q1 #1 :new
	`)
}

// A QoS 2 message whose PUBREC was lost is not taken twice, also by a server
// that was ended in between [MQTT-4.3.3-10]; and once released its identifier
// is free for another message.
func TestQoS2FromAKeptSession(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		b C: CONNECT 4 id=b user=bob
		b S: CONNACK 0x00
		b C: SUBSCRIBE #1 x q2
		b S: SUBACK #1 0x02
		a C: PUBLISH x q2 #5 :once
		a S: PUBREC #5
		b S: PUBLISH x q2 #1 :once
		kill
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a C: PUBLISH x q2 #5 dup :once
		a S: PUBREC #5
		a C: PUBREL #5
		a S: PUBCOMP #5
		kill
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a C: PUBLISH x q2 #5 :twice
		a S: PUBREC #5
		b C: CONNECT 4 id=b user=bob
		b S: CONNACK 0x00 present
		b S: PUBLISH x q2 #1 dup :once
		b S: PUBLISH x q2 #2 :twice
		b S: (nothing)
	`)
}

// Acknowledgements out of order move the cursor only over what is complete.
func TestCursorIsContiguous(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 x q1
		a S: SUBACK #1 0x01
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q1 #2 :2
		b S: PUBACK #2
		b C: PUBLISH x q1 #3 :3
		b S: PUBACK #3
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q1 #2 :2
		a S: PUBLISH x q1 #3 :3
		a C: PUBACK #2
		a --
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBLISH x q1 #1 dup :1
		a S: PUBLISH x q1 #3 dup :3
		a C: PUBACK #3
		a C: PUBACK #1
		a --
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: (nothing)
	`)
}

// [MQTT-3.3.4-9]: the client's receive maximum holds for queue and memory.
func TestReceiveMaximumOfTheClient(t *testing.T) {
	for _, expiry := range []string{"0", "100"} {
		dialogue(t, Config{}, `
			a C: CONNECT 5 id=a user=alice receive-maximum=1 session-expiry-interval=`+expiry+`
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 x q2
			a S: SUBACK #1 0x02
			b C: CONNECT 4 clean id=b user=bob
			b S: CONNACK 0x00
			b C: PUBLISH x q1 #1 :1
			b S: PUBACK #1
			b C: PUBLISH x q2 #2 :2
			b S: PUBREC #2
			b C: PUBLISH x q1 #3 :3
			b S: PUBACK #3
			b C: PUBLISH x q0 :0
			a S: PUBLISH x q1 #1 :1
			a S: PUBLISH x q0 :0
			a S: (nothing)
			a C: PUBACK #1
			a S: PUBLISH x q2 #2 :2
			a C: PUBREC #2
			a S: PUBREL #2
			a S: (nothing)
			a C: PUBCOMP #2
			a S: PUBLISH x q1 #3 :3
		`)
	}
}

// [MQTT-3.3.4-7]: ours is told, and one message too many ends the connection.
func TestReceiveMaximumOfTheServer(t *testing.T) {
	dialogue(t, Config{ReceiveMaximum: 2}, `
		a C: CONNECT 5 clean id=a user=alice keep=30
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=2
		a C: PUBLISH x q2 #1 :1
		a S: PUBREC #1
		a C: PUBLISH x q2 #2 :2
		a S: PUBREC #2
		a C: PUBREL #1
		a S: PUBCOMP #1
		a C: PUBLISH x q2 #3 :3
		a S: PUBREC #3
		a C: PUBLISH x q1 #4 :4
		a S: DISCONNECT 0x93
		a S: --
	`)
}

// What was published after a restart was not sent before it, in whichever way
// the server ended: "The DUP flag MUST be set to 0 ... if it is the first
// occasion" section 3.3.1.1.
func TestNoDupAfterRestart(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 x q1 im/inbox/+ q1
		a S: SUBACK #1 0x01 0x01
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		a S: PUBLISH x q1 #1 :1
		a C: PUBACK #1
		b C: PUBLISH im/to/alice q1 #2 :one
		b S: PUBACK #2
		a S: PUBLISH im/inbox/bob@localhost q1 #32768 :one
		kill
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH x q1 #3 :2
		b S: PUBACK #3
		b C: PUBLISH im/to/alice q1 #4 :two
		b S: PUBACK #4
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBLISH x q1 #2 :2
		a S: PUBLISH im/inbox/bob@localhost q1 #32768 dup :one
		a S: PUBLISH im/inbox/bob@localhost q1 #32769 :two
	`)
}

// The mailbox at QoS 2 of a kept session: each message once, whatever is ended
// at whichever step.
func TestMailboxQoS2(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 im/inbox/+ q2
		a S: SUBACK #1 0x02
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH im/to/alice q2 #1 :one
		b S: PUBREC #1
		b C: PUBLISH im/to/alice q2 #1 dup :one
		b S: PUBREC #1
		b C: PUBREL #1
		b S: PUBCOMP #1
		a S: PUBLISH im/inbox/bob@localhost q2 #32768 :one
		kill
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBLISH im/inbox/bob@localhost q2 #32768 dup :one
		a C: PUBREC #32768
		a S: PUBREL #32768
		kill
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBREL #32768
		a C: PUBCOMP #32768
		a S: (nothing)
		a --
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: (nothing)
		a C: UNSUBSCRIBE #2 im/inbox/+
		a S: UNSUBACK #2
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH im/to/alice q1 #1 :two
		b S: PUBACK #1
		a S: (nothing)
		a C: SUBSCRIBE #3 im/# q1
		a S: SUBACK #3 0x01
		a S: PUBLISH im/inbox/bob@localhost q1 #32769 :two
		a C: PUBACK #32769
		a C: PINGREQ
		a S: PINGRESP
	`)
}

// A receive maximum of one holds for the mailbox, too.
func TestMailboxOneByOne(t *testing.T) {
	dialogue(t, Config{}, `
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH im/to/alice q1 #1 :one
		b S: PUBACK #1
		b C: PUBLISH im/to/alice q1 #2 :two
		b S: PUBACK #2
		a C: CONNECT 5 clean id=a user=alice receive-maximum=1
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 im/inbox/# q1
		a S: SUBACK #1 0x01
		a S: PUBLISH im/inbox/bob@localhost q1 #32768 *
		a S: (nothing)
		a C: PUBACK #32768
		a S: PUBLISH im/inbox/bob@localhost q1 #32769 *
		a C: PUBACK #32769
		a S: (nothing)
	`)
}

// A client of 3.1 marks what it sends again, PUBREL, SUBSCRIBE and UNSUBSCRIBE too.
func TestDupOf31(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 3 clean id=a user=alice
		a S: CONNACK 0x00*
		a C: RAW 8a r6 m1 s1 'x' 01
		a S: SUBACK #1 0x01
		a C: PUBLISH y q2 #2 :1
		a S: PUBREC #2
		a C: RAW 6a r2 m2
		a S: PUBCOMP #2
		a C: RAW aa r5 m3 s1 'x'
		a S: UNSUBACK #3
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: RAW 6a r2 m2
		b S: --
	`)
}

// [MQTT-3.10.4-3] in the mailbox: what was being sent comes to its end, and is
// not sent again to who subscribes later.
func TestMailboxUnsubscribedInTheMiddle(t *testing.T) {
	for _, expiry := range []string{"0", "100"} {
		dialogue(t, Config{}, `
			b C: CONNECT 4 clean id=b user=bob
			b S: CONNACK 0x00
			b C: PUBLISH im/to/alice q1 #1 :one
			b S: PUBACK #1
			b C: PUBLISH im/to/alice q1 #2 :two
			b S: PUBACK #2
			a C: CONNECT 5 id=a user=alice session-expiry-interval=`+expiry+`
			a S: CONNACK 0x00 t*
			a C: SUBSCRIBE #1 im/inbox/# q2
			a S: SUBACK #1 0x02
			a S: PUBLISH im/inbox/bob@localhost q2 #32768 *
			a S: PUBLISH im/inbox/bob@localhost q2 #32769 *
			a C: PUBREC #32768
			a S: PUBREL #32768
			a C: UNSUBSCRIBE #2 im/inbox/#
			a S: UNSUBACK #2 0x00
			b C: PUBLISH im/to/alice q1 #3 :three
			b S: PUBACK #3
			a S: (nothing)
			a C: PUBCOMP #32768
			a C: PUBREC #32769
			a S: PUBREL #32769
			a C: PUBCOMP #32769
			a S: (nothing)
			a C: SUBSCRIBE #3 im/inbox/# q1
			a S: SUBACK #3 0x01
			a S: PUBLISH im/inbox/bob@localhost q1 #32770 *
			a C: PUBACK #32770
			a S: (nothing)
		`)
	}
}

// Who unsubscribes and subscribes again in the middle is given each once.
func TestMailboxSubscribedAgainInTheMiddle(t *testing.T) {
	dialogue(t, Config{}, `
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH im/to/alice q1 #1 :one
		b S: PUBACK #1
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 im/inbox/# q2
		a S: SUBACK #1 0x02
		a S: PUBLISH im/inbox/bob@localhost q2 #32768 *
		a C: UNSUBSCRIBE #2 im/inbox/#
		a S: UNSUBACK #2
		b C: PUBLISH im/to/alice q1 #3 :two
		b S: PUBACK #3
		a C: SUBSCRIBE #3 im/inbox/# q2
		a S: SUBACK #3 0x02
		a S: PUBLISH im/inbox/bob@localhost q2 #32769 *
		a C: PUBREC #32768
		a S: PUBREL #32768
		a C: PUBREC #32769
		a S: PUBREL #32769
		a C: PUBCOMP #32768
		a C: PUBCOMP #32769
		a --
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: (nothing)
	`)
}
