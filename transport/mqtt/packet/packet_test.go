package packet

import (
	"bytes"
	"testing"
)

// decode reads any packet and returns a function that writes it again.
func decode(v Version, first byte, body []byte) (func([]byte) []byte, error) {
	switch t := Type(first >> 4); t {
	case CONNECT:
		var c Connect
		err := c.Decode(first, body)
		return c.Append, err
	case CONNACK:
		var c Connack
		err := c.Decode(v, first, body)
		return func(b []byte) []byte { return c.Append(b, v) }, err
	case PUBLISH:
		var p Publish
		err := p.Decode(v, first, body)
		return func(b []byte) []byte { return p.Append(b, v) }, err
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		var a Ack
		err := a.Decode(v, first, body)
		return func(b []byte) []byte {
			reason := ""
			if a.Properties != nil {
				reason = a.Properties.Text(ReasonString)
			}
			return AppendAck(b, v, t, a.ID, a.Code, reason)
		}, err
	case SUBSCRIBE:
		var s Subscribe
		err := s.Decode(v, first, body)
		return func(b []byte) []byte { return s.Append(b, v) }, err
	case SUBACK, UNSUBACK:
		var s Suback
		err := s.Decode(v, first, body)
		return func(b []byte) []byte { return s.Append(b, v, t) }, err
	case UNSUBSCRIBE:
		var u Unsubscribe
		err := u.Decode(v, first, body)
		return func(b []byte) []byte { return u.Append(b, v) }, err
	case DISCONNECT:
		var d Disconnect
		err := d.Decode(v, first, body)
		return func(b []byte) []byte { return d.Append(b, v) }, err
	case AUTH:
		var a Auth
		err := a.Decode(first, body)
		return a.Append, err
	default:
		return func(b []byte) []byte { return AppendEmpty(b, t) }, DecodeEmpty(first, body)
	}
}

func text(p Prop, v string) (ps Properties) { ps.SetText(p, v); return ps }

var samples = func() map[string][]byte {
	w := &Will{Topic: "gone", Payload: []byte("x"), QoS: 1, Retain: true}
	w.Properties.SetNum(WillDelay, 5)
	ps := text(ContentType, "text/plain")
	ps.SetNum(MessageExpiry, 60)
	ps.SetNum(SubscriptionID, 300)
	ps.User = []Pair{{"a", "1"}, {"a", "2"}}
	ps.set |= 1 << UserProperty
	return map[string][]byte{
		"connect 3.1":               (&Connect{Version: V31, ClientID: "c", CleanStart: true, KeepAlive: 60}).Append(nil),
		"connect 3.1.1":             (&Connect{Version: V311, ClientID: "c", HasUser: true, User: "u", HasPassword: true, Password: []byte{0}}).Append(nil),
		"connect 3.1.1 of a bridge": (&Connect{Version: V311, Bridge: true, ClientID: "c"}).Append(nil),
		"connect 5":                 (&Connect{Version: V5, Will: w, Properties: text(AuthMethod, "SCRAM-SHA-256")}).Append(nil),
		"connack":                   (&Connack{SessionPresent: true, Properties: text(AssignedClientID, "x")}).Append(nil, V5),
		"publish":                   (&Publish{Topic: []byte("a/b"), Payload: []byte("hi"), QoS: 1, ID: 7, Properties: &ps}).Append(nil, V5),
		"publish long":              (&Publish{Topic: []byte("a/b"), Payload: make([]byte, 300)}).Append(nil, V5),
		"puback":                    AppendAck(nil, V5, PUBACK, 9, Success, ""),
		"pubrec":                    AppendAck(nil, V5, PUBREC, 9, QuotaExceeded, "full"),
		"pubrel":                    AppendAck(nil, V5, PUBREL, 9, PacketIDNotFound, ""),
		"subscribe":                 (&Subscribe{ID: 1, Filters: []Filter{{"a/+", 0x2d}, {"#", 2}}}).Append(nil, V5),
		"suback":                    (&Suback{ID: 1, Codes: []Code{0, 0x87}}).Append(nil, V5, SUBACK),
		"unsubscribe":               (&Unsubscribe{ID: 1, Filters: []string{"a"}}).Append(nil, V5),
		"unsuback":                  (&Suback{ID: 1, Codes: []Code{0x11}}).Append(nil, V5, UNSUBACK),
		"pingreq":                   AppendEmpty(nil, PINGREQ),
		"disconnect":                (&Disconnect{Code: SessionTakenOver, Properties: text(ReasonString, "x")}).Append(nil, V5),
		"auth":                      (&Auth{Code: ContinueAuthentication, Properties: text(AuthData, "\x00x")}).Append(nil),
	}
}()

