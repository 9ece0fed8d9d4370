//go:build unix

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// carrier is a way that MQTT's bytes travel.
type carrier struct {
	name, scheme, addr, path string
}

var carriers = []carrier{
	{"TCP", "mqtt", "mqtt", ""},
	{"TLS", "mqtts", "mqtts", ""},
	{"WebSocket", "ws", "http", "/mqtt"},
	{"WebSocket with TLS", "wss", "https", "/mqtt"},
}

// whatMQTTDoes are the lines that a client prints for what went well.
const whatMQTTDoes = "qos\nretained\nwill\nsession\nmailbox\n"

// Eclipse Paho, MQTT.js and mosquitto's programs do over every carrier that they
// have, in both versions, what applications do: messages of each QoS, retained
// ones, wills, a session kept from one connection to the next, and the mailbox.
// TLS is checked against the server's own certificate.
func TestMQTTClients(t *testing.T) {
	s := start(t)
	s.users("alice", "bob")
	ca := filepath.Join(s.data, "cert.pem")
	for _, version := range []string{"311", "5"} {
		for i, c := range carriers {
			_, port := hostPort(s.addr[c.addr])
			tag := fmt.Sprintf("%s-%d-", version, i)
			t.Run("paho "+version+" "+c.name, func(t *testing.T) {
				if why := noPaho(); why != "" {
					missing(t, why)
				}
				how := map[string]string{"mqtt": "tcp", "mqtts": "tls"}[c.scheme]
				if how == "" {
					how = c.scheme
				}
				out := feed(t, cleanEnv(), nil, python, "py/paho_all.py", how, "localhost", port, version, ca, "paho-"+tag)
				if out != whatMQTTDoes {
					t.Error(out)
				}
			})
			t.Run("MQTT.js "+version+" "+c.name, func(t *testing.T) {
				if why := noNode("mqtt")(); why != "" {
					missing(t, why)
				}
				v := strings.TrimSuffix(version, "11")
				if v == "3" {
					v = "4" // the protocol level of 3.1.1
				}
				out := feed(t, cleanEnv(), nil, "node", "js/mqtt_all.mjs", c.scheme+"://localhost:"+port+c.path, v, ca, "js-"+tag)
				if out != whatMQTTDoes {
					t.Error(out)
				}
			})
			if c.path != "" {
				continue // Debian's mosquitto_sub has no WebSocket
			}
			t.Run("mosquitto "+version+" "+c.name, func(t *testing.T) {
				need(t, "mosquitto_pub", "mosquitto_sub")
				m := mosquitto{t: t, common: []string{"-h", "localhost", "-p", port, "-V", version}, tag: "mosquitto-" + tag, v5: version == "5"}
				if c.scheme == "mqtts" {
					m.common = append(m.common, "--cafile", ca)
				}
				m.all()
			})
		}
	}
}

func noPaho() string {
	if err := exec.Command(python, "-c", "import paho.mqtt.client").Run(); err != nil {
		return "paho is not installed for " + python
	}
	return ""
}

// mosquitto does with mosquitto_pub and mosquitto_sub what the scripts of the
// other clients do.
type mosquitto struct {
	t      *testing.T
	common []string
	tag    string
	v5     bool
}

func (m *mosquitto) args(user, id string, more ...string) []string {
	return append(append([]string{"-u", user, "-P", "secret", "-i", m.tag + id}, m.common...), more...)
}

func (m *mosquitto) pub(user, topic, payload string, more ...string) {
	m.t.Helper()
	feed(m.t, cleanEnv(), nil, "mosquitto_pub", m.args(user, "pub", append([]string{"-t", topic, "-m", payload}, more...)...)...)
}

// sub runs mosquitto_sub until it has what was asked for.
func (m *mosquitto) sub(user, id string, more ...string) string {
	m.t.Helper()
	return feed(m.t, cleanEnv(), nil, "mosquitto_sub", m.args(user, id, append([]string{"-W", waits, "-F", "%t %q %r %p"}, more...)...)...)
}

// listen starts mosquitto_sub and returns when it has subscribed.
func (m *mosquitto) listen(user, id string, more ...string) *process {
	m.t.Helper()
	p := spawn(m.t, cleanEnv(), "", "stdbuf", append([]string{"-oL", "mosquitto_sub", "-d"}, m.args(user, id, append([]string{"-F", "got %t %q %r %p"}, more...)...)...)...)
	p.says(m.t, "Subscribed (mid")
	return p
}

func (m *mosquitto) all() {
	t, tag := m.t, m.tag
	same := func(got, want string) {
		t.Helper()
		if got != want {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	}
	live := m.listen("alice", "live", "-t", tag+"q/#", "-q", "2")
	for _, q := range []string{"0", "1", "2"} {
		m.pub("bob", tag+"q/"+q, "at "+q, "-q", q)
		live.says(t, "got "+tag+"q/"+q+" "+q+" 0 at "+q)
	}

	m.pub("bob", tag+"r", "kept", "-q", "1", "-r")
	same(m.sub("alice", "r", "-t", tag+"r", "-q", "1", "-C", "1"), tag+"r 1 1 kept\n")
	m.pub("bob", tag+"r", "", "-q", "1", "-r")
	m.pub("bob", tag+"r2", "other", "-r")
	same(m.sub("alice", "r", "-t", tag+"r", "-t", tag+"r2", "-C", "1"), tag+"r2 0 1 other\n")

	wills := m.listen("alice", "wills", "-t", tag+"w", "-q", "1")
	m.listen("bob", "dies", "-t", tag+"x", "--will-topic", tag+"w", "--will-payload", "gone", "--will-qos", "1").end()
	wills.says(t, "got "+tag+"w 1 0 gone")

	keep := []string{"-c", "-t", tag + "s", "-q", "2"}
	if m.v5 {
		keep = append(keep, "-x", "3600")
	}
	m.sub("alice", "kept", append(keep, "-E")...)
	want := ""
	for i := range 6 {
		q := 1 + i/3
		m.pub("bob", tag+"s", fmt.Sprint(i), "-q", fmt.Sprint(q))
		want += fmt.Sprintf("%ss %d 0 %d\n", tag, q, i)
	}
	same(m.sub("alice", "kept", append(keep, "-C", "6")...), want)

	m.pub("alice", "im/to/bob", tag, "-q", "1")
	box := m.listen("bob", "phone", "-t", "im/inbox/#", "-q", "1")
	box.says(t, "got im/inbox/alice@localhost 1 0 "+tag)
	m.pub("alice", "im/to/bob", "later "+tag, "-q", "2")
	box.says(t, "got im/inbox/alice@localhost 1 0 later "+tag)
}
