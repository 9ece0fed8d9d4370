package mqtt

import (
	"testing"

	"github.com/posthouse-im/posthouse/router"
)

// Words of the moment go from topic to topic, are told once and kept nowhere.
func TestSignals(t *testing.T) {
	dialogue(t, Config{}, `
		bob   C: CONNECT 5 clean id=b user=bob
		bob   S: CONNACK 0x00 *
		bob   C: SUBSCRIBE #1 subscription-identifier=7 im/signal/# q2
		bob   S: SUBACK #1 0x02
		old   C: CONNECT 4 clean id=old user=bob
		old   S: CONNACK 0x00
		old   C: SUBSCRIBE #1 im/signal/+/composing q0
		old   S: SUBACK #1 0x00
		alice C: CONNECT 5 clean id=a user=alice
		alice S: CONNACK 0x00 *
		alice C: PUBLISH im/signal-to/bob/composing q0
		bob   S: PUBLISH im/signal/alice@localhost/composing q0 subscription-identifier=7 user-property=device:a :
		old   S: PUBLISH im/signal/alice@localhost/composing q0 :
		# At QoS 1 and 2 it is acknowledged, and told at 0; not retained.
		alice C: PUBLISH im/signal-to/bob@localhost/x-poke q1 retain #1 :hi
		alice S: PUBACK #1
		bob   S: PUBLISH im/signal/alice@localhost/x-poke q0 subscription-identifier=7 user-property=device:a :hi
		alice C: PUBLISH im/signal-to/bob/paused q2 #2
		alice S: PUBREC #2
		alice C: PUBREL #2
		alice S: PUBCOMP #2
		bob   S: PUBLISH im/signal/alice@localhost/paused q0 subscription-identifier=7 user-property=device:a :
		old   S: (nothing)
		# To one device; to who is not there; to himself, but for the device that says it.
		alice C: PUBLISH im/signal-to/bob/old/composing q1 #3
		alice S: PUBACK #3
		old   S: PUBLISH im/signal/alice@localhost/composing q0 :
		bob   S: (nothing)
		alice C: PUBLISH im/signal-to/alice/active q1 #4
		alice S: PUBACK #4
		bob   C: PUBLISH im/signal-to/bob/composing q1 #1
		bob   S: PUBACK #1
		old   S: PUBLISH im/signal/bob@localhost/composing q0 :
		bob   S: (nothing)
		# What it may not be.
		alice C: PUBLISH im/signal-to/nobody/composing q1 #5
		alice S: PUBACK #5 0x90 *
		alice C: PUBLISH im/signal-to/bob@example.org/composing q1 #5
		alice S: PUBACK #5 0x87 *
		alice C: PUBLISH im/signal-to/bob q1 #5
		alice S: PUBACK #5 0x90 *
		alice C: PUBLISH im/signal-to/bob/ q1 #5
		alice S: PUBACK #5 0x90 *
		alice C: PUBLISH im/signal-to/bob/online q1 #5
		alice S: PUBACK #5 0x87 *
		alice C: PUBLISH im/signal/bob/composing q1 #5
		alice S: PUBACK #5 0x87 *
		alice C: SUBSCRIBE #6 $share/g/im/signal/# q0 im/signal-to/# q0
		alice S: SUBACK #6 0x87 0x87
		bob   S: (nothing)
		old   S: (nothing)
		# Nobody listens any more.
		old   C: UNSUBSCRIBE #2 im/signal/+/composing
		old   S: UNSUBACK #2
		alice C: PUBLISH im/signal-to/bob/old/composing q1 #7
		alice S: PUBACK #7
		old   S: (nothing)
	`)
}

