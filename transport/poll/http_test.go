package poll

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

func TestCORS(t *testing.T) {
	off := newHouse(t, Config{}, mem.Options{})
	off.dialog(`
		bob> GET /v1/inbox
		+ Origin: https://app.example
		403 {"type":"urn:posthouse:problem:cross-origin",*
		< Access-Control-Allow-Origin:
		bob> GET /v1/inbox
		+ Sec-Fetch-Site: cross-site
		403 {"type":"urn:posthouse:problem:cross-origin",*
		bob> POST /v1/messages {"to":"alice","body":"hi"}
		+ Sec-Fetch-Site: same-site
		403 *
		bob> GET /v1/inbox
		+ Sec-Fetch-Site: same-origin
		200 *
		> OPTIONS /v1/inbox
		+ Origin: https://app.example
		+ Access-Control-Request-Method: GET
		405 *
		> GET /v1/openapi.json
		+ Sec-Fetch-Site: cross-site
		200 *
	`)
	if off.last("alice") != 0 {
		t.Error("a foreign page posted")
	}
	resp, _ := off.do(off.request("bob", "GET", "/v1/inbox", "", "Origin: "+off.url))
	if resp.StatusCode != 200 {
		t.Errorf("its own origin: %s", resp.Status)
	}
	newHouse(t, Config{Origins: []string{"https://app.example"}}, mem.Options{}).dialog(`
		> OPTIONS /v1/messages
		+ Origin: https://app.example
		+ Access-Control-Request-Method: POST
		+ Access-Control-Request-Headers: authorization,content-type
		204
		< Access-Control-Allow-Origin: https://app.example
		< Access-Control-Allow-Methods: POST, GET, DELETE, PUT
		< Access-Control-Allow-Headers: *Authorization*Idempotency-Key*
		< Access-Control-Allow-Credentials:
		< Vary: Origin, *
		bob> GET /v1/inbox
		+ Origin: https://app.example
		+ Sec-Fetch-Site: cross-site
		200 *
		< Access-Control-Allow-Origin: https://app.example
		< Access-Control-Expose-Headers: *ETag*
		< Vary: Origin*
		bob> GET /v1/inbox
		+ Origin: https://evil.example
		403 *
		< Access-Control-Allow-Origin:
		< Vary: Origin*
		# An error can be read by the page, too.
		> GET /v1/inbox
		+ Origin: https://app.example
		401 *
		< Access-Control-Allow-Origin: https://app.example
	`)
	newHouse(t, Config{Origins: []string{"*"}}, mem.Options{}).dialog(`
		bob> GET /v1/inbox
		+ Origin: https://anywhere.example
		200 *
	`)
}

func TestGzip(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	h.client.Transport.(*http.Transport).DisableCompression = true
	get := func(path string) (*http.Response, string) {
		return h.do(h.request("bob", "GET", path, "", "Accept-Encoding: gzip"))
	}
	if resp, body := get("/v1/inbox"); resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("a small answer is packed: %q", body)
	}
	h.post("alice", `{"to":"bob","body":"`+strings.Repeat("hello ", 1000)+`"}`)
	resp, body := get("/v1/inbox")
	if resp.Header.Get("Content-Encoding") != "gzip" || len(body) > 1000 {
		t.Fatalf("%d bytes, %v", len(body), resp.Header)
	}
	zr, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var in wire.Inbox
	if err := json.NewDecoder(zr).Decode(&in); err != nil || len(in.Messages) != 1 || len(in.Messages[0].Body) != 6000 {
		t.Errorf("%v, %d messages", err, len(in.Messages))
	}
	e := h.events("bob", "/v1/events", "Accept-Encoding: gzip")
	if ce := e.resp.Header.Get("Content-Encoding"); ce != "" {
		t.Errorf("events are packed: %s", ce)
	}
	e.want("retry: ", "")
	e.want("id: ", "hello hello")
}

