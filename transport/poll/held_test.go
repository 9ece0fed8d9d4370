package poll

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
)

// answer is what came of a request that was held.
type answer struct {
	status int
	body   string
	err    error
}

// hold makes a request and returns where its answer will be, once it is held.
func (h *house) hold(r *http.Request) <-chan answer {
	h.t.Helper()
	before := h.srv.Stats().Polls
	ch := make(chan answer, 1)
	go func() { ch <- h.ask(r) }()
	until(h.t, "hold", func() bool { return h.srv.Stats().Polls > before })
	return ch
}

func (h *house) ask(r *http.Request) answer {
	resp, err := h.client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, strings.TrimSpace(string(b)), err}
}

func TestLongPoll(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	got := h.hold(h.request("bob", "GET", "/v1/inbox?wait=60", ""))
	h.dialog(`
		bob> GET /v1/presence
		200 {"user":"bob@localhost","sessions":[{"device":"http","door":"poll","since":"*"}]}
	`)
	h.post("alice", `{"to":"bob","body":"hi"}`)
	if a := <-got; a.status != 200 || !strings.Contains(a.body, `"body":"hi"`) {
		t.Errorf("%+v", a)
	}
	h.dialog(`
		bob> GET /v1/presence
		200 {"user":"bob@localhost","sessions":[]}
	`)
}

// Nobody is told of a message before it is durable, nor its sender.
func TestPostWaitsForTheStore(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	got := h.hold(h.request("bob", "GET", "/v1/inbox?wait=60", ""))
	release := h.store.Hold()
	sent := make(chan answer, 1)
	go func() { sent <- h.ask(h.request("alice", "POST", pathMessages, `{"to":"bob","body":"hi"}`)) }()
	until(t, "post", func() bool { return h.core.Router.Stats(router.Poll).Posted == 1 })
	select {
	case a := <-sent:
		t.Errorf("acknowledged too early: %+v", a)
	case a := <-got:
		t.Errorf("handed out too early: %+v", a)
	default:
	}
	release()
	if a := <-sent; a.status != 200 {
		t.Errorf("%+v", a)
	}
	if a := <-got; !strings.Contains(a.body, `"seq":1`) {
		t.Errorf("%+v", a)
	}
}

