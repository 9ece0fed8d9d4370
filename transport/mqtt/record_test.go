package mqtt

import (
	"bytes"
	"testing"
	"time"
)

func FuzzMessage(f *testing.F) {
	m := message{topic: []byte("a/b"), payload: []byte("x"), props: []byte{1, 1}, from: "alice@localhost/a", qos: 2, retain: true, expires: time.UnixMilli(1e12)}
	f.Add(m.encode("$share/g/a/b")[1:])
	f.Add((&will{m: m, delay: time.Second, lasts: true, expiry: 7}).encode(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if m, ok := decodeMessage(p); ok {
			b := m.encode(m.share)
			again, ok := decodeMessage(b[1:])
			if !ok || !bytes.Equal(again.encode(again.share), b) {
				t.Fatalf("%x became %x", p, b)
			}
		}
		if w, ok := decodeWill(&fields{p: p}, "u"); ok {
			b := w.encode(nil)
			if again, ok := decodeWill(&fields{p: b}, "u"); !ok || !bytes.Equal(again.encode(nil), b) {
				t.Fatalf("%x became %x", p, b)
			}
		}
	})
}
