package poll

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/coretest"
)

// house is a server with some accounts, on a real listener.
type house struct {
	t      testing.TB
	store  *mem.Store
	core   *transport.Core
	srv    *Server
	url    string
	client *http.Client
	stop   func() // ends Serve and waits for it
}

// newCore has the accounts alice, bob and carol, and shop, a back end; each has
// its name and "-password" as password.
func newCore(t testing.TB, o mem.Options) (*transport.Core, *mem.Store) {
	t.Helper()
	return newCoreAuth(t, o, auth.Config{})
}

func newCoreAuth(t testing.TB, o mem.Options, cfg auth.Config) (*transport.Core, *mem.Store) {
	t.Helper()
	cfg.Tokens = testTokens(t)
	core := coretest.New(t, coretest.Config{Store: o, Limits: mailbox.Limits{Body: 100_000, Attrs: 1000}, Auth: cfg, Loops: -1,
		Password: func(user string) string { return user + "-password" }})
	t.Cleanup(core.Close)
	if err := core.Auth.Add(t.Context(), "shop", "shop-password", auth.RoleApp); err != nil {
		t.Fatal(err)
	}
	return core.Core, core.Store
}

func newHouse(t testing.TB, cfg Config, o mem.Options) *house {
	t.Helper()
	core, store := newCore(t, o)
	return serve(t, core, store, cfg)
}

func serve(t testing.TB, core *transport.Core, store *mem.Store, cfg Config) *house {
	t.Helper()
	return serveTLS(t, core, store, cfg, nil)
}

func serveTLS(t testing.TB, core *transport.Core, store *mem.Store, cfg Config, cert *tls.Config) *house {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, core: core, store: store, srv: New(core, cfg), url: "http://" + ln.Addr().String(),
		client: &http.Client{Transport: &http.Transport{}}}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- h.srv.ServeTLS(ctx, ln, cert) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { h.client.CloseIdleConnections(); h.stop() })
	return h
}

// request makes a request as user, "" for nobody.
func (h *house) request(user, method, path, body string, header ...string) *http.Request {
	h.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, h.url+path, in)
	if err != nil {
		h.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, user+"-password")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return r
}

// do returns the whole answer.
func (h *house) do(r *http.Request) (*http.Response, string) {
	h.t.Helper()
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return resp, strings.TrimSpace(string(body))
}

// dialog plays a conversation. A line "alice> POST /path body" is a request;
// lines "+ Name: value" below it are headers; the line after is the answer
// that is due: status and body, in which * stands for anything and $name for a
// word that is kept the first time and must be the same, or is filled in, after.
// Lines "< Name: value" after that are headers that the answer must have.
func (h *house) dialog(script string) {
	h.t.Helper()
	vars := map[string]string{}
	fill := func(s string) string {
		return filled.ReplaceAllStringFunc(s, func(m string) string {
			if v, ok := vars[m[1:]]; ok {
				return v
			}
			return m
		})
	}
	var req *http.Request
	var resp *http.Response
	var asked string
	for sc := bufio.NewScanner(strings.NewReader(script)); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "+ "):
			name, value, _ := strings.Cut(fill(line[2:]), ": ")
			req.Header.Set(name, value)
		case strings.HasPrefix(line, "< "):
			name, value, _ := strings.Cut(line[2:], ": ")
			got := strings.Join(resp.Header.Values(name), ", ")
			h.match(asked+"\n"+name, value, got, vars)
		case strings.Contains(line, "> "):
			user, rest, _ := strings.Cut(fill(line), "> ")
			parts := strings.SplitN(rest, " ", 3)
			body := ""
			if len(parts) == 3 {
				body = parts[2]
			}
			asked = line
			req = h.request(user, parts[0], parts[1], body)
		default:
			var body string
			resp, body = h.do(req)
			h.match(asked, line, strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, body)), vars)
		}
	}
}

var filled = regexp.MustCompile(`\$[a-z0-9]+`)

var varRef = regexp.MustCompile(`\\\$([a-z0-9]+)`)

func (h *house) match(asked, want, got string, vars map[string]string) {
	h.t.Helper()
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\*`, `.*`)
	var names []string
	pattern = varRef.ReplaceAllStringFunc(pattern, func(m string) string {
		name := m[2:]
		if v, ok := vars[name]; ok {
			return regexp.QuoteMeta(v)
		}
		names = append(names, name)
		return `([A-Za-z0-9_-]+|W/"[^"]*")`
	})
	m := regexp.MustCompile(`(?s)^` + pattern + `$`).FindStringSubmatch(got)
	if m == nil {
		h.t.Fatalf("%s\n got %s\nwant %s", asked, got, want)
	}
	for i, name := range names {
		vars[name] = m[i+1]
	}
}

// post stores a message from user and returns its answer.
func (h *house) post(user, body string) string {
	h.t.Helper()
	resp, got := h.do(h.request(user, "POST", pathMessages, body))
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("post %s: %d %s", body, resp.StatusCode, got)
	}
	return got
}

// until waits for something that another goroutine does.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// last is the newest place in a user's box.
func (h *house) last(user string) mailbox.Seq {
	h.t.Helper()
	info, err := h.core.Mail.Info(h.t.Context(), user+"@localhost")
	if err != nil {
		h.t.Fatal(err)
	}
	return info.Last
}
