package mqtt

import (
	"testing"
	"time"
)

// The queue of a kept session has an end. Who alone would have got the message
// is told so in MQTT 5; what others get they get. What was acknowledged makes
// room, also after the server was ended.
func TestKeptMessagesEnd(t *testing.T) {
	dialogue(t, Config{MaxKeptMessages: 2}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		old   C: CONNECT 4 clean id=old user=bob
		old   S: CONNACK 0x00
		tv    C: PUBLISH a q1 #1 :one
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #2 :two
		tv    S: PUBACK #2
		tv    C: PUBLISH a q1 #3 :three
		tv    S: PUBACK #3 0x97*
		tv    C: PUBLISH a q2 #4 :four
		tv    S: PUBREC #4 0x97*
		# 3.1.1 has no word for it.
		old   C: PUBLISH a q1 #1 :five
		old   S: PUBACK #1
		# Somebody else takes it.
		old   C: SUBSCRIBE #2 a q1
		old   S: SUBACK #2 0x01
		tv    C: PUBLISH a q1 #5 :six
		tv    S: PUBACK #5
		old   S: PUBLISH a q1 #1 :six
		old   C: PUBACK #1
		old   --
		kill
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :seven
		tv    S: PUBACK #1 0x97*
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a q1 #1 :one
		phone S: PUBLISH a q1 #2 :two
		phone C: PUBACK #1
		tv    C: PUBLISH a q1 #2 :eight
		tv    S: PUBACK #2
		phone S: PUBLISH a q1 #3 :eight
	`)
}

func TestKeptBytesEnd(t *testing.T) {
	dialogue(t, Config{MaxKeptBytes: 50}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :of more than fifty bytes, which is where no further one is taken
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #2 :x
		tv    S: PUBACK #2 0x97*
	`)
}

func TestKeptAgeEnds(t *testing.T) {
	dialogue(t, Config{MaxKeptAge: time.Minute}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 4 clean id=tv user=bob
		tv    S: CONNACK 0x00
		tv    C: PUBLISH a q1 #1 :old
		tv    S: PUBACK #1
		~ 61s
		tv    C: PUBLISH a q1 #2 :new
		tv    S: PUBACK #2
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a q1 #2 :new
	`)
}
