package frame

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/internal/golden"
)

// vectors are in testdata of transport/link, where other SDKs find them too.
const vectorFile = "../testdata/vectors.json"

type vectors struct {
	Comment  string          `json:"comment"`
	Frames   []frameVector   `json:"frames"`
	Refused  []refuseVector  `json:"malformed"`
	Messages []msgVector     `json:"messages"`
	Sends    []sendVector    `json:"sends"`
	Deflated []deflateVector `json:"deflated"`
}

type frameVector struct {
	Text string `json:"text"`
	Hex  string `json:"hex"`
}

type refuseVector struct {
	Hex string `json:"hex"`
	Why string `json:"why"`
}

type msgVector struct {
	Seq     uint64      `json:"seq"`
	Prev    uint64      `json:"prev"`
	ID      string      `json:"id"`
	From    string      `json:"from"`
	Device  string      `json:"device,omitempty"`
	To      string      `json:"to,omitempty"`
	Time    int64       `json:"time"`
	Expires int64       `json:"expires,omitempty"`
	Type    string      `json:"type,omitempty"`
	Urgency string      `json:"urgency"`
	Attrs   [][2]string `json:"attrs,omitempty"`
	Left    uint64      `json:"left,omitempty"`
	Body    string      `json:"body64"`
	Hex     string      `json:"hex"`
}

type sendVector struct {
	To   string `json:"to"`
	ID   string `json:"id"`
	Body string `json:"body64"`
	Hex  string `json:"hex"`
}

// What the frames of the vectors say; their bytes are in the file.
var frameTexts = []string{
	`HELLO 1.0 user=alice password=secret device=phone`,
	`HELLO 1.0 token=eyJhbGciOi device=web-1 after=0 network="46001 lte" maxframe=65536 interval=4m30s window=32768 caps=1 prefix=k3f9 agent="posthouse-ts 1.0"`,
	`HELLO 1.0 user=alice password=secret prefix=k3f9 used=0`,
	`HELLO 1.4 user=alice 77=#0102`,
	`HELLO 1.0 token=eyJ network=wifi caps=1 probe=2m44.316s`,
	`HELLO 1.0 token=eyJ network=wifi caps=1 probe=2m44.316s call=1`,
	`HELLO 1.0 token=eyJ network=wifi caps=1 good=4m51s bad=5m2s`,
	`HELLO 2.0 0=#616e797468696e67`,
	`WELCOME 1.0 address=alice@localhost device=phone cursor=300 time=2026-11-22T22:00:00.000Z interval=4m30s maxframe=1122304 window=262144 inflight=4096 peers=32`,
	`WELCOME 1.0 address=alice@localhost device=phone time=2026-11-22T22:00:00.000Z interval=4m30s caps=1 good=4m51s bad=5m2s`,
	`SET interval=5m0s window=4096`,
	`SET interval=4m43s good=4m51s bad=5m2s`,
	`SET token=eyJ`,
	`SET hold=10m0s normal=1`,
	`SET hold=0s`,
	`SET expires=2026-11-22T23:00:00.000Z`,
	`CLOSE code=done`,
	`CLOSE code=draining text="the server restarts" back=7.25s`,
	`CLOSE code=idle back=0s`,
	`CLOSE code=code-99 text="from the future"`,
	`PING`,
	`PONG`,
	`PING #00ff`,
	`PING ack+3`,
	`SEND 0=bob :hello`,
	`SEND 0 :again`,
	`SEND ack+200 1 id+40 :repeated`,
	`SEND 31 id-40 :older`,
	`SEND 0 id=m1 type=application/json urgency=high expires=1h0m0s attr=a,b attr=c,"" :{}`,
	`SEND 0 type=image/gif urgency=very-low :GIF89a`,
	`STORED 1+1`,
	`STORED 64+1`,
	`STORED 1+17 2-3dup 1+3`,
	`REFUSED unknown-recipient text="no such user: nobody@localhost"`,
	`REFUSED conflict`,
	`MSG +1 0=bob@localhost,phone,k3f9 +1500ms :hello`,
	`MSG +1 0 +40ms :again`,
	`MSG +3 prev-3 0 id+2 -5ms urgency=low :x`,
	`MSG +1 1=carol@localhost,"","" id=01J9 +0ms type=text/markdown to=2=alice@localhost,"","" expires=1m0s attr="mqtt:topic",t :*hi*`,
	`MSG +1 1 id=big +9ms type=application/octet-stream left=1048576`,
	`ACK +1`,
	`ACK +16383`,
	`TRIMMED +1000`,
	`SIGNAL 0=bob composing`,
	`SIGNAL ack+2 0 paused`,
	`SIGNAL 1=carol@localhost/phone online`,
	`SIGNAL 0 x-poke #00ff`,
	`SIGNALLED 0=bob@localhost,phone,"" composing`,
	`SIGNALLED 0 offline`,
	`SIGNALLED 3 "a kind" :{"x":1}`,
	`DEVICES`,
	`DEVICES forget=old`,
	`DEVICES ack+1 forget="my pad"`,
	`DEVICELIST phone,link,2026-11-22T22:00:00.000Z,0 "my pad",-,2026-11-01T00:00:00.000Z,17 pc,xmpp,2026-11-01T00:00:00.000Z,3 x,code-9,1970-01-01T00:00:00.000Z,0`,
	`DEVICELIST`,
	`0x15 :from the future`,
	`0x3f ack+1 #00`,
}

