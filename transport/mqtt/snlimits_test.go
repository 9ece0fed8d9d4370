package mqtt

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSNLimits(t *testing.T) {
	cfg := sensors()
	cfg.SN.MaxClients, cfg.SN.MaxTopics, cfg.SN.MaxInflight, cfg.SN.MaxWaiting, cfg.SN.MaxDatagram = 3, 2, 2, 100, 200
	cfg.SN.MaxPerAddress = 2
	snDialogue(t, cfg, `
		fw/1 N: CONNECT n1 clean
		fw/1 G: CONNACK
		fw/2 N: CONNECT n2 clean 60s
		fw/2 G: CONNACK
		# An address has its share, and the gateway is full.
		fw/3 N: CONNECT n3 clean 60s
		fw/3 G: CONNACK rejected: congestion
		n3 N: CONNECT n3 60s
		n3 G: CONNACK
		n4 N: CONNECT n4 clean 60s
		n4 G: CONNACK rejected: congestion
		# Topics.
		n3 N: REGISTER a/1 #1
		n3 G: REGACK t1 #1
		n3 N: REGISTER a/2 #2
		n3 G: REGACK t2 #2
		n3 N: REGISTER a/3 #3
		n3 G: REGACK t0 #3 rejected: congestion
		n3 N: SUBSCRIBE a/4 q0 #4
		n3 G: SUBACK t0 #4 q0 rejected: congestion
		n3 N: SUBSCRIBE b/# q1 #5
		n3 G: SUBACK t0 #5 q1
		n3 N: SUBSCRIBE 'cc q1 #6
		n3 G: SUBACK t0 #6 q1
		n3 N: SUBSCRIBE 'dd q1 #7
		n3 G: SUBACK t0 #7 q0 rejected: congestion
		n3 N: SUBSCRIBE 'cc q1 #8
		n3 G: SUBACK t0 #8 q1
		# Messages that are not released.
		n3 N: PUBLISH 'ab q2 #1 :x
		n3 G: PUBREC #1
		n3 N: PUBLISH 'ab q2 #2 :x
		n3 G: PUBREC #2
		n3 N: PUBLISH 'ab q1 #3 :x
		n3 G: PUBACK t24930 #3 rejected: congestion
		n3 N: PUBREL #1
		n3 G: PUBCOMP #1
		n3 N: PUBLISH 'ab q1 #3 :x
		n3 G: PUBACK t24930 #3
		# An id that the gateway needs takes the place of an old one.
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		app C: PUBLISH b/1 q0 :x
		n3 G: REGISTER b/1 t3 #1
		n3 N: REGACK t3 #1
		n3 G: PUBLISH t3 q0 :x
		n3 N: PUBLISH t1 q1 #4 :x
		n3 G: PUBACK t1 #4 rejected: invalid topic ID
		# A message that fits no datagram is left out, and the next one comes.
		app C: PUBLISH b/1 q1 #1 :`+long(300)+`
		app S: PUBACK #1
		app C: PUBLISH b/1 q1 #2 :y
		app S: PUBACK #2
		n3 G: PUBLISH t3 q1 #2 :y
		n3 N: PUBACK t3 #2
		# No keep alive does not mean for ever.
		~ 23h
		fw/1 G: (nothing)
		~ 1h
		fw/1 G: DISCONNECT
	`)
}

// How long the gateway waits for an answer, how often it says a message again,
// and how long a sensor may be silent are what they are configured to be.
func TestSNTimes(t *testing.T) {
	cfg := sensors()
	cfg.SN.Retry, cfg.SN.Retries, cfg.SN.MaxSilence = 3*time.Second, 1, time.Hour
	snDialogue(t, cfg, `
		app C: CONNECT 4 id=app user=alice clean
		app S: CONNACK*
		n1 N: CONNECT n1
		n1 G: CONNACK
		n1 N: SUBSCRIBE 'ab q1 #1
		n1 G: SUBACK*
		app C: PUBLISH ab q1 #1 :x
		app S: PUBACK #1
		n1 G: PUBLISH 'ab q1 #1 :x
		~ 2s
		n1 G: (nothing)
		~ 1s
		n1 G: PUBLISH 'ab q1 #1 dup :x
		~ 2s
		n1 G: (nothing)
		~ 1s
		n1 G: DISCONNECT
		n2 N: CONNECT n2
		n2 G: CONNACK
		~ 59m
		n2 G: (nothing)
		~ 1m
		n2 G: DISCONNECT
		# Asleep it is the sensor that says how long.
		n2 N: CONNECT n2
		n2 G: CONNACK
		n2 N: DISCONNECT 7200s
		n2 G: DISCONNECT
		~ 119m
		n2 N: PINGREQ n2
		n2 G: PINGRESP
	`)
}

