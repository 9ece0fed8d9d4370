package conn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// masked is a frame as a client sends it.
func masked(head byte, p string) string {
	var b []byte
	switch n := len(p); {
	case n < 126:
		b = []byte{head, 0x80 | byte(n)}
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16([]byte{head, 0x80 | 126}, uint16(n))
	default:
		b = binary.BigEndian.AppendUint64([]byte{head, 0x80 | 127}, uint64(n))
	}
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, key[:]...)
	for i := range len(p) {
		b = append(b, p[i]^key[i&3])
	}
	return string(b)
}

func plainFrame(head byte, p string) string {
	return string([]byte{head, byte(len(p))}) + p
}

// RFC 6455 as dialogues: what the client sends, what it gets.
func TestWebSocketFrames(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	bad := func(code uint16) string {
		return plainFrame(0x88, string(binary.BigEndian.AppendUint16(nil, code)))
	}
	for _, tt := range []struct {
		name       string
		text       bool
		send, want string
	}{
		{"example of section 5.7", true, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "\x81\x05Hello"},
		{"empty message", false, masked(0x82, "") + masked(0x82, "a"), plainFrame(0x82, "a")},
		{"in parts", false, masked(0x02, "ab") + masked(0x00, "") + masked(0x80, "cd"), plainFrame(0x82, "abcd")},
		{"ping inside of a message", false, masked(0x02, "ab") + masked(0x89, "now") + masked(0x80, "cd"), plainFrame(0x8a, "now") + plainFrame(0x82, "abcd")},
		{"pong is ignored", false, masked(0x8a, "beat") + masked(0x82, "a"), plainFrame(0x82, "a")},
		{"long", false, masked(0x82, long), string(must(framed(long)))},
		{"close without a code", false, masked(0x88, ""), plainFrame(0x88, "")},
		{"close", false, masked(0x88, "\x03\xe9going"), bad(1001)},
		{"close after a message", false, masked(0x82, "a") + masked(0x88, "\x03\xe8"), plainFrame(0x82, "a") + bad(1000)},
		{"close with half a code", false, masked(0x88, "\x03"), bad(1002)},
		{"close with a code not to be sent", false, masked(0x88, "\x03\xed"), bad(1002)},
		{"close with a bad reason", false, masked(0x88, "\x03\xe8\xff"), bad(1007)},
		{"not masked", false, plainFrame(0x82, "a"), bad(1002)},
		{"reserved bit", false, masked(0xc2, "a"), bad(1002)},
		{"unknown opcode", false, masked(0x83, "a"), bad(1002)},
		{"unknown control opcode", false, masked(0x8b, "a"), bad(1002)},
		{"continuation of nothing", false, masked(0x80, "a"), bad(1002)},
		{"message in a message", false, masked(0x02, "a") + masked(0x82, "b"), bad(1002)},
		{"ping in parts", false, masked(0x09, "a"), bad(1002)},
		{"long ping", false, masked(0x89, strings.Repeat("a", 126)), bad(1002)},
		{"length not minimal", false, "\x82\xfe\x00\x01....a", bad(1002)},
		{"length of 64 bits not minimal", false, "\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01....a", bad(1002)},
		{"negative length", false, "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00....", bad(1002)},
		{"too long, told by its length", false, "\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff....", bad(1009)},
		{"too long in parts", false, masked(0x02, long) + masked(0x00, long), bad(1009)},
		{"text where binary is due", false, masked(0x81, "a"), bad(1003)},
		{"binary where text is due", true, masked(0x82, "a"), bad(1003)},
		{"text", true, masked(0x81, "héllo €"), plainFrame(0x81, "héllo €")},
		{"character in parts", true, masked(0x01, "\xe2\x82") + masked(0x80, "\xac"), plainFrame(0x81, "€")},
		{"not UTF-8", true, masked(0x81, "a\xff"), bad(1007)},
		{"character that does not end", true, masked(0x81, "\xe2\x82"), bad(1007)},
		{"surrogate", true, masked(0x81, "\xed\xa0\x80"), bad(1007)},
	} {
		for _, step := range []int{1 << 20, 1} {
			name := tt.name
			if step == 1 {
				if len(tt.send) > 1000 {
					continue
				}
				name += ", byte by byte"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { frames(t, tt.text, step, tt.send, tt.want) })
			})
		}
	}
}

func framed(p string) ([]byte, error) {
	var b *buf
	frame(&b, opBinary, []byte(p))
	return b.bytes(), nil
}