var malformedHex = []refuseVector{
	{"0000", "type 0"},
	{"8000", "type 0"},
	{"09020100", "a byte too many"},
	{"090100", "acknowledgement of nothing"},
	{"0900", "acknowledgement without a number"},
	{"09028100", "integer not in its shortest form"},
	{"0908ffffffffffffff7f", "integer over 2^53-1"},
	{"0909ffffffffffffffff01", "integer of more than 8 bytes"},
	{"8400", "the acknowledgement is missing"},
	{"840100", "acknowledgement of nothing"},
	{"6000", "empty send"},
	{"60020105", "ends within the recipient"},
	{"61020000", "empty id"},
	{"61020005", "id's step of 1 given"},
	{"6202000a", "media type number 10"},
	{"6203000000", "empty media type"},
	{"62120000106170706c69636174696f6e2f6a736f6e", "media type spelled out that has a number"},
	{"64020000", "expires at once"},
	{"68020000", "no attributes"},
	{"70020000", "normal urgency given"},
	{"70020008", "urgency 8"},
	{"7003000400", "deflated, of no size"},
	{"700400048002", "256 bytes deflated to none"},
	{"700a00048002" + "010203040506", "256 bytes deflated to 6"},
	{"701500048180" + "04" + strings.Repeat("41", 16), "65537 bytes deflated to 16"},
	{"700500047f" + "0102", "127 bytes deflated to 2"},
	{"5003000000", "more flags, and none set"},
	{"5003800000", "unknown more flag"},
	{"5003400000", "deflated, of no size"},
	{"4103010000", "step of 1 given"},
	{"5006080000000000", "left out, of no bytes"},
	{"5005080000" + "0561", "left out and there"},
	{"0700", "nothing stored"},
	{"07020002", "run of nothing"},
	{"01050100020261", "field cut short"},
	{"01080100020161010161", "fields out of order"},
	{"010401000100", "empty field"},
	{"01050100050180", "integer cut short"},
	{"0421" + strings.Repeat("00", 33), "ping of 33 bytes"},
	{"0105010002" + "01ff", "not UTF-8"},
	{"1201ff", "device's name is not UTF-8"},
	{"130400000000", "device without a name"},
	{"13040170" + "0100", "device cut short"},
	{"1000", "empty signal"},
	{"10020009", "kind of signal 9"},
	{"1003000000", "kind without a name"},
	{"10060000" + "0561736b", "kind cut short"},
	{"1006000003" + "61736b", "kind spelled out that has a number"},
	{"1183080001" + strings.Repeat("00", 1025), "signal of 1025 bytes"},
	{"1108010162" + "0170016b01", "a prefix, and no ids"},
}