// An account is for sensors of its networks alone.
func TestSNAccountsFrom(t *testing.T) {
	cfg := sensors()
	cfg.Anonymous = false
	cfg.SN.Accounts[0].From = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	snDialogue(t, cfg, `
		10.1.2.3:1884 N: CONNECT n1
		10.1.2.3:1884 G: CONNACK
		10.2.2.3:1884 N: CONNECT n2
		10.2.2.3:1884 G: CONNACK rejected: not supported
		10.2.2.3:1884 N: CONNECT b1
		10.2.2.3:1884 G: CONNACK
	`)
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}

// Messages that wait for a sensor: what has expired is not said, and what does
// not fit is dropped, at QoS 0 alone.
func TestSNWaiting(t *testing.T) {
	cfg := sensors()
	cfg.SN.MaxWaiting, cfg.SN.MaxDatagram = 150, 300
	body := long(64)
	const asleep = `
		n1 N: CONNECT n1 600s
		n1 G: CONNACK
		n1 N: SUBSCRIBE 'ab q1 #1
		n1 G: SUBACK t0 #1 q1
		n1 N: DISCONNECT 600s
		n1 G: DISCONNECT
	`
	snDialogue(t, cfg, `
		app C: CONNECT 5 id=app user=alice clean
		app S: CONNACK*
`+asleep+`
		app C: PUBLISH ab q0 message-expiry-interval=5 :old
		app C: PUBLISH ab q1 #1 message-expiry-interval=20 :late
		app S: PUBACK #1
		app C: PUBLISH ab q1 #2 :kept
		app S: PUBACK #2
		~ 10s
		n1 N: PINGREQ n1
		n1 G: PUBLISH 'ab q1 #1 :late
		~ 15s
		n1 G: PUBLISH 'ab q1 #1 dup :late
		n1 N: PUBACK #1
		n1 G: PUBLISH 'ab q1 #2 :kept
		n1 N: PUBACK #2
		n1 G: PINGRESP
		app C: PUBLISH ab q1 #3 message-expiry-interval=5 :over
		app S: PUBACK #3
		app C: PUBLISH ab q1 #4 :`+body+`
		app S: PUBACK #4
		~ 6s
		n1 N: PINGREQ n1
		n1 G: PUBLISH 'ab q1 #4 :`+body+`
		n1 N: PUBACK #4
		n1 G: PINGRESP
	`)
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, cfg)
		h.stop()
		h.air = &air{}
		h.open(false)
		defer func() { h.stop() }()
		h.play(`
			app C: CONNECT 4 id=app user=alice clean
			app S: CONNACK*
` + asleep)
		const n = 5000
		for range n {
			h.line("app C: PUBLISH ab q0 :" + body)
		}
		h.play(`
			app C: PUBLISH ab q1 #1 :last
			app S: PUBACK #1
			n1 N: PINGREQ n1
		`)
		got := 0
		for {
			text := h.air.next(address4("n1"), "")
			if strings.HasPrefix(text, "PUBLISH 'ab q1") {
				break
			} else if text == "(nothing)" {
				t.Fatal("the message of QoS 1 did not come")
			}
			got++
		}
		if st := h.srv.Stats(); got == 0 || got > 8<<10/64 || st.Dropped != uint64(n-got) {
			t.Errorf("%d of %d came, %d dropped", got, n, st.Dropped)
		}
	})
}
