package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// Limits on what is held in memory for one client, or for all.

// Only so many bytes of topics have an alias: with 65,535-byte topics a few
// aliases would hold megabytes for each connection.
func TestAliasesOfLongTopics(t *testing.T) {
	long := strings.Repeat("x", maxAliased/2)
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice topic-alias-maximum=10
		a S: CONNACK*
		a C: SUBSCRIBE #1 # q0
		a S: SUBACK*
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK*
		b C: PUBLISH 1`+long[1:]+` q0 topic-alias=1 :x
		a S: PUBLISH 1`+long[1:]+` q0 topic-alias=1 :x
		b C: PUBLISH 2`+long[1:]+` q0 topic-alias=2 :x
		a S: PUBLISH 2`+long[1:]+` q0 topic-alias=2 :x
		# The same alias for another topic takes no more.
		b C: PUBLISH 3`+long[1:]+` q0 topic-alias=2 :x
		a S: PUBLISH 3`+long[1:]+` q0 :x
		b C: PUBLISH q0 topic-alias=1 :x
		a S: PUBLISH  q0 topic-alias=1 :x
		b C: PUBLISH x q0 topic-alias=3 :x
		b S: DISCONNECT 0x97
		b S: --
	`)
}

// Bytes end the queue of a client that does not acknowledge, too.
func TestQueueBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{MaxQueueBytes: 250})
		defer func() { h.stop() }()
		body := strings.Repeat("x", 100)
		h.play(`
			a C: CONNECT 5 clean id=a user=alice receive-maximum=1
			a S: CONNACK*
			a C: SUBSCRIBE #1 x q1
			a S: SUBACK*
			b C: CONNECT 5 clean id=b user=bob
			b S: CONNACK*
		`)
		for i := range 6 { // one is sent, three wait
			h.play(fmt.Sprintf("b C: PUBLISH x q1 #%d :%d%s\nb S: PUBACK*", i+1, i, body))
		}
		if n := h.srv.Stats().Dropped; n != 2 {
			t.Errorf("%d dropped", n)
		}
		for i := range 4 {
			h.play(fmt.Sprintf("a S: PUBLISH x q1 #%d :%d*\na C: PUBACK #%d", i+1, i, i+1))
		}
		h.play("a S: (nothing)")
		// There is room again.
		h.play(fmt.Sprintf("b C: PUBLISH x q1 #1 :6%s\nb S: PUBACK*\na S: PUBLISH x q1 #5 :6*", body))
	})
}

// A client has only so many messages in flight, whatever it would take: what
// ends with its connection and what is kept, and what comes from the mailbox.
func TestMaxInflight(t *testing.T) {
	for name, connect := range map[string]string{
		"memory": "CONNECT 5 clean id=a user=alice receive-maximum=10", "kept": "CONNECT 5 id=a user=alice receive-maximum=10 session-expiry-interval=60",
	} {
		t.Run(name, func(t *testing.T) {
			dialogue(t, Config{MaxInflight: 2}, `
				a C: `+connect+`
				a S: CONNACK 0x00 *
				a C: SUBSCRIBE #1 x q2 im/inbox/# q1
				a S: SUBACK #1 0x02 0x01
				`+written(5, `
				b up
				b C: PUBLISH x q1 #1 :1
				b S: PUBACK #1
				b C: PUBLISH x q2 #2 :2
				b S: PUBREC #2
				b C: PUBLISH x q1 #3 :3
				b S: PUBACK #3
				a S: PUBLISH x q1 #1 :1
				a S: PUBLISH x q2 #2 :2
				b C: PUBLISH im/to/alice q1 #4 :4
				b S: PUBACK #4
				a S: (nothing)
				a C: PUBACK #1
				a S: PUBLISH x q1 #3 :3
				a S: (nothing)
				`))
		})
	}
}

// Only so many messages wait in memory.
func TestMaxQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{MaxQueue: 2})
		defer func() { h.stop() }()
		h.play(written(5, `
			a up receive-maximum=1
			a sub x q1
			b up
		`))
		for i := range 5 { // one is sent, two wait
			h.play(fmt.Sprintf("b C: PUBLISH x q1 #%d :%d\nb S: PUBACK*", i+1, i))
		}
		if n := h.srv.Stats().Dropped; n != 2 {
			t.Errorf("%d dropped", n)
		}
		for i := range 3 {
			h.play(fmt.Sprintf("a S: PUBLISH x q1 #%d :%d\na C: PUBACK #%d", i+1, i, i+1))
		}
		h.play("a S: (nothing)")
	})
}

// Only so many bytes wait for a client that does not read: less than it has by
// default, or more.
func TestMaxUnsent(t *testing.T) {
	const body = 100_000
	for most, want := range map[int]int{1 << 20: 1 << 20, 0: 2 << 20, 3 << 20: 3 << 20} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, Config{MaxUnsent: most})
			defer func() { h.stop() }()
			h.play(written(5, "a up\na sub x q0\nb up"))
			m := packet.Publish{Topic: []byte("x"), Payload: make([]byte, body)}
			for range 50 {
				h.peers["b"].nc.Write(m.Append(nil, packet.V5))
			}
			synctest.Wait()
			// One more is on its way, and the longest message may be a little longer.
			if n := 50 - int(h.srv.Stats().Dropped); n < want/body || n > want/body+3 {
				t.Errorf("%d messages wait with a limit of %d bytes", n, most)
			}
		})
	}
}

// The server's own topics come as often as configured.
func TestSysInterval(t *testing.T) {
	dialogue(t, Config{SysInterval: time.Minute}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK*
		a C: SUBSCRIBE #1 $SYS/broker/uptime 0x20
		a S: SUBACK*
		~ 58s
		a S: (nothing)
		~ 1s
		a S: PUBLISH $SYS/broker/uptime q0 :60 seconds
	`)
}

