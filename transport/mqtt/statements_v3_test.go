package mqtt

import "strings"

// MQTT 3.1.1.
var dialogues311 = []statement{
	{ids: "1.5.3-1 3.8.3-1 3.10.3-1 3.3.2-1", script: `
		# no UTF-8, a surrogate, an overlong form; in each packet that has strings
		a up
		a breaks - RAW 30 r3 s1 ff
		a up
		a breaks - RAW 30 r5 s3 eda080
		a up
		a breaks - RAW 30 r4 s2 c0af
		a up
		a breaks - RAW 82 r6 m1 s1 ff 00
		a up
		a breaks - RAW a2 r5 m1 s1 ff
		a up
		a breaks - RAW 30 r1 00
	`},
	{ids: "1.5.3-2 4.7.3-2", script: `
		a up
		a breaks - RAW 30 r5 s3 'a' 00 'b'
		a up
		a breaks - RAW 82 r8 m1 s3 'a' 00 'b' 01
	`},
	{ids: "1.5.3-3 4.7.3-4", script: `
		a up
		a sub ` + "\ufeff" + `x q0 ` + "\u00e9" + ` q0 Case q0
		a C: PUBLISH x q0 :no
		a C: PUBLISH ` + "\ufeff" + `x q0 :1
		a S: PUBLISH ` + "\ufeff" + `x q0 :1
		a C: PUBLISH ` + "e\u0301" + ` q0 :no
		a C: PUBLISH case q0 :no
		a C: PUBLISH ` + "\u00e9" + ` q0 :2
		a S: PUBLISH ` + "\u00e9" + ` q0 :2
	`},
	{ids: "2.2.2-1 2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1", script: `
		a up
		a breaks - RAW c1 r0
		a up
		a breaks - RAW 41 r2 m1
		a up
		a breaks - RAW 60 r2 m1
		a up
		a breaks - RAW 80 r6 m1 s1 'x' 00
		a up
		a breaks - RAW a0 r5 m1 s1 'x'
		a up
		a breaks - RAW e1 r0
	`},
	{ids: "2.3.1-1", script: `
		a up
		a breaks - PUBLISH x q1 #0 :1
		a up
		a breaks - SUBSCRIBE #0 x q0
		a up
		a breaks - UNSUBSCRIBE #0 x
	`},
	{ids: "2.3.1-4 4.3.2-1 4.3.3-1", script: `
		# the sender's side: new identifiers for new messages, kept until acknowledged
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q1 #9 :1
		b S: PUBACK #9
		b C: PUBLISH x q2 #9 :2
		b S: PUBREC #9
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a --
		a kept present
		a S: PUBLISH x q1 #1 dup :1
		a S: PUBLISH x q2 #2 dup :2
		a C: PUBACK #1
		a C: PUBREC #2
		a S: PUBREL #2
		b C: PUBLISH x q1 #8 :3
		b S: PUBACK #8
		a S: PUBLISH x q1 #3 :3
		a C: PUBACK #3
		a --
		a kept present
		a S: PUBREL #2
		a C: PUBCOMP #2
		a --
		a kept present
		a S: (nothing)
	`},
	{ids: "2.3.1-5 4.3.1-1 3.3.1-2", script: `
		a up
		a sub x q2
		a C: RAW 30 r5 s1 'x' 0001
		a S: PUBLISH x q0 :` + "\x00\x01" + `
		a breaks - RAW 38 r4 s1 'x' '1'
	`},
	{ids: "2.3.1-6 2.3.1-7 3.3.4-1 3.8.4-1 3.8.4-2 3.10.4-4", script: `
		a up
		a C: SUBSCRIBE #65535 x q2
		a S: SUBACK #65535 0x02
		a C: PUBLISH y q0 :0
		a C: PUBLISH y q1 #7 :1
		a S: PUBACK #7
		a C: PUBLISH x q2 #8 :2
		a S: PUBREC #8
		a S: PUBLISH x q2 #1 :2
		a C: PUBREL #8
		a S: PUBCOMP #8
		a C: PUBREC #1
		a S: PUBREL #1
		a C: PUBCOMP #1
		a C: UNSUBSCRIBE #65534 x
		a S: UNSUBACK #65534
	`},
	{ids: "3.1.0-1", script: `
		a C: PINGREQ
		a S: --
	`},
	{ids: "3.1.0-2", script: `
		a up
		a breaks - CONNECT 4 clean id=a user=alice
	`},
	{ids: "3.1.2-1", script: `
		a C: RAW 10 r24 s4 'MQTX' 04 c2 k0 s1 'a' s5 'alice' s2 'pw'
		a S: --
	`},
	{ids: "3.1.2-2", script: `
		a C: RAW 10 r24 s4 'MQTT' 03 c2 k0 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK*
		a S: --
	`},
	{ids: "3.1.2-3", script: `
		a C: RAW 10 r24 s4 'MQTT' 04 c3 k0 s1 'a' s5 'alice' s2 'pw'
		a S: --
	`},
	{ids: "3.1.2-4 3.1.2-5 3.1.3-2 3.2.2-2 3.2.2-3 4.1.0-1", script: `
		# QoS 1 and 2 wait for a session that is kept, also across a restart
		a kept new
		a sub x q2
		a --
		b up
		b C: PUBLISH x q0 :0
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		kill
		~ 24h
		a kept present
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a2 C: CONNECT 4 id=other user=alice
		a2 S: CONNACK 0x00
	`},
	{ids: "3.1.2-6 3.2.2-1 3.1.4-3", script: `
		a kept new
		a sub x q1
		a --
		b up
		b C: PUBLISH x q1 #1 :old
		b S: PUBACK #1
		a up
		b C: PUBLISH x q1 #1 :unheard
		b S: PUBACK #1
		a S: (nothing)
		a --
		# and nothing of it is used again
		a kept new
		a S: (nothing)
	`},
	{ids: "3.1.2-7", script: `
		a up
		a C: PUBLISH x q0 retain :1
		a C: DISCONNECT
		a S: --
		a up
		a sub x q0
		a S: PUBLISH x q0 retain :1
	`},
	{ids: "3.1.2-8 3.1.2-12 3.14.4-3", script: `
		w up
		w sub will q0
		a up will=will :gone
		w S: (nothing)
		a --
		w S: PUBLISH will q0 :gone
		a up will=will :broke the protocol
		a breaks - RAW d0 r0
		w S: PUBLISH will q0 :broke the protocol
		a up keep=10 will=will :silent
		~ 16s
		a S: --
		w S: PUBLISH will q0 :silent
		a up will=will :no
		a C: DISCONNECT
		a S: --
		a up
		a --
		w S: (nothing)
	`},
	{ids: "3.1.2-9", script: `
		a C: RAW 10 r24 s4 'MQTT' 04 c6 k0 s1 'a' s5 'alice' s2 'pw'
		a S: --
	`},
	{ids: "3.1.2-10", script: `
		w up
		w sub will q0
		a kept new will=will :once
		a --
		w S: PUBLISH will q0 :once
		a kept present
		a --
		w S: (nothing)
	`},
	{ids: "3.1.2-11 3.1.2-13 3.1.2-15", script: `
		a C: RAW 10 r24 s4 'MQTT' 04 ca k0 s1 'a' s5 'alice' s2 'pw'
		a S: --
		a C: RAW 10 r24 s4 'MQTT' 04 e2 k0 s1 'a' s5 'alice' s2 'pw'
		a S: --
		a C: RAW 10 r30 s4 'MQTT' 04 c2 k0 s1 'a' s1 'w' s1 '1' s5 'alice' s2 'pw'
		a S: --
	`},
	{ids: "3.1.2-14", script: `
		w up
		w sub will/# q2
		a up will=will/1 q1 :1
		a --
		w S: PUBLISH will/1 q1 #1 :1
		a up will=will/2 q2 :2
		a --
		w S: PUBLISH will/2 q2 #2 :2
		a C: RAW 10 r29 s4 'MQTT' 04 de k0 s1 'a' s1 'w' s0 s5 'alice' s2 'pw'
		a S: --
	`},
	{ids: "3.1.2-16 3.1.2-17", script: `
		a up will=will/plain :1
		a --
		a up will=will/kept retain :2
		a --
		w up
		w sub will/# q0
		w S: PUBLISH will/kept q0 retain :2
		w S: (nothing)
	`},
	{ids: "3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21 3.1.2-22 3.1.4-1", script: `
		# a name too many, none; a password too many, none, without a name; a byte too many
		a C: RAW 10 r20 s4 'MQTT' 04 02 k0 s1 'a' s5 'alice'
		a S: --
		a C: RAW 10 r13 s4 'MQTT' 04 82 k0 s1 'a'
		a S: --
		a C: RAW 10 r24 s4 'MQTT' 04 82 k0 s1 'a' s5 'alice' s2 'pw'
		a S: --
		a C: RAW 10 r20 s4 'MQTT' 04 c2 k0 s1 'a' s5 'alice'
		a S: --
		a C: RAW 10 r17 s4 'MQTT' 04 42 k0 s1 'a' s2 'pw'
		a S: --
		a C: RAW 10 r25 s4 'MQTT' 04 c2 k0 s1 'a' s5 'alice' s2 'pw' 00
		a S: --
	`},
	{ids: "3.1.2-24", script: `
		a up keep=10
		~ 14s
		a C: PINGREQ
		a S: PINGRESP
		~ 14s
		a C: PUBLISH x q0 :1
		~ 16s
		a S: --
		b up keep=0
		~ 20h
		b C: PINGREQ
		b S: PINGRESP
	`},
	{ids: "3.1.3-1", script: `
		w up
		w sub will q0
		a C: RAW 10 r36 s4 'MQTT' 04 c6 k0 s1 'a' s4 'will' s4 'gone' s5 'alice' s2 'pw'
		a S: CONNACK*
		a --
		w S: PUBLISH will q0 :gone
	`},
	{ids: "3.1.3-3 3.1.3-4 3.1.3-10 3.1.3-11", script: `
		# no identifier at all; an identifier, a will topic, a user name that are no UTF-8
		a C: RAW 10 r10 s4 'MQTT' 04 02 k0
		a S: --
		a C: RAW 10 r24 s4 'MQTT' 04 c2 k0 s1 ff s5 'alice' s2 'pw'
		a S: --
		a C: RAW 10 r29 s4 'MQTT' 04 c6 k0 s1 'a' s1 ff s0 s5 'alice' s2 'pw'
		a S: --
		a C: RAW 10 r20 s4 'MQTT' 04 c2 k0 s1 'a' s1 ff s2 'pw'
		a S: --
	`},
	{ids: "3.1.3-5", script: `
		a C: CONNECT 4 clean id=0123456789abcdefghijklm user=alice
		a S: CONNACK 0x00
		a2 C: CONNECT 4 clean id=nopqrstuvwxyzABCDEFGHIJ user=alice
		a2 S: CONNACK 0x00
		a3 C: CONNECT 4 clean id=KLMNOPQRSTUVWXYZ user=alice
		a3 S: CONNACK 0x00
		a C: PINGREQ
		a S: PINGRESP
	`},
	{ids: "3.1.3-6", script: `
		# two without an identifier do not take each other over
		one C: CONNECT 4 clean id= user=alice
		one S: CONNACK 0x00
		two C: CONNECT 4 clean id= user=alice
		two S: CONNACK 0x00
		one C: PINGREQ
		one S: PINGRESP
	`},
	{ids: "3.1.3-8 3.1.3-9 3.2.2-4 3.2.2-5", cfg: Config{MaxClientID: 30}, script: `
		a C: CONNECT 4 id= user=alice
		a S: CONNACK 0x02
		a S: --
		a C: CONNECT 4 id=0123456789012345678901234567890 user=alice
		a S: CONNACK 0x02
		a S: --
		a kept new
		a --
		a C: CONNECT 4 id=a user=alice pw=wrong
		a S: CONNACK 0x05
		a S: --
		a kept present
	`},
	{ids: "3.1.4-2", script: `
		one C: CONNECT 4 clean id=a user=alice
		one S: CONNACK 0x00
		two C: CONNECT 4 clean id=a user=alice
		one S: --
		two S: CONNACK 0x00
	`},
	{ids: "3.1.4-4 3.2.0-1", script: `
		a kept new
		a sub x q1
		a --
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		a C: CONNECT 4 id=a user=alice
		a S: CONNACK 0x00 present
		a S: PUBLISH x q1 *
	`},
	{ids: "3.1.4-5", script: `
		w up
		w sub x q0
		a C: RAW 10 r24 s4 'MQTT' 04 c2 k0 s1 'a' s5 'alice' s2 'no' 30 r4 s1 'x' '1'
		a S: CONNACK*
		a S: --
		w S: (nothing)
		a C: RAW 10 r24 s4 'MQTT' 04 c2 k0 s1 'a' s5 'alice' s2 'pw' 30 r4 s1 'x' '1'
		a S: CONNACK*
		w S: PUBLISH x q0 :1
	`},
	{ids: "3.2.2-6", script: `
		# a will topic with a wildcard: none of the codes says so
		a C: CONNECT 4 clean id=a user=alice will=a/+ :x
		a S: --
	`},
	{ids: "3.3.1-1 4.4.0-1 4.6.0-1", script: `
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a C: PUBREC #2
		a S: PUBREL #2
		a --
		a kept present
		a S: PUBLISH x q1 #1 dup :1
		a S: PUBREL #2
	`},
	{ids: "3.3.1-3", script: `
		a up
		a sub x q1
		b up
		b C: PUBLISH x q1 #1 dup :1
		b S: PUBACK #1
		a S: PUBLISH x q1 #1 :1
	`},
	{ids: "3.3.1-4", script: `
		a up
		a breaks - RAW 36 r5 s1 'x' m1
	`},
	{ids: "3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8", script: `
		a up
		a C: PUBLISH x q2 #1 retain :old
		a S: PUBREC #1
		b up
		b sub x q2
		b S: PUBLISH x q2 #1 retain :old
		a C: PUBLISH x q0 retain :new
		b S: PUBLISH x q0 :new
		a sub x q2
		a S: PUBLISH x q0 retain :new
		a S: (nothing)
	`},
	{ids: "3.3.1-9", script: `
		a up
		a sub x q0
		a C: PUBLISH x q0 retain :1
		a S: PUBLISH x q0 :1
	`},
	{ids: "3.3.1-10 3.3.1-11", script: `
		a up
		a C: PUBLISH x q0 retain :1
		a sub x q0
		a S: PUBLISH x q0 retain :1
		a C: PUBLISH x q0 retain :
		a S: PUBLISH x q0 :
		a sub x q0
		a S: (nothing)
	`},
	{ids: "3.3.1-12", script: `
		a up
		a C: PUBLISH x q0 :plain
		a C: PUBLISH y q0 retain :1
		a C: PUBLISH y q0 :plain
		a C: PUBLISH y q0 :
		a sub x q0 y q0
		a S: PUBLISH y q0 retain :1
		a S: (nothing)
	`},
	{ids: "3.3.2-2 4.7.1-1", script: `
		a up
		a breaks - PUBLISH a/+ q0 :1
		a up
		a breaks - PUBLISH a/# q0 :1
	`},
	{ids: "3.3.2-3", script: `
		a up
		a sub sport/tennis/+ q0 sport/golf/# q0 /+ q0
		a C: PUBLISH sport/tennis/p1 q0 :1
		a S: PUBLISH sport/tennis/p1 q0 :1
		a C: PUBLISH sport/tennis q0 :no
		a C: PUBLISH sport/golf q0 :2
		a S: PUBLISH sport/golf q0 :2
		a C: PUBLISH /finance q0 :3
		a S: PUBLISH /finance q0 :3
		a C: PUBLISH finance q0 :no
		a S: (nothing)
	`},
	{ids: "3.3.5-1 3.8.4-6", script: `
		a up
		a sub x/y q1 x/+ q2 # q0
		b up
		b C: PUBLISH x/y q2 #1 :highest
		b S: PUBREC #1
		a S: PUBLISH x/y q2 #1 :highest
		b C: PUBLISH x/y q1 #2 :lower
		b S: PUBACK #2
		a S: PUBLISH x/y q1 #2 :lower
		a S: (nothing)
	`},
	{ids: "3.3.5-2", script: `
		# acknowledged, since there is no other word, and gone
		a up
		a C: PUBLISH im/inbox/alice q1 #1 :x
		a S: PUBACK #1
		a C: PUBLISH im/inbox/alice q2 #1 :x
		a S: PUBREC #1
		a C: PUBREL #1
		a S: PUBCOMP #1
		a sub im/inbox/# q1
		a S: (nothing)
	`},
	{ids: "3.8.3-3 3.10.3-2", script: `
		a up
		a breaks - RAW 82 r2 m1
		a up
		a breaks - RAW a2 r2 m1
	`},
	{ids: "3.8.3-4", script: `
		a up
		a breaks - SUBSCRIBE #1 x 0x03
		a up
		a breaks - SUBSCRIBE #1 x 0x04
	`},
	{ids: "3.8.4-3", script: `
		a up
		a C: PUBLISH x q0 retain :1
		a sub x q0
		a S: PUBLISH x q0 retain :1
		a sub x q1
		a S: PUBLISH x q0 retain :1
		a C: PUBLISH x q1 #1 :2
		a S: PUBLISH x q1 #1 :2
		a S: PUBACK #1
		a S: (nothing)
	`},
	{ids: "3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2", cfg: Config{Refused: []string{"no"}}, script: `
		a up
		a C: SUBSCRIBE #1 x q1 no q0 im/to/bob q0 y q2 z q0 x q0
		a S: SUBACK #1 0x01 0x80 0x80 0x02 0x00 0x00
		a C: PUBLISH x q1 #1 :2
		a S: PUBLISH x q0 :2
		a S: PUBACK #1
	`},
	{ids: "3.10.4-1 3.10.4-2 3.10.4-5 3.10.4-6", script: `
		a up
		a sub x/+ q0 x/y q0 z q0
		a C: UNSUBSCRIBE #1 x/Y x/# +/y
		a S: UNSUBACK #1
		a C: UNSUBSCRIBE #2 x/+ z
		a S: UNSUBACK #2
		a C: PUBLISH x/z q0 :no
		a C: PUBLISH z q0 :no
		a C: PUBLISH x/y q0 :1
		a S: PUBLISH x/y q0 :1
		a S: (nothing)
	`},
	{ids: "3.10.4-3", script: `
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a C: PUBREC #2
		a S: PUBREL #2
		a C: UNSUBSCRIBE #2 x
		a S: UNSUBACK #2
		a --
		a kept present
		a S: PUBLISH x q1 #1 dup :1
		a S: PUBREL #2
		a C: PUBACK #1
		a C: PUBCOMP #2
		a S: (nothing)
	`},
	{ids: "3.12.4-1", script: `
		a up
		a C: PINGREQ
		a S: PINGRESP
	`},
	{ids: "3.14.4-2", script: `
		# binds the client; nothing more is heard of one that does not keep it
		w up
		w sub x q0
		a up
		a C: RAW e0 r0 30 r4 s1 'x' '1'
		a S: --
		w S: (nothing)
	`},
	{ids: "4.1.0-2", script: `
		a up
		a sub x q1
		~ 30h
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		a S: PUBLISH x q1 #1 :1
	`},
	{ids: "4.3.2-2", script: `
		# the receiver's side: acknowledged, the identifier is free
		a up
		a sub x q0
		a C: PUBLISH x q1 #1 :1
		a S: PUBLISH x q0 :1
		a S: PUBACK #1
		a C: PUBLISH x q1 #1 dup :2
		a S: PUBLISH x q0 :2
		a S: PUBACK #1
	`},
	{ids: "4.3.3-2", script: `
		# the receiver's side: delivered once, however often it comes before PUBREL
		a kept new
		b up
		b sub x q0
		a C: PUBLISH x q2 #1 :1
		a S: PUBREC #1
		a --
		a kept present
		a C: PUBLISH x q2 #1 dup :1
		a S: PUBREC #1
		b S: PUBLISH x q0 :1
		b S: (nothing)
		a C: PUBREL #1
		a S: PUBCOMP #1
		a C: PUBREL #1
		a S: PUBCOMP #1
		a C: PUBLISH x q2 #1 :2
		a S: PUBREC #1
		b S: PUBLISH x q0 :2
	`},
	{ids: "4.5.0-1", script: `
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
		# whatever has to reach the disk before
		w kept new
		w sub kept q2
		a up
		a C: RAW 32 r9 s4 'kept' m1 '1' 32 r6 s1 'x' m2 '2' 34 r9 s4 'kept' m3 '3' 34 r6 s1 'x' m4 '4'
		a S: PUBACK #1
		a S: PUBACK #2
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
	{ids: "4.7.1-2 4.7.1-3", script: `
		a up
		a sub # q0 a/# q0 + q0 +/a q0 a/+ q0 a/+/b q0
		a breaks - SUBSCRIBE #1 a# q0
		a up
		a breaks - SUBSCRIBE #1 a/#/b q0
		a up
		a breaks - SUBSCRIBE #1 a+ q0
		a up
		a breaks - SUBSCRIBE #1 a/+b q0
	`},
	{ids: "4.7.2-1", script: `
		a up
		a sub # q0 +/broker/# q0
		~ 11s
		a S: (nothing)
		a sub $SYS/broker/clients/connected q0
		a S: PUBLISH $SYS/broker/clients/connected q0 retain :1
	`},
	{ids: "4.7.3-1", script: `
		a up
		a breaks - PUBLISH q0 :1
		a up
		a breaks - RAW 82 r5 m1 s0 00
	`},
	{ids: "4.7.3-3", script: `
		a up
		a sub # q0
		a C: PUBLISH ` + strings.Repeat("x", 65535) + ` q0 :1
		a S: PUBLISH ` + strings.Repeat("x", 65535) + ` q0 :1
	`},
	{ids: "4.8.0-1", script: `
		a up
		a breaks - RAW 30 ffffffff7f
		a up
		a breaks - RAW 90 r3 m1 00
		a up
		a breaks - RAW f0 r0
	`},
	{ids: "4.8.0-2", test: testTransient},
	{ids: "6.0.0-1 6.0.0-2 6.0.0-4", test: testCarriers},
}
