package pebble

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

var examples = []mailbox.Message{
	{Time: time.UnixMilli(0).UTC()},
	{ID: "m1", From: "alice@x", To: "bob@x", Time: time.UnixMilli(1900000000123).UTC(), Body: []byte("hello")},
	{
		ID: "m2", From: "alice@x", Device: "phone", To: "bob@x", Type: "image/png", Urgency: mailbox.UrgencyVeryLow,
		Time: time.UnixMilli(1900000000123).UTC(), Expires: time.UnixMilli(1900000009999).UTC(),
		Attrs: []mailbox.Attr{{Name: "a", Value: "b"}, {Name: "", Value: ""}, {Name: "xmpp:x", Value: string(make([]byte, 300))}},
		Body:  bytes.Repeat([]byte{0xff}, 1000),
	},
}

func TestMessage(t *testing.T) {
	for i, m := range examples {
		b := appendMessage(nil, &m)
		if len(b) != messageLen(&m) {
			t.Errorf("%d: %d bytes, messageLen says %d", i, len(b), messageLen(&m))
		}
		got, err := parseMessage(b)
		if err != nil || !reflect.DeepEqual(*got, m) {
			t.Errorf("%d: came back as %+v, %v", i, got, err)
		}
		if at, err := messageTime(b); err != nil || !at.Equal(m.Time) {
			t.Errorf("%d: time %v, %v", i, at, err)
		}
		for n := range len(b) - len(m.Body) {
			if _, err := parseMessage(b[:n]); err == nil {
				t.Errorf("%d: %d of %d bytes are taken", i, n, len(b))
			}
		}
	}
}

// TestMessageBytes holds the format to what is in the package comment.
func TestMessageBytes(t *testing.T) {
	m := mailbox.Message{
		ID: "i", From: "f", Device: "d", To: "t", Type: "y", Urgency: mailbox.UrgencyHigh, Time: time.UnixMilli(258).UTC(),
		Expires: time.UnixMilli(3).UTC(), Attrs: []mailbox.Attr{{Name: "n", Value: "v"}}, Body: []byte("B"),
	}
	want := "\x01\x03\x01\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x03\x01i\x01f\x01d\x01t\x01y\x01\x01n\x01vB"
	if got := string(appendMessage(nil, &m)); got != want {
		t.Errorf("encoded as\n%q, want\n%q", got, want)
	}
	if got, want := string(appendEntryKey(nil, "b", 258)), "eb\x00\x00\x00\x00\x00\x00\x00\x01\x02"; got != want {
		t.Errorf("key %q, want %q", got, want)
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, m := range examples {
		f.Add(appendMessage(nil, &m))
	}
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		if again := appendMessage(nil, m); !bytes.Equal(again, b) {
			t.Errorf("%x is taken and written as %x", b, again)
		}
		if messageLen(m) != len(b) {
			t.Errorf("messageLen %d of %d", messageLen(m), len(b))
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add("id", "from", "dev", "to", "type", "n", "v", int64(1), int64(2), int8(0), []byte("body"))
	f.Add("", "", "", "", "", "", "", int64(-1), int64(0), int8(-2), []byte(nil))
	f.Fuzz(func(t *testing.T, id, from, dev, to, typ, n, v string, at, exp int64, u int8, body []byte) {
		if u < -2 || u > 1 {
			return
		}
		m := mailbox.Message{ID: id, From: from, Device: dev, To: to, Type: typ, Time: time.UnixMilli(at).UTC(), Urgency: mailbox.Urgency(u), Body: body}
		if exp != 0 {
			m.Expires = time.UnixMilli(exp).UTC()
		}
		if n != "" {
			m.Attrs = []mailbox.Attr{{Name: n, Value: v}}
		}
		if m.Expires.IsZero() { // also a time that means none
			m.Expires = time.Time{}
		}
		if len(body) == 0 {
			m.Body = nil
		}
		got, err := parseMessage(appendMessage(nil, &m))
		if err != nil || !reflect.DeepEqual(*got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
	})
}

func FuzzIDRecord(f *testing.F) {
	f.Add(appendIDRecord(nil, 7, time.UnixMilli(9), []mailbox.Seq{1, 300}))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseIDRecord(b)
		if err != nil {
			return
		}
		if again := appendIDRecord(nil, r.digest, r.time, r.seqs); !bytes.Equal(again, b) || idRecordLen(r.seqs) != len(b) {
			t.Errorf("%x is taken and written as %x", b, again)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	m := examples[1]
	m.Body = make([]byte, 256)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendMessage(buf[:0], &m)
	}
}

func BenchmarkDecode(b *testing.B) {
	m := examples[1]
	m.Body = make([]byte, 256)
	buf := appendMessage(nil, &m)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseMessage(buf); err != nil {
			b.Fatal(err)
		}
	}
}
