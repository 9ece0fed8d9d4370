package mqtt

import "strings"

// MQTT 5.0, sections 3.8 to 3.15: SUBSCRIBE to AUTH.
var subscribes5 = []statement{
	{ids: "3.8.1-1", script: `
		a up
		a breaks 0x81 RAW 80 r7 m1 00 s1 'x' 00
		a up
		a breaks 0x81 RAW 83 r7 m1 00 s1 'x' 00
	`},
	{ids: "3.8.3-1", script: `
		a up
		a breaks 0x81 RAW 82 r7 m1 00 s1 ff 00
	`},
	{ids: "3.8.3-2", script: `
		a up
		a breaks 0x81 RAW 82 r3 m1 00
	`},
	{ids: "3.8.3-3", script: `
		a up
		a sub x 0x04
		b up
		b sub x q0
		a C: PUBLISH x q0 :1
		b S: PUBLISH x q0 :1
		a S: (nothing)
		b C: PUBLISH x q0 :2
		a S: PUBLISH x q0 :2
		b S: PUBLISH x q0 :2
	`},
	{ids: "3.8.3-4", script: `
		a up
		a breaks 0x82 SUBSCRIBE #1 $share/g/x 0x04
	`},
	{ids: "3.8.3-5", script: `
		a up
		a breaks 0x81 SUBSCRIBE #1 x 0x40
		a up
		a breaks 0x81 SUBSCRIBE #1 x 0x80
	`},
	{ids: "3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2", cfg: Config{Refused: []string{"no"}, MaxSubscriptions: 4}, script: `
		# one answer, a code for each, in order; the same filter twice counts once
		a up
		a C: PUBLISH x q0 retain :1
		a C: SUBSCRIBE #1 x q1 no q0 im/to/bob q0 y q2 z q0 x q0 w q0 v q0
		a S: SUBACK #1 0x01 0x80 0x87 0x02 0x00 0x00 0x00 0x97
		a S: PUBLISH x q0 retain :1
		a S: PUBLISH x q0 retain :1
		a C: PUBLISH x q1 #1 :2
		a S: PUBLISH x q0 :2
		a S: PUBACK #1
	`},
	{ids: "3.10.1-1", script: `
		a up
		a breaks 0x81 RAW a0 r6 m1 00 s1 'x'
	`},
	{ids: "3.10.3-1", script: `
		a up
		a breaks 0x81 RAW a2 r6 m1 00 s1 ff
	`},
	{ids: "3.10.3-2", script: `
		a up
		a breaks 0x81 RAW a2 r3 m1 00
	`},
	{ids: "3.10.4-1 3.10.4-2", script: `
		# by the filter's own characters, not by what it matches
		a up
		a sub x/+ q0 x/y q0
		a C: UNSUBSCRIBE #1 x/Y x/# +/y
		a S: UNSUBACK #1 0x11 0x11 0x11
		a C: UNSUBSCRIBE #2 x/+
		a S: UNSUBACK #2 0x00
		a C: PUBLISH x/z q0 :no
		a C: PUBLISH x/y q0 :1
		a S: PUBLISH x/y q0 :1
		a C: UNSUBSCRIBE #2 x/y
		a S: UNSUBACK #2 0x00
		a C: PUBLISH x/y q0 :no
		a S: (nothing)
	`},
	{ids: "3.10.4-3", script: `
		# what was begun is brought to its end
		a kept new
		a sub x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a C: UNSUBSCRIBE #2 x
		a S: UNSUBACK #2 0x00
		a --
		a kept present
		a S: PUBLISH x q1 #1 dup :1
		a S: PUBLISH x q2 #2 dup :2
		a C: PUBACK #1
		a C: PUBREC #2
		a S: PUBREL #2
		a C: PUBCOMP #2
		a S: (nothing)
	`},
	{ids: "3.10.4-6 3.11.3-1 3.11.3-2", script: `
		a up
		a sub x q0 y q0
		a C: UNSUBSCRIBE #2 x z y x
		a S: UNSUBACK #2 0x00 0x11 0x00 0x11
	`},
	{ids: "3.12.4-1", script: `
		a up
		a C: PINGREQ
		a S: PINGRESP
	`},
	{ids: "3.14.1-1", script: `
		a up
		a breaks 0x81 RAW e1 r0
	`},
	{ids: "3.14.2-1 3.14.2-2 3.14.4-2", cfg: Config{MaxSessionExpiry: 50e9}, script: `
		# a code of the list, no session expiry, and then the end
		a C: CONNECT 5 id=a user=alice session-expiry-interval=100
		a S: CONNACK 0x00 session-expiry-interval=50 *
		a C: PUBLISH # q0 :1
		a S: DISCONNECT 0x81
		a S: --
		a up
		a breaks 0x82 RAW e0 r2 01 00
	`},
	{ids: "3.14.4-1", script: `
		# what a client sends after its goodbye is not heard
		w up
		w sub x q0
		a up
		a C: RAW e0 r0 30 r5 s1 'x' 00 '1'
		a S: --
		w S: (nothing)
	`},
	{ids: "3.14.4-3", script: `
		w up
		w sub will q0
		a up will=will :no
		a C: DISCONNECT 0x00
		a S: --
		a up will=will :asked for
		a C: DISCONNECT 0x04
		a S: --
		w S: PUBLISH will q0 :asked for
		w S: (nothing)
	`},
	{ids: "3.15.1-1", script: `
		a C: CONNECT 5 clean id=a authentication-method=SCRAM-SHA-256 authentication-data=` + hexOf("n,,n=alice,r=abc") + `
		a S: AUTH 0x18 *
		a C: RAW f1 r0
		a S: CONNACK 0x81*
		a S: --
	`},
	{ids: "3.15.2-1", script: `
		a C: CONNECT 5 clean id=a authentication-method=SCRAM-SHA-256 authentication-data=` + hexOf("n,,n=alice,r=abc") + `
		a S: AUTH 0x18 *
		a C: AUTH 0x55 authentication-method=SCRAM-SHA-256
		a S: CONNACK 0x8*
		a S: --
	`},
}

