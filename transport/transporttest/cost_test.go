package transporttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/coretest"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
	"github.com/posthouse-im/posthouse/transport/mqtt"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/poll"
	"github.com/posthouse-im/posthouse/transport/xmpp"
)

var writeDocs = flag.Bool("write-docs", false, "write what was measured into docs/cost.md")

// A phone lies on a table for an hour on a network that remembers silent
// connections for five minutes. Every seven minutes or so somebody writes to it.
const (
	hour   = time.Hour
	every  = 7*time.Minute + 11*time.Second
	silent = 4*time.Minute + 30*time.Second // what the phone dares
	letter = "Are you coming tonight? We meet at eight, bring the blue book."
)

// phone is a client at its barest: what it writes is all that its way needs.
type phone struct {
	nc   net.Conn
	r    *bufio.Reader
	got  func(body string) // called for each message, when it is there
	beat time.Duration
}

// ways are how the phone may be reached.
var ways = []struct {
	name string
	door router.Door
	run  func(p *phone, ctx context.Context) error
}{
	{"poll every 30 s", router.Poll, polls(30*time.Second, 0)},
	{"poll every 5 min", router.Poll, polls(5*time.Minute, 0)},
	{"long poll", router.Poll, polls(0, silent)},
	{"XMPP", router.XMPP, (*phone).xmpp},
	{"MQTT", router.MQTT, (*phone).mqtt},
	{"link", router.Link, (*phone).link},
}

// What an hour costs by each way, as the server's account of the device has it;
// docs/cost.md has the table, and this test has it right.
func TestCostOfWays(t *testing.T) {
	var table strings.Builder
	fmt.Fprintln(&table, "| way | bytes up | down | packets | wake-ups | LTE | 3G | Wi-Fi | late on average | at most |\n|---|---|---|---|---|---|---|---|---|---|")
	for _, w := range ways {
		var c cost.Counts
		var late []time.Duration
		synctest.Test(t, func(t *testing.T) { c, late = night(t, w.door, w.run) })
		var sum, most time.Duration
		for _, d := range late {
			sum += d
			most = max(most, d)
		}
		if n := int(hour / every); len(late) != n {
			t.Errorf("%s: %d of %d messages arrived", w.name, len(late), n)
			continue
		}
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d | %.0f J | %.0f J | %.1f J | %.0f s | %.0f s |\n", w.name, c.BytesUp, c.BytesDown,
			c.PacketsUp+c.PacketsDown, c.Wakeups, c.Joules(cost.LTE), c.Joules(cost.UMTS), c.Joules(cost.WiFi),
			(sum / time.Duration(len(late))).Seconds(), most.Seconds())
	}
	const file = "../../docs/cost.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !*writeDocs {
		if where := differs(string(doc), table.String()); where != "" {
			t.Errorf("docs/cost.md says otherwise at %s; run the test with -write-docs:\n%s", where, table.String())
		}
		return
	}
	old := regexp.MustCompile(`(?s)\| way \|.*?\n\n`)
	doc = old.ReplaceAllLiteral(doc, []byte(table.String()+"\n"))
	if err := os.WriteFile(file, doc, 0o644); err != nil {
		t.Fatal(err)
	}
}

// differs says where a table in doc is further from what was measured than what
// is by chance: which of two things the server did first, and so whether they
// went in one packet.
func differs(doc, table string) (where string) {
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		i := strings.Index(doc, "|"+cells[1]+"|")
		if i < 0 {
			return row
		}
		line, _, _ := strings.Cut(doc[i:], "\n")
		there := strings.Split(line, "|")
		for i, c := range cells[2:] {
			var is, was float64
			fmt.Sscanf(c, "%f", &is)
			if i+2 < len(there) {
				fmt.Sscanf(there[i+2], "%f", &was)
			}
			if is > was*1.25+1 || was > is*1.25+1 {
				return row
			}
		}
	}
	return ""
}