func TestUnavailable(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	h.post("alice", `{"to":"bob","body":"before"}`)
	h.store.Fail(mailbox.ErrUnavailable)
	h.dialog(`
		alice> POST /v1/messages {"to":"bob","body":"hi"}
		503 {"type":"urn:posthouse:problem:unavailable",*
		< Retry-After: 5
		< Content-Type: application/problem+json
		alice> POST /v1/messages [{"to":"bob","id":"x","body":"hi"}]
		207 {"results":[{"id":"x","problem":{"type":"urn:posthouse:problem:unavailable",*
		bob> GET /v1/inbox
		200 {"messages":[{"seq":1,*"body":"before"}],*
	`)
	h.store.Fail(nil)
	h.post("alice", `{"to":"bob","body":"after"}`)
	if n := h.last("bob"); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

// A newer poll of the same device ends the older one, with an empty answer; one
// of another device does not.
func TestReplaced(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	first := h.hold(h.request("bob", "GET", "/v1/inbox?wait=60", ""))
	phone := h.hold(h.request("bob", "GET", "/v1/inbox?wait=60&device=phone", ""))
	second := make(chan answer, 1)
	go func() { second <- h.ask(h.request("bob", "GET", "/v1/inbox?wait=60", "")) }()
	if a := <-first; a.status != 200 || !strings.HasPrefix(a.body, `{"messages":[],"next":"`) {
		t.Errorf("%+v", a)
	}
	until(t, "second poll", func() bool { return h.core.Router.Stats(router.Poll).Sessions == 2 })
	h.post("alice", `{"to":"bob","body":"hi"}`)
	for name, ch := range map[string]<-chan answer{"second": second, "phone": phone} {
		if a := <-ch; !strings.Contains(a.body, `"seq":1`) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// A peer that goes away frees everything.
func TestDisconnect(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	for _, path := range []string{"/v1/inbox?wait=60", "/v1/events"} {
		ctx, cancel := context.WithCancel(t.Context())
		go h.ask(h.request("bob", "GET", path, "").WithContext(ctx))
		until(t, path, func() bool { return len(h.core.Router.Presence("bob@localhost")) == 1 })
		cancel()
		until(t, "freeing", func() bool {
			st := h.srv.Stats()
			return len(h.core.Router.Presence("bob@localhost")) == 0 && st.Polls == 0 && st.Streams == 0
		})
	}
	if len(h.srv.held) != 0 {
		t.Errorf("still held: %v", h.srv.held)
	}
}

func TestMaxHeld(t *testing.T) {
	h := newHouse(t, Config{MaxHeld: 1}, mem.Options{})
	got := h.hold(h.request("bob", "GET", "/v1/inbox?wait=60", ""))
	h.dialog(`
		bob> GET /v1/inbox?wait=60&device=2
		429 {"type":"urn:posthouse:problem:too-many",*
		< Retry-After: 5
		bob> GET /v1/events?device=2
		429 *
		# A short poll is not held, and others are not bob.
		bob> GET /v1/inbox?device=2
		200 *
		alice> GET /v1/inbox?wait=0.001
		200 *
	`)
	h.core.Router.EndUser("bob@localhost", router.Removed)
	if a := <-got; a.status != 200 {
		t.Errorf("%+v", a)
	}
}

// stream is an open event stream.
type events struct {
	t      testing.TB
	resp   *http.Response
	sc     *bufio.Scanner
	cancel func()
}

func (h *house) events(user, path string, header ...string) *events {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	resp, err := h.client.Do(h.request(user, "GET", path, "", header...).WithContext(ctx))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cancel(); resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "text/event-stream" {
		h.t.Fatalf("%s: %d %s", path, resp.StatusCode, ct)
	}
	return &events{h.t, resp, bufio.NewScanner(resp.Body), cancel}
}

// next reads a block of lines, joined by |; empty at the end.
func (e *events) next() string {
	var lines []string
	for e.sc.Scan() {
		if e.sc.Text() == "" {
			break
		}
		lines = append(lines, e.sc.Text())
	}
	return strings.Join(lines, "|")
}

func (e *events) want(prefix, part string) (id string) {
	e.t.Helper()
	got := e.next()
	if !strings.HasPrefix(got, prefix) || !strings.Contains(got, part) {
		e.t.Fatalf("got %q, want %s…%s", got, prefix, part)
	}
	if _, rest, ok := strings.Cut(got, "id: "); ok {
		id, _, _ = strings.Cut(rest, "|")
	}
	return id
}

func TestEvents(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{Retention: mailbox.Retention{Count: 3}, Tail: 1})
	h.post("alice", `{"to":"bob","body":"one"}`)
	e := h.events("bob", "/v1/events")
	e.want("retry: ", "")
	one := e.want("id: ", `|data: {"seq":1,"prev":0,`)
	h.post("alice", `{"to":"bob","body":"two\nlines"}`)
	e.want("id: ", `"body":"two\nlines"}`)
	e.cancel()
	// A tunnel: the browser comes back with the last event it had.
	until(t, "the end", func() bool { return h.srv.Stats().Streams == 0 })
	e = h.events("bob", "/v1/events?after=ignored", "Last-Event-ID: "+one)
	e.want("retry: ", "")
	e.want("id: ", `|data: {"seq":2,"prev":1,`)
	// What it had was acknowledged by that.
	if c, ok, err := h.store.Cursor(t.Context(), "bob@localhost", "http"); err != nil || !ok || c.Seq != 1 {
		t.Errorf("cursor %+v, %v, %v", c, ok, err)
	}
	// The same device by another way ends the stream, with its reason.
	h.dialog(`
		bob> GET /v1/inbox
		200 {"messages":[{"seq":2,*
	`)
	e.want("event: close", `data: {"reason":"replaced"}`)
	if got := e.next(); got != "" {
		t.Errorf("after the end: %q", got)
	}
	h.post("alice", `[`+strings.Repeat(`{"to":"bob","body":"x"},`, 4)+`{"to":"bob","body":"y"}]`)
	e = h.events("bob", "/v1/events?after="+one)
	e.want("retry: ", "")
	e.want("event: trimmed|id: ", `|data: {"from":2,"to":4}`)
	e.want("id: ", `|data: {"seq":5,"prev":4,`)
	h.core.Router.EndUser("bob@localhost", router.Removed)
	e.want("id: ", `"seq":6`)
	e.want("id: ", `"seq":7`)
	e.want("event: close", `data: {"reason":"removed"}`)
}

// When the server goes down everybody hears of it, and nothing is left.
func TestDrain(t *testing.T) {
	h := newHouse(t, Config{Linger: time.Minute}, mem.Options{})
	h.srv.Handle("GET /page", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a page") }))
	poll := h.hold(h.request("bob", "GET", "/v1/inbox?wait=300", ""))
	e := h.events("carol", "/v1/events")
	e.want("retry: ", "")
	release := h.store.Hold()
	post := make(chan answer, 1)
	go func() { post <- h.ask(h.request("alice", "POST", pathMessages, `{"to":"bob","body":"hi"}`)) }()
	until(t, "post", func() bool { return h.core.Router.Stats(router.Poll).Posted == 1 })
	go h.stop()
	if a := <-poll; a.status != 200 || !strings.HasPrefix(a.body, `{"messages":[],"next":`) {
		t.Errorf("%+v", a)
	}
	e.want("event: close", `data: {"reason":"draining"}`)
	release()
	if a := <-post; a.status != 200 {
		t.Errorf("a request under way was not finished: %+v", a)
	}
	h.stop()
	if n := len(h.core.Router.Presence("bob@localhost")) + len(h.core.Router.Presence("carol@localhost")); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestHTTP2(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil) // for its certificate
	pair.StartTLS()
	defer pair.Close()
	for _, scheme := range []string{"http", "https"} {
		var cfg *tls.Config
		tr := &http.Transport{Protocols: new(http.Protocols)}
		if scheme == "https" {
			cfg = &tls.Config{Certificates: pair.TLS.Certificates}
			tr.TLSClientConfig = pair.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			tr.TLSClientConfig.ServerName = "example.com"
			tr.Protocols.SetHTTP2(true)
		} else {
			tr.Protocols.SetUnencryptedHTTP2(true)
		}
		core, store := newCore(t, mem.Options{})
		h := serveTLS(t, core, store, Config{}, cfg)
		h.url = scheme + strings.TrimPrefix(h.url, "http")
		h.client = &http.Client{Transport: tr}
		resp, _ := h.do(h.request("bob", "GET", "/v1/inbox?device="+scheme, ""))
		if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
			t.Fatalf("%s: %s %s", scheme, resp.Proto, resp.Status)
		}
		// Many held on one connection, and ended together.
		var got []<-chan answer
		for i := range 20 {
			got = append(got, h.hold(h.request("bob", "GET", fmt.Sprintf("/v1/inbox?wait=60&device=%s%d", scheme, i), "")))
		}
		e := h.events("bob", "/v1/events?device=sse"+scheme)
		e.want("retry: ", "")
		h.post("alice", `{"to":"bob","id":"`+scheme+`","body":"hi"}`)
		for _, ch := range got {
			if a := <-ch; a.status != 200 || !strings.Contains(a.body, `"id":"`) {
				t.Errorf("%s: %+v", scheme, a)
			}
		}
		e.want("id: ", `"body":"hi"`)
		h.stop()
		e.cancel()
		tr.CloseIdleConnections()
	}
}

// pipes is a listener in memory, for virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

type pipeConn struct{ net.Conn }

var pipeAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}

func (pipeConn) RemoteAddr() net.Addr { return pipeAddr }
func (pipeConn) LocalAddr() net.Addr  { return pipeAddr }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}
func (p *pipes) Addr() net.Addr { return pipeAddr }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	c, s := net.Pipe()
	p.conns <- pipeConn{s}
	return c, nil
}

