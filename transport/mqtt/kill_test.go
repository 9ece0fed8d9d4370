package mqtt

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// TestMain is also the server that the tests here kill: a process of its own,
// with a store on the disk.
func TestMain(m *testing.M) {
	if dir := os.Getenv("MQTT_TEST_SERVER"); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	ctx := context.Background()
	st, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		return err
	}
	mail := mailbox.New(st, mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		return err
	}
	for _, u := range []string{"alice", "bob"} {
		a.Add(ctx, u, "pw", auth.RoleUser) // an error says that it is there
	}
	core := &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: conn.New(conn.Config{})}
	ln, err := net.Listen("tcp", cmp.Or(os.Getenv("MQTT_TEST_LISTEN"), "127.0.0.1:0"))
	if err != nil {
		return err
	}
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	cfg := Config{SN: SN{Accounts: []SNAccount{{User: "alice"}}}}
	if to := os.Getenv("MQTT_TEST_BRIDGE"); to != "" {
		pw := filepath.Join(dir, "password")
		if err := os.WriteFile(pw, []byte("pw\n"), 0o600); err != nil {
			return err
		}
		cfg.Bridges = []Bridge{{Name: "b", Address: to, User: "bob", PasswordFile: pw, Topics: []BridgeTopic{{Filter: "#", Direction: "both", QoS: 2}}}}
	}
	srv := New(core, cfg)
	go srv.Bridges(ctx)     // the same
	go srv.ServeSN(ctx, pc) // ends with the process
	fmt.Println("open", ln.Addr(), pc.LocalAddr())
	return srv.Serve(ctx, ln)
}

// victim is a server process.
type victim struct {
	cmd  *exec.Cmd
	addr string
	sn   string // of the gateway for sensors
}

func start(t *testing.T, dir string, env ...string) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "MQTT_TEST_SERVER="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "open ")
	if !ok {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("child: %q", line)
	}
	addr, sn, _ := strings.Cut(addr, " ")
	v := &victim{cmd, addr, sn}
	t.Cleanup(v.kill)
	return v
}

func (v *victim) kill() {
	v.cmd.Process.Signal(syscall.SIGKILL)
	v.cmd.Wait()
}

// careful is a client that keeps its side of QoS 1 and 2 across connections.
type careful struct {
	user, id string
	nc       net.Conn
	r        *bufio.Reader
	mine     map[uint16]bool // QoS 2 received and not released
	out      []*parcel       // sent, not complete
	next     uint16
}

type parcel struct {
	id       uint16
	topic    string
	body     string
	qos      byte
	released bool
}

func (c *careful) connect(addr string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	c.nc, c.r = nc, bufio.NewReader(nc)
	if c.mine == nil {
		c.mine = map[uint16]bool{}
	}
	p := packet.Connect{Version: packet.V311, ClientID: c.id, HasUser: true, User: c.user, HasPassword: true, Password: []byte("pw")}
	nc.Write(p.Append(nil))
	first, body, err := c.packet(10 * time.Second)
	if err != nil {
		return err
	}
	if first != 0x20 || body[1] != 0 {
		return fmt.Errorf("refused: %x", body)
	}
	for _, p := range c.out {
		c.send(p, true)
	}
	return nil
}

func (c *careful) send(p *parcel, dup bool) {
	if p.released {
		c.nc.Write(packet.AppendAck(nil, packet.V311, packet.PUBREL, p.id, 0, ""))
		return
	}
	m := packet.Publish{Topic: []byte(p.topic), Payload: []byte(p.body), QoS: p.qos, ID: p.id, Dup: dup}
	c.nc.Write(m.Append(nil, packet.V311))
}

func (c *careful) publish(topic, body string, qos byte) {
	c.next++
	p := &parcel{id: c.next, topic: topic, body: body, qos: qos}
	c.out = append(c.out, p)
	c.send(p, false)
}

func (c *careful) packet(patience time.Duration) (byte, []byte, error) {
	c.nc.SetReadDeadline(time.Now().Add(patience))
	first, err := c.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, shift := 0, 0
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n |= int(b&0x7f) << shift
		shift += 7
		if b < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return first, body, err
}

// step handles one packet; got is the body of a message received for the first
// time.
func (c *careful) step(patience time.Duration) (got string, isNew bool, err error) {
	first, body, err := c.packet(patience)
	if err != nil {
		return "", false, err
	}
	switch t := packet.Type(first >> 4); t {
	case packet.PUBLISH:
		var p packet.Publish
		if err := p.Decode(packet.V311, first, body); err != nil {
			return "", false, err
		}
		if p.QoS == 0 {
			return string(p.Payload), true, nil
		}
		if p.QoS == 1 {
			c.nc.Write(packet.AppendAck(nil, packet.V311, packet.PUBACK, p.ID, 0, ""))
			return string(p.Payload), true, nil
		}
		was := c.mine[p.ID]
		c.mine[p.ID] = true
		c.nc.Write(packet.AppendAck(nil, packet.V311, packet.PUBREC, p.ID, 0, ""))
		return string(p.Payload), !was, nil
	case packet.PUBREL:
		var a packet.Ack
		if err := a.Decode(packet.V311, first, body); err != nil {
			return "", false, err
		}
		delete(c.mine, a.ID)
		c.nc.Write(packet.AppendAck(nil, packet.V311, packet.PUBCOMP, a.ID, 0, ""))
	case packet.PUBACK, packet.PUBREC, packet.PUBCOMP:
		var a packet.Ack
		if err := a.Decode(packet.V311, first, body); err != nil {
			return "", false, err
		}
		for i, p := range c.out {
			if p.id != a.ID {
				continue
			}
			if t == packet.PUBREC {
				p.released = true
				c.send(p, false)
			} else {
				c.out = append(c.out[:i:i], c.out[i+1:]...)
			}
			break
		}
	}
	return "", false, nil
}

