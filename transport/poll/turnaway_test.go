package poll

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

// Who sends everything before he reads gets his answer, whatever was wrong.
func TestAnswerToALongBody(t *testing.T) {
	h := newHouse(t, Config{MaxRequest: 4 << 20}, mem.Options{})
	for _, c := range []struct {
		name, user string
		length     int
		chunked    bool
		want       int
	}{
		{"more than is taken", "bob", 7 << 20, false, 413},
		{"more than is taken, in chunks", "bob", 7 << 20, true, 413},
		{"a stranger's", "", 4 << 20, false, 401},
		{"no JSON", "bob", 4 << 20, false, 400},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r := h.request(c.user, "POST", pathMessages, strings.Repeat("x", c.length))
		if c.chunked {
			r.ContentLength, r.Body = -1, io.NopCloser(r.Body)
		}
		if err := r.Write(conn); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), r)
		if err != nil || resp.StatusCode != c.want {
			t.Errorf("%s: %v, %v; want %d", c.name, resp, err, c.want)
		}
	}
}

// Who waits to be told to send is told not to, at once.
func TestExpect(t *testing.T) {
	virtual(t, Config{}, nil, func(t *testing.T, h *house, p *pipes) {
		conn, _ := p.dial(t.Context(), "", "")
		defer conn.Close()
		start := time.Now()
		io.WriteString(conn, "POST /v1/messages HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if took := time.Since(start); took > 0 || err != nil || resp.StatusCode != 401 {
			t.Errorf("%v, %v after %v", resp, err, took)
		}
	})
}

// A body that breaks off is the peer's fault, and a peer that leaves is nobody's.
func TestPeerLeaves(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	for _, c := range []struct{ send, want string }{
		{"POST /v1/messages HTTP/1.1\r\nHost: h\r\n" + bobs + "Content-Length: 100\r\n\r\n{", "HTTP/1.1 400 "},
		{"GET /v1/inbox?wait=60 HTTP/1.1\r\nHost: h\r\n" + bobs + "\r\n", ""},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, c.send)
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
	for _, r := range h.srv.Stats().Requests {
		if r.Class[5] > 0 {
			t.Errorf("%s: %v", r.Route, r.Class)
		}
	}
}

const bobs = "Authorization: Basic Ym9iOmJvYi1wYXNzd29yZA==\r\n"

// What clients do wrong is not logged as a fault of the server's.
func TestBadRecipientIsNoError(t *testing.T) {
	core, store := newCore(t, mem.Options{})
	var log bytes.Buffer
	core.Log = slog.New(slog.NewTextHandler(&log, nil))
	serve(t, core, store, Config{}).dialog(`
		alice> POST /v1/messages {"to":"bob b","body":"hi"}
		400 {"type":"urn:posthouse:problem:bad-recipient",*"field":"to"}
		alice> POST /v1/messages [{"to":"@","body":"hi"}]
		207 {"results":[{"id":"","problem":{"type":"urn:posthouse:problem:bad-recipient",*"field":"messages[0].to"}}]}
	`)
	if log.Len() > 0 {
		t.Error(log.String())
	}
}

// A request may be as long as the longest message, escaped, whatever that is.
func TestRequestHoldsTheLongestMessage(t *testing.T) {
	core, store := newCore(t, mem.Options{})
	for body, want := range map[int]int{1 << 10: 8 << 20, 1 << 20: 8 << 20, 16 << 20: 128 << 20} {
		core.Mail = mailbox.New(store, mailbox.Limits{Body: body})
		if got := New(core, Config{}).cfg.MaxRequest; got != want {
			t.Errorf("%d bytes for a body of %d", got, body)
		}
	}
}
