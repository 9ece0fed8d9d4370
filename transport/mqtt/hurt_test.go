package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// serveTCP serves on the loopback interface, on event loops where there are.
func serveTCP(t testing.TB, cfg Config) (*Server, string) {
	ctx, cancel := context.WithCancel(context.Background())
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(ctx, u, "pw", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	e := conn.New(conn.Config{})
	srv := New(&transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: e}, cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-over; e.Close(); a.Close() })
	return srv, ln.Addr().String()
}

func must(t testing.TB, addr, id string) *corpusConn {
	t.Helper()
	c, err := corpusDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id, HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
	c.Write(p.Append(nil))
	if got, err := c.next(10 * time.Second); err != nil || got[0] != 0x20 || got[3] != 0 {
		t.Fatalf("%x %v", got, err)
	}
	return c
}

func ping(t testing.TB, c *corpusConn) {
	t.Helper()
	c.Write([]byte{0xc0, 0})
	if got, err := c.next(10 * time.Second); err != nil || got[0] != 0xd0 {
		t.Fatalf("%x %v", got, err)
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Memory is not reserved for lengths that are only announced, before login or
// after it, whether they are allowed or not.
func TestAnnouncedLengths(t *testing.T) {
	for _, most := range []int{0, packet.MaxRemaining + 5} {
		_, addr := serveTCP(t, Config{MaxPacket: most})
		before := heapBytes()
		for i := range 40 {
			c := must(t, addr, fmt.Sprint("c", i))
			n, err := corpusDial(addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			for first, c := range map[byte]*corpusConn{0x30: c, 0x10: n} {
				c.Write([]byte{first, 0xff, 0xff, 0xff, 0x7f}) // 256 MB
				c.Write(make([]byte, 100))
				if most > 0 {
					continue
				}
				for err = nil; err == nil; {
					_, err = c.next(5 * time.Second)
				}
				if err != io.EOF {
					t.Fatal(err)
				}
			}
		}
		if after := heapBytes(); after > before+8<<20 {
			t.Errorf("%d bytes for eighty announcements", after-before)
		}
	}
}

func TestManyFilters(t *testing.T) {
	srv, addr := serveTCP(t, Config{MaxSubscriptions: 4000})
	c := must(t, addr, "c")
	s := packet.Subscribe{ID: 1}
	for i := range 5000 {
		s.Filters = append(s.Filters, packet.Filter{Topic: fmt.Sprintf("a/%d/+", i)})
	}
	c.Write(s.Append(nil, packet.V5))
	got, err := c.next(10 * time.Second)
	if err != nil || got[0] != 0x90 || len(got) != 5000+6 || got[len(got)-1] != byte(packet.QuotaExceeded) || got[6] != 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n := srv.Stats().Subscriptions; n != 4000 {
		t.Errorf("%d subscriptions", n)
	}
	c.Close()
	for deadline := time.Now().Add(10 * time.Second); srv.Stats().Subscriptions > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("subscriptions are left")
		}
	}
}

// A session of many subscriptions knows which it has, in whichever order they
// come and go.
func TestSubscriptionsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		h.play(written(5, "a up\np up"))
		r := rand.New(rand.NewPCG(1, 2))
		has := map[int]bool{}
		for range 2000 {
			i := r.IntN(3 * manySubs)
			if r.IntN(3) > 0 {
				has[i] = true
				h.play(fmt.Sprintf("a C: SUBSCRIBE #1 x/%d q0\na S: SUBACK #1 0x00", i))
				continue
			}
			code := map[bool]string{true: "0x00", false: "0x11"}[has[i]]
			delete(has, i)
			h.play(fmt.Sprintf("a C: UNSUBSCRIBE #1 x/%d\na S: UNSUBACK #1 %s", i, code))
		}
		if n := h.srv.Stats().Subscriptions; n != len(has) {
			t.Errorf("%d subscriptions, want %d", n, len(has))
		}
		for i := range 3 * manySubs {
			h.play(fmt.Sprintf("p C: PUBLISH x/%d q0 :x", i))
			if has[i] {
				h.play(fmt.Sprintf("a S: PUBLISH x/%d q0 :x", i))
			}
		}
		h.play("a S: (nothing)")
		// And when rules end some of them.
		for i := range 3 * manySubs {
			h.play(fmt.Sprintf("a C: SUBSCRIBE #1 x/%d q0\na S: SUBACK #1 0x00", i))
		}
		h.set(acl.Rule{Deny: true, Subscribe: []string{"x/1", "x/40"}}, acl.Rule{Subscribe: []string{"#"}})
		for i := range 3 * manySubs {
			code := map[bool]string{true: "0x11", false: "0x00"}[i == 1 || i == 40]
			h.play(fmt.Sprintf("a C: UNSUBSCRIBE #1 x/%d\na S: UNSUBACK #1 %s", i, code))
		}
	})
}