func TestBadRequests(t *testing.T) {
	h := newHouse(t, Config{MaxHeader: 8 << 10}, mem.Options{})
	h.dialog(`
		bob> POST /v1/messages {"to":"alice","body":"hi"}
		+ Content-Type: multipart/form-data; boundary=x
		415 {"type":"urn:posthouse:problem:unsupported-media-type",*"field":"Content-Type"}
		bob> POST /v1/messages {"to":"alice","body":"hi"}
		+ Content-Encoding: gzip
		415 {"type":"urn:posthouse:problem:unsupported-media-type",*"field":"Content-Encoding"}
		bob> POST /v1/messages {"to":"alice","body":"hi"}
		+ Content-Type: application/x-www-form-urlencoded
		200 *
		bob> POST /v1/messages?token=secret {"to":"alice","body":"hi"}
		400 {"type":"urn:posthouse:problem:token-in-url",*
		> POST /v1/messages {"to":"alice","body":"hi"}
		401 *
		bob> GET /v1/inbox?wait=60 {"to":"alice"}
		400 {"type":"urn:posthouse:problem:bad-json",*
		bob> POST /v1/ack
		400 {"type":"urn:posthouse:problem:bad-json",*
	`)
	if n := h.last("alice"); n != 1 {
		t.Errorf("%d messages stored, want 1", n)
	}
	resp, err := h.client.Do(h.request("bob", "GET", "/v1/inbox", "", "X-Flood: "+strings.Repeat("x", 20<<10)))
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a flood of headers: %s", resp.Status)
		}
	}
	// A body whose length is not told, over the limit.
	r := h.request("bob", "POST", pathMessages, "x")
	r.Body, r.ContentLength = io.NopCloser(io.LimitReader(endless{}, 1<<30)), -1
	if resp, body := h.do(r); resp.StatusCode != 413 {
		t.Errorf("%s %s", resp.Status, body)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// All listeners are bounded together.
func TestConnLimits(t *testing.T) {
	for _, cfg := range []Config{{MaxConns: 2}, {MaxPerAddr: 2}} {
		h := newHouse(t, cfg, mem.Options{})
		first := strings.TrimPrefix(h.url, "http://")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error)
		go func() { served <- h.srv.Serve(t.Context(), ln) }()
		t.Cleanup(func() {
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		var conns []net.Conn
		for _, addr := range []string{first, ln.Addr().String(), first} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conns = append(conns, c)
			until(t, "an answer", func() bool { st := h.srv.Stats(); return st.Conns+int64(st.ConnsRefused) == int64(len(conns)) })
		}
		if _, err := bufio.NewReader(conns[2]).ReadByte(); err == nil {
			t.Error("the third connection got an answer")
		}
		if st := h.srv.Stats(); st.Conns != 2 || st.ConnsRefused != 1 {
			t.Errorf("%d open, %d refused", st.Conns, st.ConnsRefused)
		}
		conns[0].Close()
		until(t, "place", func() bool { return h.srv.Stats().Conns == 1 })
		h.post("alice", `{"to":"bob","body":"hi"}`)
	}
}

// A panic ends one request, with a problem, and no other.
func TestPanic(t *testing.T) {
	core, store := newCore(t, mem.Options{})
	s := New(core, Config{})
	s.routes[len(s.routes)-1].serve = func(http.ResponseWriter, *http.Request) error { panic("our fault") }
	h := &house{t: t, core: core, store: store, srv: s, client: http.DefaultClient}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go http.Serve(ln, s.Handler()) // ends with ln
	h.url = "http://" + ln.Addr().String()
	h.dialog(`
		> GET /v1/openapi.json
		500 {"type":"urn:posthouse:problem:internal","title":"Internal error","status":500}
		bob> GET /v1/inbox
		200 *
	`)
}

// What a user does wrong is told to him and not logged as a fault of ours.
func TestFaultsOfOthersAreNotLogged(t *testing.T) {
	core, store := newCore(t, mem.Options{})
	var log strings.Builder
	core.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h := serve(t, core, store, Config{})
	h.dialog(`
		alice> POST /v1/messages {"to":"a@b@c","body":"hi"}
		400 {"type":"urn:posthouse:problem:bad-recipient",*"field":"to"}
		alice> POST /v1/messages [{"to":"bob","body":"hi"},{"to":"/","body":"hi"}]
		207 *"problem":{"type":"urn:posthouse:problem:bad-recipient",*"field":"messages[1].to"}}]}
		alice> POST /v1/signals {"to":"a@b@c","kind":"composing"}
		400 {"type":"urn:posthouse:problem:bad-recipient",*"field":"to"}
		alice> POST /v1/messages {"to":"nobody","body":"hi"}
		404 *
		alice> POST /v1/messages {"to":"bob@example.org","body":"hi"}
		422 *
	`)
	if k := h.srv.problem(fmt.Errorf("%w: alice", router.ErrNoSender), "to").Kind(); k != wire.NotAuthorized {
		t.Errorf("a sender who was removed: %s", k)
	}
	h.stop()
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", &log)
	}
}

