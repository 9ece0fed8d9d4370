package mqtt

import (
	"strconv"
	"strings"
)

// MQTT 5.0, sections 3.3 to 3.7: PUBLISH and its acknowledgements.
var publishes5 = []statement{
	{ids: "3.3.1-1 4.4.0-1 4.6.0-1 4.3.2-3 4.3.3-3", script: `
		# what was not acknowledged comes again, in order, under its identifier, and only then
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		b C: PUBLISH x q1 #3 :3
		b S: PUBACK #3
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a S: PUBLISH x q1 #3 :3
		~ 1h
		a S: (nothing)
		a --
		a kept present
		a S: PUBLISH x q1 #1 dup :1
		a S: PUBLISH x q2 #2 dup :2
		a S: PUBLISH x q1 #3 dup :3
		a C: PUBACK #1
		a C: PUBREC #2
		a S: PUBREL #2
		a C: PUBCOMP #2
		a C: PUBACK #3
		a --
		a kept present
		a S: (nothing)
	`, cfg: Config{MaxKeepalive: 2 * 3600e9}},
	{ids: "3.3.1-3 4.3.2-2 4.3.3-2", script: `
		# DUP is the sender's own
		a up
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 dup :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 dup :2
		b S: PUBREC #2
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		# what waited is sent for the first time, also after a restart
		w kept new
		w sub x q1
		w --
		b C: PUBLISH x q1 #1 :3
		b S: PUBACK #1
		kill
		w kept present
		w S: PUBLISH x q1 #1 :3
		kill
		w kept present
		w S: PUBLISH x q1 #1 dup :3
	`},
	{ids: "3.3.1-4", script: `
		a up
		a breaks 0x81 RAW 36 r6 s1 'x' m1 00
	`},
	{ids: "3.3.1-5", script: `
		a up
		a C: PUBLISH x q1 #1 retain :old
		a S: PUBACK #1 0x10
		a C: PUBLISH x q0 retain user-property=a:b :new
		a sub x q1
		a S: PUBLISH x q0 retain user-property=a:b :new
		a S: (nothing)
	`},
	{ids: "3.3.1-6 3.3.1-7", script: `
		a up
		a C: PUBLISH x q0 retain :1
		a sub x q0
		a S: PUBLISH x q0 retain :1
		a C: PUBLISH x q0 retain :
		a S: PUBLISH x q0 :
		a sub x q0
		a S: (nothing)
		kill
		a up
		a sub x q0
		a S: (nothing)
	`},
	{ids: "3.3.1-8", script: `
		a up
		a C: PUBLISH x q0 :plain
		a C: PUBLISH y q0 retain :1
		a C: PUBLISH y q0 :plain
		a C: PUBLISH y q0 :
		a sub x q0 y q0
		a S: PUBLISH y q0 retain :1
		a S: (nothing)
	`},
	{ids: "3.3.1-9 3.3.1-10 3.3.1-11 3.8.4-3 3.8.4-4", script: `
		a up
		a C: PUBLISH x/1 q0 retain :1
		a C: PUBLISH x/2 q0 retain :2
		# 2: not at all. 1: not for one that is there. 0: each time
		a sub x/1 0x20 x/2 0x10
		a S: PUBLISH x/2 q0 retain :2
		a sub x/1 0x10 x/2 0x10
		a S: (nothing)
		a sub x/1 0x00
		a S: PUBLISH x/1 q0 retain :1
		a sub x/1 0x01
		a S: PUBLISH x/1 q0 retain :1
		# replaced, not added; with its new QoS
		a C: PUBLISH x/1 q1 #1 :3
		a S: PUBLISH x/1 q1 #1 :3
		a S: PUBACK #1
		a S: (nothing)
	`},
	{ids: "3.3.1-12 3.3.1-13", script: `
		a up
		a sub plain q0 kept 0x08
		a C: PUBLISH plain q0 retain :1
		a S: PUBLISH plain q0 :1
		a C: PUBLISH plain q0 :2
		a S: PUBLISH plain q0 :2
		a C: PUBLISH kept q0 retain :1
		a S: PUBLISH kept q0 retain :1
		a C: PUBLISH kept q0 :2
		a S: PUBLISH kept q0 :2
	`},
	{ids: "3.3.2-1", script: `
		a up
		a breaks 0x81 RAW 30 r1 00
		a up
		a breaks 0x81 RAW 30 r5 s2 fffe 00
	`},
	{ids: "3.3.2-2 4.7.0-1", script: `
		a up
		a breaks 0x81 PUBLISH a/+ q0 :1
		a up
		a breaks 0x81 PUBLISH a/# q0 :1
		a up
		a breaks 0x81 PUBLISH # q0 topic-alias=1 :1
	`},
	{ids: "3.3.2-3", script: `
		a up
		a sub sport/tennis/+ q0 sport/golf/# q0 /+ q0 +/+/monza q0
		a C: PUBLISH sport/tennis/p1 q0 :1
		a S: PUBLISH sport/tennis/p1 q0 :1
		a C: PUBLISH sport/tennis q0 :no
		a C: PUBLISH sport/tennis/p1/x q0 :no
		a C: PUBLISH sport/golf q0 :2
		a S: PUBLISH sport/golf q0 :2
		a C: PUBLISH sport/golf/a/b q0 :3
		a S: PUBLISH sport/golf/a/b q0 :3
		a C: PUBLISH sport/golfer q0 :no
		a C: PUBLISH /finance q0 :4
		a S: PUBLISH /finance q0 :4
		a C: PUBLISH finance q0 :no
		a C: PUBLISH sport/f1/monza q0 :5
		a S: PUBLISH sport/f1/monza q0 :5
		a S: (nothing)
	`},
	{ids: "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", script: `
		# properties go on as they came, also through a queue and a restart
		a kept new
		a sub x q1
		b up
		b C: PUBLISH x q1 #1 payload-format-indicator=1 content-type=text/plain response-topic=answer/b correlation-data=00ff user-property=b:2 user-property=a:1 user-property=b:1 :1
		b S: PUBACK #1
		a S: PUBLISH x q1 #1 payload-format-indicator=1 content-type=text/plain response-topic=answer/b correlation-data=00ff user-property=b:2 user-property=a:1 user-property=b:1 :1
		kill
		a kept present
		a S: PUBLISH x q1 #1 dup payload-format-indicator=1 content-type=text/plain response-topic=answer/b correlation-data=00ff user-property=b:2 user-property=a:1 user-property=b:1 :1
	`},
	{ids: "3.3.2-5 3.3.2-6", script: `
		a kept new
		a sub x q1
		a --
		b up
		b C: PUBLISH x q1 #1 message-expiry-interval=5 :short
		b S: PUBACK #1
		b C: PUBLISH x q1 #2 message-expiry-interval=60 :long
		b S: PUBACK #2
		b C: PUBLISH x q1 #3 :for ever
		b S: PUBACK #3
		~ 20s
		a kept present
		a S: PUBLISH x q1 #2 message-expiry-interval=40 :long
		a S: PUBLISH x q1 #3 :for ever
		a S: (nothing)
	`},
	{ids: "3.3.2-7", script: `
		a kept new topic-alias-maximum=9
		a sub x q1
		a C: PUBLISH x q0 topic-alias=1 :1
		a S: PUBLISH x q0 topic-alias=1 :1
		a --
		# neither theirs nor ours
		a kept present topic-alias-maximum=9
		b up
		b C: PUBLISH x q0 :2
		a S: PUBLISH x q0 topic-alias=1 :2
		a breaks 0x82 PUBLISH q0 topic-alias=1 :3
	`},
	{ids: "3.3.2-8", script: `
		a up
		a breaks 0x94 PUBLISH x q0 topic-alias=0 :1
	`},
	{ids: "3.3.2-12", cfg: Config{TopicAliasMaximum: 3}, script: `
		a up
		a sub # q0
		a C: PUBLISH x q0 topic-alias=1 :1
		a S: PUBLISH x q0 :1
		a C: PUBLISH y q0 topic-alias=2 :2
		a S: PUBLISH y q0 :2
		a C: PUBLISH z q0 topic-alias=3 :3
		a S: PUBLISH z q0 :3
		a C: PUBLISH q0 topic-alias=2 :4
		a S: PUBLISH y q0 :4
		a C: PUBLISH w q0 topic-alias=2 :5
		a S: PUBLISH w q0 :5
		a C: PUBLISH q0 topic-alias=2 :6
		a S: PUBLISH w q0 :6
	`},
	{ids: "3.3.2-13", script: `
		a up
		a breaks 0x81 RAW 30 r8 s1 'x' 04 08 s1 ff
	`},
	{ids: "3.3.2-14", script: `
		a up
		a breaks 0x82 PUBLISH x q0 response-topic=a/+ :1
	`},
	{ids: "3.3.2-19", script: `
		a up
		a breaks 0x81 RAW 30 r8 s1 'x' 04 03 s1 ff
	`},
	{ids: "3.3.4-2 3.3.4-3 3.3.4-4 3.8.4-8", script: `
		a up
		a C: SUBSCRIBE #1 x/y q1 subscription-identifier=5
		a S: SUBACK #1 0x01
		a C: SUBSCRIBE #2 x/+ q2 subscription-identifier=6
		a S: SUBACK #2 0x02
		a C: SUBSCRIBE #3 # q0
		a S: SUBACK #3 0x00
		b up
		b C: PUBLISH x/y q2 #1 :both
		b S: PUBREC #1
		a S: PUBLISH x/y q2 #1 subscription-identifier=5 subscription-identifier=6 :both
		b C: PUBLISH x/y q1 #2 :lower
		b S: PUBACK #2
		a S: PUBLISH x/y q1 #2 subscription-identifier=5 subscription-identifier=6 :lower
		b C: PUBLISH z q2 #3 :lowest
		b S: PUBREC #3
		a S: PUBLISH z q0 :lowest
		a S: (nothing)
	`},
	{ids: "3.3.4-6", script: `
		a up
		a breaks 0x82 PUBLISH x q0 subscription-identifier=1 :1
	`},
	{ids: "3.3.4-7", cfg: Config{ReceiveMaximum: 1}, script: `
		# binds the client; the server answers one that does not keep it
		a up
		a C: PUBLISH x q2 #1 :1
		a S: PUBREC #1
		a breaks 0x93 PUBLISH x q2 #2 :2
	`},
	{ids: "3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3", script: `
		# two at most; other packets, and QoS 0, are not held up
		a up receive-maximum=2
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		b C: PUBLISH x q1 #3 :3
		b S: PUBACK #3
		b C: PUBLISH x q1 #4 :4
		b S: PUBACK #4
		b C: PUBLISH x q0 :5
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a S: PUBLISH x q0 :5
		a S: (nothing)
		a C: PINGREQ
		a S: PINGRESP
		a C: PUBLISH y q1 #9 :6
		a S: PUBACK #9 0x10
		a C: SUBSCRIBE #9 y q0
		a S: SUBACK #9 0x00
		# PUBREC frees nothing, unless it refuses
		a C: PUBREC #2
		a S: PUBREL #2
		a S: (nothing)
		a C: PUBACK #1
		a S: PUBLISH x q1 #3 :3
		a C: PUBCOMP #2
		a S: PUBLISH x q1 #4 :4
	`},
	{ids: "3.6.1-1", script: `
		a up
		a breaks 0x81 RAW 60 r2 m1
		a up
		a breaks 0x81 RAW 63 r2 m1
	`},
	{ids: "4.3.2-5", script: `
		a up
		a sub x q0
		a C: PUBLISH x q1 #1 :1
		a S: PUBLISH x q0 :1
		a S: PUBACK #1
		a C: PUBLISH x q1 #1 dup :2
		a S: PUBLISH x q0 :2
		a S: PUBACK #1
	`},
	{ids: "4.3.3-5 4.3.3-6", script: `
		# released: the message is not sent again, PUBREL is until PUBCOMP comes
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q2 #1 :1
		b S: PUBREC #1
		a S: PUBLISH x q2 #1 :1
		a C: PUBREC #1
		a S: PUBREL #1
		a --
		a kept present
		a S: PUBREL #1
		kill
		a kept present
		a S: PUBREL #1
		a C: PUBCOMP #1
		a --
		a kept present
		a S: (nothing)
	`},
	{ids: "4.3.3-7 4.3.3-13", script: `
		# once sent, it does not expire, and the handshake goes on
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q2 #1 message-expiry-interval=5 :1
		b S: PUBREC #1
		a S: PUBLISH x q2 #1 message-expiry-interval=5 :1
		~ 20s
		b C: PUBREL #1
		b S: PUBCOMP #1
		a --
		a kept present
		a S: PUBLISH x q2 #1 dup *
		a C: PUBREC #1
		a S: PUBREL #1
		a C: PUBCOMP #1
		a S: (nothing)
	`},
	{ids: "4.3.3-9", script: `
		# refused with PUBREC: the identifier is free at once
		a up
		a sub x q0
		a C: PUBLISH im/to/nobody q2 #1 :1
		a S: PUBREC #1 0x90*
		a C: PUBLISH x q2 #1 :2
		a S: PUBREC #1
		a S: PUBLISH x q0 :2
	`},
	{ids: "4.3.3-10 4.3.3-12", script: `
		a up
		b up
		b sub x q0
		a C: PUBLISH x q2 #1 :1
		a S: PUBREC #1
		a C: PUBLISH x q2 #1 dup :1
		a S: PUBREC #1
		a C: PUBLISH x q2 #1 :1
		a S: PUBREC #1
		b S: PUBLISH x q0 :1
		b S: (nothing)
		a C: PUBREL #1
		a S: PUBCOMP #1
		a C: PUBLISH x q2 #1 :2
		a S: PUBREC #1
		b S: PUBLISH x q0 :2
	`},
	{ids: "4.4.0-2", script: `
		# refused by the client: not sent again
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a C: PUBACK #1 0x80
		a C: PUBREC #2 0x97
		a S: (nothing)
		a --
		a kept present
		a S: (nothing)
	`},
	{ids: "4.5.0-1", script: `
		# acknowledged by the server: it is in every session that wants it
		a kept new
		a sub x q1
		a --
		b kept new
		b sub # q2
		b --
		c up
		c C: PUBLISH x q1 #1 :1
		c S: PUBACK #1
		kill
		a kept present
		a S: PUBLISH x q1 #1 *
		b kept present
		b S: PUBLISH x q1 #1 *
	`},
	{ids: "4.6.0-2 4.6.0-3 4.6.0-4", script: `
		# bind the client; the server keeps them, too, whatever has to reach the disk before
		w kept new
		w sub kept q2
		a up
		a C: RAW 32 r10 s4 'kept' m1 00 '1' 32 r7 s1 'x' m2 00 '2' 34 r10 s4 'kept' m3 00 '3' 34 r7 s1 'x' m4 00 '4'
		a S: PUBACK #1
		a S: PUBACK #2 0x10
		a S: PUBREC #3
		a S: PUBREC #4
		w S: PUBLISH kept q1 #1 :1
		w S: PUBLISH kept q2 #2 :3
		w C: PUBACK #1
		a C: PUBLISH kept q2 #5 :5
		a S: PUBREC #5
		w S: PUBLISH kept q2 #3 :5
		w C: RAW 50 r2 H3 50 r2 H2
		w S: PUBREL #3
		w S: PUBREL #2
	`},
	{ids: "4.6.0-5 4.6.0-6", script: ordered()},
}

