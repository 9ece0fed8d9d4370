package xmpp

import (
	"math"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
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

// A device that binds anew gives up what it lost, and nothing of others.
func TestLostByAddress(t *testing.T) {
	s := New(&transport.Core{Router: router.New(t.Context(), mailbox.New(mem.New(mem.Options{}), mailbox.Limits{}), nil, "localhost")}, Config{ResumeTime: time.Hour})
	lose := func(id, jid string) {
		r := &resource{s: s, previd: id, jid: jid}
		s.lost.add(r)
		if !s.lost.hold(r) {
			t.Fatalf("%s is not held", id)
		}
	}
	here := func(want ...string) {
		t.Helper()
		dead := 0
		for _, hs := range s.lost.dead {
			dead += len(hs)
		}
		for _, id := range want {
			if s.lost.held[id] == nil {
				t.Errorf("%s was given up", id)
			}
		}
		if len(s.lost.held) != len(want) || dead != len(want) {
			t.Errorf("%d held, %d dead, want %q", len(s.lost.held), dead, want)
		}
	}
	lose("1", "bob@localhost/pc")
	lose("2", "bob@localhost/phone")
	lose("3", "bob@localhost/pc")
	here("1", "2", "3")
	s.lost.expire(&held{r: &resource{s: s, previd: "2"}}) // of an earlier life
	here("1", "2", "3")
	s.lost.drop("bob@localhost/pc")
	here("2")
	s.lost.dropAll(true)
	here()
	if r := (&resource{s: s, previd: "4", jid: "bob@localhost/pc"}); s.lost.hold(r) {
		t.Error("held although the server stops")
	}
}