// MQTT 5.0, section 4 and 6: what holds for all of it.
var sessions5 = []statement{
	{ids: "4.1.0-2", script: `
		a kept new session-expiry-interval=10
		a sub x q1
		a --
		~ 11s
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1 0x10
		a kept new session-expiry-interval=10
		a --
		kill
		~ 11s
		a kept new
	`},
	{ids: "4.2-1 6.0.0-1 6.0.0-2 6.0.0-4", test: testCarriers},
	{ids: "4.7.1-1", script: `
		a up
		a sub # q0 a/# q0
		a breaks 0x81 SUBSCRIBE #1 a# q0
		a up
		a breaks 0x81 SUBSCRIBE #1 a/#/b q0
		a up
		a breaks 0x81 UNSUBSCRIBE #1 a/#/b
	`},
	{ids: "4.7.1-2", script: `
		a up
		a sub + q0 +/a q0 a/+ q0 a/+/b q0
		a breaks 0x81 SUBSCRIBE #1 a+ q0
		a up
		a breaks 0x81 SUBSCRIBE #1 a/+b q0
	`},
	{ids: "4.7.2-1", script: `
		a up
		a sub # q0 +/broker/# q0 +/# q0
		~ 11s
		a S: (nothing)
		a sub $SYS/broker/clients/connected q0
		a S: PUBLISH $SYS/broker/clients/connected q0 retain :1
	`},
	{ids: "4.7.3-1", script: `
		a up
		a breaks 0x81 PUBLISH q0 :1
		a up
		a breaks 0x81 RAW 82 r6 m1 00 s0 00
	`},
	{ids: "4.7.3-3", script: `
		a up
		a sub # q0
		a C: PUBLISH ` + strings.Repeat("x", 65535) + ` q0 :1
		a S: PUBLISH ` + strings.Repeat("x", 65535) + ` q0 :1
	`},
	{ids: "4.8.2-1 4.8.2-2", script: `
		a up
		a sub $share/g/x q0 $share/g/# q0 $share/g//x q0
		a breaks 0x81 SUBSCRIBE #1 $share//x q0
		a up
		a breaks 0x81 SUBSCRIBE #1 $share/g q0
		a up
		a breaks 0x81 SUBSCRIBE #1 $share/g/ q0
		a up
		a breaks 0x81 SUBSCRIBE #1 $share/g+/x q0
		a up
		a breaks 0x81 SUBSCRIBE #1 $share/#/x q0
	`},
	{ids: "4.8.2-3", script: `
		a up
		a sub $share/g/x q0
		b up
		b C: PUBLISH x q2 #1 :1
		b S: PUBREC #1
		a S: PUBLISH x q0 :1
	`},
	{ids: "4.8.2-4 4.8.2-5", script: `
		# a QoS 2 message that was begun stays with whom it was begun
		a kept new
		a sub $share/g/x q2
		b up
		b C: PUBLISH x q2 #1 :1
		b S: PUBREC #1
		a S: PUBLISH x q2 #1 :1
		c up
		c sub $share/g/x q2
		a --
		c S: (nothing)
		a kept present
		a S: PUBLISH x q2 #1 dup :1
		a C: PUBREC #1
		a S: PUBREL #1
		a C: PUBCOMP #1
		b C: PUBREL #1
		b S: PUBCOMP #1
		c C: DISCONNECT
		c S: --
		b C: PUBLISH x q2 #1 :2
		b S: PUBREC #1
		a S: PUBLISH x q2 #2 :2
		c up
		c sub $share/g/x q2
		a --
		~ 101s
		c S: (nothing)
		a kept new
		a S: (nothing)
	`},
	{ids: "4.8.2-6", script: `
		a kept new
		a sub $share/g/x q2
		b up
		b C: PUBLISH x q1 #1 :1
		b S: PUBACK #1
		b C: PUBLISH x q2 #2 :2
		b S: PUBREC #2
		c up
		c sub $share/g/x q2
		a S: PUBLISH x q1 #1 :1
		a S: PUBLISH x q2 #2 :2
		a C: PUBACK #1 0x80
		a C: PUBREC #2 0x80
		a S: (nothing)
		c S: (nothing)
		a --
		a kept present
		a S: (nothing)
		c S: (nothing)
	`},
	{ids: "4.12.0-1", script: `
		a C: CONNECT 5 clean id=a authentication-method=GS2-KRB5 authentication-data=00
		a S: CONNACK 0x8c
		a S: --
	`},
	{ids: "4.12.0-2 4.12.0-4 4.12.0-5 4.12.1-1", test: TestSCRAM},
	{ids: "4.12.0-6", script: `
		a C: CONNECT 5 clean id=a user=alice keep=10
		a S: CONNACK 0x00 topic-alias-maximum=64 maximum-packet-size=1179648 receive-maximum=1024
	`},
	{ids: "4.12.0-7", script: `
		# binds the client; the server answers one that does not keep it
		a up
		a breaks 0x82 AUTH 0x18 authentication-method=SCRAM-SHA-256
	`},
	{ids: "4.12.1-2", test: testFailedReauthentication},
	{ids: "4.13.1-1", script: `
		# malformed, and against the protocol
		a up
		a breaks 0x81 RAW 30 ffffffff7f
		a up
		a breaks 0x82 RAW 90 r4 m1 00 00
		a up
		a breaks 0x82 SUBSCRIBE #1 x q0 subscription-identifier=0
		a up
		a breaks 0x82 RAW 30 r10 s1 'x' 06 010001000100
	`},
}