// ordered has a hundred messages of each QoS arrive as they were sent.
func ordered() string {
	b := new(strings.Builder)
	b.WriteString("a kept new\na sub x/# q2\nb up\n")
	for i := range 300 {
		q, id := byte('0'+i%3), ""
		if i%3 > 0 {
			id = " #" + strconv.Itoa(i)
		}
		b.WriteString("b C: PUBLISH x/" + strconv.Itoa(i%7) + " q" + string(q) + id + " :" + strconv.Itoa(i) + "\n")
		if i%3 > 0 {
			b.WriteString("b S: PUB*\n")
		}
		b.WriteString("a S: PUBLISH x/" + strconv.Itoa(i%7) + " q" + string(q))
		if i%3 > 0 {
			n := strconv.Itoa(1 + i/3*2 + i%3 - 1)
			b.WriteString(" #" + n + " :" + strconv.Itoa(i) + "\n")
			if i%3 == 1 {
				b.WriteString("a C: PUBACK #" + n + "\n")
			} else {
				b.WriteString("a C: PUBREC #" + n + "\na S: PUBREL #" + n + "\na C: PUBCOMP #" + n + "\n")
				b.WriteString("b C: PUBREL #" + strconv.Itoa(i) + "\nb S: PUBCOMP*\n")
			}
		} else {
			b.WriteString(" :" + strconv.Itoa(i) + "\n")
		}
	}
	return b.String()
}