func (c *careful) subscribe(filter string, qos byte) error {
	s := packet.Subscribe{ID: 60000, Filters: []packet.Filter{{Topic: filter, Options: packet.Options(qos)}}}
	c.nc.Write(s.Append(nil, packet.V311))
	first, _, err := c.packet(10 * time.Second)
	if err == nil && first != 0x90 {
		err = fmt.Errorf("no SUBACK: %x", first)
	}
	return err
}

// runs is how often a test that kills is repeated: MQTT_KILLS, or a few.
func runs(t *testing.T, few int) int {
	if s := os.Getenv("MQTT_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return 1
	}
	return few
}

// 500 messages to a session that is away, acknowledged, and the server killed:
// all of them come back, in order.
func TestKillKeepsTheQueue(t *testing.T) {
	for run := range runs(t, 3) {
		dir := t.TempDir()
		v := start(t, dir)
		sub := &careful{user: "alice", id: "sub"}
		pub := &careful{user: "bob", id: "pub"}
		if err := sub.connect(v.addr); err != nil {
			t.Fatal(err)
		}
		if err := sub.subscribe("q/#", 1); err != nil {
			t.Fatal(err)
		}
		sub.nc.Close()
		if err := pub.connect(v.addr); err != nil {
			t.Fatal(err)
		}
		const n = 500
		for i := range n {
			pub.publish("q/x", strconv.Itoa(i), 1)
		}
		for len(pub.out) > 0 {
			if _, _, err := pub.step(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
		v.kill()
		v = start(t, dir)
		if err := sub.connect(v.addr); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			got, _, err := sub.step(10 * time.Second)
			if err != nil || got != strconv.Itoa(i) {
				t.Fatalf("run %d: %d: got %q, %v", run, i, got, err)
			}
		}
		v.kill()
	}
}

// The server is killed again and again while QoS 2 messages go through it: each
// arrives once, in order.
func TestKillQoS2(t *testing.T) {
	dir := t.TempDir()
	v := start(t, dir)
	sub := &careful{user: "alice", id: "sub"}
	pub := &careful{user: "bob", id: "pub"}
	if err := sub.connect(v.addr); err != nil {
		t.Fatal(err)
	}
	if err := sub.subscribe("q/#", 2); err != nil {
		t.Fatal(err)
	}
	if err := pub.connect(v.addr); err != nil {
		t.Fatal(err)
	}
	sent, want, kills := 0, 0, runs(t, 5)
	deadline := time.Now().Add(2*time.Minute + time.Duration(kills)*3*time.Second)
	for steps := 0; kills > 0 || want < sent; {
		if time.Now().After(deadline) {
			t.Fatalf("stuck: sent %d, received %d", sent, want)
		}
		if kills > 0 && len(pub.out) < 20 {
			pub.publish("q/x", strconv.Itoa(sent), 2)
			sent++
		}
		for _, c := range []*careful{pub, sub} {
			for {
				got, fresh, err := c.step(time.Millisecond)
				if err != nil {
					break
				}
				if fresh {
					if got != strconv.Itoa(want) {
						t.Fatalf("got %s, want %d", got, want)
					}
					want++
				}
			}
		}
		if steps++; kills > 0 && steps%40 == 39-rand.IntN(10) {
			kills--
			v.kill()
			pub.nc.Close()
			sub.nc.Close()
			v = start(t, dir)
			for _, c := range []*careful{pub, sub} {
				if err := c.connect(v.addr); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d messages, each once", want)
}

// The will of a client is published although the server was killed, whether its
// session is kept or not; but not that of one who had said goodbye.
func TestKillKeepsTheWill(t *testing.T) {
	dir := t.TempDir()
	v := start(t, dir)
	sub := &careful{user: "alice", id: "sub"}
	if err := sub.connect(v.addr); err != nil {
		t.Fatal(err)
	}
	if err := sub.subscribe("will/#", 1); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"goodbye", "clean", "kept"} {
		nc, err := net.Dial("tcp", v.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := packet.Connect{Version: packet.V311, ClientID: id, CleanStart: id != "kept", HasUser: true, User: "bob", HasPassword: true, Password: []byte("pw"),
			Will: &packet.Will{Topic: "will/" + id, Payload: []byte(id), QoS: 1}}
		nc.Write(p.Append(nil))
		nc.Read(make([]byte, 4))
		if id == "goodbye" {
			nc.Write((&packet.Disconnect{}).Append(nil, packet.V311))
			nc.Read(make([]byte, 1)) // until the server has closed
			continue
		}
		// A message that is on disk says that what was written before is, too.
		nc.Write((&packet.Publish{Topic: []byte("will/" + id), QoS: 1, ID: 1}).Append(nil, packet.V311))
		nc.Read(make([]byte, 4))
	}
	v.kill()
	v = start(t, dir)
	if err := sub.connect(v.addr); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for range 4 { // the two messages, which are empty, and the wills
		body, _, err := sub.step(10 * time.Second)
		if err != nil {
			t.Fatal(got, err)
		}
		got[body]++
	}
	if got[""] != 2 || got["clean"] != 1 || got["kept"] != 1 {
		t.Errorf("%v", got)
	}
	// Once: the next run has nothing to publish. Another message on disk says
	// that what was acknowledged before is, too.
	sub.publish("will/last", "last", 1)
	for len(sub.out) > 0 {
		if _, _, err := sub.step(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	v.kill()
	v = start(t, dir)
	if err := sub.connect(v.addr); err != nil {
		t.Fatal(err)
	}
	sub.nc.Write([]byte{0xc0, 0})
	for {
		first, body, err := sub.packet(10 * time.Second)
		if err != nil || first != 0xd0 && !strings.Contains(string(body), "last") {
			t.Errorf("%x %q %v", first, body, err)
		}
		if err != nil || first == 0xd0 {
			break
		}
	}
}

// QoS 2 is broken by kill -9 after each of its four packets, in both
// directions: the message arrives once, and the identifier is free afterwards.
func TestKillQoS2AtEachStep(t *testing.T) {
	steps := []packet.Type{packet.PUBLISH, packet.PUBREC, packet.PUBREL, packet.PUBCOMP}
	for run := range min(runs(t, 1), 5) {
		for at, step := range steps {
			for _, inward := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d %v inward=%v", run, step, inward), func(t *testing.T) {
					t.Parallel()
					killAt(t, at, inward)
				})
			}
		}
	}
}

// killAt kills the server when the packet of QoS 2 that at counts has been
// sent: by the publisher's side of the exchange if inward, or on the way to the
// subscriber. What the server sends has then arrived; what it was sent may have.
func killAt(t *testing.T, at int, inward bool) {
	dir := t.TempDir()
	v := start(t, dir)
	sub := &careful{user: "alice", id: "sub"}
	pub := &careful{user: "bob", id: "pub"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(sub.connect(v.addr))
	must(sub.subscribe("q/x", 2))
	must(pub.connect(v.addr))

	// Of the exchange that is broken, what is received is handled by hand up to
	// the step, and the server is killed before anything more is said.
	expect := func(c *careful, want packet.Type) {
		t.Helper()
		got, _, err := c.packet(10 * time.Second)
		if err != nil || packet.Type(got>>4) != want {
			t.Fatalf("got %v, want %v: %v", packet.Type(got>>4), want, err)
		}
	}
	got := 0
	step := func(c *careful) {
		t.Helper()
		body, fresh, err := c.step(10 * time.Second)
		must(err)
		if fresh {
			if want := strconv.Itoa(got); body != want {
				t.Fatalf("got %q, want %q", body, want)
			}
			got++
		}
	}
	if inward {
		pub.publish("q/x", "0", 2) // PUBLISH
		if at == 1 {
			expect(pub, packet.PUBREC) // has come and is forgotten
		}
		if at >= 2 {
			step(pub) // PUBREC, PUBREL
		}
		if at == 3 {
			expect(pub, packet.PUBCOMP)
		}
	} else {
		pub.publish("q/x", "0", 2)
		for len(pub.out) > 0 {
			step(pub)
		}
		switch {
		case at == 0:
			expect(sub, packet.PUBLISH)
		case at == 1:
			step(sub) // PUBLISH, PUBREC
		case at == 2:
			step(sub)
			expect(sub, packet.PUBREL)
		case at == 3:
			step(sub)
			step(sub) // PUBREL, PUBCOMP
		}
	}
	v.kill()
	pub.nc.Close()
	sub.nc.Close()
	v = start(t, dir)
	must(pub.connect(v.addr))
	must(sub.connect(v.addr))
	for len(pub.out) > 0 {
		step(pub)
	}
	// The same identifier again is another message.
	pub.next = 0
	pub.publish("q/x", "1", 2)
	for len(pub.out) > 0 {
		step(pub)
	}
	for got < 2 || len(sub.mine) > 0 {
		step(sub)
	}
	sub.nc.Write([]byte{0xc0, 0})
	expect(sub, packet.PINGRESP)
	sub.nc.Close()
	must(sub.connect(v.addr))
	sub.nc.Write([]byte{0xc0, 0})
	expect(sub, packet.PINGRESP) // and nothing else is left
	v.kill()
}