// frames sends send in steps to a protocol that echoes once all is there.
func frames(t *testing.T, text bool, step int, send, want string) {
	e := New(Config{Loops: -1, Log: silent})
	e.init()
	var got []byte
	p := &probe{ended: make(chan error, 1)}
	p.data = func(p *probe, b []byte) (int, error) {
		got = append(got, b...)
		p.c.SetAlarm(p.c.Now().Add(time.Second))
		return len(b), nil
	}
	echo := func(p *probe) error { p.c.Write(got); return nil }
	p.alarm = echo
	// What a close frame ends was received before it.
	if strings.Contains(send, masked(0x88, "\x03\xe8")) {
		p.data = nil
	}
	g := e.newGroup(Options{New: func() Protocol { return p }, Text: text, MaxInput: 100_000})
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() { g.serve(a, &upgraded{}); close(done) }()
	var answer bytes.Buffer
	read := make(chan struct{})
	go func() { io.Copy(&answer, b); close(read) }()
	for len(send) > 0 {
		n := min(step, len(send))
		if _, err := io.WriteString(b, send[:n]); err != nil {
			break
		}
		send = send[n:]
	}
	time.Sleep(time.Minute)
	b.Close()
	<-done
	<-read
	if s := answer.String(); s != want {
		t.Errorf("got %.100q, want %.100q", s, want)
	}
}

func TestUpgrade(t *testing.T) {
	e := New(Config{Log: silent})
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := httptest.NewServer(e.WebSocket(ctx, Options{
		New:          func() Protocol { return &probe{ended: make(chan error, 1)} },
		Subprotocols: []string{"best", "good"},
		Origins:      []string{"https://chat.example"},
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	for _, tt := range []struct {
		name   string
		change func(h http.Header)
		status int
		proto  string
	}{
		{"plain", func(http.Header) {}, 101, ""},
		{"tokens among others", func(h http.Header) { h.Set("Connection", "keep-alive, UPGRADE"); h.Set("Upgrade", "h2c, WebSocket") }, 101, ""},
		{"not an upgrade", func(h http.Header) { h.Del("Upgrade") }, 426, ""},
		{"old version", func(h http.Header) { h.Set("Sec-WebSocket-Version", "8") }, 426, ""},
		{"short key", func(h http.Header) { h.Set("Sec-WebSocket-Key", "c2hvcnQ=") }, 400, ""},
		{"no key", func(h http.Header) { h.Del("Sec-WebSocket-Key") }, 400, ""},
		{"own origin", func(h http.Header) { h.Set("Origin", "http://"+host) }, 101, ""},
		{"known origin", func(h http.Header) { h.Set("Origin", "https://chat.example") }, 101, ""},
		{"foreign origin", func(h http.Header) { h.Set("Origin", "https://evil.example") }, 403, ""},
		{"opaque origin", func(h http.Header) { h.Set("Origin", "null") }, 403, ""},
		{"our best", func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "bad, good, best") }, 101, "best"},
		{"in two headers", func(h http.Header) {
			h.Add("Sec-WebSocket-Protocol", "bad")
			h.Add("Sec-WebSocket-Protocol", "good")
		}, 101, "good"},
		{"none of ours", func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "bad") }, 400, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{
				"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
				"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
			}
			tt.change(h)
			c := must(net.Dial("tcp", host))
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			req := &http.Request{Method: "GET", URL: must(http.NewRequest("GET", srv.URL, nil)).URL, Header: h}
			var b bytes.Buffer
			req.Write(&b)
			b.WriteString(masked(0x82, "early")) // behind the request
			c.Write(b.Bytes())
			in := bufio.NewReader(c)
			res, err := http.ReadResponse(in, req)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.status || res.Header.Get("Sec-WebSocket-Protocol") != tt.proto {
				t.Fatalf("got %s, %v", res.Status, res.Header)
			}
			if tt.status == 426 && tt.name == "old version" && res.Header.Get("Sec-WebSocket-Version") != "13" {
				t.Error("does not say which version")
			}
			if tt.status == 101 {
				// RFC 6455 section 1.3 has this key and its answer.
				if a := res.Header.Get("Sec-WebSocket-Accept"); a != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
					t.Errorf("accept %q", a)
				}
				expect(t, in, plainFrame(0x82, "early"))
			}
		})
	}
}