func version(p []byte) Version {
	if p[0] == byte(CONNECT)<<4 && len(p) > 8 && p[6] == 'T' {
		return Version(p[8])
	}
	return V5
}

func TestRoundTrip(t *testing.T) {
	for name, p := range samples {
		first, body, n, err := Split(p, 0)
		if err != nil || n != len(p) {
			t.Fatalf("%s: split: %d %v", name, n, err)
		}
		again, err := decode(version(p), first, body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := again(nil); !bytes.Equal(got, p) {
			t.Errorf("%s:\n got %x\nwant %x", name, got, p)
		}
	}
}

// Every field of every packet cut off.
func TestTruncated(t *testing.T) {
	for name, p := range samples {
		first, body, _, _ := Split(p, 0)
		for i := range p {
			if _, _, n, err := Split(p[:i], 0); n != 0 || err != nil {
				t.Fatalf("%s cut at %d: %d %v", name, i, n, err)
			}
		}
		for i := range body {
			decode(version(p), first, body[:i:i]) // must not panic
		}
	}
}

func TestSplitLimits(t *testing.T) {
	if _, _, _, err := Split([]byte{0x30, 0xff, 0xff, 0xff, 0xff}, 0); err == nil {
		t.Error("length of five bytes taken")
	}
	if _, _, n, err := Split([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 0); err != nil || n != 0 {
		t.Error(n, err)
	}
	if _, _, _, err := Split([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 1<<20); err == nil {
		t.Error("256 MB taken")
	}
}

func TestValidText(t *testing.T) {
	for s, ok := range map[string]bool{
		"": true, "abc": true, "ключ/名": true, "a b": true, "\ufeff": true, "\U0001f600": true,
		"a\x00": false, "\x01": false, "a\x1f": false, "\x7f": false, "\u009f": false, "\xed\xa0\x80": false, "\xc0\x80": false, "\xff": false, "é\x00": false,
	} {
		if ValidText([]byte(s)) != ok {
			t.Errorf("%q", s)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, p := range samples {
		f.Add(p, byte(5))
		f.Add(p, byte(4))
	}
	f.Fuzz(func(t *testing.T, p []byte, v byte) {
		first, body, n, err := Split(p, 1<<20)
		if err != nil || n == 0 {
			return
		}
		ver := V311
		if v == 5 {
			ver = V5
		}
		again, err := decode(ver, first, body)
		if err != nil {
			return
		}
		b := again(nil)
		first2, body2, n2, err := Split(b, 0)
		if err != nil || n2 != len(b) {
			t.Fatalf("%x became %x: %v", p[:n], b, err)
		}
		third, err := decode(ver, first2, body2)
		if err != nil {
			t.Fatalf("%x became %x: %v", p[:n], b, err)
		}
		if c := third(nil); !bytes.Equal(b, c) {
			t.Fatalf("%x became %x then %x", p[:n], b, c)
		}
	})
}

func BenchmarkDecodePublish(b *testing.B) {
	p := (&Publish{Topic: []byte("room/7/temperature"), Payload: make([]byte, 64), QoS: 1, ID: 9}).Append(nil, V5)
	b.ReportAllocs()
	for b.Loop() {
		first, body, _, _ := Split(p, 1<<20)
		var pub Publish
		if err := pub.Decode(V5, first, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	buf := make([]byte, 0, 256)
	topic, payload := []byte("room/7/temperature"), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendPublish(buf[:0], V5, 2, topic, 9, nil, nil, payload)
	}
}