var messages = []Message{
	{Seq: 301, Prev: 300, ID: "k3f9.1", From: "bob@localhost", Device: "phone", Time: t0 + 1500, Body: []byte("hello")},
	{Seq: 302, Prev: 301, ID: "k3f9.2", From: "bob@localhost", Device: "phone", Time: t0 + 95000, Body: []byte("hello again")},
	{Seq: 305, Prev: 302, ID: "k3f9.9", From: "bob@localhost", Device: "phone", Time: t0 + 94000, Body: []byte("a counter that jumped")},
	{Seq: 306, Prev: 305, ID: "m1", From: "carol@localhost", Time: t0 + 94001, Media: "application/json", Urgency: UrgencyHigh, Body: []byte("{}")},
	{Seq: 307, Prev: 300, ID: "web.4711", From: "alice@localhost", Device: "web", To: "bob@localhost", Time: t0 + 94002, Body: []byte("own copy after a gap")},
	{Seq: 308, Prev: 307, ID: "web.4712", From: "alice@localhost", Device: "web", To: "bob@localhost", Time: t0 + 95002, Body: []byte("own copy")},
	{Seq: 309, Prev: 308, ID: "x", From: "carol@localhost", Time: t0 + 95003, Expires: t0 + 155003, Attrs: []Attr{{"lang", "fr"}}, Body: []byte("salut")},
	{Seq: 310, Prev: 309, ID: "k4.1", From: "bob@localhost", Device: "phone", Time: t0 + 95004, Media: "image/png", Left: 100000},
}

const t0 = 1795384800000

var sends = []struct{ to, id, body string }{
	{"bob", "k3.1", "one"},
	{"bob", "k3.2", "two"},
	{"carol", "k3.3", "three"},
	{"bob", "k3.7", "after a jump"},
	{"bob", "mine", "an id of the application's"},
	{"dave", "k3.8", "takes bob's number, since only two are allowed"},
	{"bob", "k3.9", "takes carol's"},
}

func makeVectors(t *testing.T) *vectors {
	v := &vectors{Comment: "Link protocol 1.0. frames: each text form and its bytes. malformed: bytes that must be refused. " +
		"messages: one connection's deliveries in order, after a Welcome with cursor=300 time=1795384800000 to alice@localhost. " +
		"sends: one connection's sends in order, after a Hello with prefix=k3 and a Welcome with peers=2."}
	for _, s := range frameTexts {
		f, ack, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		v.Frames = append(v.Frames, frameVector{s, hex.EncodeToString(AppendAck(nil, f, ack))})
	}
	z := Deflate(order(), "application/json")
	for _, f := range []Frame{
		&Send{ID: ID{Step: 1}, Media: "application/json", Deflated: uint64(len(order())), Body: z},
		&Send{ID: ID{Step: 1}, Urgency: UrgencyHigh, Deflated: uint64(len(order())), Body: z},
		&Msg{Step: 1, ID: ID{Step: 1}, Media: "application/json", Deflated: uint64(len(order())), Body: z},
	} {
		v.Frames = append(v.Frames, frameVector{f.String(), hex.EncodeToString(Append(nil, f))})
	}
	v.Refused, v.Deflated = malformedHex, deflateVectors(t)
	w := MsgWriter{Place: 300, Time: t0}
	for _, m := range messages {
		mv := msgVector{Seq: m.Seq, Prev: m.Prev, ID: m.ID, From: m.From, Device: m.Device, To: m.To, Time: m.Time, Expires: m.Expires,
			Type: m.Media, Urgency: m.Urgency.String(), Left: m.Left, Body: b64(m.Body), Hex: hex.EncodeToString(w.Append(nil, &m, 1<<20))}
		for _, a := range m.Attrs {
			mv.Attrs = append(mv.Attrs, [2]string{a.Name, a.Value})
		}
		v.Messages = append(v.Messages, mv)
	}
	sw := SendWriter{Prefix: "k3", Peers: 2}
	for _, s := range sends {
		f := Send{To: sw.To(s.to), ID: sw.ID(s.id), Body: []byte(s.body)}
		v.Sends = append(v.Sends, sendVector{s.to, s.id, b64([]byte(s.body)), hex.EncodeToString(Append(nil, &f))})
	}
	return v
}

