package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/internal/config"
	"github.com/posthouse-im/posthouse/mailbox"
)

// command runs a command line and returns its exit status, output and errors.
func command(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(t.Context(), args, program{
		in: strings.NewReader(in), out: &o, err: &e, env: func(string) (string, bool) { return "", false },
	})
	return status, o.String(), e.String()
}

// Every option with a flag of its own has that flag, with its text.
func TestFlags(t *testing.T) {
	var c cli
	parser, err := kong.New(&c, kong.Vars(flagHelp()))
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{}
	for _, n := range parser.Model.Leaves(true) {
		if n.Name == "serve" {
			for _, f := range n.Flags {
				flags[f.Name] = f.Help
			}
		}
	}
	for _, o := range config.Options() {
		if o.Flag == "" {
			continue
		}
		if help, ok := flags[o.Flag]; !ok {
			t.Errorf("serve has no --%s", o.Flag)
		} else if !strings.Contains(help, o.Env) {
			t.Errorf("--%s: %q does not name %s", o.Flag, help, o.Env)
		}
		delete(flags, o.Flag)
	}
	for _, known := range []string{"config", "set", "help"} {
		delete(flags, known)
	}
	if len(flags) != 0 {
		t.Errorf("flags that are no options: %v", flags)
	}
}

// Each flag sets the option of its name.
func TestFlagsSetOptions(t *testing.T) {
	for _, o := range config.Options() {
		if o.Flag == "" {
			continue
		}
		arg := "--" + o.Flag + "=x:1"
		want := "x:1"
		if o.Key == "insecure" || o.Key == "pprof" {
			arg, want = "--"+o.Flag, "true"
		}
		var c cli
		parser, err := kong.New(&c, kong.Vars(flagHelp()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse([]string{"serve", arg}); err != nil {
			t.Errorf("%s: %v", arg, err)
			continue
		}
		src, err := c.Serve.sources(&program{})
		if err != nil || len(src.Flags) != 1 || src.Flags[o.Key] != want {
			t.Errorf("%s: %v %v, want %s=%s", arg, src.Flags, err, o.Key, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{"--help", 0, "Run the server."},
		{"serve --help", 0, "POSTHOUSE_MQTT"},
		{"version", 0, "posthouse "},
		{"", 2, "expected one of"},
		{"serv", 2, "unexpected argument serv"},
		{"serve --set x", 1, "KEY=VALUE is wanted"},
		{"serve --set listen.htp=:1", 1, "did you mean listen.http?"},
		{"send --as alice --password x --to bob --link= hi", 1, "the link door is closed"},
		{"send --as alice --password x --to bob --via pigeon hi", 2, "--via must be one of"},
		{"send --as alice --password x --to bob --attr zone hi", 1, "it should be NAME=VALUE"},
		{"send --as alice --to bob -", 1, "give --password"},
		{"send --as alice --to bob hi", 1, "none on standard input"},
		{"tail", 2, "missing flags: --as=USER"},
		{"user key alice --label a --remove b", 2, "can't be used together"},
		{"user add alice --role king", 2, "king"},
		{"user role alice king", 2, "king"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			status, out, errs := command(t, "", strings.Fields(tt.args)...)
			if status != tt.status || !strings.Contains(out+errs, tt.want) {
				t.Errorf("status %d, want %d and %q:\n%s%s", status, tt.status, tt.want, out, errs)
			}
		})
	}
}

func TestUserCommandsOnTheData(t *testing.T) {
	data := "--data=" + filepath.Join(t.TempDir(), "data")
	user := func(in string, args ...string) (string, string) {
		t.Helper()
		_, out, errs := command(t, in, append([]string{"user"}, append(args, data)...)...)
		return out, errs
	}
	for _, what := range []string{"ls", "rm alice", "passwd alice --password x", "key alice", "token alice"} {
		if _, errs := user("", strings.Fields(what)...); !strings.Contains(errs, "there are no accounts in") {
			t.Errorf("%s before there is anything: %q", what, errs)
		}
	}
	if _, err := os.Stat(strings.TrimPrefix(data, "--data=")); err == nil {
		t.Error("looking for accounts has made a data directory")
	}
	if _, errs := user("secret\n", "add", "Alice"); errs != "" {
		t.Errorf("add: %s", errs)
	}
	if _, errs := user("\n", "add", "bob"); !strings.Contains(errs, "the password is empty") {
		t.Errorf("add without a password: %q", errs)
	}
	if out, errs := user("", "key", "alice", "--label", "shop"); !strings.HasPrefix(out, "pha_") || errs != "" {
		t.Errorf("key: %q %s", out, errs)
	}
	if out, _ := user("", "key", "alice"); !strings.HasPrefix(out, "shop ") {
		t.Errorf("list of keys: %q", out)
	}
	if out, _ := user("", "ls"); !strings.HasPrefix(out, "alice@localhost  user ") || !strings.Contains(out, "1 keys") {
		t.Errorf("ls: %q", out)
	}
	if _, errs := user("", "role", "alice", "app"); errs != "" {
		t.Errorf("role: %s", errs)
	}
	if _, errs := user("", "disable", "alice"); errs != "" {
		t.Errorf("disable: %s", errs)
	}
	if out, _ := user("", "ls"); !strings.HasPrefix(out, "alice@localhost  app ") || !strings.Contains(out, "disabled, 1 keys") {
		t.Errorf("ls of one who is disabled: %q", out)
	}
	if _, errs := user("", "enable", "alice"); errs != "" {
		t.Errorf("enable: %s", errs)
	}
	if out, _ := user("", "ls"); strings.Contains(out, "disabled") {
		t.Errorf("ls of one who is enabled again: %q", out)
	}
	if _, errs := user("", "token", "alice"); errs == "" {
		t.Error("a token was signed without a key")
	}
	out, errs := user("", "token", "alice", "--set=auth.tokens.keys=HS256:0123456789abcdef0123456789abcdef", "--life=1h")
	if strings.Count(out, ".") != 2 || !strings.Contains(errs, "good until") {
		t.Errorf("token: %q %s", out, errs)
	}
	records := func(put ...string) (keys []string) {
		t.Helper()
		cfg := config.Default()
		cfg.Data = strings.TrimPrefix(data, "--data=")
		d, err := openData(&cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for _, key := range put {
			err = errors.Join(err, d.mail.Put(t.Context(), mailbox.Record{Key: key, Value: []byte("x")}))
		}
		err = errors.Join(err, d.mail.Scan(t.Context(), "", func(key string, _ []byte) bool {
			keys = append(keys, key)
			return true
		}))
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	records("xmpp:roster:alice@localhost", "xmpp:private:alice@localhost:ns x", "cost/alice@localhost/phone",
		"mqtt/session/alice@localhost/phone", "mqtt/sub/alice@localhost/phone/0")
	if _, errs := user("", "rm", "alice"); errs != "" {
		t.Errorf("rm: %s", errs)
	}
	if keys := records(); slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, "alice") }) {
		t.Errorf("of alice there is left: %q", keys)
	}
	if out, errs := user("", "ls"); out+errs != "" {
		t.Errorf("ls of nobody: %q", out+errs)
	}
}

// Who forgets the domain that the server has does not make an account that
// nobody can use.
func TestUserAddElsewhere(t *testing.T) {
	data := "--data=" + t.TempDir()
	add := func(args ...string) string {
		t.Helper()
		_, _, errs := command(t, "", append([]string{"user", "add", "--password=x", data}, args...)...)
		return errs
	}
	if errs := add("alice", "--domain=Example.ORG"); errs != "" {
		t.Fatal(errs)
	}
	if errs := add("bob"); !strings.Contains(errs, "are at example.org, not at localhost") {
		t.Errorf("without a domain: %q", errs)
	}
	if errs := add("bob", "--domain=example.org"); errs != "" {
		t.Error(errs)
	}
	if errs := add("bob", "--domain=localhost"); errs != "" {
		t.Error(errs)
	}
	if _, out, errs := command(t, "", "user", "ls", data); errs != "" || strings.Count(out, "\n") != 3 {
		t.Error(out, errs)
	}
}

// What show prints set takes.
func TestRulesCommandsOnTheData(t *testing.T) {
	data := "--data=" + filepath.Join(t.TempDir(), "data")
	rules := func(in string, args ...string) (string, string) {
		t.Helper()
		_, out, errs := command(t, in, append([]string{"mqtt", "rules"}, append(args, data)...)...)
		return out, errs
	}
	if _, _, errs := command(t, "secret\n", "user", "add", "alice", data); errs != "" {
		t.Fatal(errs)
	}
	out, errs := rules("", "show")
	version, rest, _ := strings.Cut(strings.TrimPrefix(out, "# Version "), "\n")
	if len(version) != 16 || rest != "[]\n" || errs != "" {
		t.Errorf("show: %q %s", out, errs)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	text := "- users: [\"alice\"]\n  roles: [\"user\",\"admin\"]\n  publish: [\"a/%u/#\",\"<b>&\\\"'é\"]\n- deny: true\n  subscribe: [\"#\"]\n"
	if err := os.WriteFile(file, []byte("# mine\n"+strings.ReplaceAll(text, `["#"]`, "['#']")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs := rules("", "set", file, "--version="+version); out+errs != "" {
		t.Errorf("set: %q %s", out, errs)
	}
	out, _ = rules("", "show", "--set=mqtt.acl=[{deny: true, publish: [lock]}]")
	if _, rest, _ = strings.Cut(out, "\n"); rest != "# First come those of mqtt.acl in the configuration:\n#   - deny: true\n#     publish: [\"lock\"]\n"+text {
		t.Errorf("show: %q", rest)
	}
	if out, errs := rules(out, "set", "-"); out+errs != "" {
		t.Errorf("set of what show printed: %q %s", out, errs)
	}
	for in, want := range map[string]string{
		"":                           "config: standard input: a list is wanted; [] is an empty one",
		"~":                          "a list is wanted",
		"a: b":                       "standard input:1: list: a list is wanted",
		"- publish: [a]\n  pub: [a]": "standard input:2: list: an entry has no pub",
		"- publish: [a/#/b]":         `rule 1: publish[0]: "a/#/b": not a topic filter`,
		"- deny: perhaps":            "not true or false",
	} {
		if _, errs := rules(in, "set", "-"); !strings.Contains(errs, want) {
			t.Errorf("%q: %q, want %q", in, errs, want)
		}
	}
	if _, errs := rules("[]", "set", "-", "--version="+version); !strings.Contains(errs, "the rules have changed meanwhile") {
		t.Errorf("set of a version long gone: %q", errs)
	}
	for args, want := range map[string]string{
		"alice --publish a/alice/x": "yes, by rule 1 of those that were set\n  - users: [\"alice\"]\n    roles: [\"user\",\"admin\"]\n    publish: [\"a/alice/#\",",
		"alice --subscribe x":       "no, by rule 2 of those that were set\n  - deny: true\n    subscribe: [\"#\"]\n",
		"alice --publish x":         "no, by no rule allowing it\n",
		"alice":                     "rule 1 of those that were set\n",
		"--publish x":               "no, by mqtt.anonymous, which is off",
	} {
		if out, errs := rules("", append([]string{"check"}, strings.Fields(args)...)...); !strings.HasPrefix(out, want) || errs != "" {
			t.Errorf("check %s: %q %s", args, out, errs)
		}
	}
	if _, errs := rules("", "check", "bob", "--publish=x"); !strings.Contains(errs, "no such account") {
		t.Errorf("check of nobody: %q", errs)
	}
	rules("[]", "set", "-")
	if out, _ := rules("", "check", "alice", "--publish=x"); out != "yes, by there being no rules: an account may use every plain topic\n" {
		t.Errorf("without rules: %q", out)
	}
}

func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		name   string
		listen config.Listen
		via    string
		addr   string
		tls    bool
		loose  bool // takes any certificate
		roots  *x509.CertPool
	}{
		{"default", config.Default().Listen, "link", "127.0.0.1:7400", false, false, nil},
		{"poll", config.Default().Listen, "poll", "http://127.0.0.1:8080", false, false, nil},
		{"every interface", config.Listen{MQTT: ":1883"}, "mqtt", "127.0.0.1:1883", false, false, nil},
		{"only TLS", config.Listen{Links: ":7401"}, "link", "127.0.0.1:7401", true, true, nil},
		{"elsewhere, both", config.Listen{Link: "example.org:7400", Links: "example.org:7401"}, "link", "example.org:7401", true, false, nil},
		{"elsewhere, HTTPS", config.Listen{HTTPS: "example.org:443"}, "poll", "https://example.org:443", true, false, nil},
		{"here, both", config.Listen{XMPP: "localhost:5222", XMPPS: "localhost:5223"}, "xmpp", "localhost:5222", false, false, nil},
		{"here, both, and an authority", config.Listen{MQTT: ":1883", MQTTS: ":8883"}, "mqtt", "127.0.0.1:8883", true, false, x509.NewCertPool()},
		{"QUIC, and an authority", config.Listen{LinkQUIC: ":7402"}, "link", "quic://127.0.0.1:7402", true, false, x509.NewCertPool()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := target(&config.Config{Listen: tt.listen}, tt.via, tt.roots)
			if err != nil {
				t.Fatal(err)
			}
			if o.Addr != tt.addr || (o.TLS != nil) != tt.tls || o.TLS != nil && (o.TLS.InsecureSkipVerify != tt.loose || o.TLS.RootCAs != tt.roots) {
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestLine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		m    client.Message
		want string
	}{
		{client.Message{Seq: 2, Prev: 1, ID: "a", From: "alice@localhost", Time: at, Body: []byte("hi")},
			`{"seq":2,"prev":1,"id":"a","from":"alice@localhost","time":"2026-01-02T03:04:05Z","type":"text/plain; charset=utf-8","body":"hi"}`},
		{client.Message{Body: []byte{0xff}}, `{"type":"text/plain; charset=utf-8","body64":"/w=="}`},
		{client.Message{Type: "image/png", Body: []byte("PNG")}, `{"type":"image/png","body64":"UE5H"}`},
		{client.Message{Type: "application/json", Body: []byte("{}")}, `{"type":"application/json","body":"{}"}`},
		{client.Message{}, `{"type":"text/plain; charset=utf-8","body":""}`},
	} {
		got, err := json.Marshal(lineOf(tt.m))
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, want %s (%v)", got, tt.want, err)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify("READY=1"); err != nil {
		t.Errorf("without a supervisor: %v", err)
	}
	dir, err := os.MkdirTemp("", "n") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skip("no Unix datagram sockets here: ", err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	if err := notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}