// Cut makes messages; what is sent from elsewhere is one each.
func TestCut(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{}, func() *probe {
			return &probe{data: func(p *probe, b []byte) (int, error) {
				for _, x := range b {
					p.c.Write([]byte{x})
					p.c.Cut()
				}
				p.c.Write([]byte("!"))
				p.c.Write([]byte("?"))
				return len(b), nil
			}}
		})
		host := r.addr
		c := must(net.Dial("tcp", host))
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		in := bufio.NewReader(c)
		if _, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
		p := <-r.probes
		io.WriteString(c, masked(0x82, "ab"))
		expect(t, in, plainFrame(0x82, "a")+plainFrame(0x82, "b")+plainFrame(0x82, "!?"))
		p.c.Send([]byte("one"))
		p.c.Send([]byte("two"))
		expect(t, in, plainFrame(0x82, "one")+plainFrame(0x82, "two"))
	}, "ws")
}

// FuzzWebSocket: however the bytes are cut, the outcome is the same, and text
// that was let through is UTF-8.
func FuzzWebSocket(f *testing.F) {
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), 1, true)
	f.Add([]byte(masked(0x02, "ab")+masked(0x89, "p")+masked(0x80, "c")), 3, false)
	f.Add([]byte(masked(0x88, "\x03\xe8bye")), 2, false)
	f.Add([]byte(masked(0x82, strings.Repeat("z", 300))), 7, false)
	f.Fuzz(func(t *testing.T, in []byte, step int, text bool) {
		if step < 1 {
			step = 1
		}
		a, wa, ea := unframed(in, len(in)+1, text)
		b, wb, eb := unframed(in, step, text)
		if !bytes.Equal(wa, wb) || !bytes.Equal(a, b) && (ea == nil || ea == io.EOF) || (ea == nil) != (eb == nil) {
			t.Errorf("whole: %q %q %v, in steps of %d: %q %q %v", a, wa, ea, step, b, wb, eb)
		}
		if text && (ea == nil || ea == io.EOF) {
			cut := len(a) // the last character may not be complete yet
			for back := 1; back < utf8.UTFMax && back <= len(a); back++ {
				if tail := a[len(a)-back:]; utf8.RuneStart(tail[0]) {
					if !utf8.FullRune(tail) {
						cut -= back
					}
					break
				}
			}
			if !utf8.Valid(a[:cut]) {
				t.Errorf("let through %q", a)
			}
		}
	})
}

// unframed decodes in by step bytes, and returns the payload, what was
// answered, and why the connection ended.
func unframed(in []byte, step int, text bool) (payload, wire []byte, why error) {
	now := time.Unix(1000, 0)
	var w wheel
	w.init(time.Second, now)
	g := New(Config{Log: silent}).newGroup(Options{Text: text, MaxInput: 10_000})
	c := &Conn{d: &wheelDriver{w: &w, now: &now}, g: g, slot: -1, phase: phaseOpen, framed: true, x: &extra{ws: new(wsock)}}
	c.proto = &probe{c: c, data: func(p *probe, b []byte) (int, error) {
		payload = append(payload, b...)
		return len(b), nil
	}}
	in = bytes.Clone(in)
	for len(in) > 0 && c.flags&flagClosing == 0 {
		n := min(step, len(in))
		c.received(in[:n])
		in = in[n:]
	}
	if c.x.wire != nil {
		wire = bytes.Clone(c.x.wire.bytes())
	}
	return payload, wire, c.x.why
}

// wrapped is a connection as a listener with limits hands it out.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// A WebSocket moves to a loop though its listener has wrapped the socket, and
// out from under TLS only where there is a seam.
func TestSocketOf(t *testing.T) {
	tc := new(net.TCPConn)
	seam := NewSeam(wrapped{tc})
	crypt := tls.Client(wrapped{seam}, &tls.Config{})
	for _, c := range []struct {
		nc   net.Conn
		want socket
		ok   bool
	}{
		{tc, socket{tcp: tc}, true},
		{wrapped{wrapped{tc}}, socket{tcp: tc}, true},
		{wrapped{seam}, socket{tcp: tc}, true}, // of a listener without TLS
		{crypt, socket{tc, crypt, seam}, true},
		{wrapped{tls.Client(wrapped{tc}, &tls.Config{})}, socket{}, false},
		{new(net.UnixConn), socket{}, false},
	} {
		if got, ok := socketOf(c.nc); ok != c.ok || ok && got != c.want {
			t.Errorf("%T: %+v, %v", c.nc, got, ok)
		}
	}
}
