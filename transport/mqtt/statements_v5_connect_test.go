package mqtt

// MQTT 5.0, sections 1 to 3.2: data representation, headers, CONNECT, CONNACK.
var connects5 = []statement{
	{ids: "1.5.4-1", script: `
		# a byte that is no UTF-8, a surrogate, an overlong form
		a up
		a breaks 0x81 RAW 30 r4 s1 ff 00
		a up
		a breaks 0x81 RAW 30 r6 s3 eda080 00
		a up
		a breaks 0x81 RAW 30 r5 s2 c0af 00
	`},
	{ids: "1.5.4-2 4.7.3-2", script: `
		a up
		a breaks 0x81 RAW 30 r6 s3 'a' 00 'b' 00
		a up
		a breaks 0x81 RAW 82 r9 m1 00 s3 'a' 00 'b' 01
	`},
	{ids: "1.5.4-3 4.7.3-4", script: `
		# U+FEFF is a character like others, and nothing is normalised
		a up
		a sub ` + "\ufeff" + `x q0 ` + "\u00e9" + ` q0 Case q0
		a C: PUBLISH x q0 :no
		a C: PUBLISH ` + "\ufeff" + `x q0 :1
		a S: PUBLISH ` + "\ufeff" + `x q0 :1
		a C: PUBLISH ` + "e\u0301" + ` q0 :no
		a C: PUBLISH case q0 :no
		a C: PUBLISH ` + "\u00e9" + ` q0 :2
		a S: PUBLISH ` + "\u00e9" + ` q0 :2
		a C: PUBLISH Case q0 :3
		a S: PUBLISH Case q0 :3
	`},
	{ids: "1.5.5-1", script: `
		# a subscription identifier of 1 in two bytes; and one of 128, which needs them
		a up
		a breaks 0x81 RAW 82 r10 m1 03 0b 8100 s1 'x' 01
		a up
		a C: RAW 82 r10 m1 03 0b 8001 s1 'x' 00
		a S: SUBACK #1 0x00
		a C: PUBLISH x q0 :1
		a S: PUBLISH x q0 subscription-identifier=128 :1
	`},
	{ids: "1.5.7-1", script: `
		a up
		a breaks 0x81 RAW 30 r11 s1 'x' 07 26 s1 ff s1 'v'
		a up
		a breaks 0x81 RAW 30 r11 s1 'x' 07 26 s1 'n' s1 00
	`},
	{ids: "2.1.3-1", script: `
		a up
		a breaks 0x81 RAW c1 00
		a up
		a breaks 0x81 RAW 41 r2 m1
		a up
		a breaks 0x81 RAW 60 r2 m1
	`},
	{ids: "2.2.1-2 4.3.1-1 3.3.1-2", script: `
		# QoS 0 has neither an identifier nor DUP
		a up
		a sub x q2
		a C: RAW 30 r6 s1 'x' 00 0001
		a S: PUBLISH x q0 :` + "\x00\x01" + `
		a breaks 0x81 RAW 38 r5 s1 'x' 00 '1'
	`},
	{ids: "2.2.1-4 4.3.2-1 4.3.3-1", script: `
		a up
		a sub x q2
		b up
		b C: PUBLISH x q1 #9 :1
		b S: PUBACK #9
		b C: PUBLISH x q2 #9 :2
		b S: PUBREC #9
		b C: PUBLISH x q1 #8 :3
		b S: PUBACK #8
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a S: PUBLISH x q1 #3 :3
		a C: PUBACK #1
		a C: PUBREC #2
		a S: PUBREL #2
		# 2 and 3 are in use still
		b C: PUBLISH x q1 #9 :4
		b S: PUBACK #9
		a S: PUBLISH x q1 #4 :4
	`},
	{ids: "2.2.1-5 3.3.4-1 3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1 4.3.2-4 4.3.3-4 4.3.3-8 4.3.3-11", script: `
		# the answers to QoS 1 and 2, both ways, with codes of the standard's lists
		a up
		a sub x q2 im/inbox/# q1
		a C: PUBLISH nobody q0 :0
		a C: PUBLISH nobody q1 #7 :1
		a S: PUBACK #7 0x10
		a C: PUBLISH im/to/nobody q2 #8 :2
		a S: PUBREC #8 0x90*
		b up
		b C: PUBLISH x q1 #500 :1
		b S: PUBACK #500
		b C: PUBLISH x q2 #501 :2
		b S: PUBREC #501
		b C: PUBREL #501
		b S: PUBCOMP #501
		a S: PUBLISH x q1 #1 :1
		a C: PUBACK #1
		a S: PUBLISH x q2 #2 :2
		a C: PUBREC #2
		a S: PUBREL #2
		a C: PUBCOMP #2
		a S: (nothing)
	`},
	{ids: "2.2.1-6 3.8.4-1 3.8.4-2 3.10.4-4 3.10.4-5", script: `
		a up
		a C: SUBSCRIBE #65535 x q1
		a S: SUBACK #65535 0x01
		a C: UNSUBSCRIBE #65534 x
		a S: UNSUBACK #65534 0x00
		a C: UNSUBSCRIBE #3 x
		a S: UNSUBACK #3 0x11
		a breaks 0x81 SUBSCRIBE #0 x q1
	`},
	{ids: "2.2.2-1", script: `
		a up
		a breaks 0x81 RAW 30 r3 s1 'x'
	`},
	{ids: "3.1.0-1", script: `
		a C: PINGREQ
		a S: --
		a C: PUBLISH x q0 :1
		a S: --
	`},
	{ids: "3.1.0-2 3.2.0-2", script: `
		a up
		a breaks 0x82 CONNECT 5 clean id=a user=alice
	`},
	{ids: "3.1.2-1", script: `
		a C: RAW 10 r25 s4 'MQTX' 05 c2 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: --
		a C: RAW 10 r25 s4 'mqtt' 05 c2 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: --
	`},
	{ids: "3.1.2-2", script: `
		a C: RAW 10 r25 s4 'MQTT' 06 c2 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK 0x84*
		a S: --
	`},
	{ids: "3.1.2-3", script: `
		a C: RAW 10 r25 s4 'MQTT' 05 c3 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.2-4 3.2.2-2", script: `
		a kept new
		a sub x q1
		a --
		b up
		b C: PUBLISH x q1 #1 :old
		b S: PUBACK #1
		a C: CONNECT 5 clean id=a user=alice session-expiry-interval=100
		a S: CONNACK 0x00 t*
		b C: PUBLISH x q1 #1 :unheard
		b S: PUBACK #1 0x10
		a S: (nothing)
	`},
	{ids: "3.1.2-5 3.1.2-23 3.1.3-2 3.2.2-3 4.1.0-1", script: `
		# kept while connected, however short the expiry, and after
		a kept new session-expiry-interval=60
		a sub x q1
		~ 25h
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		a S: PUBLISH x q1 #1 :1
		a --
		~ 59s
		a kept present session-expiry-interval=60
		a S: PUBLISH x q1 #1 dup :1
		# another identifier is another session
		a2 C: CONNECT 5 id=other user=alice
		a2 S: CONNACK 0x00 t*
	`, cfg: Config{MaxKeepalive: 30 * 3600e9}},
	{ids: "3.1.2-6", script: `
		a kept new
		a --
		a kept present
	`},
	{ids: "3.1.2-7 3.1.2-8", script: `
		w up
		w sub will q0
		a up will=will :gone
		w S: (nothing)
		a --
		w S: PUBLISH will q0 :gone
		# with a delay: at its end, or at the end of the session if that is sooner
		a kept new will=will will-delay-interval=10 :late
		a --
		~ 9s
		w C: PINGREQ
		w S: PINGRESP
		~ 2s
		w S: PUBLISH will q0 :late
		a C: CONNECT 5 clean id=a user=alice session-expiry-interval=5 will=will will-delay-interval=10 :ended
		a S: CONNACK 0x00*
		a --
		~ 6s
		w S: PUBLISH will q0 :ended
		# not after a normal goodbye
		a up will=will :no
		a C: DISCONNECT
		a S: --
		w S: (nothing)
	`},
	{ids: "3.1.2-9", script: `
		a C: RAW 10 r25 s4 'MQTT' 05 c6 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK 0x81
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
		kill
		w up
		w sub will q0
		a kept present
		a --
		w S: (nothing)
	`},
	{ids: "3.1.2-11", script: `
		a C: RAW 10 r25 s4 'MQTT' 05 ca k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.2-12", script: `
		w up
		w sub will/# q2
		a up will=will/0 q0 :0
		a --
		w S: PUBLISH will/0 q0 :0
		a up will=will/1 q1 :1
		a --
		w S: PUBLISH will/1 q1 #1 :1
		a up will=will/2 q2 :2
		a --
		w S: PUBLISH will/2 q2 #2 :2
		a C: RAW 10 r31 s4 'MQTT' 05 de k0 00 s1 'a' 00 s1 'w' s0 s5 'alice' s2 'pw'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.2-13", script: `
		a C: RAW 10 r25 s4 'MQTT' 05 e2 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.2-14 3.1.2-15", script: `
		a up will=will/plain :1
		a --
		a up will=will/kept retain :2
		a --
		w up
		w sub will/# q0
		w S: PUBLISH will/kept q0 retain :2
		w S: (nothing)
	`},
	{ids: "3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19", script: `
		# a name too many, none, a password too many, none
		a C: RAW 10 r21 s4 'MQTT' 05 02 k0 00 s1 'a' s5 'alice'
		a S: CONNACK 0x81
		a S: --
		a C: RAW 10 r14 s4 'MQTT' 05 82 k0 00 s1 'a'
		a S: CONNACK 0x81
		a S: --
		a C: RAW 10 r25 s4 'MQTT' 05 82 k0 00 s1 'a' s5 'alice' s2 'pw'
		a S: CONNACK 0x81
		a S: --
		a C: RAW 10 r21 s4 'MQTT' 05 c2 k0 00 s1 'a' s5 'alice'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.2-22 3.2.2-22", script: `
		# ten seconds of the client's own, since the server names none
		a C: CONNECT 5 clean id=a user=alice keep=10
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024
		~ 14s
		a C: PINGREQ
		a S: PINGRESP
		~ 14s
		a C: PUBLISH x q0 :1
		~ 16s
		a S: DISCONNECT 0x8d
		a S: --
	`},
	{ids: "3.1.2-24 3.1.2-25 3.4.2-2 3.5.2-2", script: `
		# 30 bytes: the long message counts as sent, and the reason why not is left out
		a kept new maximum-packet-size=30
		a sub x q1
		b up
		b C: PUBLISH x q1 #1 :too long for a client with so little room
		b S: PUBACK #1
		b C: PUBLISH x q1 #2 :short
		b S: PUBACK #2
		a S: PUBLISH x q1 #2 :short
		a C: PUBACK #2
		a C: PUBLISH im/inbox/alice q1 #1 :x
		a S: PUBACK #1 0x87
		a C: PUBLISH im/inbox/alice q2 #1 :x
		a S: PUBREC #1 0x87
		a --
		a kept present
		a S: (nothing)
		a C: PUBLISH im/inbox/alice q1 #1 :x
		a S: PUBACK #1 0x87 reason-string=*
	`},
	{ids: "3.1.2-26 3.1.2-27 3.3.2-11", script: `
		one up topic-alias-maximum=1
		one sub # q0
		none up
		none sub # q0
		b up
		b C: PUBLISH x q0 :1
		one S: PUBLISH x q0 topic-alias=1 :1
		none S: PUBLISH x q0 :1
		b C: PUBLISH y q0 :2
		one S: PUBLISH y q0 :2
		none S: PUBLISH y q0 :2
	`},
	{ids: "3.1.2-28", script: `
		a C: CONNECT 5 clean id=a user=alice keep=10 request-response-information=0
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024
	`},
	{ids: "3.1.2-29", script: `
		a up request-problem-information=0
		a C: PUBLISH im/to/nobody q1 #1 :x
		a S: PUBACK #1 0x90
		a C: PUBLISH im/to/nobody q2 #1 :x
		a S: PUBREC #1 0x90
		b up request-problem-information=1
		b C: PUBLISH im/to/nobody q1 #1 :x
		b S: PUBACK #1 0x90 reason-string=*
	`},
	{ids: "3.1.2-30", script: `
		a C: CONNECT 5 clean id=a authentication-method=SCRAM-SHA-256 authentication-data=` + hexOf("n,,n=alice,r=abc") + `
		a S: AUTH 0x18 authentication-method=SCRAM-SHA-256 *
		a C: PINGREQ
		a S: CONNACK 0x82*
		a S: --
	`},
	{ids: "3.1.3-1", script: `
		w up
		w sub will q0
		a C: RAW 10 r38 s4 'MQTT' 05 c6 k0 00 s1 'a' 00 s4 'will' s4 'gone' s5 'alice' s2 'pw'
		a S: CONNACK 0x00*
		a --
		w S: PUBLISH will q0 :gone
	`},
	{ids: "3.1.3-3", script: `
		a C: RAW 10 r11 s4 'MQTT' 05 02 k0 00
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.3-4", script: `
		a C: RAW 10 r25 s4 'MQTT' 05 c2 k0 00 s1 ff s5 'alice' s2 'pw'
		a S: CONNACK 0x85
		a S: --
	`},
	{ids: "3.1.3-5", script: `
		a C: CONNECT 5 clean id=0123456789abcdefghijklm user=alice
		a S: CONNACK 0x00*
		a2 C: CONNECT 5 clean id=nopqrstuvwxyzABCDEFGHIJ user=alice
		a2 S: CONNACK 0x00*
		a3 C: CONNECT 5 clean id=KLMNOPQRSTUVWXYZ user=alice
		a3 S: CONNACK 0x00*
		a4 C: CONNECT 5 clean id=z user=alice
		a4 S: CONNACK 0x00*
		a C: PINGREQ
		a S: PINGRESP
	`},
	{ids: "3.1.3-6 3.1.3-7 3.2.2-16", test: testAssigned},
	{ids: "3.1.3-8", cfg: Config{MaxClientID: 30}, script: `
		a C: CONNECT 5 clean id=0123456789012345678901234567890 user=alice
		a S: CONNACK 0x85
		a S: --
	`},
	{ids: "3.1.3-9", script: `
		w up
		w sub will q0
		a kept new will=will will-delay-interval=10 :late
		a --
		~ 9s
		a kept present
		~ 30s
		w S: (nothing)
	`},
	{ids: "3.1.3-10", script: `
		w up
		w sub will q0
		a up will=will user-property=b:2 user-property=a:1 user-property=b:1 :gone
		a --
		w S: PUBLISH will q0 user-property=b:2 user-property=a:1 user-property=b:1 :gone
	`},
	{ids: "3.1.3-11", script: `
		a C: RAW 10 r31 s4 'MQTT' 05 c6 k0 00 s1 'a' 00 s1 ff s0 s5 'alice' s2 'pw'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.3-12", script: `
		a C: RAW 10 r21 s4 'MQTT' 05 c2 k0 00 s1 'a' s1 ff s2 'pw'
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.4-1", script: `
		# one byte too many
		a C: RAW 10 r26 s4 'MQTT' 05 c2 k0 00 s1 'a' s5 'alice' s2 'pw' 00
		a S: CONNACK 0x81
		a S: --
	`},
	{ids: "3.1.4-2 3.2.2-6 3.2.2-7 3.2.2-8 3.14.0-1 4.13.2-1", script: `
		# refused: by a code of the list, without Session Present, without DISCONNECT
		a kept new
		a --
		a C: CONNECT 5 id=a user=alice pw=wrong
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 5 id=a
		a S: CONNACK 0x87
		a S: --
		a C: CONNECT 5 id=a user=alice will=$SYS/x :no
		a S: CONNACK 0x87
		a S: --
		a kept present
	`},
	{ids: "3.1.4-3", script: `
		one C: CONNECT 5 clean id=a user=alice
		one S: CONNACK 0x00*
		two C: CONNECT 5 clean id=a user=alice
		one S: DISCONNECT 0x8e
		one S: --
		two S: CONNACK 0x00*
	`},
	{ids: "3.1.4-4", script: `
		# who takes over with a clean start takes nothing over
		one C: CONNECT 5 id=a user=alice session-expiry-interval=100
		one S: CONNACK 0x00 t*
		one sub x q1
		two C: CONNECT 5 clean id=a user=alice session-expiry-interval=100
		one S: DISCONNECT 0x8e
		one S: --
		two S: CONNACK 0x00 t*
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1 0x10
	`},
	{ids: "3.1.4-5 3.2.0-1 3.2.2-1", script: `
		# CONNACK comes first, and then what waits
		a kept new
		a sub x q1
		a --
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		a C: CONNECT 5 id=a user=alice session-expiry-interval=100
		a S: CONNACK 0x00 present*
		a S: PUBLISH x q1 *
	`},
	{ids: "3.1.4-6", script: `
		w up
		w sub x q0
		a C: RAW 10 r25 s4 'MQTT' 05 c2 k0 00 s1 'a' s5 'alice' s2 'no' 30 r5 s1 'x' 00 '1'
		a S: CONNACK 0x87
		a S: --
		w S: (nothing)
		a C: RAW 10 r25 s4 'MQTT' 05 c2 k0 00 s1 'a' s5 'alice' s2 'pw' 30 r5 s1 'x' 00 '1'
		a S: CONNACK 0x00*
		w S: PUBLISH x q0 :1
	`},
	{ids: "3.2.2-9 3.2.2-10 3.2.2-11", cfg: Config{MaxQoS: new(1)}, script: `
		# 11 binds the client; the server answers one that does not keep it
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024 maximum-QoS=1*
		a C: SUBSCRIBE #1 x q0 y q1 z q2
		a S: SUBACK #1 0x00 0x01 0x01
		a C: PUBLISH z q1 #1 :1
		a S: PUBLISH z q1 #1 :1
		a S: PUBACK #1
		b up
		b breaks 0x9b PUBLISH z q2 #1 :2
		a S: (nothing)
	`},
	{ids: "3.2.2-9 3.2.2-10", cfg: Config{MaxQoS: new(0)}, script: `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024 maximum-QoS=0*
		a C: SUBSCRIBE #1 x q2 im/inbox/# q1
		a S: SUBACK #1 0x00 0x00
		b up
		b C: PUBLISH im/to/alice q0 :hello
		a S: PUBLISH im/inbox/bob@localhost q0 *
		b breaks 0x9b PUBLISH x q1 #1 :1
	`},
	{ids: "3.2.2-12", cfg: Config{MaxQoS: new(1)}, script: `
		a C: CONNECT 5 clean id=a user=alice will=x q2 :gone
		a S: CONNACK 0x9b
		a S: --
		a up will=x q1 :gone
	`},
	{ids: "3.2.2-13", cfg: Config{RetainAvailable: new(false)}, script: `
		a C: CONNECT 5 clean id=a user=alice will=x q1 retain :gone
		a S: CONNACK 0x9a
		a S: --
		a up will=x q1 :gone
	`},
	{ids: "3.2.2-14", cfg: Config{RetainAvailable: new(false)}, script: `
		# binds the client; the server answers one that does not keep it
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024 retain-available=0*
		a sub x q1 $SYS/broker/uptime 0x08
		b up
		b breaks 0x9a PUBLISH x q0 retain :1
		b up
		b breaks 0x9a PUBLISH x q1 #1 retain :
		a S: (nothing)
		# Nothing of the server's is, either.
		~ 10s
		a S: PUBLISH $SYS/broker/uptime q0 :10 seconds
	`},
	{ids: "3.2.2-15", cfg: Config{MaxPacket: 200}, script: `
		# binds the client; the server answers one that does not keep it
		a up
		a breaks 0x95 RAW 30 r1000
	`},
	{ids: "3.2.2-17 3.2.2-18 3.3.2-9", cfg: Config{TopicAliasMaximum: 2}, script: `
		# bind the client; the server answers one that does not keep them
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 topic-alias-maximum=2 maximum-packet-size=1179648 receive-maximum=1024*
		a breaks 0x94 PUBLISH x q0 topic-alias=3 :1
	`},
}