func b64(p []byte) string {
	b, _ := json.Marshal(p)
	return strings.Trim(string(b), `"`)
}

// TestVectors: the bytes of the protocol do not change.
func TestVectors(t *testing.T) {
	var now bytes.Buffer
	enc := json.NewEncoder(&now)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	golden.File(t, vectorFile, "run with -rewrite and read the diff", now.Bytes())
	var v vectors
	if err := json.Unmarshal(now.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	for _, f := range v.Frames {
		raw := unhex(t, f.Hex)
		got, ack, err := decodeOne(raw)
		if err != nil {
			t.Errorf("%s: %v", f.Text, err)
			continue
		}
		if again := AppendAck(nil, got, ack); !bytes.Equal(again, raw) {
			t.Errorf("%s: encodes to %x, not %x", f.Text, again, raw)
		}
		if s := Text(got, ack); s != f.Text && !strings.Contains(s, "***") {
			t.Errorf("%x is %q, not %q", raw, s, f.Text)
		}
	}
	for _, f := range v.Refused {
		if got, _, err := decodeOne(unhex(t, f.Hex)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s (%s): got %v, %v", f.Hex, f.Why, got, err)
		}
	}
	r := MsgReader{Place: 300, Time: t0}
	for i, m := range v.Messages {
		f, _, err := decodeOne(unhex(t, m.Hex))
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Read(f.(*Msg))
		if len(got.Body) == 0 {
			got.Body = nil
		}
		if err != nil || !reflect.DeepEqual(got, messages[i]) {
			t.Errorf("message %d is\n%+v, not\n%+v, %v", i, got, messages[i], err)
		}
	}
	sr := NewSendReader("k3")
	for _, s := range v.Sends {
		f, _, err := decodeOne(unhex(t, s.Hex))
		if err != nil {
			t.Fatal(err)
		}
		to, err := sr.To(&f.(*Send).To, 2)
		id, err2 := sr.ID(f.(*Send).ID)
		if err != nil || err2 != nil || to != s.To || id != s.ID {
			t.Errorf("send is to %q id %q, not to %q id %q, %v %v", to, id, s.To, s.ID, err, err2)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func decodeOne(p []byte) (Frame, uint64, error) {
	r, n, err := Next(p, 1<<20)
	if err != nil {
		return nil, 0, err
	}
	if n != len(p) {
		return nil, 0, malformed("%d of %d bytes", n, len(p))
	}
	f, err := Decode(r)
	return f, r.Ack, err
}

// TestOverhead holds the figures that the protocol promises.
func TestOverhead(t *testing.T) {
	w := MsgWriter{Place: 1e6, Time: t0}
	m := Message{Seq: 1e6 + 1, Prev: 1e6, ID: "k3f9.1000000", From: "alice@example.org", Device: "phone", Time: t0 + 1, Body: make([]byte, 256)}
	w.Append(nil, &m, 1<<20)
	// The sender wrote to somebody else in between, and an hour has gone by.
	m.Seq, m.Prev, m.ID, m.Time = m.Seq+5, m.Seq, "k3f9.1000007", m.Time+3600e3
	if n := len(w.Append(nil, &m, 1<<20)) - len(m.Body); n > 10 {
		t.Errorf("%d bytes around a 256-byte message, at most 10", n)
	}
	m.Seq, m.Prev, m.ID, m.Time, m.Body = m.Seq+1, m.Seq, "k3f9.1000008", m.Time+5000, []byte("see you at eight")
	if n := len(w.Append(nil, &m, 1<<20)) - len(m.Body); n > 5 {
		t.Errorf("%d bytes around a short message, at most 5", n)
	}
	if n := len(Append(nil, &Ack{16383})); n > 4 {
		t.Errorf("acknowledgement of %d bytes, at most 4", n)
	}
	if up, down := len(Append(nil, &Ping{})), len(Append(nil, &Pong{})); up > 2 || down > 2 {
		t.Errorf("heartbeat of %d and %d bytes, at most 2 and 2", up, down)
	}
	if n := len(Append(nil, &Send{ID: ID{Step: 1}})); n > 3 {
		t.Errorf("%d bytes around a send, at most 3", n)
	}
}

func TestNextSaysTooLongAtOnce(t *testing.T) {
	if _, _, err := Next([]byte{7, 0x80, 0x80, 1}, 16383); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if _, n, err := Next([]byte{7, 0x80}, 16384); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// What decodes encodes to the same, and so does its text.
func FuzzDecode(f *testing.F) {
	for _, s := range frameTexts {
		fr, ack, err := Parse(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(AppendAck(nil, fr, ack))
	}
	for _, m := range malformedHex {
		p, _ := hex.DecodeString(m.Hex)
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, n, err := Next(p, 1<<16)
		if err != nil || n == 0 {
			return
		}
		fr, err := Decode(r)
		if err != nil {
			return
		}
		if again := AppendAck(nil, fr, r.Ack); !bytes.Equal(again, p[:n]) {
			t.Fatalf("%x decodes to %v, which encodes to %x", p[:n], fr, again)
		}
		s := Text(fr, r.Ack)
		switch f := fr.(type) {
		case *Hello:
			if f.Token+f.Password != "" {
				return
			}
		case *Set:
			if f.Token != "" {
				return
			}
		}
		back, ack, err := Parse(s)
		if err != nil {
			t.Fatalf("%x: text does not parse: %v", p[:n], err)
		}
		if again := AppendAck(nil, back, ack); !bytes.Equal(again, p[:n]) {
			t.Fatalf("%x has the text %q, which encodes to %x", p[:n], s, again)
		}
	})
}

// Any messages come out of the reader as they went into the writer.
func FuzzMessages(f *testing.F) {
	f.Add("bob@localhost", "phone", "k.1", "carol", uint64(2), int64(5), []byte("hi"))
	f.Add("a", "", "x", "", uint64(1), int64(-5), []byte{})
	f.Fuzz(func(t *testing.T, from, device, id, to string, step uint64, dt int64, body []byte) {
		if from == "" || id == "" || step == 0 || step > 1<<40 || dt > 1<<40 || dt < -1<<40 {
			return
		}
		if strings.ToValidUTF8(from+"|"+device+"|"+id+"|"+to, "") != from+"|"+device+"|"+id+"|"+to {
			return
		}
		w, r := MsgWriter{Time: t0}, MsgReader{Time: t0}
		m := Message{Time: t0}
		for i := range 3 {
			m.Prev, m.Seq = m.Seq, m.Seq+step
			m.Time += dt
			m.From, m.Device, m.ID, m.To = from, device, id, to
			if i == 1 {
				m.From, m.ID = from+"2", id+"1"
			}
			m.Body = body
			fr, _, err := decodeOne(w.Append(nil, &m, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Read(fr.(*Msg))
			if len(got.Body) == 0 {
				got.Body = m.Body
			}
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%+v became %+v, %v", m, got, err)
			}
		}
	})
}

func BenchmarkMsg(b *testing.B) {
	w := MsgWriter{Time: t0}
	m := Message{ID: "k3f9.1", From: "alice@example.org", Device: "phone", Time: t0, Body: make([]byte, 64)}
	buf := make([]byte, 0, 128)
	for b.Loop() {
		m.Prev, m.Seq = m.Seq, m.Seq+1
		buf = w.Append(buf[:0], &m, 1<<20)
	}
}

func BenchmarkSendDecode(b *testing.B) {
	p := Append(nil, &Send{ID: ID{Step: 1}, Body: make([]byte, 256)})
	var s Send
	for b.Loop() {
		r, _, _ := Next(p, 1<<20)
		if err := s.Decode(r); err != nil {
			b.Fatal(err)
		}
	}
}
