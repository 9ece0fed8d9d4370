package transporttest_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/client"
	clientlink "github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	. "github.com/posthouse-im/posthouse/transport/transporttest"
)

// speaker says a word of the moment to bob by one door, and hears tells what
// comes for him by one.
type (
	speaker func(kind string)
	hears   chan string
)

// What is said by any door is heard at each, once.
func TestSignalsCrossDoors(t *testing.T) {
	h := open(t)
	heard := map[string]hears{}
	says := map[string]speaker{}
	for _, name := range []string{"link", "mqtt", "poll", "xmpp"} {
		heard[name] = make(hears, 100)
	}
	linkSignals(t, h, "bob", heard["link"])
	mqttSignals(t, h, "bob", heard["mqtt"])
	events(t, h, heard["poll"])
	xmppSignals(t, h, "bob", heard["xmpp"])
	says["link"] = linkSignals(t, h, "alice", nil)
	says["mqtt"] = mqttSignals(t, h, "alice", nil)
	says["poll"] = func(kind string) { posted(t, h, kind) }
	says["xmpp"] = xmppSignals(t, h, "alice", nil)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if n := present(t, h); n == 4 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("not all of bob's devices are there")
		}
	}
	for _, kind := range []string{"composing", "paused"} {
		for door, say := range says {
			say(kind)
			for at, ears := range heard {
				select {
				case got := <-ears:
					if got != "alice@localhost "+kind {
						t.Errorf("%s, said by %s, came by %s as %q", kind, door, at, got)
					}
				case <-time.After(patience):
					t.Fatalf("%s, said by %s, did not come by %s", kind, door, at)
				}
			}
		}
	}
	for at, ears := range heard {
		if len(ears) > 0 {
			t.Errorf("%s heard %q besides", at, <-ears)
		}
	}
}

const patience = 30 * time.Second

func linkSignals(t *testing.T, h *House, user string, heard hears) speaker {
	t.Helper()
	mb, err := clientlink.Open(t.Context(), clientlink.Config{
		Options: client.Options{Addr: h.Addr["link"], User: user, Password: "secret", Device: "link"},
		OnSignal: func(g clientlink.Signal) {
			if heard != nil {
				heard <- g.From + " " + g.Kind
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mb.Close() })
	return func(kind string) { mb.Signal("bob", kind, nil) }
}

// mqttSignals speaks MQTT 3.1.1, which needs nothing but topics.
func mqttSignals(t *testing.T, h *House, user string, heard hears) speaker {
	t.Helper()
	nc := dialTCP(t, h.Addr["mqtt"])
	text := func(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }
	send := func(first byte, body string) {
		nc.Write(append([]byte{first, byte(len(body))}, body...))
	}
	send(byte(packet.CONNECT)<<4, text("MQTT")+"\x04\xc2\x00\x00"+text("mqtt-"+user)+text(user)+text("secret"))
	if heard != nil {
		send(byte(packet.SUBSCRIBE)<<4|2, "\x00\x01"+text("im/signal/#")+"\x00")
	}
	go func() { // ends with the connection
		r := bufio.NewReader(nc)
		for {
			first, err := r.ReadByte()
			if err != nil {
				return
			}
			size, _ := r.ReadByte() // all of them are short
			body := make([]byte, size)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			if packet.Type(first>>4) == packet.PUBLISH {
				level := strings.Split(string(body[2:]), "/") // no payload
				heard <- level[2] + " " + level[3]
			}
		}
	}()
	return func(kind string) { send(byte(packet.PUBLISH)<<4, text("im/signal-to/bob/"+kind)) }
}

func request(t *testing.T, h *House, user, method, path, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.Addr["poll"]+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		r.Body = http.NoBody
		r.ContentLength = 0
	}
	r.SetBasicAuth(user, "secret")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func events(t *testing.T, h *House, heard hears) {
	t.Helper()
	resp := request(t, h, "bob", "GET", "/v1/events?signals=true&device=poll", "")
	go func() { // ends with the stream
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var g struct{ From, Kind string }
				json.Unmarshal([]byte(data), &g)
				if g.Kind != "" {
					heard <- g.From + " " + g.Kind
				}
			}
		}
	}()
}

func posted(t *testing.T, h *House, kind string) {
	t.Helper()
	if resp := request(t, h, "alice", "POST", "/v1/signals", fmt.Sprintf(`{"to":"bob","kind":%q}`, kind)); resp.StatusCode != http.StatusNoContent {
		t.Errorf("POST /v1/signals: %s", resp.Status)
	}
}

func present(t *testing.T, h *House) int {
	t.Helper()
	var list struct{ Sessions []struct{} }
	if err := json.NewDecoder(request(t, h, "bob", "GET", "/v1/presence", "").Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return len(list.Sessions)
}

// xmppSignals speaks as much XMPP as it takes.
func xmppSignals(t *testing.T, h *House, user string, heard hears) speaker {
	t.Helper()
	nc := dialTCP(t, h.Addr["xmpp"])
	var got string
	until := func(end string) string {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(got, end) {
			n, err := nc.Read(buf)
			if err != nil {
				t.Fatalf("%s waits for %s: %v\n%s", user, end, err, got)
			}
			got += string(buf[:n])
		}
		s, rest, _ := strings.Cut(got, end)
		got = rest
		return s
	}
	stream := func() {
		io.WriteString(nc, "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>")
		until("</stream:features>")
	}
	stream()
	io.WriteString(nc, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	until("<proceed")
	until(">")
	got = ""
	nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	stream()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00secret"))
	io.WriteString(nc, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"+plain+"</auth>")
	until("<success")
	stream()
	io.WriteString(nc, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>xmpp</resource></bind></iq>")
	until("</iq>")
	if heard != nil {
		io.WriteString(nc, "<presence/>")
		until("presence")
		go func() { // ends with the connection
			buf := make([]byte, 4096)
			for {
				n, err := nc.Read(buf)
				if err != nil {
					return
				}
				got += string(buf[:n])
				for {
					stanza, rest, ok := strings.Cut(got, "</message>")
					if !ok {
						break
					}
					got = rest
					_, stanza, _ = strings.Cut(stanza, "<message")
					_, from, _ := strings.Cut(stanza, "from='")
					from, _, _ = strings.Cut(from, "/")
					for _, kind := range []string{"composing", "paused"} {
						if strings.Contains(stanza, "<"+kind+" ") {
							heard <- from + " " + kind
						}
					}
				}
			}
		}()
	}
	return func(kind string) {
		fmt.Fprintf(nc, "<message to='bob@localhost' type='chat'><%s xmlns='http://jabber.org/protocol/chatstates'/></message>", kind)
	}
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}