// A filter of 65,535 slashes ends the connection and costs nothing, and so does a
// topic of 10,000 levels.
func TestManyLevels(t *testing.T) {
	_, addr := serveTCP(t, Config{})
	before := heapBytes()
	for name, p := range map[string][]byte{
		"SUBSCRIBE":   (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: strings.Repeat("/", 65535)}}}).Append(nil, packet.V5),
		"UNSUBSCRIBE": (&packet.Unsubscribe{ID: 1, Filters: []string{strings.Repeat("/", 65535)}}).Append(nil, packet.V5),
		"PUBLISH":     (&packet.Publish{Topic: []byte(strings.Repeat("a/", 10000)), QoS: 1, ID: 1}).Append(nil, packet.V5),
	} {
		c := must(t, addr, "c")
		c.Write(p)
		if got, err := c.next(10 * time.Second); err != nil || !bytes.Equal(got, []byte{0xe0, 1, 0x81}) {
			t.Errorf("%s: %x %v", name, got, err)
		}
		if got, err := c.next(10 * time.Second); err != io.EOF {
			t.Errorf("%s: %x %v", name, got, err)
		}
		c.Close()
	}
	if after := heapBytes(); after > before+1<<20 {
		t.Errorf("%d bytes for what was refused", after-before)
	}
}

// 20,000 QoS 2 messages that are never released end a 3.1.1 connection; 5.0
// ends it at Receive Maximum.
func TestNeverReleased(t *testing.T) {
	_, addr := serveTCP(t, Config{})
	c, err := corpusDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "c", HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
	c.Write(p.Append(nil))
	c.next(10 * time.Second)
	go func() {
		for i := range 20000 {
			m := packet.Publish{Topic: []byte("x"), QoS: 2, ID: uint16(i + 1)}
			if _, err := c.Write(m.Append(nil, packet.V311)); err != nil {
				return
			}
		}
	}()
	n := 0
	for ; ; n++ {
		if _, err := c.next(10 * time.Second); err != nil {
			break
		}
	}
	if n != 4096 {
		t.Errorf("%d were received", n)
	}
}

func TestStrangers(t *testing.T) {
	_, addr := serveTCP(t, Config{})
	for name, in := range map[string]string{
		"HTTP":                       "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"TLS":                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"PUBLISH":                    "\x30\x05\x00\x01ax1",
		"a password and no user, v4": "\x10\x10\x00\x04MQTT\x04\x42\x00\x0a\x00\x01p\x00\x01p",
	} {
		c, err := corpusDial(addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(in))
		if got, err := c.next(5 * time.Second); err != io.EOF {
			t.Errorf("%s: %x %v", name, got, err)
		}
		c.Close()
	}
	// A CONNECT byte by byte is as good as any.
	c, _ := corpusDial(addr)
	defer c.Close()
	p := packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "c", HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
	for _, b := range p.Append(nil) {
		c.Write([]byte{b})
	}
	if got, err := c.next(10 * time.Second); err != nil || got[3] != 0 {
		t.Fatalf("%x %v", got, err)
	}
	ping(t, c)
}

