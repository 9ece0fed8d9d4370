package mqtt

import (
	"testing"
	"testing/synctest"

	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// A listener on TCP and a sensor, both ways, at each QoS.
func TestSNPublish(t *testing.T) {
	snDialogue(t, sensors(), `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 # q2
		app S: SUBACK #1 0x02
		n1 N: CONNECT n1 clean 60s
		n1 G: CONNACK
		n1 N: REGISTER a/temp #1
		n1 G: REGACK t1 #1
		# The same name has the same id.
		n1 N: REGISTER a/temp #2
		n1 G: REGACK t1 #2
		n1 N: REGISTER a/+ #3
		n1 G: REGACK t0 #3 rejected: not supported
		n1 N: PUBLISH t1 q0 :20
		app S: PUBLISH a/temp q0 :20
		n1 N: PUBLISH t1 q1 #5 :21
		n1 G: PUBACK t1 #5
		app S: PUBLISH a/temp q1 #1 :21
		app C: PUBACK #1
		n1 N: PUBLISH t1 q2 #6 :22
		n1 G: PUBREC #6
		# The same id again is the same message.
		n1 N: PUBLISH t1 q2 #6 dup :22
		n1 G: PUBREC #6
		n1 N: PUBREL #6
		n1 G: PUBCOMP #6
		n1 N: PUBREL #6
		n1 G: PUBCOMP #6
		app S: PUBLISH a/temp q2 #2 :22
		app C: PUBREC #2
		app S: PUBREL #2
		app C: PUBCOMP #2
		n1 N: PUBLISH 'ab q1 #7 :short
		n1 G: PUBACK t24930 #7
		app S: PUBLISH ab q1 #3 :short
		app C: PUBACK #3
		n1 N: PUBLISH p7 q0 retain :wet
		app S: PUBLISH plant/water q0 :wet
		n1 N: PUBLISH t99 q0 :x
		n1 G: PUBACK t99 rejected: invalid topic ID
		n1 N: PUBLISH p99 q1 #8 :x
		n1 G: PUBACK t99 #8 rejected: invalid topic ID
		n1 N: PUBLISH '+a q1 #9 :x
		n1 G: PUBACK t11105 #9 rejected: not supported
		n1 N: PUBLISH t1 q1 :x
		n1 G: PUBACK t1 rejected: not supported
		app S: (nothing)
		n1 N: PINGREQ
		n1 G: PINGRESP
		n1 N: DISCONNECT
		n1 G: DISCONNECT
		n1 G: (nothing)
	`)
}

// What the server does not support is refused, and the sensor stays.
func TestSNMaximumQoS(t *testing.T) {
	cfg := sensors()
	cfg.MaxQoS, cfg.RetainAvailable = new(1), new(false)
	snDialogue(t, cfg, `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 # q2
		app S: SUBACK #1 0x01
		n1 N: CONNECT n1 clean 60s
		n1 G: CONNACK
		n1 N: SUBSCRIBE a/temp q2 #1
		n1 G: SUBACK t1 #1 q1
		n1 N: PUBLISH 'ab q2 #2 :x
		n1 G: PUBACK t24930 #2 rejected: not supported
		n1 N: PUBLISH 'ab q1 retain #3 :x
		n1 G: PUBACK t24930 #3 rejected: not supported
		n2 N: PUBLISH p8 q-1 retain :x
		n1 N: PUBLISH 'ab q1 #4 :taken
		n1 G: PUBACK t24930 #4
		app S: PUBLISH ab q1 #1 :taken
		n2 N: PUBLISH p8 q-1 :open
		app S: PUBLISH open/door q0 :open
		n1 N: WILLTOPICUPD w/n1 q2
		n1 G: WILLTOPICRESP rejected: not supported
		n1 N: WILLTOPICUPD w/n1 q1
		n1 G: WILLTOPICRESP
		n3 N: CONNECT n3 clean will 60s
		n3 G: WILLTOPICREQ
		n3 N: WILLTOPIC w/n3 q1 retain
		n3 G: WILLMSGREQ
		n3 N: WILLMSG :gone
		n3 G: CONNACK rejected: not supported
	`)
}

func TestSNSubscribe(t *testing.T) {
	snDialogue(t, sensors(), `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: PUBLISH r/old q0 retain :kept
		n1 N: CONNECT n1 clean 60s
		n1 G: CONNACK
		n1 N: SUBSCRIBE a/temp q1 #1
		n1 G: SUBACK t1 #1 q1
		n1 N: SUBSCRIBE p7 q0 #2
		n1 G: SUBACK t7 #2 q0
		n1 N: SUBSCRIBE 'ab q2 #3
		n1 G: SUBACK t0 #3 q2
		n1 N: SUBSCRIBE r/# q1 #4
		n1 G: SUBACK t0 #4 q1
		# Of a wildcard's topics it has to be told first.
		n1 G: REGISTER r/old t2 #1
		n1 N: REGACK t2 #1
		n1 G: PUBLISH t2 q0 retain :kept
		n1 N: SUBSCRIBE p9 q0 #5
		n1 G: SUBACK t0 #5 q0 rejected: invalid topic ID
		n1 N: SUBSCRIBE a#b q0 #6
		n1 G: SUBACK t0 #6 q0 rejected: not supported
		app C: PUBLISH a/temp q0 :0
		n1 G: PUBLISH t1 q0 :0
		app C: PUBLISH plant/water q0 :w
		n1 G: PUBLISH p7 q0 :w
		# One message of QoS 1 or 2 at a time.
		app C: PUBLISH a/temp q1 #1 :1
		app S: PUBACK #1
		app C: PUBLISH ab q2 #2 :2
		app S: PUBREC #2
		app C: PUBREL #2
		app S: PUBCOMP #2
		n1 G: PUBLISH t1 q1 #1 :1
		n1 G: (nothing)
		n1 N: PUBACK t1 #1
		n1 G: PUBLISH 'ab q2 #2 :2
		n1 N: PUBREC #2
		n1 G: PUBREL #2
		n1 N: PUBCOMP #2
		n1 N: UNSUBSCRIBE a/temp #7
		n1 G: UNSUBACK #7
		n1 N: UNSUBSCRIBE 'ab #8
		n1 G: UNSUBACK #8
		app C: PUBLISH a/temp q0 :gone
		app C: PUBLISH ab q0 :gone
		n1 G: (nothing)
		# It does not know its ids any more: they are registered anew.
		app C: PUBLISH r/old q1 #3 :again
		app S: PUBACK #3
		n1 G: PUBLISH t2 q1 #3 :again
		n1 N: PUBACK t2 #3 c2
		n1 G: REGISTER r/old t2 #2
		n1 N: REGACK t2 #2
		n1 G: PUBLISH t2 q1 #3 dup :again
		n1 N: PUBACK t2 #3
	`)
}

func TestSNWill(t *testing.T) {
	snDialogue(t, sensors(), `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 will/# q1
		app S: SUBACK #1 0x01
		n1 N: CONNECT n1 will 60s
		n1 G: WILLTOPICREQ
		# Lost; it is said again.
		~ 10s
		n1 G: WILLTOPICREQ
		n1 N: WILLTOPIC will/n1 q1
		n1 G: WILLMSGREQ
		n1 N: WILLMSG :gone
		n1 G: CONNACK
		~ 88s
		app S: (nothing)
		~ 2s
		n1 G: DISCONNECT
		app S: PUBLISH will/n1 q1 #1 :gone
		app C: PUBACK #1
		# The will stays with the session.
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		n1 N: WILLMSGUPD :dead
		n1 G: WILLMSGRESP
		kill
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 will/# q1
		app S: SUBACK #1 0x01
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		n1 N: WILLTOPICUPD will/two q0 retain
		n1 G: WILLTOPICRESP
		~ 90s
		n1 G: DISCONNECT
		app S: PUBLISH will/two q0 :dead
		# An empty topic takes it back.
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		n1 N: WILLTOPICUPD
		n1 G: WILLTOPICRESP
		n1 N: WILLMSGUPD :x
		n1 G: WILLMSGRESP rejected: not supported
		~ 90s
		n1 G: DISCONNECT
		app S: (nothing)
		# A will that may not be is refused.
		n1 N: CONNECT n1 will 60s
		n1 G: WILLTOPICREQ
		n1 N: WILLTOPIC im/to/bob q1
		n1 G: WILLMSGREQ
		n1 N: WILLMSG :gone
		n1 G: CONNACK rejected: not supported
		n1 N: CONNECT n1 will 60s
		n1 G: WILLTOPICREQ
		n1 N: WILLTOPIC
		n1 G: CONNACK
		# Goodbye is no reason for a will.
		n1 N: WILLTOPICUPD will/n1 q0
		n1 G: WILLTOPICRESP
		n1 N: DISCONNECT
		n1 G: DISCONNECT
		app S: (nothing)
	`)
}

// What comes for a sensor that sleeps waits, and is said when it asks.
func TestSNSleep(t *testing.T) {
	snDialogue(t, sensors(), `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		n1 N: SUBSCRIBE a/b q2 #1
		n1 G: SUBACK t1 #1 q2
		n1 N: DISCONNECT 600s
		n1 G: DISCONNECT
		app C: PUBLISH a/b q0 :0
		app C: PUBLISH a/b q1 #1 :1
		app S: PUBACK #1
		app C: PUBLISH a/b q1 #2 :2
		app S: PUBACK #2
		~ 9m
		n1 G: (nothing)
		n1 N: PINGREQ n1
		n1 G: PUBLISH t1 q0 :0
		n1 G: PUBLISH t1 q1 #1 :1
		n1 G: (nothing)
		n1 N: PUBACK t1 #1
		n1 G: PUBLISH t1 q1 #2 :2
		n1 N: PUBACK t1 #2
		n1 G: PINGRESP
		app C: PUBLISH a/b q1 #3 :3
		app S: PUBACK #3
		n1 G: (nothing)
		# It wakes from behind a NAT that gave it another address.
		n9 N: PINGREQ n1
		n9 G: PUBLISH t1 q1 #3 :3
		# It does not answer, and sleeps on.
		~ 40s
		n9 G: PUBLISH t1 q1 #3 dup :3
		n9 G: PUBLISH t1 q1 #3 dup :3
		n9 G: PUBLISH t1 q1 #3 dup :3
		n9 G: (nothing)
		n9 N: PINGREQ n1
		n9 G: PUBLISH t1 q1 #3 dup :3
		n9 N: PUBACK t1 #3
		n9 G: PINGRESP
		# Back to active.
		app C: PUBLISH a/b q1 #4 :4
		app S: PUBACK #4
		n9 N: CONNECT n1 60s
		n9 G: CONNACK
		n9 G: PUBLISH t1 q1 #4 :4
		n9 N: PUBACK t1 #4
		# Asleep for too long.
		n9 N: DISCONNECT 600s
		n9 G: DISCONNECT
		~ 659s
		n9 G: (nothing)
		app C: PUBLISH a/b q2 #5 :5
		app S: PUBREC #5
		app C: PUBREL #5
		app S: PUBCOMP #5
		~ 1s
		n9 G: DISCONNECT
		n9 N: PINGREQ n1
		n9 G: DISCONNECT
		# What it missed is in the session, across a crash too.
		kill
		n9 N: PINGREQ n1
		n9 G: DISCONNECT
		n9 N: CONNECT n1 60s
		n9 G: CONNACK
		n9 G: REGISTER a/b t1 #1
		n9 N: REGACK t1 #1
		n9 G: PUBLISH t1 q2 #5 dup :5
		n9 N: PUBREC #5
		n9 G: PUBREL #5
		~ 10s
		n9 G: PUBREL #5
		n9 N: PUBCOMP #5
		n9 G: (nothing)
		# A session that ends with the connection waits in memory.
		n2 N: CONNECT n2 clean 60s
		n2 G: CONNACK
		n2 N: SUBSCRIBE a/b q1 #1
		n2 G: SUBACK t1 #1 q1
		n2 N: DISCONNECT 60s
		n2 G: DISCONNECT
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: PUBLISH a/b q1 #1 :x
		app S: PUBACK #1
		app C: PUBLISH a/b q1 #2 :y
		app S: PUBACK #2
		n2 N: PINGREQ n2
		n2 G: PUBLISH t1 q1 #1 :x
		n2 N: PUBACK t1 #1
		n2 G: PUBLISH t1 q1 #2 :y
		n2 N: PUBACK t1 #2
		n2 G: PINGRESP
	`)
}

// Whoever is not connected is told so with no more than he sent.
func TestSNStrangers(t *testing.T) {
	cfg := sensors()
	cfg.SN.AdvertiseTo, cfg.SN.Advertise, cfg.SN.GatewayID = "10.255.255.255:1884", 1000e9, 9
	snDialogue(t, cfg, `
		10.255.255.255:1884 G: ADVERTISE gw9 1000s
		10.255.255.255:1884 G: (nothing)
		~ 1000s
		10.255.255.255:1884 G: ADVERTISE gw9 1000s
		n1 N: SEARCHGW
		n1 G: GWINFO gw9
		n1 N: REGISTER a #1
		n1 G: DISCONNECT
		n1 N: PINGREQ
		n1 G: DISCONNECT
		n1 N: PINGREQ n1
		n1 G: DISCONNECT
		n1 N: PUBLISH t1 q1 #1 :x
		n1 G: DISCONNECT
		n1 N: SUBSCRIBE a q1 #1
		n1 G: DISCONNECT
		n1 N: DISCONNECT
		n1 G: DISCONNECT
		n1 N: PUBACK t1 #1
		n1 N: PUBREC #1
		n1 N: PINGRESP
		n1 N: ADVERTISE 60s
		n1 G: (nothing)
		app C: CONNECT 4 id=app user=bob clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 # q1
		app S: SUBACK #1 0x01
		# QoS -1: where anybody may publish, and nowhere else.
		n1 N: PUBLISH p8 q-1 :open
		app S: PUBLISH open/door q0 :open
		n1 N: PUBLISH 'zz q-1 :short
		app S: PUBLISH zz q0 :short
		n1 N: PUBLISH p7 q-1 :x
		n1 N: PUBLISH 'aa q-1 :x
		n1 N: PUBLISH '#a q-1 :x
		n1 N: PUBLISH p99 q-1 :x
		n1 N: PUBLISH t1 q-1 :x
		app S: (nothing)
		n1 G: (nothing)
		# Who is let in, and as whom.
		ghost N: CONNECT ghost clean 60s
		ghost G: CONNACK rejected: not supported
		x1 N: CONNECT x1 clean 60s
		x1 G: CONNACK
		x1 N: PUBLISH p7 q1 #1 :no
		x1 G: PUBACK t7 #1 rejected: not supported
		x1 N: PUBLISH p8 q1 #2 :yes
		x1 G: PUBACK t8 #2
		app S: PUBLISH open/door q1 #1 :yes
		app C: PUBACK #1
		x1 N: SUBSCRIBE im/inbox/# q1 #3
		x1 G: SUBACK t0 #3 q0 rejected: not supported
		# Connected it may do as much with QoS -1 as otherwise.
		n1 N: CONNECT n1 clean 60s
		n1 G: CONNACK
		n1 N: PUBLISH p7 q-1 :mine
		app S: PUBLISH plant/water q0 :mine
	`)
	cfg.Anonymous = false
	snDialogue(t, cfg, `
		x1 N: CONNECT x1 clean 60s
		x1 G: CONNACK rejected: not supported
		x1 N: PUBLISH p8 q-1 :open
		x1 G: (nothing)
	`)
}

func TestSNForwarder(t *testing.T) {
	snDialogue(t, sensors(), `
		fw/1 N: CONNECT n1 clean 60s
		fw/1 G: CONNACK
		fw/2 N: CONNECT n2 clean 60s
		fw/2 G: CONNACK
		fw/2 N: SUBSCRIBE a/b q0 #1
		fw/2 G: SUBACK t1 #1 q0
		fw/1 N: REGISTER a/b #1
		fw/1 G: REGACK t1 #1
		fw/1 N: PUBLISH t1 q0 :hi
		fw/2 G: PUBLISH t1 q0 :hi
		fw/1 G: (nothing)
		fw G: (nothing)
	`)
}

// A sensor is a device of a user, with his mailbox.
func TestSNMailbox(t *testing.T) {
	snDialogue(t, sensors(), `
		n1 N: CONNECT n1 60s
		n1 G: CONNACK
		n1 N: SUBSCRIBE im/inbox/# q1 #1
		n1 G: SUBACK t0 #1 q1
		b1 N: CONNECT b1 clean 60s
		b1 G: CONNACK
		b1 N: REGISTER im/to/alice #1
		b1 G: REGACK t1 #1
		b1 N: PUBLISH t1 q1 #2 :hello
		b1 G: PUBACK t1 #2
		n1 G: REGISTER im/inbox/bob@localhost t1 #1
		n1 N: REGACK t1 #1
		n1 G: PUBLISH t1 q1 #32768 :hello
		n1 N: PUBACK t1 #32768
		b1 N: REGISTER im/to/nobody #3
		b1 G: REGACK t2 #3
		b1 N: PUBLISH t2 q1 #4 :hello
		b1 G: PUBACK t2 #4 rejected: not supported
	`)
}

// The sensor says CONNECT again: since CONNACK was lost, or since it has begun
// anew, also elsewhere.
func TestSNReconnect(t *testing.T) {
	snDialogue(t, sensors(), `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 bye q0
		app S: SUBACK #1 0x00
		n1 N: CONNECT n1 will clean 60s
		n1 G: WILLTOPICREQ
		n1 N: CONNECT n1 will clean 60s
		n1 G: WILLTOPICREQ
		n1 N: WILLTOPIC bye
		n1 G: WILLMSGREQ
		n1 N: WILLMSG :w
		n1 G: CONNACK
		n1 N: CONNECT n1 will clean 60s
		n1 G: CONNACK
		app S: (nothing)
		n1 N: SUBSCRIBE a q0 #1
		n1 G: SUBACK t1 #1 q0
		n1 N: CONNECT n1 clean 60s
		n1 G: CONNACK
		app S: PUBLISH bye q0 :w
		app C: PUBLISH a q0 :x
		n1 G: (nothing)
		n2 N: CONNECT n1 clean 60s
		n1 G: DISCONNECT
		n2 G: CONNACK
		# The same session by TCP.
		tcp C: CONNECT 5 id=n1 user=alice
		tcp S: CONNACK*
		n2 G: DISCONNECT
		# Another client at the same place.
		n2 N: CONNECT n3 clean 60s
		n2 G: CONNACK
		n2 N: CONNECT n4 clean 60s
		n2 G: CONNACK
	`)
}

// Every third datagram is lost, and all is said in the end.
func TestSNLoss(t *testing.T) {
	lost := map[string]bool{}
	// Each message is lost the first time that it is said.
	lose := func(m sn.Message, up bool) bool {
		if up {
			return false
		}
		m.Flags &^= 0x80
		k := snText(m)
		was := lost[k]
		lost[k] = true
		return !was
	}
	snLossy(t, sensors(), lose, `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 up q2
		app S: SUBACK #1 0x02
		n1 N: CONNECT n1 600s
		n1 G: (nothing)
		n1 N: CONNECT n1 600s
		n1 G: CONNACK
		n1 N: SUBSCRIBE a/# q2 #1
		n1 G: (nothing)
		n1 N: SUBSCRIBE a/# q2 #1
		n1 G: SUBACK t0 #1 q2
		n1 N: PUBLISH 'up q2 #2 :once
		n1 N: PUBLISH 'up q2 #2 dup :once
		n1 G: PUBREC #2
		n1 N: PUBREL #2
		n1 N: PUBREL #2
		n1 G: PUBCOMP #2
		app S: PUBLISH up q2 #1 :once
		app C: PUBREC #1
		app S: PUBREL #1
		app C: PUBCOMP #1
		app S: (nothing)
		app C: PUBLISH a/b q2 #1 :two
		app S: PUBREC #1
		n1 G: (nothing)
		~ 10s
		n1 G: REGISTER a/b t1 #1
		n1 N: REGACK t1 #1
		n1 G: (nothing)
		~ 10s
		n1 G: PUBLISH t1 q2 #1 dup :two
		n1 N: PUBREC #1
		~ 10s
		n1 G: PUBREL #1
		n1 N: PUBCOMP #1
		~ 60s
		n1 G: (nothing)
		# It never answers: it is lost, and what it missed waits for it.
		app C: PUBREL #1
		app S: PUBCOMP #1
		app C: PUBLISH a/b q1 #2 :one
		app S: PUBACK #2
		~ 41s
		n1 G: PUBLISH t1 q1 #2 dup :one
		n1 G: PUBLISH t1 q1 #2 dup :one
		n1 G: PUBLISH t1 q1 #2 dup :one
		n1 G: (nothing)
		n1 N: CONNECT n1 600s
		n1 G: CONNACK
	`)
}

// What a 64-byte message costs on a short topic.
func TestSNSize(t *testing.T) {
	m := sn.Message{Type: sn.Publish, Flags: sn.MakeFlags(false, 1, false, false, false, sn.Short), TopicID: 'a'<<8 | 'b', ID: 1, Data: make([]byte, 64)}
	if n := len(sn.Append(nil, m)) - 64; n != 7 {
		t.Errorf("%d bytes around the payload, want 7", n)
	}
}

// What a sensor says of the topics and messages that it is sent.
func TestSNAnswers(t *testing.T) {
	snDialogue(t, sensors(), `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		n1 N: CONNECT n1 600s
		n1 G: CONNACK
		n1 N: SUBSCRIBE a/# q2 #1
		n1 G: SUBACK t0 #1 q2
		# Congested: it is left alone for five minutes.
		app C: PUBLISH a/b q1 #1 :1
		app S: PUBACK #1
		n1 G: REGISTER a/b t1 #1
		n1 N: REGACK t1 #1 c1
		~ 299s
		n1 G: (nothing)
		~ 1s
		n1 G: REGISTER a/b t1 #1
		n1 N: REGACK t1 #1
		n1 G: PUBLISH t1 q1 #1 :1
		n1 N: PUBACK t1 #1 c1
		~ 299s
		n1 G: (nothing)
		~ 1s
		n1 G: PUBLISH t1 q1 #1 dup :1
		n1 N: PUBACK t1 #1
		# It will have none of it: the next message comes.
		app C: PUBLISH a/b q2 #2 :2
		app S: PUBREC #2
		app C: PUBREL #2
		app S: PUBCOMP #2
		app C: PUBLISH a/c q1 #3 :3
		app S: PUBACK #3
		app C: PUBLISH a/b q1 #4 :4
		app S: PUBACK #4
		n1 G: PUBLISH t1 q2 #2 :2
		n1 N: PUBACK t1 #2 c3
		n1 G: REGISTER a/c t2 #2
		n1 N: REGACK t2 #2 c3
		n1 G: PUBLISH t1 q1 #4 :4
		# It says twice that it does not know the topic.
		n1 N: PUBACK t1 #4 c2
		n1 G: REGISTER a/b t1 #3
		n1 N: REGACK t1 #3
		n1 G: PUBLISH t1 q1 #4 dup :4
		n1 N: PUBACK t1 #4 c2
		n1 G: (nothing)
		# Of QoS 0 too.
		app C: PUBLISH a/b q0 :5
		n1 G: REGISTER a/b t1 #4
		n1 N: REGACK t1 #4
		n1 G: PUBLISH t1 q0 :5
		n1 N: PUBACK t1 c2
		app C: PUBLISH a/b q0 :6
		n1 G: REGISTER a/b t1 #5
		n1 N: REGACK t1 #5
		n1 G: PUBLISH t1 q0 :6
		# Answers to nothing.
		n1 N: PUBACK t1 #9
		n1 N: PUBREC #9
		n1 N: PUBCOMP #9
		n1 N: REGACK t9 #9
		n1 N: WILLTOPIC a q0
		n1 N: WILLMSG :x
		n1 N: PINGRESP
		n1 G: (nothing)
	`)
}

// The server drains, and an account goes.
func TestSNGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sensors())
		h.stop()
		h.air = &air{}
		h.open(false)
		h.play(`
			n1 N: CONNECT n1 600s
			n1 G: CONNACK
			b1 N: CONNECT b1 600s
			b1 G: CONNACK
			b2 N: CONNECT b2 600s
			b2 G: CONNACK
			b2 N: DISCONNECT 600s
			b2 G: DISCONNECT
			x1 N: CONNECT x1 will 600s
			x1 G: WILLTOPICREQ
		`)
		if st := h.srv.Stats().SN; st.Clients != 4 || st.Asleep != 1 {
			t.Errorf("%+v", st)
		}
		if err := h.core.Auth.Remove(t.Context(), "bob"); err != nil {
			t.Fatal(err)
		}
		h.play(`
			b1 G: DISCONNECT
			b2 G: DISCONNECT
			b1 N: CONNECT b1 600s
			b1 G: CONNACK rejected: not supported
			n1 G: (nothing)
		`)
		air := h.air
		h.stop()
		for _, who := range []string{"n1", "x1"} {
			if got := air.next(address4(who), ""); got != "DISCONNECT" {
				t.Errorf("%s hears %s", who, got)
			}
		}
		if st := h.srv.Stats().SN; st.Clients != 0 || st.Asleep != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A dialogue about a will that is not finished ends.
func TestSNUnfinished(t *testing.T) {
	snDialogue(t, sensors(), `
		n1 N: CONNECT n1 will clean 60s
		n1 G: WILLTOPICREQ
		~ 31s
		n1 G: WILLTOPICREQ
		n1 G: WILLTOPICREQ
		n1 G: WILLTOPICREQ
		n1 N: PUBLISH p7 q1 #1 :early
		n1 G: (nothing)
		~ 10s
		n1 G: DISCONNECT
		n1 N: PINGREQ
		n1 G: DISCONNECT
		# From its sleep with a new will.
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: SUBSCRIBE #1 bye q0
		app S: SUBACK #1 0x00
		n2 N: CONNECT n2 60s
		n2 G: CONNACK
		n2 N: DISCONNECT 60s
		n2 G: DISCONNECT
		n2 N: CONNECT n2 will 60s
		n2 G: WILLTOPICREQ
		n2 N: WILLTOPIC bye q0
		n2 G: WILLMSGREQ
		n2 N: WILLMSG :w
		n2 G: CONNACK
		~ 90s
		n2 G: DISCONNECT
		app S: PUBLISH bye q0 :w
	`)
}
