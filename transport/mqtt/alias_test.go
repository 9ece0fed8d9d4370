package mqtt

import "testing"

// Section 3.3.2.3.4: what comes from the mailbox has topic aliases too, as many
// as the client takes and no more [MQTT-3.1.2-26].
func TestAliasesForMail(t *testing.T) {
	dialogue(t, Config{}, `
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH im/to/alice q1 #1 :one
		b S: PUBACK #1
		b C: PUBLISH im/to/alice q1 #2 :two
		b S: PUBACK #2
		a C: CONNECT 5 id=a user=alice topic-alias-maximum=1 session-expiry-interval=60
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 im/# q1
		a S: SUBACK #1 0x01
		a S: PUBLISH im/inbox/bob@localhost q1 #32768 payload-format-indicator=1 topic-alias=1 *:one
		a S: PUBLISH  q1 #32769 payload-format-indicator=1 topic-alias=1 *:two
		a C: PUBACK #32768
		# It has no second one.
		a C: SUBSCRIBE #2 plain q0
		a S: SUBACK #2 0x00
		b C: PUBLISH plain q0 :three
		a S: PUBLISH plain q0 :three
		# An alias lasts as long as its connection.
		a --
		a C: CONNECT 5 id=a user=alice topic-alias-maximum=1 session-expiry-interval=60
		a S: CONNACK 0x00 present *
		a S: PUBLISH im/inbox/bob@localhost q1 #32769 dup payload-format-indicator=1 topic-alias=1 *:two
	`)
}

// And what comes from a session's queue. A topic that also comes by memory, at
// QoS 0, has another alias there.
func TestAliasesForTheQueue(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 id=a user=alice topic-alias-maximum=3 session-expiry-interval=60
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 t/# q1
		a S: SUBACK #1 0x01
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH t/x q1 #1 :1
		b S: PUBACK #1
		a S: PUBLISH t/x q1 #1 topic-alias=1 :1
		b C: PUBLISH t/x q0 :2
		a S: PUBLISH t/x q0 topic-alias=2 :2
		b C: PUBLISH t/x q1 #1 :3
		b S: PUBACK #1
		a S: PUBLISH  q1 #2 topic-alias=1 :3
		b C: PUBLISH t/x q0 :4
		a S: PUBLISH  q0 topic-alias=2 :4
	`)
}

// A packet that fits only without its alias goes without.
func TestAliasThatDoesNotFit(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 id=a user=alice topic-alias-maximum=3 session-expiry-interval=60 maximum-packet-size=60
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 t/# q1
		a S: SUBACK #1 0x01
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		# 2 + 5 + 2 + 1 and the payload: 60, and 63 with an alias.
		b C: PUBLISH t/x q1 #1 :12345678901234567890123456789012345678901234567890
		b S: PUBACK #1
		a S: PUBLISH t/x q1 #1 :12345678901234567890123456789012345678901234567890
		b C: PUBLISH t/x q1 #1 :3
		b S: PUBACK #1
		a S: PUBLISH t/x q1 #2 topic-alias=1 :3
	`)
}

func TestAliasForgotten(t *testing.T) {
	var a aliases
	if n, known := a.give(fromBox, []byte("x"), 2); n != 1 || known {
		t.Fatal(n, known)
	}
	if n, _ := a.give(fromMemory, []byte("x"), 2); n != 2 {
		t.Fatal(n)
	}
	a.forget(fromBox, []byte("x")) // not the last: its number is not given again
	if n, _ := a.give(fromBox, []byte("x"), 2); n != 0 {
		t.Fatal(n)
	}
	a.forget(fromMemory, []byte("x"))
	if n, _ := a.give(fromBox, []byte("x"), 2); n != 2 {
		t.Fatal(n)
	}
}