// Client identifiers of all sorts are as good as any.
func TestClientIDs(t *testing.T) {
	_, addr := serveTCP(t, Config{})
	for _, id := range []string{"a b", "#", "+", "/", "a/b", "$share", "ключ", "\u4f60\u597d", strings.Repeat("x", 1024), "'; DROP"} {
		c := must(t, addr, id)
		c.Write((&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "im/inbox/#", Options: 1}, {Topic: "x", Options: 1}}}).Append(nil, packet.V5))
		if got, err := c.next(10 * time.Second); err != nil || got[len(got)-1] != 1 {
			t.Fatalf("%q: %x %v", id, got, err)
		}
		ping(t, c)
	}
	c, _ := corpusDial(addr)
	defer c.Close()
	p := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: strings.Repeat("x", 65535), HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
	c.Write(p.Append(nil))
	if got, err := c.next(10 * time.Second); err != nil || got[3] != byte(packet.ClientIDNotValid) {
		t.Fatalf("%x %v", got, err)
	}
}

// Connections that take each other over end but for the last one.
func TestTakeOverStorm(t *testing.T) {
	srv, addr := serveTCP(t, Config{})
	done := make(chan *corpusConn, 50)
	for range 50 {
		go func() {
			c, err := corpusDial(addr)
			if err != nil {
				done <- nil
				return
			}
			p := packet.Connect{Version: packet.V311, ClientID: "same", HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
			c.Write(p.Append(nil))
			c.next(20 * time.Second)
			done <- c
		}()
	}
	for range 50 {
		c := <-done
		if c == nil {
			t.Fatal("cannot dial")
		}
		defer c.Close()
		c.Write([]byte{0xc0, 0})
	}
	for deadline := time.Now().Add(20 * time.Second); srv.Stats().Clients != 1; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients", srv.Stats().Clients)
		}
	}
	if s := srv.Stats(); s.Sessions != 1 {
		t.Errorf("%+v", s)
	}
}

// A subscriber that does not read slows nobody, and loses what goes over its
// limit and no more.
func TestSlowSubscriber(t *testing.T) {
	srv, addr := serveTCP(t, Config{MaxUnsent: 64 << 10, MaxQueue: 10})
	slow, quick := must(t, addr, "slow"), must(t, addr, "quick")
	for _, c := range []*corpusConn{slow, quick} {
		c.Write((&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "x/#", Options: 1}}}).Append(nil, packet.V5))
		if _, err := c.next(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	pub := must(t, addr, "pub")
	body := make([]byte, 16<<10)
	for i := 0; srv.Stats().Dropped < 20; i++ {
		if i == 5000 {
			t.Fatal("nothing is dropped")
		}
		m := packet.Publish{Topic: []byte("x/y"), Payload: body, QoS: byte(i % 2)}
		if m.QoS > 0 {
			m.ID = uint16(i + 1)
		}
		pub.Write(m.Append(nil, packet.V5))
		if m.QoS > 0 {
			if _, err := pub.next(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
		got, err := quick.next(10 * time.Second)
		if err != nil || got[0]>>4 != byte(packet.PUBLISH) {
			t.Fatalf("%d: %v", i, err)
		}
		if m.QoS > 0 {
			at := 1
			for got[at] >= 0x80 {
				at++
			}
			id := got[at+3+3 : at+3+5]
			quick.Write([]byte{0x40, 2, id[0], id[1]})
		}
	}
	ping(t, pub)
}

// A limit on what may wait unsent keeps no message back that was let in.
func TestLongestMessageIsSent(t *testing.T) {
	_, addr := serveTCP(t, Config{MaxUnsent: 1 << 10})
	sub, pub := must(t, addr, "sub"), must(t, addr, "pub")
	sub.Write((&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "x"}, {Topic: "im/inbox/#", Options: 1}}}).Append(nil, packet.V5))
	if _, err := sub.next(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 1<<20)
	for i, name := range []string{"x", "im/to/alice", "im/to/alice"} {
		m := packet.Publish{Topic: []byte(name), Payload: body, QoS: byte(min(i, 1)), ID: uint16(min(i, 1))}
		pub.Write(m.Append(nil, packet.V5))
		got, err := sub.next(10 * time.Second)
		if err != nil || len(got) < len(body) {
			t.Fatalf("to %s: %d bytes, %v", name, len(got), err)
		}
	}
}