// virtual runs f on a house in virtual time.
func virtual(t *testing.T, cfg Config, advice keepalive.Advisor, f func(t *testing.T, h *house, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		core, store := newCore(t, mem.Options{})
		core.Keepalive = advice
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		h := &house{t: t, core: core, store: store, srv: New(core, cfg), url: "http://house",
			client: &http.Client{Transport: &http.Transport{DialContext: p.dial}}}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- h.srv.Serve(ctx, p) }()
		h.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		f(t, h, p)
		h.client.CloseIdleConnections()
		h.stop()
	})
}

// A poll is held as long as was asked, as the configuration allows, and as the
// device's network bears; whichever is least.
func TestWait(t *testing.T) {
	for _, c := range []struct {
		cfg    Config
		advice keepalive.Advisor
		wait   string
		want   time.Duration
	}{
		{Config{}, nil, "10", 10 * time.Second},
		{Config{}, nil, "1m30s", 90 * time.Second},
		{Config{}, nil, "0.25", 250 * time.Millisecond},
		{Config{}, nil, "0", 0},
		{Config{}, keepalive.Fixed(time.Hour), "1000000", 5 * time.Minute},
		{Config{}, nil, "1e300", keepalive.Default},
		{Config{MaxWait: 20 * time.Second}, nil, "5m", 20 * time.Second},
		{Config{}, keepalive.Fixed(40 * time.Second), "5m", 40 * time.Second},
	} {
		virtual(t, c.cfg, c.advice, func(t *testing.T, h *house, _ *pipes) {
			start := time.Now()
			resp, body := h.do(h.request("bob", "GET", "/v1/inbox?wait="+c.wait, ""))
			if took := time.Since(start); took != c.want || resp.StatusCode != 200 || !strings.HasPrefix(body, `{"messages":[],`) {
				t.Errorf("wait=%s: %d %s after %v, want %v", c.wait, resp.StatusCode, body, took, c.want)
			}
		})
	}
}

