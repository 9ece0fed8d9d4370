//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A way is a client of somebody else, or our own, that can send and receive.
type way struct {
	name string
	door string
	// binary says that the client can send and receive bytes that are no text.
	binary bool
	// missing says why the client cannot be used here; nil means it can always.
	missing func() string
	// send sends each body from alice to bob, and returns when they are stored.
	send func(t *testing.T, s *server, bodies [][]byte)
	// receive returns the bodies of the next n messages to bob.
	receive func(t *testing.T, s *server, n int) [][]byte
}

func (w way) need(t *testing.T) {
	t.Helper()
	if w.missing != nil {
		if why := w.missing(); why != "" {
			missing(t, why)
		}
	}
}

var ways = []way{
	{name: "curl", door: "poll", binary: true, missing: notInstalled("curl"), send: curlSend, receive: curlReceive},
	{name: "mosquitto 3.1.1", door: "mqtt", binary: true, missing: notInstalled("mosquitto_pub", "mosquitto_sub"), send: mosquittoSend("311"), receive: mosquittoReceive("311")},
	{name: "mosquitto 5", door: "mqtt", binary: true, missing: notInstalled("mosquitto_pub", "mosquitto_sub"), send: mosquittoSend("5"), receive: mosquittoReceive("5")},
	{name: "slixmpp", door: "xmpp", missing: noSlixmpp, send: slixSend(""), receive: slixReceive("")},
	{name: "slixmpp TLS", door: "xmpp", missing: noSlixmpp, send: slixSend("direct"), receive: slixReceive("direct")},
	{name: "MQTT.js", door: "mqtt", binary: true, missing: noNode("mqtt"), send: jsSend("mqtt", "mqtt://", "mqtt", ""), receive: jsReceive("mqtt", "mqtt://", "mqtt", "")},
	{name: "MQTT.js TLS", door: "mqtt", binary: true, missing: noNode("mqtt"), send: jsSend("mqtt", "mqtts://", "mqtts", ""), receive: jsReceive("mqtt", "mqtts://", "mqtts", "")},
	{name: "MQTT.js WebSocket", door: "mqtt", binary: true, missing: noNode("mqtt"), send: jsSend("mqtt", "ws://", "http", "/mqtt"), receive: jsReceive("mqtt", "ws://", "http", "/mqtt")},
	{name: "xmpp.js", door: "xmpp", missing: noNode("@xmpp/client"), send: jsSend("xmpp", "xmpp://", "xmpp", ""), receive: jsReceive("xmpp", "xmpp://", "xmpp", "")},
	{name: "xmpp.js TLS", door: "xmpp", missing: noNode("@xmpp/client"), send: jsSend("xmpp", "xmpps://", "xmpps", ""), receive: jsReceive("xmpp", "xmpps://", "xmpps", "")},
	{name: "posthouse link", door: "link", binary: true, send: ownSend("link"), receive: ownReceive("link")},
	{name: "posthouse poll", door: "poll", binary: true, send: ownSend("poll"), receive: ownReceive("poll")},
	{name: "posthouse mqtt", door: "mqtt", binary: true, send: ownSend("mqtt"), receive: ownReceive("mqtt")},
	{name: "posthouse xmpp", door: "xmpp", binary: true, send: ownSend("xmpp"), receive: ownReceive("xmpp")},
}

func notInstalled(programs ...string) func() string {
	return func() string {
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				return p + " is not installed"
			}
		}
		return ""
	}
}

// python is Debian's own, which Debian's modules belong to.
const python = "/usr/bin/python3"

func noSlixmpp() string {
	if err := exec.Command(python, "-c", "import slixmpp").Run(); err != nil {
		return "slixmpp is not installed for " + python
	}
	return ""
}

func noNode(module string) func() string {
	return func() string {
		if why := notInstalled("node")(); why != "" {
			return why
		}
		if _, err := os.Stat(filepath.Join("node_modules", filepath.FromSlash(module))); err != nil {
			return "the npm package " + module + " is not installed: run npm ci --ignore-scripts in e2e"
		}
		return ""
	}
}

// feed runs a command that ends by itself with input, and returns its output.
func feed(t *testing.T, env []string, input []byte, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = env, bytes.NewReader(input), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s\n%s", name, args, err, out, &errs)
	}
	return string(out)
}

// inbox is what the poll door answers.
type inbox struct {
	Messages []struct {
		Seq, Prev      uint64
		ID, From, Type string
		Body           *string
		Body64         []byte
	}
	Next string
}