// Who subscribes to words of the moment alone does not read his mail by that:
// it is there when he subscribes to it.
func TestSignalsLeaveTheMail(t *testing.T) {
	dialogue(t, Config{}, `
		alice C: CONNECT 4 clean id=a user=alice
		alice S: CONNACK 0x00
		alice C: PUBLISH im/to/bob q1 #1 :one
		alice S: PUBACK #1
		bob   C: CONNECT 4 id=b user=bob
		bob   S: CONNACK 0x00
		bob   C: SUBSCRIBE #1 im/signal/# q0
		bob   S: SUBACK #1 0x00
		alice C: PUBLISH im/signal-to/bob/composing q0
		bob   S: PUBLISH im/signal/alice@localhost/composing q0 :
		bob   S: (nothing)
		bob   C: SUBSCRIBE #2 im/inbox/# q1
		bob   S: SUBACK #2 0x01
		bob   S: PUBLISH im/inbox/alice@localhost q1 #32768 :one
		# And not any more after he has unsubscribed, but what he has is acknowledged.
		bob   C: UNSUBSCRIBE #3 im/inbox/#
		bob   S: UNSUBACK #3
		bob   C: PUBACK #32768
		alice C: PUBLISH im/to/bob q1 #2 :two
		alice S: PUBACK #2
		bob   S: (nothing)
		bob   --
		bob   C: CONNECT 4 id=b user=bob
		bob   S: CONNACK 0x00 present
		bob   S: (nothing)
		bob   C: SUBSCRIBE #4 im/inbox/# q1
		bob   S: SUBACK #4 0x01
		bob   S: PUBLISH im/inbox/alice@localhost q1 #32769 :two
	`)
}

// Nor does who subscribes to what his other devices sent, before he subscribes
// to what came.
func TestSentBeforeInbox(t *testing.T) {
	dialogue(t, Config{}, `
		alice C: CONNECT 4 clean id=a user=alice
		alice S: CONNACK 0x00
		alice C: PUBLISH im/to/bob q1 #1 :one
		alice S: PUBACK #1
		pad   C: CONNECT 4 clean id=pad user=bob
		pad   S: CONNACK 0x00
		pad   C: PUBLISH im/to/alice q1 #1 :yes
		pad   S: PUBACK #1
		bob   C: CONNECT 4 id=b user=bob
		bob   S: CONNACK 0x00
		bob   C: SUBSCRIBE #1 im/sent/# q0
		bob   S: SUBACK #1 0x00
		bob   S: (nothing)
		bob   C: SUBSCRIBE #2 im/inbox/# q1
		bob   S: SUBACK #2 0x01
		bob   S: PUBLISH im/inbox/alice@localhost q1 #32768 :one
		bob   S: PUBLISH im/sent/alice@localhost q0 :yes
	`)
}

// Five in a second, four seconds' worth at once.
func TestSignalRate(t *testing.T) {
	dialogue(t, Config{SignalRate: 1}, `
		alice C: CONNECT 5 clean id=a user=alice
		alice S: CONNACK 0x00 *
		alice C: PUBLISH im/signal-to/bob/x q1 #1
		alice S: PUBACK #1
		alice C: PUBLISH im/signal-to/bob/x q1 #1
		alice S: PUBACK #1
		alice C: PUBLISH im/signal-to/bob/x q1 #1
		alice S: PUBACK #1
		alice C: PUBLISH im/signal-to/bob/x q1 #1
		alice S: PUBACK #1
		alice C: PUBLISH im/signal-to/bob/x q1 #1
		alice S: PUBACK #1 0x97 *
		      ~ 1s
		alice C: PUBLISH im/signal-to/bob/x q1 #1
		alice S: PUBACK #1
	`)
}

// A connection that is not written to keeps so many and no more, and what is
// no level of a topic is not told.
func TestEar(t *testing.T) {
	e := &ear{bell: (*bell)(&client{srv: &Server{}}), hears: true}
	e.words = make([]*router.Signal, maxWords)
	if e.Signal("b", &router.Signal{Kind: "composing"}) || e.srv.count.dropped.Load() != 1 {
		t.Error("one too many was taken")
	}
	if e.hears = false; e.Signal("b", &router.Signal{}) {
		t.Error("one was taken that nobody wants")
	}
	for _, kind := range []string{"a/b", "+", "a#", "a\x00"} {
		(&client{}).tell(&router.Signal{From: "alice@localhost", Kind: kind}) // panics if it goes on
	}
}