// While the disk is slow nobody is read from of whom more waits for it than
// Receive Maximum, whatever it is that he sends: the queue is everybody's.
func TestSlowDisk(t *testing.T) {
	for name, tt := range map[string]struct {
		packet string
		taken  func(Stats) int
	}{
		"retained at QoS 0": {"PUBLISH r/%d q0 retain :x", func(st Stats) int { return int(st.Received) }},
		"mail at QoS 0":     {"PUBLISH im/to/bob q0 :%d", func(st Stats) int { return int(st.Received) }},
		"subscriptions":     {"SUBSCRIBE #1 x/%d q1", func(st Stats) int { return st.Subscriptions }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, Config{ReceiveMaximum: 8})
				defer func() { h.stop() }()
				h.play(written(5, "a kept new\nb up"))
				before := tt.taken(h.srv.Stats())
				release := h.store.(*mem.Store).Hold()
				a := h.peers["a"]
				var block []byte
				for i := range 100 {
					b, err := a.parse(fmt.Sprintf(tt.packet, i))
					if err != nil {
						t.Fatal(err)
					}
					block = append(block, b...)
				}
				go a.nc.Write(block) // ends when the server reads again
				synctest.Wait()
				if got := tt.taken(h.srv.Stats()) - before; got != 9 {
					t.Errorf("%d are taken", got)
				}
				h.play("b C: PINGREQ\nb S: PINGRESP")
				release()
				for got := ""; got != "(nothing)"; got = a.read() {
				}
				if got := tt.taken(h.srv.Stats()) - before; got != 100 {
					t.Errorf("%d are taken in the end", got)
				}
				h.play("a C: PINGREQ\na S: PINGRESP")
			})
		})
	}
}

// A 3.1.1 client that runs far ahead is read from no faster than its messages
// reach the disk, and all are acknowledged in order [MQTT-4.6.0-2].
func TestPaused(t *testing.T) {
	_, addr := serveTCP(t, Config{ReceiveMaximum: 4})
	c, err := corpusDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "c", HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
	b := p.Append(nil)
	const n = 500
	for i := range n { // behind CONNECT, without waiting for CONNACK
		m := packet.Publish{Topic: []byte("im/to/bob"), QoS: 1, ID: uint16(i + 1), Payload: fmt.Append(nil, i)}
		b = m.Append(b, packet.V311)
	}
	c.Write(b)
	if got, err := c.next(10 * time.Second); err != nil || got[3] != 0 {
		t.Fatalf("%x %v", got, err)
	}
	for i := range n {
		got, err := c.next(10 * time.Second)
		if err != nil || got[0] != 0x40 || int(got[2])<<8|int(got[3]) != i+1 {
			t.Fatalf("%d: %x %v", i, got, err)
		}
	}
}

// cursed is a store that has a bug, which bob and the device "cursed" meet.
type cursed struct{ *mem.Store }

func (c cursed) Get(ctx context.Context, key string) ([]byte, error) {
	if strings.HasSuffix(key, "/bob@localhost") {
		panic("a bug")
	}
	return c.Store.Get(ctx, key)
}

func (c cursed) Cursor(ctx context.Context, box, device string) (mailbox.Cursor, bool, error) {
	if device == "cursed" {
		panic("a bug")
	}
	return c.Store.Cursor(ctx, box, device)
}

// A panic on a goroutine of no connection ends the connection that waits for it,
// and no other.
func TestPanicBehindAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sensors())
		h.stop()
		h.store, h.air = cursed{h.store.(*mem.Store)}, &air{}
		h.open(false)
		defer func() { h.stop() }()
		h.play(`
			phone  C: CONNECT 4 id=phone user=alice clean
			phone  S: CONNACK 0x00
			tv     C: CONNECT 5 id=tv user=bob clean
			tv     S: CONNACK 0x80*
			tv     S: --
			b1     N: CONNECT b1 clean 60s
			b1     G: CONNACK rejected: congestion
			cursed C: CONNECT 5 id=cursed user=alice clean
			cursed S: CONNACK 0x00 *
			cursed C: SUBSCRIBE #1 im/inbox/# q1
			cursed S: SUBACK*
			cursed S: DISCONNECT 0x80*
			cursed S: --
			n1     N: CONNECT n1 clean 60s
			n1     G: CONNACK
			phone  C: PINGREQ
			phone  S: PINGRESP
		`)
		if n := h.core.Auth.Stats().Failed; n != 3 {
			t.Errorf("%d failed, want 3", n)
		}
	})
}
