package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// house is a server on pipes, in virtual time, with a store that outlives it.
type house struct {
	t      *testing.T
	cfg    Config
	store  mailbox.Store
	srv    *Server
	core   *transport.Core
	ln     *pipes
	stop   func()
	drain  func() // tells the server to stop, without waiting
	peers  map[string]*peer
	air    *air                    // where sensors are; nil if there is no gateway
	opened func() (closing func()) // may be nil
	ever   bool
	real   bool // not in a bubble: others outside take part
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.ch:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883} }

// peer is a client made of text.
type peer struct {
	nc net.Conn
	r  *bufio.Reader
	v  packet.Version
}

func newHouse(t *testing.T, cfg Config) *house {
	h := &house{t: t, cfg: cfg, store: mem.New(mem.Options{}), peers: map[string]*peer{}}
	h.open(true)
	return h
}

// open starts a server on the store.
func (h *house) open(accounts bool) {
	t := h.t
	ctx, cancel := context.WithCancel(context.Background())
	mail := mailbox.New(h.store, mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096, Tokens: auth.TokenConfig{
		Keys: []auth.TokenKey{{Algorithm: "HS256", Key: "0123456789012345678901234567890123456789"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.OnChange(func(user string) { h.core.Router.EndUser(user, router.Removed); h.srv.EndUser(user) })
	a.OnRemove(func(ctx context.Context, user string) error { return h.srv.Forget(ctx, user) })
	if accounts {
		for _, u := range []string{"alice", "bob"} {
			if err := a.Add(ctx, u, "pw", auth.RoleUser); err != nil {
				t.Fatal(err)
			}
		}
	}
	e := conn.New(conn.Config{Loops: -1})
	h.core = &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: e}
	h.srv = New(h.core, h.cfg)
	h.ln = &pipes{ch: make(chan net.Conn), done: make(chan struct{})}
	serving, drain := context.WithCancel(ctx)
	over := make(chan error, 1)
	go func() { over <- h.srv.Serve(serving, h.ln) }()
	var sensors sync.WaitGroup
	if h.air != nil {
		h.air = newAir(h.air.lose)
		sensors.Go(func() {
			if err := h.srv.ServeSN(serving, h.air); err != nil {
				t.Error(err)
			}
		})
	}
	h.drain = drain
	closing := func() {}
	if h.opened != nil {
		closing = h.opened()
	}
	h.stop = func() {
		closing()
		drain()
		sensors.Wait()
		for _, p := range h.peers {
			p.nc.Close()
		}
		clear(h.peers)
		if err := <-over; err != nil {
			t.Error(err)
		}
		e.Close()
		a.Close()
		cancel()
	}
}

// settle waits until nothing goes on any more.
func (h *house) settle() {
	if !h.real {
		synctest.Wait()
	}
}

// kill ends the server as a crash would: what it knows only in memory is gone.
func (h *house) kill() { h.stop(); h.open(false) }

// parse reads the text form of a packet.
func (p *peer) parse(s string) ([]byte, error) {
	s, payload, _ := strings.Cut(s, " :")
	words := strings.Fields(s)
	var ps packet.Properties
	flag := map[string]bool{}
	val := map[string]string{}
	var rest []string
	var will *packet.Will
	var id, num uint64
	qos := byte(0)
	into := &ps
	for _, w := range words[1:] {
		k, v, eq := strings.Cut(w, "=")
		switch {
		case k == "will" && eq:
			will = &packet.Will{Topic: v, Payload: []byte(payload)}
			into = &will.Properties
		case eq && (k == "id" || k == "user" || k == "pw" || k == "keep"):
			val[k] = v
		case eq:
			if err := into.SetNamed(k, v); err != nil {
				return nil, err
			}
		case w[0] == '#' && len(w) > 1:
			id, _ = strconv.ParseUint(w[1:], 10, 16)
		case len(w) == 2 && w[0] == 'q':
			qos = w[1] - '0'
			rest = append(rest, w)
		case w == "clean" || w == "retain" || w == "dup":
			flag[w] = true
		default:
			if n, err := strconv.ParseUint(w, 0, 8); err == nil {
				num = n
			}
			rest = append(rest, w)
		}
	}
	switch words[0] {
	case "CONNECT":
		p.v = packet.Version(num)
		c := packet.Connect{Version: p.v, CleanStart: flag["clean"], ClientID: val["id"], Properties: ps, Will: will}
		k, _ := strconv.Atoi(val["keep"])
		c.KeepAlive = uint16(k)
		c.User, c.HasUser = val["user"]
		pw, has := val["pw"]
		if !has && c.HasUser {
			pw, has = "pw", true
		}
		c.Password, c.HasPassword = []byte(pw), has
		if will != nil {
			will.QoS, will.Retain = qos, flag["retain"]
		}
		return c.Append(nil), nil
	case "PUBLISH":
		topic := ""
		if len(rest) > 0 && !(len(rest[0]) == 2 && rest[0][0] == 'q') {
			topic = rest[0]
		}
		m := packet.Publish{Topic: []byte(topic), Payload: []byte(payload), ID: uint16(id), QoS: qos, Dup: flag["dup"], Retain: flag["retain"], Properties: &ps}
		return m.Append(nil, p.v), nil
	case "PUBACK", "PUBREC", "PUBREL", "PUBCOMP":
		t := map[string]packet.Type{"PUBACK": packet.PUBACK, "PUBREC": packet.PUBREC, "PUBREL": packet.PUBREL, "PUBCOMP": packet.PUBCOMP}[words[0]]
		return packet.AppendAck(nil, p.v, t, uint16(id), packet.Code(num), ""), nil
	case "SUBSCRIBE":
		m := packet.Subscribe{ID: uint16(id), Properties: ps}
		for i := 0; i+1 < len(rest); i += 2 {
			var o byte
			if rest[i+1][0] == 'q' {
				o = rest[i+1][1] - '0'
			} else if n, err := strconv.ParseUint(rest[i+1], 0, 8); err == nil {
				o = byte(n)
			}
			m.Filters = append(m.Filters, packet.Filter{Topic: rest[i], Options: packet.Options(o)})
		}
		return m.Append(nil, p.v), nil
	case "UNSUBSCRIBE":
		return (&packet.Unsubscribe{ID: uint16(id), Filters: rest}).Append(nil, p.v), nil
	case "PINGREQ":
		return packet.AppendEmpty(nil, packet.PINGREQ), nil
	case "DISCONNECT":
		return (&packet.Disconnect{Code: packet.Code(num), Properties: ps}).Append(nil, p.v), nil
	case "AUTH":
		return (&packet.Auth{Code: packet.Code(num), Properties: ps}).Append(nil), nil
	case "RAW":
		return words2bytes(strings.Join(words[1:], " ")), nil
	}
	return nil, fmt.Errorf("no packet %q", words[0])
}

// read reads one packet as text; "--" when the server closed.
func (p *peer) read() string {
	p.nc.SetReadDeadline(time.Now().Add(time.Second))
	first, err := p.r.ReadByte()
	if err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			return "(nothing)"
		}
		return "--"
	}
	n, shift := 0, 0
	for {
		b, err := p.r.ReadByte()
		if err != nil {
			return "--"
		}
		n |= int(b&0x7f) << shift
		shift += 7
		if b < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return "--"
	}
	return packet.Text(p.v, first, body)
}

// play runs a dialogue:
//
//	phone C: PUBLISH a q0 :x     the client sends
//	phone S: PUBLISH a q0 :x     the server does; a * stands for anything
//	phone S: --                  it closes
//	phone S: (nothing)           nothing comes for a second
//	phone --                     the client is cut off
//	~ 5m                         time passes
//	kill                         the server dies and is started again
//	drain                        it begins to stop
func (h *house) play(script string) {
	h.t.Helper()
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := h.line(line); err != nil {
			h.t.Fatalf("line %d: %s\n%v", i+1, line, err)
		}
	}
}

