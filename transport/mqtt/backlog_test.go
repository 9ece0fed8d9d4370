package mqtt

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

// The queue of a kept session has an end. Who alone would have got the message
// is told so in MQTT 5; what others get they get. What was acknowledged makes
// room, also after the server was ended.
func TestKeptMessagesEnd(t *testing.T) {
	dialogue(t, Config{MaxKeptMessages: 2}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		old   C: CONNECT 4 clean id=old user=bob
		old   S: CONNACK 0x00
		tv    C: PUBLISH a q1 #1 :one
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #2 :two
		tv    S: PUBACK #2
		tv    C: PUBLISH a q1 #3 :three
		tv    S: PUBACK #3 0x97*
		tv    C: PUBLISH a q2 #4 :four
		tv    S: PUBREC #4 0x97*
		# 3.1.1 has no word for it.
		old   C: PUBLISH a q1 #1 :five
		old   S: PUBACK #1
		# Somebody else takes it.
		old   C: SUBSCRIBE #2 a q1
		old   S: SUBACK #2 0x01
		tv    C: PUBLISH a q1 #5 :six
		tv    S: PUBACK #5
		old   S: PUBLISH a q1 #1 :six
		old   C: PUBACK #1
		old   --
		kill
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :seven
		tv    S: PUBACK #1 0x97*
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a q1 #1 :one
		phone S: PUBLISH a q1 #2 :two
		phone C: PUBACK #1
		tv    C: PUBLISH a q1 #2 :eight
		tv    S: PUBACK #2
		phone S: PUBLISH a q1 #3 :eight
	`)
}

func TestKeptBytesEnd(t *testing.T) {
	dialogue(t, Config{MaxKeptBytes: 50}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :of more than fifty bytes, which is where no further one is taken
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #2 :x
		tv    S: PUBACK #2 0x97*
	`)
}

// Bytes that an earlier run of the server left behind count as well: as soon as
// somebody adds to them. What the client takes of them makes room.
func TestKeptBytesEndAfterRestart(t *testing.T) {
	dialogue(t, Config{MaxKeptBytes: 100}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #1 :too much
		tv    S: PUBACK #1 0x97*
		kill
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		# The first has the queue weighed. It has passed by then.
		tv    C: PUBLISH a q1 #1 :x
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #1 :too much
		tv    S: PUBACK #1 0x97*
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		phone S: PUBLISH a q1 #2 :forty bytes, of which two and the rest fit
		phone S: PUBLISH a q1 #3 :x
		phone C: PUBACK #1
		tv    C: PUBLISH a q1 #1 :there is room again
		tv    S: PUBACK #1
		phone S: PUBLISH a q1 #4 :there is room again
		tv    C: PUBLISH a q1 #1 :too much
		tv    S: PUBACK #1 0x97*
		phone C: PUBACK #2
		phone C: PUBACK #3
		phone C: PUBACK #4
		tv    C: PUBLISH a q1 #1 :y
		tv    S: PUBACK #1
		phone S: PUBLISH a q1 #5 :y
		phone C: PUBACK #5
	`)
	// What is taken before anybody adds is never counted, and takes nothing off
	// what came later.
	dialogue(t, Config{MaxKeptBytes: 100}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		tv    S: PUBACK #1
		kill
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		phone S: PUBLISH a q1 #2 :forty bytes, of which two and the rest fit
		phone C: PUBACK #1
		tv    C: CONNECT 5 clean id=tv user=bob
		tv    S: CONNACK 0x00 *
		tv    C: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		tv    S: PUBACK #1
		tv    C: PUBLISH a q1 #1 :too much
		tv    S: PUBACK #1 0x97*
		phone S: PUBLISH a q1 #3 :forty bytes, of which two and the rest fit
		phone C: PUBACK #2
		tv    C: PUBLISH a q1 #1 :forty bytes, of which two and the rest fit
		tv    S: PUBACK #1
		phone S: PUBLISH a q1 #4 :forty bytes, of which two and the rest fit
		tv    C: PUBLISH a q1 #1 :too much
		tv    S: PUBACK #1 0x97*
	`)
}

