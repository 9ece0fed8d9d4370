package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// A client that subscribes to everything in many ways and does not read costs a
// place among what is retained, not a list of it for each filter.
func TestRetainedForOneThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(written(5, "p up"))
		const n = 5000
		var block []byte
		for i := range n {
			p := packet.Publish{Topic: fmt.Appendf(nil, "a/b/c/d/e/f/g/h/%d", i), Retain: true, Payload: make([]byte, 100)}
			block = p.Append(block, packet.V5)
		}
		h.peers["p"].nc.Write(block)
		h.play(written(5, "p C: PINGREQ\np S: PINGRESP\na up"))
		var filters []string // all of them match all that is retained
		for i := range 256 {
			f := ""
			for level := range 8 {
				f += []string{"+/", string('a'+rune(level)) + "/"}[i>>level&1]
			}
			filters = append(filters, f+"+")
		}
		before := heapBytes()
		h.play("a C: SUBSCRIBE #1 " + strings.Join(filters, " q0 ") + " q0")
		if after := heapBytes(); after > before+4<<20 {
			t.Errorf("%d bytes", after-before)
		}
		h.play("a S: SUBACK*\np C: PINGREQ\np S: PINGRESP")
		// Who reads gets all, once for each filter that is left.
		h.play("a C: UNSUBSCRIBE #2 " + strings.Join(filters[2:], " "))
		olds := 0
		for got := ""; got != "(nothing)"; got = h.peers["a"].read() {
			if strings.HasPrefix(got, "PUBLISH") {
				olds++
			}
		}
		if olds != 2*n {
			t.Errorf("%d retained messages, want %d", olds, 2*n)
		}
	})
}

// What is retained anew while a client has not yet read the old is sent to it as
// a new message, and the old not after it.
func TestRetainedReplacedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(written(5, "p up"))
		const n = 200
		body := strings.Repeat("x", 1000)
		for i := range n {
			h.play(fmt.Sprintf("p C: PUBLISH r/%d q0 retain :old%s", i, body))
		}
		h.play(`
			a C: CONNECT 5 clean id=a user=alice
			a S: CONNACK*
			a C: SUBSCRIBE #1 r/+ 0x08
		`)
		for i := range n {
			h.play(fmt.Sprintf("p C: PUBLISH r/%d q0 retain :new", i))
		}
		h.play("a S: SUBACK*")
		olds, news := 0, map[string]bool{}
		for {
			got := h.peers["a"].read()
			if got == "(nothing)" {
				break
			}
			name := strings.Fields(got)[1]
			switch {
			case strings.HasSuffix(got, ":new") && !news[name]:
				news[name] = true
			case !strings.HasSuffix(got, ":new") && !news[name]:
				olds++
			default:
				t.Fatalf("%.60s: after a new one", got)
			}
		}
		if len(news) != n || olds == 0 || olds == n {
			t.Errorf("%d old, %d new", olds, len(news))
		}
	})
}

// What is retained goes into the queue of a kept session burst by burst, each
// when the one before is on disk, and all of it arrives.
func TestRetainedIntoAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(written(5, "p up"))
		const n = 3*oldBurst + 7
		for i := range n {
			h.play(fmt.Sprintf("p C: PUBLISH r/%d q1 #1 retain :x\np S: PUBACK #1 0x10", i))
		}
		h.play("a C: CONNECT 5 id=a user=alice session-expiry-interval=60\na S: CONNACK*\na C: SUBSCRIBE #1 r/+ q1\na S: SUBACK #1 0x01")
		seen := map[string]bool{}
		for i := range n {
			got := h.peers["a"].read()
			seen[strings.Fields(got)[1]] = true
			if want := fmt.Sprintf(" q1 #%d retain :x", i+1); !strings.HasSuffix(got, want) {
				t.Fatalf("%s, want %s", got, want)
			}
			h.play(fmt.Sprintf("a C: PUBACK #%d", i+1))
		}
		if len(seen) != n {
			t.Errorf("%d topics, want %d", len(seen), n)
		}
		h.play("a S: (nothing)")
	})
}

// The limits on a kept session's queue hold for what is retained, too.
func TestRetainedIntoAFullQueue(t *testing.T) {
	dialogue(t, Config{MaxKeptMessages: 3}, written(5, `
		p up
		p C: PUBLISH r/1 q1 #1 retain :x
		p S: PUBACK #1 0x10
		p C: PUBLISH r/2 q1 #1 retain :x
		p S: PUBACK #1 0x10
		p C: PUBLISH r/3 q1 #1 retain :x
		p S: PUBACK #1 0x10
		p C: PUBLISH r/4 q1 #1 retain :x
		p S: PUBACK #1 0x10
		a C: CONNECT 5 id=a user=alice session-expiry-interval=60
		a S: CONNACK*
		a C: SUBSCRIBE #1 r/+ q1
		a S: SUBACK #1 0x01
		a S: PUBLISH r/*
		a S: PUBLISH r/*
		a S: PUBLISH r/*
		a S: (nothing)
	`))
}

// Who subscribes to the same again and again without reading is sent it no more
// often than a session may have subscriptions.
func TestSubscribedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{MaxSubscriptions: 3})
		defer func() { h.stop() }()
		h.play(written(5, "p up"))
		h.play("p C: PUBLISH r q0 retain :" + strings.Repeat("x", 100_000))
		h.play(written(5, "a up"))
		for i := range 10 {
			h.play(fmt.Sprintf("a C: SUBSCRIBE #%d r q0", i+1))
		}
		sent := 0
		for got := ""; got != "(nothing)"; got = h.peers["a"].read() {
			if strings.HasPrefix(got, "PUBLISH") {
				sent++
			}
		}
		if sent < 3 || sent > 5 || h.srv.Stats().Dropped == 0 {
			t.Errorf("sent %d times, %d dropped", sent, h.srv.Stats().Dropped)
		}
	})
}