func (h *house) line(line string) error {
	if d, ok := strings.CutPrefix(line, "~ "); ok {
		dur, err := time.ParseDuration(d)
		time.Sleep(dur)
		h.settle()
		return err
	}
	if line == "drain" {
		h.drain()
		h.settle()
		return nil
	}
	if line == "kill" {
		h.kill()
		return nil
	}
	who, what, _ := strings.Cut(line, " ")
	what = strings.TrimSpace(what)
	if strings.HasPrefix(what, "N: ") || strings.HasPrefix(what, "G: ") {
		return h.air.line(who, what)
	}
	p := h.peers[who]
	switch {
	case what == "--":
		p.nc.Close()
		delete(h.peers, who)
		h.settle()
		return nil
	case strings.HasPrefix(what, "C: "):
		if p == nil {
			ours, theirs := net.Pipe()
			p = &peer{nc: ours, v: packet.V5}
			p.r = bufio.NewReader(ours)
			h.peers[who] = p
			h.ln.ch <- theirs
		}
		b, err := p.parse(what[3:])
		if err != nil {
			return err
		}
		p.nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = p.nc.Write(b)
		h.settle()
		return err
	case strings.HasPrefix(what, "S: "):
		want := strings.TrimSpace(what[3:])
		got := p.read()
		if got == "--" {
			p.nc.Close()
			delete(h.peers, who)
			h.settle()
		}
		head, tail, ok := strings.Cut(want, "*")
		if got != want && !(ok && strings.HasPrefix(got, head) && strings.HasSuffix(got[len(head):], tail)) {
			return fmt.Errorf("got  %s", got)
		}
		return nil
	}
	return fmt.Errorf("cannot read this line")
}

// dialogue plays one script in virtual time.
func dialogue(t *testing.T, cfg Config, script string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, cfg)
		defer func() { h.stop() }()
		h.play(script)
	})
}

// words2bytes reads the notation of the corpus: hexadecimal bytes, iN one byte
// N, HN kN mN sN two, LN four, vN rN a variable byte integer, 'text'.
func words2bytes(s string) (b []byte) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] == '\'' {
			text, rest, _ := strings.Cut(s[1:], "'")
			b, s = append(b, text...), rest
			continue
		}
		w, rest, _ := strings.Cut(s, " ")
		s = rest
		n, err := strconv.ParseUint(w[1:], 10, 32)
		switch c := w[0]; {
		case err == nil && c == 'i':
			b = append(b, byte(n))
		case err == nil && strings.IndexByte("Hkms", c) >= 0:
			b = append(b, byte(n>>8), byte(n))
		case err == nil && c == 'L':
			b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		case err == nil && (c == 'v' || c == 'r'):
			for n >= 128 {
				b = append(b, byte(n)|128)
				n >>= 7
			}
			b = append(b, byte(n))
		default:
			for i := 0; i+1 < len(w); i += 2 {
				x, err := strconv.ParseUint(w[i:i+2], 16, 8)
				if err != nil {
					panic("corpus word " + w)
				}
				b = append(b, byte(x))
			}
		}
	}
	return b
}
