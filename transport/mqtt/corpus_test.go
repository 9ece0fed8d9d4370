package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

type corpusGroup struct {
	Group   string       `json:"group"`
	Ver     int          `json:"ver"`
	Connect *bool        `json:"connect"`
	Expect  *bool        `json:"expect_disconnect"`
	Disable bool         `json:"disable"`
	Tests   []corpusTest `json:"tests"`
}

type corpusTest struct {
	Name    string `json:"name"`
	Ver     int    `json:"ver"`
	Connect *bool  `json:"connect"`
	Expect  *bool  `json:"expect_disconnect"`
	Disable bool   `json:"disable"`
	Msgs    []struct {
		Type, Payload, Topic string
		QoS                  int `json:"qos"`
	} `json:"msgs"`
}

// differences are the sequences that we answer otherwise, with the statement of
// the standard that says why we may.
var differences = func() map[string]string {
	m := map[string]string{}
	for why, names := range map[string][]string{
		`3.15.1: "Bits 3,2,1 and 0 of the Fixed Header of the AUTH packet are reserved and MUST all be set to 0. The Client or Server MUST treat any other value as malformed and close the Network Connection" [MQTT-3.15.1-1]`: {
			"AUTH/v5.0   AUTH/F1", "AUTH/v5.0   AUTH/F2", "AUTH/v5.0   AUTH/F4", "AUTH/v5.0   AUTH/F8"},
		`3.14.1: "The Client or Server MUST validate that reserved bits are set to 0. If they are not zero it sends a DISCONNECT packet with a Reason code of 0x81 (Malformed Packet)" [MQTT-3.14.1-1]`: {
			"DISCONNECT/v5.0   DISCONNECT/E1 [MQTT-3.14.1-1]", "DISCONNECT/v5.0   DISCONNECT/E2 [MQTT-3.14.1-1]",
			"DISCONNECT/v5.0   DISCONNECT/E4 [MQTT-3.14.1-1]", "DISCONNECT/v5.0   DISCONNECT/E8 [MQTT-3.14.1-1]"},
		`3.6.1: "Bits 3,2,1 and 0 of the Fixed Header in the PUBREL packet are reserved and MUST be set to 0,0,1 and 0 respectively. The Server MUST treat any other value as malformed and close the Network Connection" [MQTT-3.6.1-1]`: {
			"PUBREL/v5.0   PUBREL/63 unsolicited", "PUBREL/v5.0   PUBREL/64 unsolicited", "PUBREL/v5.0   PUBREL/66 unsolicited", "PUBREL/v5.0   PUBREL/6A unsolicited"},
		`4.3.3: "Until it has received the corresponding PUBREL packet, the receiver MUST acknowledge any subsequent PUBLISH packet with the same Packet Identifier by sending a PUBREC" [MQTT-4.3.3-10], however many`: {
			"PUBLISH/v3.1.1 PUBLISH/34 QoS 2 Dup flow*3", "PUBLISH/v5.0   PUBLISH/34 QoS 2 Dup flow*3"},
	} {
		for _, n := range names {
			m[n] = why
		}
	}
	return m
}()

// TestCorpus plays the packet sequences of the directory that MQTT_CORPUS names
// against a server.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("MQTT_CORPUS")
	if dir == "" {
		t.Skip("MQTT_CORPUS does not name a directory of packet sequences")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no sequences in ", dir, err)
	}
	addr := corpusServer(t)
	total, right := 0, 0
	var mu sync.Mutex
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var groups []corpusGroup
		if err := json.Unmarshal(b, &groups); err != nil {
			t.Fatal(file, err)
		}
		for _, g := range groups {
			for _, ct := range g.Tests {
				name := strings.TrimSuffix(filepath.Base(file), ".json") + "/" + g.Group + "/" + ct.Name
				if g.Disable || ct.Disable {
					continue
				}
				total++
				err := corpusPlay(addr, &g, &ct)
				_, known := differences[name]
				mu.Lock()
				switch {
				case err == nil:
					right++
					if known {
						t.Errorf("%s is as the corpus has it: no difference any more", name)
					}
				case !known:
					t.Errorf("%s: %v", name, err)
				}
				mu.Unlock()
			}
		}
	}
	t.Logf("%d of %d sequences", right, total)
}

// corpusServer is one with the limits that the corpus was written for.
func corpusServer(t *testing.T) string {
	ctx, cancel := context.WithCancel(context.Background())
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	e := conn.New(conn.Config{})
	core := &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Engine: e}
	srv := New(core, Config{
		Anonymous: true, AnonymousTopics: []string{"#", "$SYS/#"},
		MaxPacket: 2_000_000, TopicAliasMaximum: 10, ReceiveMaximum: 20,
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-over; e.Close(); a.Close() })
	return ln.Addr().String()
}

