package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// Every packet that a client may send, cut short after each byte with a length
// that says so, ends its own connection at most; and so does one that promises
// more than comes.
func TestCutShort(t *testing.T) {
	samples := []string{
		"CONNECT 5 clean id=c user=alice keep=10 session-expiry-interval=5 receive-maximum=9 user-property=a:b will=w will-delay-interval=1 :x",
		"PUBLISH a/b q2 #7 retain topic-alias=1 content-type=t user-property=a:b :x",
		"PUBACK #7 0x10", "PUBREC #7 0x80", "PUBREL #7 0x92", "PUBCOMP #7 0x92",
		"SUBSCRIBE #7 a/+ q1 $share/g/b 0x21 subscription-identifier=200",
		"UNSUBSCRIBE #7 a/+ b", "PINGREQ",
		"DISCONNECT 0x04 session-expiry-interval=5 reason-string=x",
		"AUTH 0x19 authentication-method=SCRAM-SHA-256 authentication-data=00",
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(written(5, "w up"))
		n := 0
		for _, s := range samples {
			for _, v := range []packet.Version{packet.V311, packet.V5} {
				p := &peer{v: v}
				if v != packet.V5 {
					s = strings.Replace(s, "CONNECT 5", "CONNECT 4", 1)
				}
				whole, err := p.parse(s)
				if err != nil {
					t.Fatal(err)
				}
				body := whole[2:]
				if whole[1] >= 0x80 {
					body = whole[3:]
				}
				for i := range len(body) {
					for _, said := range []int{i, len(body) + 5} {
						if whole[0]>>4 != byte(packet.CONNECT) {
							h.play(written(int(v), "c up"))
						}
						h.play(fmt.Sprintf("c C: RAW %02x r%d %x", whole[0], said, body[:i]))
						for got := h.peers["c"].read(); got != "--" && got != "(nothing)"; {
							got = h.peers["c"].read()
						}
						h.play("c --")
						n++
					}
				}
			}
		}
		h.play("w C: PINGREQ\nw S: PINGRESP")
		t.Log(n, "packets")
	})
}

// Properties that come twice, stand in a packet that has no such, or are none at
// all.
func TestBadProperties(t *testing.T) {
	for code, packets := range map[string][]string{
		"0x82": { // twice: "It is a Protocol Error to include ... more than once"
			"RAW 30 r8 s1 'x' 04 01010101",
			"RAW 30 r14 s1 'x' 0a 0200000001 0200000001",
			"RAW 30 r12 s1 'x' 08 03 s1 't' 03 s1 't'",
			"RAW 82 r10 m1 04 0b01 0b02 s1 'x' 00",
			"RAW e0 r12 00 0a 1100000000 1100000000",
			// misplaced
			"RAW 30 r8 s1 'x' 04 22000100",
			"RAW 30 r9 s1 'x' 05 1100000001",
			"RAW 40 r6 m1 00 02 0101",
			"RAW e0 r4 00 02 2401",
		},
		"0x81": {
			"RAW 82 r9 m1 03 230001 s1 'x' 00",
			"RAW 30 r6 s1 'x' 02 7f00", // unknown
			"RAW 30 r6 s1 'x' 02 0000",
			"RAW 30 r7 s1 'x' 03 ff7f00",
			"RAW 30 r4 s1 'x' 09", // longer than the packet
			"RAW 30 r6 s1 'x' 02 26 00",
		},
	} {
		for _, p := range packets {
			t.Run(p, func(t *testing.T) { dialogue(t, Config{}, written(5, "a up\na breaks "+code+" "+p)) })
		}
	}
}

// What only a server sends is not taken from a client.
func TestServerPackets(t *testing.T) {
	for v, packets := range map[int][]string{
		4: {"20 r2 00 00", "90 r3 m1 00", "b0 r2 m1", "d0 r0", "f0 r0", "00 r0"},
		5: {"20 r3 00 00 00", "90 r4 m1 00 00", "b0 r4 m1 00 00", "d0 r0", "00 r0"},
	} {
		for _, p := range packets {
			dialogue(t, Config{}, written(v, "a up\na breaks 0x8 RAW "+p))
		}
	}
}

// A flood of retained messages ends at the limit; what is there may be replaced
// and cleared, and then there is room again.
func TestRetainedFlood(t *testing.T) {
	dialogue(t, Config{MaxRetained: 2}, written(5, `
		a up
		a C: PUBLISH x/1 q1 #1 retain :1
		a S: PUBACK #1 0x10
		a C: PUBLISH x/2 q1 #1 retain :2
		a S: PUBACK #1 0x10
		a C: PUBLISH x/3 q1 #1 retain :3
		a S: PUBACK #1 0x97*
		a C: PUBLISH x/4 q2 #1 retain :4
		a S: PUBREC #1 0x97*
		a C: PUBLISH x/2 q1 #1 retain :new
		a S: PUBACK #1 0x10
		a C: PUBLISH x/1 q1 #1 retain :
		a S: PUBACK #1 0x10
		a C: PUBLISH x/3 q1 #1 retain :3
		a S: PUBACK #1 0x10
		a C: PUBLISH x/5 q0 retain :5
		a sub x/# q0
		a S: PUBLISH x/*
		a S: PUBLISH x/*
		a S: (nothing)
	`))
}

// Wills where a client may not publish, by wildcard or into a mailbox.
func TestBadWills(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice will=$SYS/x :x
		a S: CONNACK 0x87*
		a S: --
		a C: CONNECT 5 clean id=a user=alice will=a/# :x
		a S: CONNACK 0x8*
		a S: --
		a C: CONNECT 5 clean id=a user=alice will=im/inbox/bob :x
		a S: CONNACK 0x87*
		a S: --
		a C: CONNECT 5 clean id=a user=alice will=im/to/bob :x
		a S: CONNACK 0x87*
		a S: --
		a C: CONNECT 5 clean id=a user=alice will= :x
		a S: CONNACK 0x8*
		a S: --
	`)
}