// night runs one way for an hour and returns the account of the phone, and by
// how much each message was late.
func night(t *testing.T, which router.Door, run func(*phone, context.Context) error) (cost.Counts, []time.Duration) {
	b := build(t, func(*mailbox.Mail) keepalive.Advisor { return keepalive.Fixed(silent) })
	defer b.close()
	ctx, core := b.ctx, b.core
	var wg sync.WaitGroup
	ours := b.dial(which)
	var mu sync.Mutex
	var late []time.Duration // guarded by mu
	var sent time.Time       // guarded by mu
	p := &phone{nc: ours, r: bufio.NewReader(ours), beat: silent, got: func(body string) {
		if !strings.Contains(body, letter) {
			t.Errorf("received %q", body)
		}
		mu.Lock()
		defer mu.Unlock()
		late = append(late, time.Since(sent))
	}}
	under, stop := context.WithTimeout(ctx, hour-time.Second)
	defer stop()
	wg.Go(func() {
		err := run(p, under)
		if under.Err() == nil {
			t.Errorf("the phone went after %v", err)
		}
	})
	bob := auth.Who{User: "bob@localhost", Device: "desk"}
	time.Sleep(every / 2)
	for i := range int(hour / every) {
		if i > 0 {
			time.Sleep(every)
		}
		mu.Lock()
		sent = time.Now()
		mu.Unlock()
		post := new(mailbox.Post)
		post.Body, post.Type = []byte(letter), "text/plain"
		if err := core.Router.Submit(router.Link, bob, "alice", post); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	if account, err := core.Costs.Account(ctx, "alice@localhost", "phone"); err != nil || account.Total().BytesDown == 0 || account.Total().Wakeups == 0 {
		t.Errorf("%v: while it is connected it has cost %+v, %v", which, account.Total(), err)
	}
	<-under.Done()
	synctest.Wait()
	account, err := core.Costs.Account(ctx, "alice@localhost", "phone")
	if err != nil {
		t.Error(err)
	}
	ours.Close()
	wg.Wait()
	return account.Total(), late
}

// building is a server in memory with all doors. Its clock may be virtual.
type building struct {
	core  *transport.Core
	ctx   context.Context
	doors map[router.Door]*pipes
	close func()
}

func build(t *testing.T, advisor func(*mailbox.Mail) keepalive.Advisor) *building {
	core := coretest.New(t, coretest.Config{Loops: -1})
	core.Keepalive = advisor(core.Mail)
	ctx, cancel := context.WithCancel(t.Context())
	b := &building{core: core.Core, ctx: ctx, doors: map[router.Door]*pipes{}}
	m := mqtt.New(core.Core, mqtt.Config{})
	core.Costs.Watch(m.Meters)
	serving, drain := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for door, s := range map[router.Door]transport.Server{
		router.Poll: poll.New(core.Core, poll.Config{IdleTimeout: time.Hour}),
		router.XMPP: xmpp.New(core.Core, xmpp.Config{Insecure: true}),
		router.MQTT: m,
		router.Link: link.New(core.Core, link.Config{}),
	} {
		ln := &pipes{ch: make(chan net.Conn), done: make(chan struct{})}
		b.doors[door] = ln
		wg.Go(func() {
			if err := s.Serve(serving, ln); err != nil {
				t.Error(err)
			}
		})
	}
	b.close = func() {
		drain()
		wg.Wait()
		cancel()
		core.Close()
	}
	return b
}

// dial connects to a door.
func (b *building) dial(door router.Door) net.Conn {
	ours, theirs := net.Pipe()
	b.doors[door].ch <- theirs
	return ours
}

// pipes is a listener whose connections are pipes: nothing on them takes time,
// nor is there a kernel whose time is not virtual.
type pipes struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.ch:
		return local{c}, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return here }

var here = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

// local is a pipe between two programs on one machine, so that passwords may go over it.
type local struct{ net.Conn }

func (local) LocalAddr() net.Addr  { return here }
func (local) RemoteAddr() net.Addr { return here }

// write sends p at once.
func (p *phone) write(b []byte) error {
	_, err := p.nc.Write(b)
	return err
}