type corpusConn struct {
	net.Conn
	r *bufio.Reader
}

func corpusDial(addr string) (*corpusConn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &corpusConn{nc, bufio.NewReader(nc)}, nil
}

// next reads one packet; io.EOF when the server has closed.
func (c *corpusConn) next(patience time.Duration) ([]byte, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	var p []byte
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			if strings.Contains(err.Error(), "reset") {
				err = io.EOF
			}
			return nil, err
		}
		p = append(p, b)
		if _, body, n, err := packet.Split(p, 0); err != nil {
			return p, err
		} else if n > 0 {
			_ = body
			return p, nil
		}
	}
}

func corpusPlay(addr string, g *corpusGroup, ct *corpusTest) error {
	pick := func(def bool, ps ...*bool) bool {
		for _, p := range ps {
			if p != nil {
				return *p
			}
		}
		return def
	}
	ver := 4
	if g.Ver != 0 {
		ver = g.Ver
	}
	if ct.Ver != 0 {
		ver = ct.Ver
	}
	c, err := corpusDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	const patience = time.Second
	if pick(true, ct.Connect, g.Connect) {
		if err := corpusConnect(c, ver, "client"); err != nil {
			return err
		}
	}
	for i, m := range ct.Msgs {
		switch m.Type {
		case "send":
			if _, err := c.Write(words2bytes(m.Payload)); err != nil {
				return fmt.Errorf("send %d: %w", i, err)
			}
		case "recv":
			want := words2bytes(m.Payload)
			got, err := c.next(patience)
			if err != nil {
				return fmt.Errorf("want %x, got %v", want, err)
			}
			if !corpusSame(want, got, ver) {
				return fmt.Errorf("want %x, got %x", want, got)
			}
		case "publish", "external_publish":
			if err := corpusPublish(addr, m.Topic, m.QoS, m.Payload); err != nil {
				return err
			}
		case "connected_check":
			c.Write([]byte{0xc0, 0})
			if got, err := c.next(patience); err != nil || !bytes.Equal(got, []byte{0xd0, 0}) {
				return fmt.Errorf("connected check: %x %v", got, err)
			}
		case "disconnected_check":
			if got, err := c.next(patience); err != io.EOF {
				return fmt.Errorf("not disconnected: %x %v", got, err)
			}
			return nil
		default:
			return fmt.Errorf("unknown step %q", m.Type)
		}
	}
	if pick(true, ct.Expect, g.Expect) {
		// A refusal that the sequence does not ask for may precede the close.
		got, err := c.next(patience)
		if err == nil && (got[0] == 0xe0 || got[0] == 0x20) {
			got, err = c.next(patience)
		}
		if err != io.EOF {
			return fmt.Errorf("still open: %x %v", got, err)
		}
		return nil
	}
	if _, err := c.Write([]byte{0xc0, 0}); err != nil {
		return fmt.Errorf("closed")
	}
	got, err := c.next(patience)
	if err != nil || !bytes.Equal(got, []byte{0xd0, 0}) {
		return fmt.Errorf("not open any more: %x %v", got, err)
	}
	c.Write([]byte{0xe0, 0})
	return nil
}

func corpusConnect(c *corpusConn, ver int, id string) error {
	p := packet.Connect{Version: packet.Version(ver), CleanStart: true, ClientID: id, KeepAlive: 60}
	c.Write(p.Append(nil))
	got, err := c.next(time.Second)
	if err != nil || got[0] != 0x20 || got[3] != 0 {
		return fmt.Errorf("connect: %x %v", got, err)
	}
	return nil
}

// corpusSame compares a CONNACK by flags and reason only, and what else may
// differ in a reason string by what stands before it.
func corpusSame(want, got []byte, ver int) bool {
	if bytes.Equal(want, got) {
		return true
	}
	if want[0] == 0x20 && got[0] == 0x20 {
		return bytes.Equal(want[2:4], got[2:4])
	}
	if want[0] == 0xe0 && got[0] == 0xe0 && len(want) >= 3 && len(got) >= 3 {
		return want[2] == got[2]
	}
	return false
}

func corpusPublish(addr, topic string, qos int, payload string) error {
	c, err := corpusDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := corpusConnect(c, 4, "helper"); err != nil {
		return err
	}
	p := packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: byte(qos)}
	if qos > 0 {
		p.ID = 1
	}
	c.Write(p.Append(nil, packet.V311))
	switch qos {
	case 1:
		_, err = c.next(time.Second)
	case 2:
		if _, err = c.next(time.Second); err == nil {
			c.Write(packet.AppendAck(nil, packet.V311, packet.PUBREL, 1, 0, ""))
			_, err = c.next(time.Second)
		}
	}
	c.Write([]byte{0xe0, 0})
	return err
}
