package mqtt

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// What a user of mosquitto finds here as it was there.

// On an open server nobody looks at names and passwords, until somebody has an
// account.
func TestOpenServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, store: mem.New(mem.Options{}), peers: map[string]*peer{}}
		h.cfg = Config{Anonymous: true, AnonymousTopics: []string{"room/#"}}
		h.open(false)
		defer func() { h.stop() }()
		h.play(`
			a C: CONNECT 5 clean id=a user=carol pw=any
			a S: CONNACK 0x00 *
			a C: SUBSCRIBE #1 room/a q0 other q0 im/inbox/# q0
			a S: SUBACK #1 0x00 0x87 0x87
			b C: CONNECT 4 clean id=b user=alice pw=pw
			b S: CONNACK 0x00
		`)
		if err := h.core.Auth.Add(t.Context(), "alice", "pw", 0); err != nil {
			t.Fatal(err)
		}
		h.play(`
			c C: CONNECT 5 clean id=c user=carol pw=any
			c S: CONNACK 0x87
			c S: --
			d C: CONNECT 5 clean id=d user=alice pw=pw
			d S: CONNACK 0x00 *
			d C: SUBSCRIBE #1 other q0
			d S: SUBACK #1 0x00
		`)
	})
}

// A bridge of another broker says here whether it is up, and leaves as its will
// that it is not. Nothing else under $ may be written, nor the state of a bridge
// of ours.
func TestBridgeOfAnotherBroker(t *testing.T) {
	ours := Bridge{Name: "ours", Address: "mqtt://127.0.0.1:1", Topics: []BridgeTopic{{Filter: "x", Direction: "in"}}}
	dialogue(t, Config{Bridges: []Bridge{ours}}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 $SYS/broker/connection/# q1
		a S: SUBACK #1 0x01
		b C: CONNECT 4 id=site.b user=bob will=$SYS/broker/connection/site.b/state q1 retain :0
		b S: CONNACK 0x00
		b C: PUBLISH $SYS/broker/connection/site.b/state q1 #1 retain :1
		b S: PUBACK #1
		a S: PUBLISH $SYS/broker/connection/site.b/state q1 #1 :1
		b --
		a S: PUBLISH $SYS/broker/connection/site.b/state q1 #2 :0
		a C: PUBLISH $SYS/broker/connection/ours/state q1 #1 :1
		a S: PUBACK #1 0x87
		a C: PUBLISH $SYS/broker/connection//state q1 #1 :1
		a S: PUBACK #1 0x87
		a C: PUBLISH $SYS/broker/connection/state q1 #1 :1
		a S: PUBACK #1 0x87
		a C: PUBLISH $SYS/broker/connection/x/other q1 #1 :1
		a S: PUBACK #1 0x87
		c C: CONNECT 5 clean id=c user=bob will=$SYS/broker/connection/ours/state q1 :0
		c S: CONNACK 0x87
		c S: --
	`)
}

// With rules, one of them must allow it.
func TestBridgeOfAnotherBrokerNeedsARule(t *testing.T) {
	dialogue(t, Config{ACL: []acl.Rule{{Users: []string{"alice"}, Publish: []string{"#", "$SYS/broker/connection/+/state"}}, {Publish: []string{"#"}}}}, `
		a C: CONNECT 5 clean id=a user=alice
		a S: CONNACK 0x00 *
		a C: PUBLISH $SYS/broker/connection/x/state q1 #1 :1
		a S: PUBACK #1 0x10
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH $SYS/broker/connection/x/state q1 #1 :1
		b S: PUBACK #1 0x87
	`)
}

// A bridge as mosquitto has it by default comes in, and messages go both ways.
func TestMosquittoBridgesHere(t *testing.T) {
	program := mosquitto(t)
	_, addr := serveTCP(t, Config{})
	_, port, _ := net.SplitHostPort(vacant(t))
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nconnection up\naddress %s\ntopic # both 2\nremote_username bob\nremote_password pw\n", port, addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := must(t, addr, "a")
	defer a.Close()
	a.Write(encode(t, "SUBSCRIBE #1 room/# q1 $SYS/broker/connection/# q1"))
	if _, err := a.next(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	up, err := a.next(20 * time.Second)
	if err != nil || up[len(up)-1] != '1' {
		t.Fatalf("the bridge is not up: %q %v", up, err)
	}
	there := &careful{user: "bob", id: "there"}
	if err := there.connect("127.0.0.1:" + port); err != nil {
		t.Fatal(err)
	}
	if err := there.subscribe("room/#", 1); err != nil {
		t.Fatal(err)
	}
	there.publish("room/a", "from there", 1)
	if got, err := a.next(10 * time.Second); err != nil || string(got[len(got)-10:]) != "from there" {
		t.Fatalf("%q %v", got, err)
	}
	hear(t, there, "from there")
	a.Write(encode(t, "PUBLISH room/b q1 #1 :from here"))
	hear(t, there, "from here")
}

// A topic that has too many levels here does not end a bridge: the message is
// taken from the other broker and left.
func TestBridgeManyLevels(t *testing.T) {
	deep := strings.Repeat("x/", topic.MaxLevels-1) + "x"
	bridged(t, map[string]Config{"b": plain(), "a": toB("5", BridgeTopic{Filter: "#", Direction: "in", QoS: 1, LocalPrefix: "from/b/"})}, `
		open b
		open a
		a anna C: CONNECT 5 clean id=anna
		a anna S: CONNACK*
		a anna C: SUBSCRIBE #1 # q1
		a anna S: SUBACK #1 0x01
		b rolf C: CONNECT 5 clean id=rolf
		b rolf S: CONNACK*
		b rolf C: PUBLISH `+deep+` q1 #1 :deep
		b rolf S: PUBACK #1
		b rolf C: PUBLISH x q1 #2 :flat
		b rolf S: PUBACK #2
		a anna S: PUBLISH from/b/x q1 *
		a anna S: (nothing)
	`)
}

// encode is a packet of 5.0.
func encode(t *testing.T, text string) []byte {
	t.Helper()
	b, err := (&peer{v: packet.V5}).parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mosquitto is where the program is.
func mosquitto(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"/usr/sbin/mosquitto", "mosquitto"} { // Debian's place is not in everybody's path
		if p, err := exec.LookPath(p); err == nil {
			return p
		}
	}
	t.Skip("mosquitto is not installed")
	return ""
}

// What is longer than the client's Maximum Packet Size counts as sent, its
// packet identifier too [MQTT-3.1.2-25].
func TestTooLongUsesAnIdentifier(t *testing.T) {
	dialogue(t, Config{}, `
		a C: CONNECT 5 clean id=a user=alice maximum-packet-size=24
		a S: CONNACK 0x00 *
		a C: SUBSCRIBE #1 room/a q2
		a S: SUBACK #1 0x02
		b C: CONNECT 5 clean id=b user=bob
		b S: CONNACK 0x00 *
		b C: PUBLISH room/a q1 #1 :longer than it takes
		b S: PUBACK #1
		b C: PUBLISH room/a q2 #2 :longer than it takes
		b S: PUBREC #2
		b C: PUBLISH room/a q1 #1 :short
		b S: PUBACK #1
		a S: PUBLISH room/a q1 #3 :short
	`)
}

// So many connections are served, by whichever way they come.
func TestMaxConns(t *testing.T) {
	for name, cfg := range map[string]Config{"in all": {MaxConns: 1}, "from one address": {MaxPerAddr: 1}} {
		srv, addr := serveTCP(t, cfg)
		must(t, addr, "a")
		c, err := corpusDial(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(encode(t, "CONNECT 5 clean id=b user=bob"))
		if got, err := c.next(10 * time.Second); err == nil {
			t.Errorf("%s: a second one comes in: %x", name, got)
		}
		web := httptest.NewServer(srv.WebSocket(t.Context()))
		ws, _, err := websocket.Dial(t.Context(), web.URL, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err == nil {
			_, _, err = ws.Read(t.Context())
			ws.CloseNow()
		}
		if err == nil {
			t.Errorf("%s: a second one comes in by WebSocket", name)
		}
		web.Close()
	}
}

// A web page of another origin may open a WebSocket if that is configured.
func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origins []string
		want    int
	}{
		{nil, http.StatusForbidden},
		{[]string{"https://other.example"}, http.StatusForbidden},
		{[]string{"https://app.example"}, http.StatusSwitchingProtocols},
		{[]string{"*"}, http.StatusSwitchingProtocols},
	} {
		srv, _ := serveTCP(t, Config{Origins: c.origins})
		web := httptest.NewServer(srv.WebSocket(t.Context()))
		ws, answer, err := websocket.Dial(t.Context(), web.URL, &websocket.DialOptions{
			Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"https://app.example"}},
		})
		if err == nil {
			ws.CloseNow()
		}
		if answer == nil || answer.StatusCode != c.want {
			t.Errorf("%v: %v %v, want %d", c.origins, answer, err, c.want)
		}
		web.Close()
	}
}