func TestStats(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	h.srv.Handle("GET /page", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a page") }))
	h.dialog(`
		alice> POST /v1/messages {"to":"bob","id":"1","body":"hi"}
		200 *
		alice> POST /v1/messages {"to":"bob","id":"1","body":"hi"}
		200 *
		alice> POST /v1/messages {}
		400 *
		bob> GET /v1/inbox
		200 *
		> GET /page
		200 a page
		> GET /nothing
		404 {"type":"urn:posthouse:problem:not-found",*
	`)
	var st Stats
	until(t, "counting", func() bool { st = h.srv.Stats(); return st.Requests[len(st.Requests)-1].Class[4] == 1 })
	want := map[string][6]uint64{"POST /v1/messages": {2: 2, 4: 1}, "GET /v1/inbox": {2: 1}, "other": {2: 1, 4: 1}}
	for _, r := range st.Requests {
		if r.Class != want[r.Route] {
			t.Errorf("%s: %v, want %v", r.Route, r.Class, want[r.Route])
		}
	}
	if st.In != 2 || st.Duplicates != 1 || st.Out != 1 || st.BytesIn == 0 || st.BytesOut == 0 {
		t.Errorf("%+v", st)
	}
}

// The document is OpenAPI 3.1, has every route, and shows what the codec does.
func TestDocument(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	resp, body := h.do(h.request("", "GET", "/v1/openapi.json", ""))
	if resp.Header.Get("Content-Type") != "application/json" {
		t.Error(resp.Header)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Summary     string
			OperationID string
			Parameters  []struct{ Name, In, Description string }
			Security    []map[string][]string
			RequestBody *struct {
				Content map[string]struct{ Schema any }
			}
			Responses map[string]struct {
				Description string
				Content     map[string]any
			}
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Description string }
				Required   []string
			}
			SecuritySchemes map[string]struct{ Type, Scheme string }
		}
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %s", doc.OpenAPI)
	}
	for name, scheme := range map[string]string{"basic": "basic", "bearer": "bearer"} {
		if s := doc.Components.SecuritySchemes[name]; s.Type != "http" || s.Scheme != scheme {
			t.Errorf("security scheme %s: %+v", name, s)
		}
	}
	for _, rt := range h.srv.routes {
		op, ok := doc.Paths[rt.op.Path][strings.ToLower(rt.op.Method)]
		if !ok || op.Summary == "" || op.OperationID == "" || len(op.Responses) == 0 {
			t.Errorf("%s %s: %+v", rt.op.Method, rt.op.Path, op)
			continue
		}
		for _, p := range op.Parameters {
			if p.Description == "" {
				t.Errorf("%s: parameter %s has no description", rt.op.Path, p.Name)
			}
		}
		if rt.open {
			continue
		}
		if len(op.Security) != 2 {
			t.Errorf("%s: security %v", rt.op.Path, op.Security)
		}
		for _, status := range []string{"401", "403", "429", "500"} {
			if _, ok := op.Responses[status].Content[wire.ProblemType]; !ok {
				t.Errorf("%s: no %s", rt.op.Path, status)
			}
		}
	}
	// Every reference leads somewhere.
	for _, ref := range strings.Split(body, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("no schema %s", name)
		}
	}
	// What is written has the fields of the document, and no other.
	h.post("alice", `{"to":"bob","id":"1","body":"hi","expires":1000,"urgency":"high","attrs":{"a":"b"}}`)
	h.post("alice", `{"to":"bob","id":"2","body64":"AP8="}`)
	_, inbox := h.do(h.request("bob", "GET", "/v1/inbox", ""))
	var in struct{ Messages []map[string]any }
	if err := json.Unmarshal([]byte(inbox), &in); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, m := range in.Messages {
		for name := range m {
			seen = append(seen, name)
		}
	}
	slices.Sort(seen)
	if got, want := slices.Compact(seen), jsonFields(messageShape{}); !slices.Equal(got, want) {
		t.Errorf("a message has %v, the document %v", got, want)
	}
	// What is read likewise: each field of the document is known to the codec.
	for _, name := range jsonFields(draftShape{}) {
		if _, p := wire.DecodePost([]byte(`{"`+name+`":`), 1); p.Kind() == wire.UnknownField {
			t.Errorf("the codec does not know %s", name)
		}
	}
	if _, ok := doc.Components.Schemas["Draft"]; !ok {
		t.Error("no schema Draft")
	}
}

// docs/http.md has every kind of problem, with its status, and every path.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range wire.Kinds {
		if row := "| `" + string(k.Kind) + "` | " + itoa(k.Status) + " |"; !strings.Contains(string(doc), row) {
			t.Errorf("docs/http.md has no row %s", row)
		}
	}
	core, _ := newCore(t, mem.Options{})
	for _, rt := range New(core, Config{}).routes {
		if !strings.Contains(string(doc), "`"+rt.op.Method+" "+rt.op.Path) {
			t.Errorf("docs/http.md does not have %s %s", rt.op.Method, rt.op.Path)
		}
	}
}

func jsonFields(v any) (names []string) {
	for t, i := reflect.TypeOf(v), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