func curlSend(t *testing.T, s *server, bodies [][]byte) {
	t.Helper()
	for _, b := range bodies {
		m := map[string]any{"to": "bob", "body": string(b)}
		if !isText(b) {
			m = map[string]any{"to": "bob", "body64": b, "type": "application/octet-stream"}
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		feed(t, cleanEnv(), text, "curl", "-sS", "--fail-with-body", "-u", "alice:secret",
			"--json", "@-", "http://"+s.addr["http"]+"/v1/messages")
	}
}

func curlReceive(t *testing.T, s *server, n int) (bodies [][]byte) {
	t.Helper()
	after := ""
	for len(bodies) < n {
		out := feed(t, cleanEnv(), nil, "curl", "-sS", "--fail-with-body", "-u", "bob:secret",
			"http://"+s.addr["http"]+"/v1/inbox?device=curl&wait=30s"+after)
		var in inbox
		if err := json.Unmarshal([]byte(out), &in); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, m := range in.Messages {
			if m.Body != nil {
				bodies = append(bodies, []byte(*m.Body))
			} else {
				bodies = append(bodies, m.Body64)
			}
		}
		if len(in.Messages) == 0 {
			t.Fatalf("nothing came in 30 s; %d messages so far", len(bodies))
		}
		after = "&after=" + in.Next
	}
	return bodies
}

func mosquittoSend(version string) func(*testing.T, *server, [][]byte) {
	return func(t *testing.T, s *server, bodies [][]byte) {
		t.Helper()
		host, port := hostPort(s.addr["mqtt"])
		for _, b := range bodies {
			feed(t, cleanEnv(), b, "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", "1",
				"-u", "alice", "-P", "secret", "-i", "mosquitto-send", "-t", "im/to/bob", "-s")
		}
	}
}

// waits is how many seconds mosquitto_sub waits for what it is to get: less than patience.
const waits = "100"

func mosquittoReceive(version string) func(*testing.T, *server, int) [][]byte {
	return func(t *testing.T, s *server, n int) (bodies [][]byte) {
		t.Helper()
		host, port := hostPort(s.addr["mqtt"])
		out := feed(t, cleanEnv(), nil, "mosquitto_sub", "-h", host, "-p", port, "-V", version, "-q", "1", "-c",
			"-u", "bob", "-P", "secret", "-i", "mosquitto"+version, "-t", "im/inbox/#",
			"-C", fmt.Sprint(n), "-W", waits, "-F", "%x")
		for _, line := range strings.Fields(out) {
			b, err := hex.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, b)
		}
		return bodies
	}
}

func slixSend(tls string) func(*testing.T, *server, [][]byte) {
	return func(t *testing.T, s *server, bodies [][]byte) {
		t.Helper()
		feed(t, append(cleanEnv(), "SLIX_TLS="+tls), encode(bodies), python, slixArgs(s, tls, "alice", "send", "bob@localhost")...)
	}
}

func slixReceive(tls string) func(*testing.T, *server, int) [][]byte {
	return func(t *testing.T, s *server, n int) [][]byte {
		t.Helper()
		return decode(t, feed(t, append(cleanEnv(), "SLIX_TLS="+tls, "DEVICE=slix"+tls), nil, python, slixArgs(s, tls, "bob", "recv", fmt.Sprint(n))...))
	}
}

func slixArgs(s *server, tls, user, verb, arg string) []string {
	addr := s.addr["xmpp"]
	if tls == "direct" {
		addr = s.addr["xmpps"]
	}
	host, port := hostPort(addr)
	return []string{"py/slix.py", host, port, user, verb, arg}
}

func jsSend(script, scheme, addr, path string) func(*testing.T, *server, [][]byte) {
	return func(t *testing.T, s *server, bodies [][]byte) {
		t.Helper()
		to := "bob"
		if script == "xmpp" {
			to = "bob@localhost"
		}
		feed(t, nodeEnv(), encode(bodies), "node", "js/"+script+".mjs", scheme+s.addr[addr]+path, "alice", "send", to)
	}
}

func jsReceive(script, scheme, addr, path string) func(*testing.T, *server, int) [][]byte {
	return func(t *testing.T, s *server, n int) [][]byte {
		t.Helper()
		return decode(t, feed(t, append(nodeEnv(), "DEVICE="+script+addr), nil, "node", "js/"+script+".mjs", scheme+s.addr[addr]+path, "bob", "recv", fmt.Sprint(n)))
	}
}

// nodeEnv has Node take the server's own certificate.
func nodeEnv() []string {
	return append(cleanEnv(), "NODE_TLS_REJECT_UNAUTHORIZED=0", "NODE_NO_WARNINGS=1")
}

func ownSend(via string) func(*testing.T, *server, [][]byte) {
	return func(t *testing.T, s *server, bodies [][]byte) {
		t.Helper()
		for _, b := range bodies {
			feed(t, s.env(), b, binary, "send", "--via", via, "--as", "alice", "--password", "secret", "--to", "bob", "-")
		}
	}
}

func ownReceive(via string) func(*testing.T, *server, int) [][]byte {
	return func(t *testing.T, s *server, n int) (bodies [][]byte) {
		t.Helper()
		out := feed(t, s.env(), nil, binary, "tail", "--via", via, "--as", "bob", "--password", "secret",
			"--device", "tail-"+via, "--count", fmt.Sprint(n))
		for line := range strings.Lines(out) {
			var m struct {
				Body   *string
				Body64 []byte
			}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if m.Body != nil {
				bodies = append(bodies, []byte(*m.Body))
			} else {
				bodies = append(bodies, m.Body64)
			}
		}
		return bodies
	}
}

func encode(bodies [][]byte) []byte {
	var b bytes.Buffer
	for _, body := range bodies {
		b.WriteString(base64.StdEncoding.EncodeToString(body) + "\n")
	}
	return b.Bytes()
}

func decode(t *testing.T, out string) (bodies [][]byte) {
	t.Helper()
	for line := range strings.Lines(out) {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		bodies = append(bodies, b)
	}
	return bodies
}

func hostPort(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err) // the server has printed it
	}
	return host, port
}

func isText(b []byte) bool { return bytes.IndexByte(b, 0) < 0 }
