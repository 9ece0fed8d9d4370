package mqtt

import "testing"

func TestPlainTopics(t *testing.T) {
	dialogue(t, Config{}, `
		phone C: CONNECT 5 clean id=phone user=alice
		phone S: CONNACK 0x00 *
		tv    C: CONNECT 4 clean id=tv user=bob
		tv    S: CONNACK 0x00
		phone C: SUBSCRIBE #1 room/+ q1 house q0
		phone S: SUBACK #1 0x01 0x00
		tv    C: PUBLISH room/a q1 #7 :hello
		tv    S: PUBACK #7
		phone S: PUBLISH room/a q1 #1 :hello
		phone C: PUBACK #1
		tv    C: PUBLISH house q1 #8 :x
		tv    S: PUBACK #8
		phone S: PUBLISH house q0 :x
		tv    C: PUBLISH other q0 :x
		phone C: UNSUBSCRIBE #2 house nothing
		phone S: UNSUBACK #2 0x00 0x11
		tv    C: PUBLISH house q0 :x
		phone C: PINGREQ
		phone S: PINGRESP
		phone C: DISCONNECT
		phone S: --
	`)
}

func TestQoS2(t *testing.T) {
	dialogue(t, Config{}, `
		phone C: CONNECT 5 clean id=phone user=alice
		phone S: CONNACK 0x00 *
		phone C: SUBSCRIBE #1 a q2
		phone S: SUBACK #1 0x02
		tv    C: CONNECT 4 clean id=tv user=bob
		tv    S: CONNACK 0x00
		tv    C: PUBLISH a q2 #7 :once
		tv    S: PUBREC #7
		tv    C: PUBLISH a q2 #7 dup :once
		tv    S: PUBREC #7
		phone S: PUBLISH a q2 #1 :once
		phone C: PUBREC #1
		phone S: PUBREL #1
		phone C: PUBREC #1
		phone S: PUBREL #1
		phone C: PUBCOMP #1
		phone S: (nothing)
		tv    C: PUBREL #7
		tv    S: PUBCOMP #7
		tv    C: PUBLISH a q2 #7 :new
		tv    S: PUBREC #7
		phone S: PUBLISH a q2 #2 :new
	`)
}

func TestMailbox(t *testing.T) {
	dialogue(t, Config{}, `
		phone C: CONNECT 5 clean id=phone user=alice
		phone S: CONNACK 0x00 *
		phone C: SUBSCRIBE #1 im/inbox/# q1 im/sent/# q1
		phone S: SUBACK #1 0x01 0x01
		# No filter of bob's reaches alice's mailbox.
		bob   C: CONNECT 5 clean id=b user=bob
		bob   S: CONNACK 0x00 *
		bob   C: SUBSCRIBE #1 # q1 +/inbox/# q1 +/+/+ q1 $share/g/im/inbox/# q1 im/to/# q1
		bob   S: SUBACK #1 0x01 0x01 0x01 0x87 0x87
		bob   C: PUBLISH im/to/alice q1 #1 content-type=text/plain user-property=id:m1 user-property=mood:good :hi alice
		bob   S: PUBACK #1
		phone S: PUBLISH im/inbox/bob@localhost q1 #32768 payload-format-indicator=1 content-type=text/plain user-property=id:m1 user-property=seq:1 user-property=prev:0 user-property=from:bob@localhost user-property=to:alice@localhost user-property=time:2000-01-01T00:00:00.000Z user-property=device:b user-property=mood:good :hi alice
		bob   C: PUBLISH im/inbox/alice q1 #2 :forged
		bob   S: PUBACK #2 0x87 *
		bob   C: PUBLISH im/to/nobody q1 #3 :x
		bob   S: PUBACK #3 0x90 *
		bob   S: (nothing)
		# Not acknowledged: it comes again, and then not any more.
		phone --
		phone C: CONNECT 4 clean id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 im/inbox/# q1
		phone S: SUBACK #1 0x01
		phone S: PUBLISH im/inbox/bob@localhost q1 #32768 :hi alice
		phone C: PUBACK #32768
		phone --
		phone C: CONNECT 4 clean id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 im/inbox/# q1
		phone S: SUBACK #1 0x01
		phone S: (nothing)
		# Another device of alice's sees what this one sends, and has all from the beginning.
		phone C: PUBLISH im/to/bob@localhost q1 #1 :hello bob
		phone S: PUBACK #1
		pad   C: CONNECT 4 clean id=pad user=alice
		pad   S: CONNACK 0x00
		pad   C: SUBSCRIBE #1 im/# q0
		pad   S: SUBACK #1 0x00
		pad   S: PUBLISH im/inbox/bob@localhost q0 :hi alice
		pad   S: PUBLISH im/sent/bob@localhost q0 :hello bob
		phone S: (nothing)
	`)
}

// Who is not let in is not authorized, be it for the name or the password. A
// name that no account can have is malformed.
func TestLogin(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice pw=wrong
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 4 clean id=a user=alice pw=wrong
		a S: CONNACK 0x05
		a S: --
		a C: CONNECT 3 clean id=a user=alice pw=wrong
		a S: CONNACK 0x05
		a S: --
		a C: CONNECT 5 clean id=a user=nobody pw=pw
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 4 clean id=a user=nobody pw=pw
		a S: CONNACK 0x05
		a S: --
		a C: CONNECT 5 clean id=a user=alice@elsewhere.example pw=pw
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 4 clean id=a user= pw=pw
		a S: CONNACK 0x05
		a S: --
		a C: CONNECT 5 clean id=a user=not<a>name pw=pw
		a S: CONNACK 0x86
		a S: --
		a C: CONNECT 4 clean id=a user=not<a>name pw=pw
		a S: CONNACK 0x04
		a S: --
		a C: CONNECT 5 clean id=a
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 4 clean id=a
		a S: CONNACK 0x05
		a S: --
		a C: CONNECT 4 id=
		a S: CONNACK 0x02
		a S: --
	`)
}