// However the client's acknowledgements and the weighing fall together, the
// count is right in the end.
func TestBacklog(t *testing.T) {
	entries := func(from, to mailbox.Seq) (fls []flight) {
		for s := from; s <= to; s++ {
			fls = append(fls, flight{seq: s, size: 10})
		}
		return fls
	}
	for name, do := range map[string]func(*backlog, *leftover){
		"weighed first":  func(b *backlog, l *leftover) { b.weighed(l, 100); b.done(entries(1, 6)) },
		"weighed last":   func(b *backlog, l *leftover) { b.done(entries(1, 6)); b.weighed(l, 100) },
		"in the middle":  func(b *backlog, l *leftover) { b.done(entries(1, 3)); b.weighed(l, 100); b.done(entries(4, 6)) },
		"weighed twice":  func(b *backlog, l *leftover) { b.weighed(l, 100); b.weighed(l, 100); b.done(entries(1, 6)) },
		"with the newer": func(b *backlog, l *leftover) { b.add(1, 10); b.weighed(l, 100); b.done(entries(1, 7)) },
		"of the newer": func(b *backlog, l *leftover) {
			b.add(1, 10)
			b.done(append(entries(1, 6), entries(11, 11)...))
			b.weighed(l, 100)
		},
	} {
		var b backlog
		b.found(mailbox.BoxInfo{First: 1, Last: 10}, 0)
		do(&b, b.left.Load())
		if m, n := b.messages.Load(), b.bytes.Load(); m != 4 || n != 40 || b.left.Load() != nil {
			t.Errorf("%s: %d messages, %d bytes", name, m, n)
		}
	}
	var b backlog
	b.found(mailbox.BoxInfo{First: 1, Last: 10}, 0)
	l := b.left.Load()
	b.empty()
	b.weighed(l, 100)
	if b.messages.Load() != 0 || b.bytes.Load() != 0 {
		t.Error("an empty queue has bytes")
	}
}

func TestKeptAgeEnds(t *testing.T) {
	dialogue(t, Config{MaxKeptAge: time.Minute}, `
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00
		phone C: SUBSCRIBE #1 a q1
		phone S: SUBACK #1 0x01
		phone --
		tv    C: CONNECT 4 clean id=tv user=bob
		tv    S: CONNACK 0x00
		tv    C: PUBLISH a q1 #1 :old
		tv    S: PUBACK #1
		~ 61s
		tv    C: PUBLISH a q1 #2 :new
		tv    S: PUBACK #2
		phone C: CONNECT 4 id=phone user=alice
		phone S: CONNACK 0x00 present
		phone S: PUBLISH a q1 #2 :new
	`)
}

// What retention has removed from a queue is counted once, also if its client has
// nothing to acknowledge.
func TestTrimmedIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, store: mem.New(mem.Options{Retention: mailbox.Retention{Age: time.Hour}}), peers: map[string]*peer{}}
		h.open(true)
		defer func() { h.stop() }()
		h.play(`
			phone C: CONNECT 4 id=phone user=alice
			phone S: CONNACK 0x00
			phone C: SUBSCRIBE #1 a q1
			phone S: SUBACK #1 0x01
			tv    C: CONNECT 5 clean id=tv user=bob
			tv    S: CONNACK 0x00 *
			tv    C: PUBLISH a q1 #1 :one
			tv    S: PUBACK #1
			phone S: PUBLISH a q1 #1 :one
			phone --
			tv    C: PUBLISH a q1 #2 :two
			tv    S: PUBACK #2
			~ 2h
		`)
		if err := h.store.(*mem.Store).Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			h.play(`
				phone C: CONNECT 4 id=phone user=alice
				phone S: CONNACK 0x00 present
				phone S: (nothing)
				phone --
			`)
		}
		if n := h.srv.Stats().Dropped; n != 2 {
			t.Errorf("%d dropped, want 2", n)
		}
		key := "alice@localhost/phone"
		if past := h.srv.sessions.shard(key).all[key].kept.Load().queue.past; len(past) > 0 {
			t.Errorf("what was sent of it is remembered: %v", past)
		}
	})
}
