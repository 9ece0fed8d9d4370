package xmpp

import (
	"math"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
)

func TestAck(t *testing.T) {
	m := &sm{}
	send := func(seqs ...uint64) {
		for _, s := range seqs {
			m.sent(s, nil)
		}
	}
	ack := func(h uint32, want mailbox.Seq) {
		t.Helper()
		if got := m.ack(h); got != want {
			t.Errorf("h %d moves to %d, want %d", h, got, want)
		}
	}
	send(1, 2, 0, 3)
	ack(0, 0)
	ack(1, 1)
	ack(1, 0)
	ack(3, 2)
	ack(2, 0) // back
	ack(4, 3)
	if m.unacked != nil {
		t.Error("an idle stream keeps something")
	}
	// Too high, by two: what was sent is acknowledged, and from now on it counts
	// two less.
	send(4)
	ack(7, 4)
	send(5, 6)
	ack(7, 0)
	ack(8, 5)
	ack(9, 6)
	// "the value of 'h' SHALL be reset from 2^32-1 back to zero": XEP-0198 #acking
	m = &sm{out: math.MaxUint32 - 1, acked: math.MaxUint32 - 1}
	send(7, 8, 9)
	ack(math.MaxUint32, 7)
	ack(0, 8)
	ack(1, 9)
}

// What is not in the box is kept for a resumption, up to a limit.
func TestKept(t *testing.T) {
	m := &sm{keep: true}
	big := make([]byte, maxKept/4)
	for range 4 {
		m.sent(0, big)
	}
	m.sent(1, big)
	if !m.keep || len(m.unacked) != 5 {
		t.Errorf("%v, %d kept", m.keep, len(m.unacked))
	}
	m.sent(0, big)
	if m.keep || len(m.unacked) != 1 {
		t.Errorf("over the limit: %v, %d kept", m.keep, len(m.unacked))
	}
}
