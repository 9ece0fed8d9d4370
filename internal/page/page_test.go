package page

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

var site = Site{Domain: "example.org", Version: "1.2.3", WebSockets: true, Open: []Door{
	{"http", "127.0.0.1:8080"}, {"mqtt", "[::]:1883"}, {"xmpp", "0.0.0.0:5222"}, {"link", "127.0.0.1:7400"}}}

func get(s Site, host, accept string, over *tls.ConnectionState) *http.Response {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host, r.TLS = host, over
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	Handler(s).ServeHTTP(w, r)
	return w.Result()
}

func body(resp *http.Response) string {
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err) // it is a buffer
	}
	return string(b)
}

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// The text is in columns, however long the names are.
func TestColumns(t *testing.T) {
	s := site
	s.Open = append(s.Open, Door{"link-quic", "0.0.0.0:7402"})
	b := body(get(s, "h:1", "*/*", nil))
	for _, want := range []string{"\n  http       8080  HTTP: ", "\n  link-quic  7402  our own long connection over QUIC, on UDP\n"} {
		if !strings.Contains(b, want) {
			t.Errorf("no %q:\n%s", want, b)
		}
	}
}

func TestKinds(t *testing.T) {
	for accept, want := range map[string]string{
		browser: "text/html; charset=utf-8", "*/*": "text/plain; charset=utf-8", "": "text/plain; charset=utf-8",
		"text/plain": "text/plain; charset=utf-8", "text/html;q=0, */*": "text/plain; charset=utf-8",
	} {
		if got := get(site, "h:1", accept, nil).Header.Get("Content-Type"); got != want {
			t.Errorf("Accept %q: %s, want %s", accept, got, want)
		}
	}
}

// The examples can be pasted, and only of what is open.
func TestExamples(t *testing.T) {
	for _, accept := range []string{browser, "*/*"} {
		b := body(get(site, "post.example.org:8080", accept, nil))
		b = strings.NewReplacer("&#34;", `"`, "&#39;", "'").Replace(b)
		for _, want := range []string{
			"http://post.example.org:8080/v1/inbox?wait=30s", `--json '{"to":"bob","id":"m1","body":"hello from curl"}'`,
			"mosquitto_pub -h post.example.org -p 1883 ", "/connect bob@example.org server post.example.org port 5222 ",
			"--link post.example.org:7400 ", "/v1/openapi.json", "/metrics", "/healthz", "/xmpp-websocket", "1.2.3", "this machine only",
		} {
			if !strings.Contains(b, want) {
				t.Errorf("%s: no %s in\n%s", accept, want, b)
			}
		}
		only := Site{Domain: "example.org", Open: []Door{{"http", "127.0.0.1:8080"}, {"strange", "nonsense"}}}
		b = body(get(only, "h", accept, nil))
		for _, not := range []string{"mosquitto", "/connect", "--link", "/mqtt"} {
			if strings.Contains(b, not) {
				t.Errorf("%s: %s is not open", accept, not)
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		host string
		over *tls.ConnectionState
		want string
	}{
		{"h:8080", nil, "http://h:8080/v1/inbox"},
		{"h", nil, "http://h/v1/inbox"},
		{"h", &tls.ConnectionState{}, "https://h/v1/inbox"},
		{"192.0.2.1:80", nil, "http://192.0.2.1:80/v1/inbox"},
		{"[::1]:8080", nil, "http://[::1]:8080/v1/inbox"},
		{"[::1]", nil, "http://[::1]/v1/inbox"},
		// What nobody shall paste into a shell.
		{"$(reboot)", nil, "http://example.org/v1/inbox"},
		{"-rf:80", nil, "http://example.org:80/v1/inbox"},
		{"a b;c", nil, "http://example.org/v1/inbox"},
		{"h:`id`", nil, "http://h/v1/inbox"},
		{"<script>", nil, "http://example.org/v1/inbox"},
		{"", nil, "http://example.org/v1/inbox"},
	} {
		for _, accept := range []string{browser, "*/*"} {
			if b := body(get(site, c.host, accept, c.over)); !strings.Contains(b, c.want) {
				t.Errorf("%q: no %s", c.host, c.want)
			}
		}
	}
}

// The page loads nothing from anywhere, runs nothing, and its policy lets its
// own style through.
func TestPolicy(t *testing.T) {
	resp := get(site, "h", browser, nil)
	b := body(resp)
	for _, not := range []string{"<script", "<img", "<link", "src=", "@import", "url(", "javascript:", " style="} {
		if strings.Contains(b, not) {
			t.Errorf("the page has %s", not)
		}
	}
	m := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(b)
	if m == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(m[1]))
	csp := resp.Header.Get("Content-Security-Policy")
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(csp, want) {
		t.Errorf("the policy %s does not allow the style as sent, %s", csp, want)
	}
	if !strings.HasPrefix(csp, "default-src 'none'") {
		t.Error(csp)
	}
}