// Only so many rules may be set.
func TestMaxRules(t *testing.T) {
	withHouse(t, Config{MaxRules: 2}, func(h *house) {
		rule := acl.Rule{Publish: []string{"#"}}
		h.set(rule, rule)
		if _, err := h.srv.Rules().Set(t.Context(), []acl.Rule{rule, rule, rule}, ""); !errors.Is(err, acl.ErrMany) {
			t.Error(err)
		}
	})
}

// Long messages that wait for a slow disk end the reading before many do.
func TestSlowDiskBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{MaxPacket: 1000})
		defer func() { h.stop() }()
		h.play(written(5, "a up"))
		release := h.store.(*mem.Store).Hold()
		a := h.peers["a"]
		var block []byte
		for i := range 20 {
			block = append(block, encode(t, fmt.Sprintf("PUBLISH im/to/bob q1 #%d :%s", i+1, strings.Repeat("x", 900)))...)
		}
		go a.nc.Write(block) // ends when the server reads again
		synctest.Wait()
		if n := h.srv.Stats().Received; n != 5 {
			t.Errorf("%d are taken", n)
		}
		release()
		for i := range 20 {
			h.play(fmt.Sprintf("a S: PUBACK #%d", i+1))
		}
	})
}

// Filters of many levels with a wildcard cost a node of the tree for each: a
// session may not have many of them, and as many of others as ever.
func TestHeavyFilters(t *testing.T) {
	_, addr := serveTCP(t, Config{})
	subscribe := func(c *corpusConn, n int, format string) (taken int) {
		s := packet.Subscribe{ID: 1}
		for i := range n {
			s.Filters = append(s.Filters, packet.Filter{Topic: fmt.Sprintf(format, i)})
		}
		c.Write(s.Append(nil, packet.V5))
		got, err := c.next(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range got[len(got)-n:] {
			if code == 0 {
				taken++
			}
		}
		return taken
	}
	before := heapBytes()
	if n := subscribe(must(t, addr, "c"), 1000, "%d/"+strings.Repeat("x/", 198)+"+"); n < 450 || n > 550 {
		t.Errorf("%d are taken", n)
	}
	if after := heapBytes(); after > before+64<<20 {
		t.Errorf("%d bytes", after-before)
	}
	d := must(t, addr, "d")
	for _, usual := range []string{"a/b/c/%d/+", "a/b/c/d/e/f/%d"} {
		if n := subscribe(d, 5000, usual); n != 5000 {
			t.Errorf("%d like %s are taken", n, usual)
		}
	}
}

// 3.1.1 has no words for what is not supported: grants are lower, and the
// connection is closed.
func TestMaximumQoSOld(t *testing.T) {
	dialogue(t, Config{MaxQoS: new(1), RetainAvailable: new(false)}, `
		a C: CONNECT 4 clean id=a user=alice
		a S: CONNACK 0x00
		a C: SUBSCRIBE #1 x q0 y q1 z q2
		a S: SUBACK #1 0x00 0x01 0x01
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH z q1 #1 :1
		b S: PUBACK #1
		a S: PUBLISH z q1 #1 :1
		b C: PUBLISH z q2 #1 :1
		b S: --
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		b C: PUBLISH z q0 retain :1
		b S: --
		b C: CONNECT 4 clean id=b user=bob will=z q2 :gone
		b S: --
		b C: CONNECT 4 clean id=b user=bob will=z q0 retain :gone
		b S: --
		a S: (nothing)
	`)
}

// What was there before the limit: a subscription has what it was granted, a
// will is published all the same, and what is retained waits until that is
// allowed again.
func TestMaximumQoSLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{SysInterval: 1000 * 3600e9})
		defer func() { h.stop() }()
		h.play(written(5, `
			a kept new
			a sub x q2
			w kept new
			w sub w/# 0x09
			w --
			b kept new will=w/b q1 retain will-delay-interval=50 :gone
			b C: PUBLISH x/old q1 #1 retain :old
			b S: PUBACK #1 0x10
			b C: PUBLISH x q2 #2 :2
			b S: PUBREC #2
			a S: PUBLISH x q2 *
		`))
		h.cfg.MaxQoS, h.cfg.RetainAvailable = new(0), new(false)
		h.kill()
		h.play(written(5, `
			w kept present
			~ 51s
			w S: PUBLISH w/b q1 #1 :gone
			w C: PUBACK #1
			w sub x/# q0 $SYS/broker/version q0
			w S: (nothing)
			a kept present
			a S: PUBLISH x q2 #1 dup :2
		`))
		h.cfg = Config{}
		h.kill()
		h.play(written(5, `
			w up
			w sub x/old q0
			w S: PUBLISH x/old q0 retain :old
		`))
	})
}

