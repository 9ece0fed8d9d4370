package mqtt

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// An empty client identifier is given one, told to the client, as good as one
// of its own, and another each time.
func testAssigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		given := func(who string) string {
			h.play(who + " C: CONNECT 5 clean id= user=alice session-expiry-interval=100")
			_, id, ok := strings.Cut(h.peers[who].read(), "assigned-client-identifier=")
			if !ok {
				t.Fatal("no identifier was assigned")
			}
			id, _, _ = strings.Cut(id, " ")
			return id
		}
		one, two := given("one"), given("two")
		if one == two {
			t.Fatal("assigned twice: ", one)
		}
		h.play(strings.ReplaceAll(`
			one C: SUBSCRIBE #1 x q1
			one S: SUBACK #1 0x01
			one --
			back C: CONNECT 5 id=ID user=alice
			back S: CONNACK 0x00 present*
		`, "ID", one))
	})
}

// Who authenticates again and fails is told so and goes.
func testFailedReauthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		talk := func(pw string, open, answer string) {
			cl, err := scram.SHA256.NewClient("alice", pw, "")
			if err != nil {
				t.Fatal(err)
			}
			conv := cl.NewConversation()
			first, _ := conv.Step("")
			h.play("a C: " + open + " authentication-method=SCRAM-SHA-256 authentication-data=" + hexOf(first))
			got := h.peers["a"].read()
			if !strings.HasPrefix(got, "AUTH 0x18 authentication-method=SCRAM-SHA-256 ") {
				t.Fatal(got)
			}
			_, data, _ := strings.Cut(got, "authentication-data=")
			raw := words2bytes(data)
			proof, err := conv.Step(string(raw))
			if err != nil {
				t.Fatal(err)
			}
			h.play("a C: AUTH 0x18 authentication-method=SCRAM-SHA-256 authentication-data=" + hexOf(proof) + "\na S: " + answer)
		}
		talk("pw", "CONNECT 5 clean id=a", "CONNACK 0x00*")
		talk("wrong", "AUTH 0x19", "DISCONNECT 0x87*")
		h.play("a S: --")
	})
}

// TCP is what the other tests use. Over WebSocket the frames are binary, and
// packets are cut as they come.
func testCarriers(t *testing.T) {
	_, addr := serveTCP(t, Config{})
	ping(t, must(t, addr, "tcp"))

	srv, _ := serveTCP(t, Config{})
	web := httptest.NewServer(srv.WebSocket(t.Context()))
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dial := func() *websocket.Conn {
		c, _, err := websocket.Dial(ctx, web.URL, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		if c.Subprotocol() != "mqtt" {
			t.Fatalf("subprotocol %q", c.Subprotocol())
		}
		return c
	}
	p := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "ws", HasUser: true, User: "alice", HasPassword: true, Password: []byte("pw")}
	in := packet.AppendEmpty(p.Append(nil), packet.PINGREQ)
	// One byte a frame, and all in one.
	for _, size := range []int{1, len(in)} {
		c := dial()
		for i := 0; i < len(in); i += size {
			if err := c.Write(ctx, websocket.MessageBinary, in[i:i+size]); err != nil {
				t.Fatal(err)
			}
		}
		var got []byte
		for !bytes.HasSuffix(got, []byte{0xd0, 0}) {
			typ, b, err := c.Read(ctx)
			if err != nil || typ != websocket.MessageBinary {
				t.Fatal(typ, err)
			}
			got = append(got, b...)
		}
		if got[0] != 0x20 || got[3] != 0 {
			t.Fatalf("%x", got)
		}
	}
	c := dial()
	if err := c.Write(ctx, websocket.MessageText, in); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err == nil {
		t.Fatalf("text was taken: %x", b)
	}
}

// full is a store whose disk is full.
type full struct {
	mailbox.Store
	now bool
}

func (s *full) Append(posts ...*mailbox.Post) {
	if !s.now {
		s.Store.Append(posts...)
		return
	}
	for _, p := range posts {
		p.Err = errors.New("no space left")
		p.Finish()
	}
}

// What cannot be stored is not acknowledged: 3.1.1 has no word for it, and the
// connection ends.
func testTransient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &full{Store: mem.New(mem.Options{})}
		h := &house{t: t, store: st, peers: map[string]*peer{}}
		h.open(true)
		defer func() { h.stop() }()
		h.play(written(4, "a up"))
		st.now = true
		h.play(`
			a C: PUBLISH im/to/bob q1 #1 :x
			a S: --
		`)
	})
}