// each runs f for what comes, and beat after every silence of p.beat.
func (p *phone) each(ctx context.Context, beat, f func() error) error {
	context.AfterFunc(ctx, func() { p.nc.Close() })
	for {
		p.nc.SetReadDeadline(time.Now().Add(p.beat))
		_, err := p.r.Peek(1)
		p.nc.SetReadDeadline(time.Time{})
		switch {
		case err == nil:
			err = f()
		case isTimeout(err):
			err = beat()
		}
		if err != nil {
			return err
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// polls asks every so often, or has the server hold the request.
func polls(every, wait time.Duration) func(*phone, context.Context) error {
	return func(p *phone, ctx context.Context) error {
		context.AfterFunc(ctx, func() { p.nc.Close() })
		next := regexp.MustCompile(`"next":"([^"]*)"`)
		after, tag := "", ""
		for {
			query := "?device=phone" + after
			if wait > 0 {
				query += fmt.Sprint("&wait=", wait.Seconds())
			}
			req := "GET /v1/inbox" + query + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic " +
				base64.StdEncoding.EncodeToString([]byte("alice:secret")) + "\r\n"
			if tag != "" && wait == 0 {
				req += "If-None-Match: " + tag + "\r\n"
			}
			if err := p.write([]byte(req + "\r\n")); err != nil {
				return err
			}
			resp, err := http.ReadResponse(p.r, nil)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			tag = resp.Header.Get("ETag")
			if bytes.Contains(body, []byte(`"body"`)) {
				p.got(string(body))
			}
			if m := next.FindSubmatch(body); m != nil && "&after="+string(m[1]) != after {
				after, tag = "&after="+string(m[1]), ""
			}
			select {
			case <-time.After(every):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// xmpp is a stream with presence and stream management (XEP-0198), and no
// contact in its roster: each would cost a presence stanza whenever it came or
// went.
func (p *phone) xmpp(ctx context.Context) error {
	if err := p.loginXMPP(); err != nil {
		return err
	}
	n := 0
	return p.each(ctx, func() error { return p.say("<r xmlns='urn:xmpp:sm:3'/>") }, func() error {
		s, err := p.until(">")
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(s, "<r "):
			return p.say(fmt.Sprintf(`<a xmlns="urn:xmpp:sm:3" h="%d"/>`, n))
		case strings.HasPrefix(s, "<message"):
			body, err := p.until("</message>")
			if err != nil {
				return err
			}
			n++
			p.got(body)
		case strings.HasPrefix(s, "<presence") && !strings.HasSuffix(s, "/>"):
			n++
			_, err = p.until("</presence>")
			return err
		case strings.HasPrefix(s, "<presence"):
			n++
		}
		return nil
	})
}

func (p *phone) say(s string) error { return p.write([]byte(s)) }

// until reads up to end.
func (p *phone) until(end string) (string, error) {
	var b strings.Builder
	for !strings.Contains(b.String(), end) {
		c, err := p.r.ReadByte()
		if err != nil {
			return b.String(), err
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func (p *phone) loginXMPP() error {
	const open = `<stream:stream to="localhost" version="1.0" xmlns="jabber:client" xmlns:stream="http://etherx.jabber.org/streams">`
	for _, step := range [][2]string{
		{open, "</stream:features>"},
		{`<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">` + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00secret")) + `</auth>`, "</success>"},
		{open, "</stream:features>"},
		{`<iq id="b" type="set"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><resource>phone</resource></bind></iq>`, "</iq>"},
		{`<enable xmlns="urn:xmpp:sm:3" resume="true"/>`, "'/>"},
		{`<iq id="r" type="get"><query xmlns="jabber:iq:roster"/></iq>`, `id='r'`},
		{`<presence/>`, ""},
	} {
		if err := p.say(step[0]); err != nil {
			return err
		}
		if step[1] == "" {
			continue
		}
		if seen, err := p.until(step[1]); err != nil {
			return fmt.Errorf("%w after %s", err, seen)
		}
	}
	return nil
}

// mqtt is a 5.0 session that is kept, subscribed to its inbox at QoS 1.
func (p *phone) mqtt(ctx context.Context) error {
	c := packet.Connect{Version: packet.V5, KeepAlive: uint16(p.beat.Seconds()), ClientID: "phone", HasUser: true, User: "alice", HasPassword: true, Password: []byte("secret")}
	c.Properties.SetNum(packet.SessionExpiry, 86400)
	if err := p.write(c.Append(nil)); err != nil {
		return err
	}
	// SUBSCRIBE, identifier 1, no properties, one filter at QoS 1.
	const filter = "im/inbox/+"
	sub := append([]byte{0x82, byte(2 + 1 + 2 + len(filter) + 1), 0, 1, 0, 0, byte(len(filter))}, filter...)
	subscribed := false
	return p.each(ctx, func() error { return p.write([]byte{0xc0, 0}) }, func() error {
		first, err := p.r.ReadByte()
		if err != nil {
			return err
		}
		n, shift := 0, 0
		for {
			b, err := p.r.ReadByte()
			if err != nil {
				return err
			}
			n |= int(b&0x7f) << shift
			if shift += 7; b < 0x80 {
				break
			}
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(p.r, body); err != nil {
			return err
		}
		switch first >> 4 {
		case 2:
			if !subscribed {
				subscribed = true
				return p.write(append(sub, 1))
			}
		case 3:
			var m packet.Publish
			if err := m.Decode(packet.V5, first, body); err != nil {
				return err
			}
			p.got(string(m.Payload))
			return p.write([]byte{0x40, 2, byte(m.ID >> 8), byte(m.ID)})
		}
		return nil
	})
}

// link is the long connection.
func (p *phone) link(ctx context.Context) error {
	hello := &frame.Hello{Major: frame.Major, Minor: frame.Minor, User: "alice", Password: "secret", Device: "phone", Interval: uint64(p.beat.Milliseconds())}
	if err := p.write(frame.Append(nil, hello)); err != nil {
		return err
	}
	return p.each(ctx, func() error { return p.write(frame.Append(nil, &frame.Ping{})) }, func() error {
		for want := 1; ; want++ {
			if _, err := p.r.Peek(want); err != nil {
				return err
			}
			b, _ := p.r.Peek(p.r.Buffered())
			raw, n, err := frame.Next(b, 1<<20)
			if err != nil {
				return err
			}
			if n == 0 {
				want = len(b)
				continue
			}
			msg := raw.Type == frame.TypeMsg
			if msg {
				p.got(string(raw.Payload))
			}
			p.r.Discard(n)
			if msg {
				return p.write(frame.Append(nil, &frame.Ack{Step: 1}))
			}
			return nil
		}
	})
}