// Only so many sessions are kept. Those that are may be resumed, and others that
// end with their connection begun.
func TestMaxSessions(t *testing.T) {
	dialogue(t, Config{MaxSessions: 1}, `
		a C: CONNECT 5 id=a user=alice session-expiry-interval=60
		a S: CONNACK 0x00*
		b C: CONNECT 5 id=b user=bob session-expiry-interval=60
		b S: CONNACK 0x97
		b S: --
		b C: CONNECT 4 id=b user=bob
		b S: CONNACK 0x03
		b S: --
		b C: CONNECT 4 clean id=b user=bob
		b S: CONNACK 0x00
		a --
		a C: CONNECT 5 id=a user=alice session-expiry-interval=60
		a S: CONNACK 0x00 present*
		a C: DISCONNECT session-expiry-interval=0
		a S: --
		c C: CONNECT 4 id=c user=bob
		c S: CONNACK 0x00
	`)
}

// Retained messages are in memory: their bytes have a limit. One that makes no
// more of it is taken, and clearing makes room.
func TestRetainedBytes(t *testing.T) {
	body := strings.Repeat("x", 100)
	dialogue(t, Config{MaxRetainedBytes: 250, SysInterval: 1000 * 3600e9}, written(5, `
		a up
		a C: PUBLISH x/1 q1 #1 retain :`+body+`
		a S: PUBACK #1 0x10
		a C: PUBLISH x/2 q1 #1 retain :`+body+`
		a S: PUBACK #1 0x10
		a C: PUBLISH x/3 q1 #1 retain :`+body+`
		a S: PUBACK #1 0x97*
		a C: PUBLISH x/2 q1 #1 retain :`+body+body+`
		a S: PUBACK #1 0x97*
		a C: PUBLISH x/2 q1 #1 retain :short
		a S: PUBACK #1 0x10
		a C: PUBLISH x/3 q1 #1 retain :`+body+`
		a S: PUBACK #1 0x10
		kill
		a up
		a C: PUBLISH x/4 q1 #1 retain :`+body+`
		a S: PUBACK #1 0x97*
		a C: PUBLISH x/1 q1 #1 retain :
		a S: PUBACK #1 0x10
		a C: PUBLISH x/4 q1 #1 retain :`+body+`
		a S: PUBACK #1 0x10
	`))
}