// A stream lasts, over either version of HTTP.
func TestHeartbeat(t *testing.T) {
	for _, version := range []int{1, 2} {
		virtual(t, Config{}, keepalive.Fixed(time.Minute), func(t *testing.T, h *house, p *pipes) {
			if version == 2 {
				tr := &http.Transport{DialContext: p.dial, Protocols: new(http.Protocols)}
				tr.Protocols.SetUnencryptedHTTP2(true)
				h.client.Transport = tr
			}
			start := time.Now()
			e := h.events("bob", "/v1/events")
			if e.resp.ProtoMajor != version {
				t.Error(e.resp.Proto)
			}
			e.want("retry: ", "")
			for range 60 { // well over every timeout that there is
				e.want(": ", "")
			}
			if took := time.Since(start); took != time.Hour {
				t.Errorf("60 heartbeats in %v", took)
			}
			h.post("alice", `{"to":"bob","body":"hi"}`)
			e.want("id: ", `"seq":1`)
			e.cancel()
			synctest.Wait()
		})
	}
}

// A stream and a poll end with the token that opened them.
func TestTokenEnds(t *testing.T) {
	virtual(t, Config{}, keepalive.Fixed(time.Hour), func(t *testing.T, h *house, _ *pipes) {
		bearer := "Authorization: Bearer " + h.token("bob", "", 90*time.Second)
		start := time.Now()
		resp, body := h.do(h.request("", "GET", "/v1/inbox?wait=300", "", bearer))
		if took := time.Since(start); took > 90*time.Second || resp.StatusCode != 200 {
			t.Errorf("%d %s after %v", resp.StatusCode, body, took)
		}
		e := h.events("", "/v1/events?device=2", "Authorization: Bearer "+h.token("bob", "", 90*time.Second))
		e.want("retry: ", "")
		e.want("event: close", `data: {"reason":"expired"}`)
	})
}

// Who sends slowly is cut off, and who does not read is, too, after the time
// that is configured for that.
func TestSlow(t *testing.T) {
	cfg := Config{HeaderTimeout: 3 * time.Second, BodyTimeout: 7 * time.Second, IdleTimeout: 20 * time.Second}
	for _, c := range []struct {
		name, send, want string
		after            time.Duration
	}{
		{"silent", "", "", cfg.HeaderTimeout},
		{"headers", "GET /v1/inbox HTTP/1.1\r\nHost: h", "", cfg.HeaderTimeout},
		{"body", "POST /v1/messages HTTP/1.1\r\nHost: h\r\n" + bobs + "Content-Length: 100\r\n\r\n{", "HTTP/1.1 408 Request Timeout", cfg.BodyTimeout},
		{"stranger's body", "POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 401 Unauthorized", cfg.BodyTimeout},
		{"chunked", "POST /v1/messages HTTP/1.1\r\nHost: h\r\n" + bobs + "Transfer-Encoding: chunked\r\n\r\n5\r\n{", "HTTP/1.1 408 Request Timeout", cfg.BodyTimeout},
		{"no second request", "GET /v1/inbox HTTP/1.1\r\nHost: h\r\n" + bobs + "\r\n", "HTTP/1.1 200 OK", cfg.IdleTimeout},
	} {
		virtual(t, cfg, nil, func(t *testing.T, h *house, p *pipes) {
			conn, _ := p.dial(t.Context(), "", "")
			defer conn.Close()
			start := time.Now()
			go io.WriteString(conn, c.send)
			got, _ := io.ReadAll(conn)
			if took := time.Since(start); took < c.after || took > c.after+time.Second {
				t.Errorf("%s: closed after %v", c.name, took)
			}
			if !strings.HasPrefix(string(got), c.want) {
				t.Errorf("%s: %q, want %s", c.name, got, c.want)
			}
			if h.last("bob") != 0 {
				t.Errorf("%s: stored", c.name)
			}
		})
	}
	virtual(t, Config{WriteTimeout: 7 * time.Second}, nil, func(t *testing.T, h *house, p *pipes) {
		conn, _ := p.dial(t.Context(), "", "")
		defer conn.Close()
		io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: h\r\n"+bobs+"\r\n")
		for _, want := range []int{1, 0} { // and nobody reads
			time.Sleep(4 * time.Second)
			synctest.Wait()
			if n := len(h.core.Router.Presence("bob@localhost")); n != want {
				t.Errorf("%d sessions, want %d", n, want)
			}
		}
	})
}

// Who is still at it when the server goes down is waited for as long as is
// configured.
func TestLinger(t *testing.T) {
	virtual(t, Config{Linger: 7 * time.Second}, nil, func(t *testing.T, h *house, p *pipes) {
		began := make(chan struct{})
		h.srv.Handle("GET /page", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
		}))
		conn, _ := p.dial(t.Context(), "", "")
		defer conn.Close()
		io.WriteString(conn, "GET /page HTTP/1.1\r\nHost: h\r\n\r\n")
		<-began
		start := time.Now()
		h.stop()
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("it went down after %v", took)
		}
	})
}
