package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "posthouse.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestNothingSet(t *testing.T) {
	c, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Domain != "localhost" || c.Listen.HTTP != "127.0.0.1:8080" || c.Listen.MQTT != "127.0.0.1:1883" ||
		c.Listen.XMPP != "127.0.0.1:5222" || c.Listen.Link != "127.0.0.1:7400" || len(c.Listen.All()) != 4 {
		t.Errorf("got %+v", c)
	}
}

// A flag goes before the environment, that before the file, that before the default.
func TestPrecedence(t *testing.T) {
	src := Sources{
		File: write(t, "domain: file\ndata: file\nlisten:\n  http: :1\n  mqtt: :1\n  link: \n"),
		Env: env(map[string]string{
			"POSTHOUSE_DATA": "env", "POSTHOUSE_HTTP": ":2", "POSTHOUSE_MQTT": "", "POSTHOUSE_LIMITS_BODY": "",
			"POSTHOUSE_RETENTION_AGE": "30d",
		}),
		Flags: map[string]string{"listen.http": ":3", "limits.body": "2MiB"},
	}
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ what, got, want string }{
		{"domain from the file", c.Domain, "file"},
		{"data from the environment", c.Data, "env"},
		{"http from the flag", c.Listen.HTTP, ":3"},
		{"mqtt turned off by an empty variable", c.Listen.MQTT, ""},
		{"link turned off by an empty key", c.Listen.Link, ""},
		{"xmpp by default", c.Listen.XMPP, "127.0.0.1:5222"},
	} {
		if f.got != f.want {
			t.Errorf("%s: %q, want %q", f.what, f.got, f.want)
		}
	}
	if c.Limits.Body != 2<<20 || c.Retention.Age != 30*24*time.Hour {
		t.Errorf("body %d, age %v", c.Limits.Body, c.Retention.Age)
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"unknown key", "domain: a\n\ndomian: b\n", "posthouse.yaml:3: there is no option domian; did you mean domain?"},
		{"unknown key in a section", "listen:\n  htp: x\n", "posthouse.yaml:2: there is no option listen.htp; did you mean listen.http?"},
		{"right key, wrong place", "body: 5\n", "posthouse.yaml:1: there is no option body; did you mean limits.body?"},
		{"unknown section", "turbo:\n  on: true\n", "posthouse.yaml:1: there is no option turbo"},
		{"twice", "domain: a\ndomain: b\n", "domain"},
		{"section as value", "listen: 5\n", "posthouse.yaml:1: listen holds options, not a value"},
		{"value as section", "domain:\n  a: b\n", "posthouse.yaml:2: domain: a plain value is wanted"},
		{"not a duration", "retention:\n  age: soon\n", `posthouse.yaml:2: retention.age: "soon" is not a duration`},
		{"not a number", "limits:\n  body: big\n", `posthouse.yaml:2: limits.body: "big" is not a whole number`},
		{"too large", "limits:\n  body: 9223372036854775807GiB\n", "out of range"},
		{"not a level", "log:\n  level: loud\n", "posthouse.yaml:2: log.level"},
		{"not a boolean", "pprof: perhaps\n", `posthouse.yaml:1: pprof: "perhaps" is not true or false`},
		{"not YAML", "a: [\n", "posthouse.yaml: yaml"},
		{"federation", "listen:\n  xmpp_s2s: :5269\n", "does not federate"},
		{"insecure outside", "insecure: true\nlisten:\n  mqtt: 0.0.0.0:1883\n", "0.0.0.0:1883 (listen.mqtt) can be reached from other machines"},
		{"insecure everywhere", "insecure: true\nlisten:\n  mqtt: :1883\n", "can be reached"},
		{"no port", "listen:\n  mqtt: localhost\n", `listen.mqtt: "localhost" is not host:port`},
		{"lists of nobody", "tls:\n  client_crl: crl.pem\n", "tls.client_crl: whose lists? tls.client_ca is empty"},
		{"half a certificate", "tls:\n  cert: a.pem\n", "tls: cert and key belong together"},
		{"log format", "log:\n  format: xml\n", "neither text nor json"},
		{"no domain", "domain: \n", "is not a domain"},
		{"odd domain", "domain: a b\n", `domain: "a b" is not a domain`},
		{"less than nothing", "limits:\n  body: -5\n", "limits.body: -5 is less than 0"},
		{"no time at all", "poll:\n  max_wait: -1s\n", "poll.max_wait: -1s is less than 0"},
		{"a rule that is none", "mqtt:\n  acl:\n    - publish: [a]\n    - roles: [root]\n      publish: [a/#/b]\n", `config: mqtt.acl: rule 2: roles[0]: "root" is none of user, app and admin`},
		{"a rule for somebody else's", "mqtt:\n  acl: [{users: [a@example.org], publish: [a]}]\n", `mqtt.acl: rule 1: users[0]: "a@example.org" is not at localhost`},
		{"no such QoS", "mqtt:\n  max_qos: 3\n", "mqtt.max_qos: 3 is none of 0, 1 and 2"},
		{"no QoS at all", "mqtt:\n  max_qos:\n", `posthouse.yaml:2: mqtt.max_qos: "" is not a whole number`},
		{"nothing open", "listen: {http: , mqtt: , xmpp: , link: }\n", "every address is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Sources{File: write(t, tt.file)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Below zero is no number of anything, except where the option says what it means.
func TestNegative(t *testing.T) {
	tried := 0
	for _, o := range Options() {
		f, _ := o.owner.FieldByName(o.field)
		if k := f.Type.Kind(); k < reflect.Int || k > reflect.Int64 || o.Key == "log.level" {
			continue
		}
		tried++
		_, err := Load(Sources{Flags: map[string]string{o.Key: "-1"}})
		if f.Type == reflect.TypeFor[time.Duration]() {
			_, err = Load(Sources{Flags: map[string]string{o.Key: "-1s"}})
		}
		if may := strings.Contains(o.Doc, "negative"); may != (err == nil) {
			t.Errorf("%s: %v", o.Key, err)
		}
	}
	if tried < 50 {
		t.Errorf("only %d options are numbers", tried)
	}
}

// Where zero can be said although it is not the default, it is not taken for it.
func TestZero(t *testing.T) {
	c, err := Load(Sources{})
	if err != nil || *c.MQTT.MaxQoS != 2 || !*c.MQTT.RetainAvailable {
		t.Errorf("%v, %v", c.MQTT, err)
	}
	c, err = Load(Sources{File: write(t, "mqtt: {max_qos: 0, retain_available: false}\n")})
	if err != nil || *c.MQTT.MaxQoS != 0 || *c.MQTT.RetainAvailable {
		t.Errorf("%v, %v", c.MQTT, err)
	}
}

// Where a number below zero means something it is taken, and a domain is taken
// however it is written.
func TestTaken(t *testing.T) {
	c, err := Load(Sources{File: write(t, "domain: Example.ORG\nstore: {sweep: -1s, reserve: -1}\nxmpp: {resume_time: -1s}\nlog: {level: debug-4}\n")})
	if err != nil || c.Domain != "example.org" {
		t.Errorf("%v, %v", c, err)
	}
}

// All mistakes of a file are told at once.
func TestAllMistakes(t *testing.T) {
	_, err := Load(Sources{File: write(t, "a1: 1\npprof: x\n")})
	if err == nil || strings.Count(err.Error(), "posthouse.yaml:") != 2 {
		t.Errorf("got %v", err)
	}
}

func TestMistakesElsewhere(t *testing.T) {
	_, err := Load(Sources{Env: env(map[string]string{"POSTHOUSE_RETENTION_AGE": "x"})})
	if err == nil || !strings.Contains(err.Error(), "environment variable POSTHOUSE_RETENTION_AGE") {
		t.Errorf("environment: %v", err)
	}
	_, err = Load(Sources{Flags: map[string]string{"log.format": "x", "limits.bdy": "5"}})
	if err == nil || !strings.Contains(err.Error(), "there is no option limits.bdy; did you mean limits.body?") {
		t.Errorf("flag: %v", err)
	}
	if _, err := Load(Sources{File: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a file that is not there was read")
	}
	got := UnknownEnv([]string{"PATH=x", "POSTHOUSE_DTAA=x", "POSTHOUSE_DATA=y", "POSTHOUSE_CONFIG=z"})
	if len(got) != 1 || got[0] != "POSTHOUSE_DTAA" {
		t.Errorf("unknown environment: %q", got)
	}
}

// The sample is a file that Load takes, as it is and with every option in force.
func TestSample(t *testing.T) {
	if _, err := Load(Sources{File: write(t, Sample())}); err != nil {
		t.Errorf("as it is: %v", err)
	}
	var on strings.Builder
	for line := range strings.SplitSeq(Sample(), "\n") {
		bare := strings.TrimLeft(line, " ")
		if rest, ok := strings.CutPrefix(bare, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = line[:len(line)-len(bare)] + rest
		}
		on.WriteString(line + "\n")
	}
	c, err := Load(Sources{File: write(t, on.String())})
	if err != nil {
		t.Fatalf("with every option: %v", err)
	}
	if def := Default(); c.Listen != def.Listen || c.Data != def.Data {
		t.Errorf("got %+v, want the defaults", c)
	}
}

func TestOptionNames(t *testing.T) {
	want := map[string][2]string{
		"listen.xmpp_s2s": {"POSTHOUSE_XMPP_S2S", "xmpp-s2s"},
		"listen.https":    {"POSTHOUSE_HTTPS", "https"},
		"data":            {"POSTHOUSE_DATA", "data"},
		"retention.ids":   {"POSTHOUSE_RETENTION_IDS", ""},
	}
	for _, o := range Options() {
		if w, ok := want[o.Key]; ok {
			if w != [2]string{o.Env, o.Flag} {
				t.Errorf("%s: %s --%s", o.Key, o.Env, o.Flag)
			}
			delete(want, o.Key)
		}
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
	for name, key := range map[string]string{"MaxKeepalive": "max_keepalive", "HTTPAddr": "http_addr", "IDs": "ids", "MaxIDs": "max_ids", "CORSOrigins": "cors_origins", "Body": "body"} {
		if got := snake(name); got != key {
			t.Errorf("snake(%s) = %s, want %s", name, got, key)
		}
	}
}

func TestShow(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", 2 * time.Minute: "2m"} {
		got := showDuration(d)
		back, err := parseDuration(got)
		if got != want || err != nil || back != d {
			t.Errorf("%v is shown as %s and read as %v, %v", d, got, back, err)
		}
	}
}

type rule struct {
	Users []string
	Deny  bool
}

// A list of structs is read entry by entry.
func TestRecords(t *testing.T) {
	type holder struct{ Rules []rule }
	if opts, _ := walk(reflect.TypeFor[holder](), "", "", nil); len(opts) != 1 || opts[0].records() != reflect.TypeFor[rule]() {
		t.Fatalf("%+v", opts)
	}
	for text, want := range map[string]string{
		"- users: [a, b]\n  deny: true\n- users: c\n": "",
		"[]":              "",
		"- usrs: a\n":     "x:1: mqtt.acl: an entry has no usrs",
		"- deny: maybe\n": "x:1: mqtt.acl: deny: \"maybe\" is not true or false",
		"- a\n":           "x:1: mqtt.acl: each entry has names and values",
		"a: b\n":          "x:1: mqtt.acl: a list is wanted",
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		r := fileReader{file: "x"}
		list := r.recordList("mqtt.acl", reflect.TypeFor[rule](), doc.Content[0])
		err := errors.Join(r.errs...)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if text != "[]" && !reflect.DeepEqual(list.Interface(), []rule{{[]string{"a", "b"}, true}, {[]string{"c"}, false}}) {
			t.Errorf("%q: %+v", text, list)
		}
	}
}

func TestRecordsElsewhere(t *testing.T) {
	c, err := Load(Sources{Env: env(map[string]string{"POSTHOUSE_MQTT_ACL": "[{users: [a], publish: ['x/#']}]"})})
	if err != nil || len(c.MQTT.ACL) != 1 || c.MQTT.ACL[0].Publish[0] != "x/#" {
		t.Errorf("%v %v", c, err)
	}
}

// A list of records may hold lists of records.
func TestBridges(t *testing.T) {
	c, err := Load(Sources{Env: env(map[string]string{"POSTHOUSE_MQTT_BRIDGES": `
- name: old
  address: mqtt://localhost
  keep_alive: 10s
  topics:
    - {filter: "#", direction: both, qos: 2}
    - {filter: x, direction: in, local_prefix: a/}`})})
	if err != nil {
		t.Fatal(err)
	}
	b := c.MQTT.Bridges
	if len(b) != 1 || b[0].KeepAlive != 10*time.Second || len(b[0].Topics) != 2 || b[0].Topics[0].QoS != 2 || b[0].Topics[1].LocalPrefix != "a/" {
		t.Errorf("%+v", b)
	}
	for text, want := range map[string]string{
		"[{name: a, address: 'mqtt://x', topics: [{filtr: x}]}]": "mqtt.bridges.topics: an entry has no filtr",
		"[{name: a, address: 'mqtt://x', topics: x}]":            "mqtt.bridges.topics: a list is wanted",
		"[{name: a, address: x}]":                                "not of the form mqtt://",
	} {
		if _, err := Load(Sources{Env: env(map[string]string{"POSTHOUSE_MQTT_BRIDGES": text})}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
