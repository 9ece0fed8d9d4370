package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/internal/config"
	"github.com/posthouse-im/posthouse/internal/control"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// served is a server with the options of a file, on free ports of the loopback.
type served struct {
	t    *testing.T
	data string
	out  string            // what it printed
	addr map[string]string // by name of door
}

// everyDoor opens all that there are.
const everyDoor = `
listen:
  http: 127.0.0.1:0
  https: 127.0.0.1:0
  mqtt: 127.0.0.1:0
  mqtts: 127.0.0.1:0
  mqtt_sn: 127.0.0.1:0
  xmpp: 127.0.0.1:0
  xmpps: 127.0.0.1:0
  link: 127.0.0.1:0
  links: 127.0.0.1:0
  link_quic: 127.0.0.1:0
`

// serveFile serves with the options in text; alice and bob have the password
// secret.
func serveFile(t *testing.T, text string) *served {
	t.Helper()
	dir := t.TempDir()
	s := &served{t: t, data: filepath.Join(dir, "data"), addr: map[string]string{}}
	file := filepath.Join(dir, "posthouse.yaml")
	if err := os.WriteFile(file, []byte("data: "+s.data+everyDoor+text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() { // ends with ctx
		err := serve(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), pw)
		pw.Close()
		ended <- err
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(pr)
	for lines.Scan() && lines.Text() != "Ready." {
		s.out += lines.Text() + "\n"
	}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+) +(\S+:\d+)`).FindAllStringSubmatch(s.out, -1) {
		s.addr[m[1]] = m[2]
	}
	if len(s.addr) != 10 {
		t.Fatalf("not everything is open:\n%s", s.out)
	}
	accounts, err := control.Dial(s.data)
	if err != nil {
		t.Fatal(err)
	}
	defer accounts.Close()
	for _, u := range []string{"alice", "bob"} {
		if err := accounts.Add(t.Context(), u, "secret", 0); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// ask makes a request as alice, with a body if there is one.
func (s *served) ask(path, body string, header ...string) (int, string) {
	s.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr["http"]+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth("alice", "secret")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// say sends text to a door and returns what comes until it has want in it, or
// the door closes.
func (s *served) say(door, text, want string) string {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr[door])
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(nc, text)
	var got []byte
	for b := make([]byte, 4096); want == "" || !bytes.Contains(got, []byte(want)); {
		n, err := nc.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			break
		}
	}
	return string(got)
}

// What every section of the file says reaches the part of the server that it is
// for. That each option bites there, the tests of those parts show.
func TestSectionsReachTheirParts(t *testing.T) {
	plain := serveFile(t, "")
	tuned := serveFile(t, `
domain: example.org
insecure: true
limits: {body: 10}
retention: {count: 1}
store: {sweep: 1ms}
auth: {tokens: {keys: ["HS256:0123456789abcdef0123456789abcdef"]}}
keepalive: {unknown: 1s}
poll: {max_batch: 2}
link: {origins: ["https://app.example"]}
mqtt: {redirect: {server: elsewhere.example, moved: true}}
xmpp: {origins: ["https://app.example"]}
pprof: true
`)
	status := func(s *served, path, body string) string {
		t.Helper()
		code, _ := s.ask(path, body)
		return fmt.Sprint(code)
	}
	socket := func(s *served, path, protocol string) string {
		t.Helper()
		code, _ := s.ask(path, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol", protocol, "Origin", "https://app.example")
		return fmt.Sprint(code)
	}
	for _, c := range []struct {
		section     string
		probe       func(s *served) string
		plain, told string
	}{
		{"domain", func(s *served) string { return s.domain() }, "localhost", "example.org"},
		{"insecure", func(s *served) string {
			features := s.say("xmpp", "<stream:stream to='"+s.domain()+"' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>", "</stream:features>")
			return fmt.Sprint(strings.Contains(features, "<mechanism>PLAIN"))
		}, "false", "true"},
		{"limits", func(s *served) string { return status(s, "/v1/messages", `{"to":"alice","body":"12345678901"}`) }, "200", "413"},
		{"auth", func(s *served) string {
			c, err := control.Dial(s.data)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _, err = c.IssueToken(t.Context(), "alice", "", 0)
			return fmt.Sprint(err == nil)
		}, "false", "true"},
		{"poll", func(s *served) string {
			return status(s, "/v1/messages", `[{"to":"alice","body":"1"},{"to":"alice","body":"2"},{"to":"alice","body":"3"}]`)
		}, "200", "413"},
		{"link", func(s *served) string { return socket(s, "/link", frame.Protocol) }, "403", "101"},
		{"xmpp", func(s *served) string { return socket(s, "/xmpp-websocket", "xmpp") }, "403", "101"},
		{"mqtt", func(s *served) string {
			// MQTT 5.0 section 3.2.2.2: 0x9D, Server moved.
			return fmt.Sprint(strings.Contains(s.say("mqtt", "\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc", ""), "\x9d"))
		}, "false", "true"},
		{"pprof", func(s *served) string { return status(s, "/debug/pprof/cmdline", "") }, "404", "200"},
	} {
		if got := c.probe(plain); got != c.plain {
			t.Errorf("%s: by default %q, want %q", c.section, got, c.plain)
		}
		if got := c.probe(tuned); got != c.told {
			t.Errorf("%s: %q, want %q", c.section, got, c.told)
		}
	}

	// The rest needs time. keepalive: a poll is held as long as a network that
	// nothing is known of bears.
	start := time.Now()
	if code, body := tuned.ask("/v1/inbox?wait=300", ""); code != 200 || time.Since(start) > time.Minute {
		t.Errorf("keepalive: %d %s after %v", code, body, time.Since(start))
	}
	// retention and store: all but one message go, soon.
	for range 3 {
		tuned.ask("/v1/messages", `{"to":"alice","body":"x"}`)
	}
	for {
		if _, body := tuned.ask("/v1/inbox", ""); strings.Count(body, `"seq"`) == 1 {
			break
		}
	}
}

// domain is the one whose users are served.
func (s *served) domain() string {
	m := regexp.MustCompile(`for the users of ([a-z.]+)`).FindStringSubmatch(s.out)
	if m == nil {
		s.t.Fatalf("no domain in\n%s", s.out)
	}
	return m[1]
}

// A certificate and its key are what is shown, and who has none that the
// authority has signed is shown the door where that is required.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	own, err := certs.Open(certs.Options{Dir: dir, Domain: "elsewhere.example"})
	if err != nil {
		t.Fatal(err)
	}
	file, _ := own.Made()
	key := filepath.Join(dir, "key.pem")
	s := serveFile(t, "tls: {cert: "+file+", key: "+key+", clients: required, client_ca: "+file+"}\n")
	for _, door := range []string{"https", "mqtts", "links", "xmpps"} {
		nc, err := tls.Dial("tcp", s.addr[door], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("%s: %v", door, err)
			continue
		}
		defer nc.Close()
		if got := nc.ConnectionState().PeerCertificates[0].DNSNames; !slices.Contains(got, "elsewhere.example") {
			t.Errorf("%s: the certificate is for %q", door, got)
		}
		nc.SetDeadline(time.Now().Add(time.Second))
		_, err = nc.Read(make([]byte, 1))
		if told := err != nil && strings.Contains(err.Error(), "certificate required"); told != (door != "xmpps") {
			t.Errorf("%s: %v", door, err)
		}
	}
}

// Send and tail believe the certificate that the server has made, or none but
// that, over TLS by every way.
func TestCA(t *testing.T) {
	s := serveFile(t, "")
	mine := filepath.Join(s.data, "cert.pem")
	other, err := certs.Open(certs.Options{Dir: t.TempDir(), Domain: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	theirs, _ := other.Made()
	key := filepath.Join(s.data, "key.pem")
	ways := map[string][]string{
		"poll": {"--https=" + s.addr["https"]},
		"mqtt": {"--mqtts=" + s.addr["mqtts"]},
		"xmpp": {"--xmpp=" + s.addr["xmpp"]}, // by STARTTLS
		"link": {"--links=" + s.addr["links"]},
	}
	try := func(ca, via string, way []string) string {
		args := append([]string{"send", "--as=alice", "--password=secret", "--to=bob", "--ca=" + ca, "--via=" + via}, way...)
		_, out, errs := command(t, "", append(args, "hello by "+via)...)
		return out + errs
	}
	quic := []string{"--link=quic://" + s.addr["link-quic"]}
	for via, way := range ways {
		if got := try(mine, via, way); !strings.HasPrefix(got, "stored ") {
			t.Errorf("%s: %s", via, got)
		}
		if got := try(theirs, via, way); !strings.Contains(got, "unknown authority") || !strings.Contains(got, "it is not one of "+theirs) {
			t.Errorf("%s, with another's: %s", via, got)
		}
	}
	if got := try(mine, "link", quic); !strings.HasPrefix(got, "stored ") {
		t.Errorf("quic: %s", got)
	}
	if got := try(theirs, "link", quic); !strings.Contains(got, "it is not one of "+theirs) {
		t.Errorf("quic, with another's: %s", got)
	}
	for ca, want := range map[string]string{
		filepath.Join(s.data, "none.pem"): "--ca: open ",
		key:                               "--ca: " + key + " has no certificate in PEM",
	} {
		if got := try(ca, "poll", ways["poll"]); !strings.Contains(got, want) {
			t.Errorf("--ca=%s: %q, want %s", ca, got, want)
		}
	}
	if got := try(mine, "mqtt", []string{"--mqtt=" + s.addr["mqtt"]}); !strings.Contains(got, "the mqtt door at "+s.addr["mqtt"]+" has none: give its address with --mqtts") {
		t.Errorf("without TLS: %s", got)
	}
	if err := (via{name: "link"}).failed(x509.UnknownAuthorityError{}); !strings.HasSuffix(err.Error(), "(--ca FILE says whom to believe)") {
		t.Error(err)
	}
	_, out, errs := command(t, "", "tail", "--as=bob", "--password=secret", "--count=5", "--ca="+mine, ways["link"][0])
	if strings.Count(out, "\n") != 5 || strings.Contains(errs, "posthouse:") {
		t.Errorf("tail: %s%s", out, errs)
	}
}

// stamp is where a line of the log begins with the time.
var stamp = regexp.MustCompile(`\{?"?time"?[=:]\S+?[ ,]`)

func TestLog(t *testing.T) {
	for _, c := range []struct {
		log  config.Log
		want string
	}{
		{config.Default().Log, "level=INFO msg=hello\n"},
		{config.Log{Format: "text", Level: slog.LevelDebug}, "level=DEBUG msg=low\nlevel=INFO msg=hello\n"},
		{config.Log{Format: "json", Level: slog.LevelWarn}, ""},
		{config.Log{Format: "json", Level: slog.LevelInfo}, `"level":"INFO","msg":"hello"}` + "\n"},
	} {
		var b strings.Builder
		log := newLog(c.log, &b)
		log.Debug("low")
		log.Info("hello")
		if got := stamp.ReplaceAllString(b.String(), ""); got != c.want {
			t.Errorf("%+v: %q, want %q", c.log, got, c.want)
		}
	}
}
