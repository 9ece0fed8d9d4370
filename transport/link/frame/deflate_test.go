package frame

import (
	"bytes"
	stdflate "compress/flate"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// deflateVector is a body in one of the forms that DEFLATE has. Body is empty
// if Hex must be refused.
type deflateVector struct {
	Form string `json:"form"`
	Size int    `json:"size"`
	Hex  string `json:"hex"`
	Body string `json:"body64,omitempty"`
}

func order() []byte {
	var b bytes.Buffer
	b.WriteString(`{"type":"order","items":[`)
	for i := range 12 {
		fmt.Fprintf(&b, `{"sku":"A-%d","name":"part number %d","quantity":%d,"price":"%d.%02d"},`, 1000+i*37, i, i%7, i*13, i)
	}
	b.WriteString(`{}]}`)
	return b.Bytes()
}

func deflateVectors(t testing.TB) (vs []deflateVector) {
	body := order()
	level := func(level int, body []byte) []byte {
		var b bytes.Buffer
		w, err := stdflate.NewWriter(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(body)
		w.Close()
		return b.Bytes()
	}
	ours := Deflate(body, "application/json")
	add := func(form string, p, body []byte, size int) {
		v := deflateVector{Form: form, Size: size, Hex: hex.EncodeToString(p)}
		if body != nil {
			v.Body = b64(body)
		}
		vs = append(vs, v)
	}
	add("as this package does it", ours, body, len(body))
	add("as a thorough one does it", level(9, body), body, len(body))
	add("without matches", level(stdflate.HuffmanOnly, body), body, len(body))
	add("stored", level(0, body), body, len(body))
	add("a byte less than was said", ours, nil, len(body)+1)
	add("a byte more than was said", ours, nil, len(body)-1)
	add("cut short", ours[:len(ours)-1], nil, len(body))
	add("a byte behind it", append(bytes.Clone(ours), 0), nil, len(body))
	add("no such block", []byte{0x07, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, nil, 256)
	return vs
}

func TestDeflateVectors(t *testing.T) {
	for _, v := range deflateVectors(t) {
		got, err := Inflate(unhex(t, v.Hex), uint64(v.Size))
		if v.Body == "" {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", v.Form, err)
			}
		} else if err != nil || b64(got) != v.Body {
			t.Errorf("%s: %q, %v", v.Form, got, err)
		}
	}
}

func TestDeflatePays(t *testing.T) {
	for _, v := range []struct {
		what, media string
		body        []byte
		pays        bool
	}{
		{"an order", "application/json", order(), true},
		{"text", "", order(), true},
		{"text by name", "text/markdown; charset=utf-8", order(), true},
		{"something of JSON", "application/activity+json", order(), true},
		{"a picture", "image/png", order(), false},
		{"short", "", order()[:MinDeflate-1], false},
		{"too long", "", bytes.Repeat(order(), 100), false},
		{"what would be a bomb", "", bytes.Repeat([]byte{'a'}, 10000), false},
		{"noise", "", []byte(strings.Repeat("0123456789abcdef", 1)), false},
	} {
		if got := Deflate(v.body, v.media) != nil; got != v.pays {
			t.Errorf("%s: pays %v", v.what, got)
		}
	}
}

// No stream makes more than was agreed, and what is deflated comes back.
func FuzzInflate(f *testing.F) {
	for _, v := range deflateVectors(f) {
		p, _ := hex.DecodeString(v.Hex)
		f.Add(p, uint64(v.Size))
	}
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, p []byte, size uint64) {
		if size <= MaxDeflate {
			if b, err := Inflate(p, size); err == nil && uint64(len(b)) != size {
				t.Fatalf("%d bytes, not %d", len(b), size)
			}
		}
		if z := Deflate(p, ""); z != nil {
			if b, err := Inflate(z, uint64(len(p))); err != nil || !bytes.Equal(b, p) {
				t.Fatalf("came back as %x, %v", b, err)
			}
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	body := order()
	z := Deflate(body, "")
	b.Run("deflate", func(b *testing.B) {
		for b.Loop() {
			Deflate(body, "")
		}
	})
	b.Run("inflate", func(b *testing.B) {
		for b.Loop() {
			Inflate(z, uint64(len(body)))
		}
	})
}
