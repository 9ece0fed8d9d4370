package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDecodePost(t *testing.T) {
	date := time.Date(2030, 1, 2, 3, 4, 5, 600e6, time.UTC)
	for _, c := range []struct {
		in   string
		want Post
	}{
		{`{"to":"bob","body":"hi"}`, Post{Drafts: []Draft{{To: "bob", Body: []byte("hi")}}}},
		{` { "to" : "bob" , "body" : "" } `, Post{Drafts: []Draft{{To: "bob", Body: []byte{}}}}},
		{`{"to":"b","body":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0000"}`, Post{Drafts: []Draft{{To: "b", Body: []byte("a\"\\/\b\f\n\r\té😀\x00")}}}},
		{`{"to":"bob","id":"m1","type":"image/png","body64":"AP8=","urgency":"high"}`,
			Post{Drafts: []Draft{{To: "bob", ID: "m1", Type: "image/png", Body: []byte{0, 255}, Binary: true, Urgency: "high"}}}},
		{`{"to":"bob","body64":"AP8"}`, Post{Drafts: []Draft{{To: "bob", Body: []byte{0, 255}, Binary: true}}}},
		{`{"to":"bob","body":"x","expires":90}`, Post{Drafts: []Draft{{To: "bob", Body: []byte("x"), TTL: 90 * time.Second}}}},
		{`{"to":"bob","body":"x","expires":1.5}`, Post{Drafts: []Draft{{To: "bob", Body: []byte("x"), TTL: 1500 * time.Millisecond}}}},
		{`{"to":"bob","body":"x","expires":"2030-01-02T04:04:05.6+01:00"}`, Post{Drafts: []Draft{{To: "bob", Body: []byte("x"), Expires: date}}}},
		{`{"to":"bob","body":"x","id":null,"attrs":{"a":"1","b":["2","3"]}}`,
			Post{Drafts: []Draft{{To: "bob", Body: []byte("x"), Attrs: []Attr{{"a", "1"}, {"b", "2"}, {"b", "3"}}}}}},
		{`{"to":"bob","body":"x","attrs":[ ["b","2"], ["a","1"],["b", ""] ]}`,
			Post{Drafts: []Draft{{To: "bob", Body: []byte("x"), Attrs: []Attr{{"b", "2"}, {"a", "1"}, {"b", ""}}}}}},
		{`{"to":"bob","body":"x","attrs":[]}`, Post{Drafts: []Draft{{To: "bob", Body: []byte("x")}}}},
		{`[{"to":"a","body":"1"},{"to":"b","body":"2"}]`,
			Post{Batch: true, Drafts: []Draft{{To: "a", Body: []byte("1")}, {To: "b", Body: []byte("2")}}}},
		{`{"messages":[{"to":"a","body":"1"}]}`, Post{Batch: true, Drafts: []Draft{{To: "a", Body: []byte("1")}}}},
	} {
		got, err := DecodePost([]byte(c.in), 10)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.in, got, c.want)
		}
	}
}

func TestDecodePostRefuses(t *testing.T) {
	for _, c := range []struct {
		in    string
		kind  Kind
		field string
	}{
		{``, BadJSON, ""},
		{`hello`, BadJSON, ""},
		{`"hello"`, BadJSON, ""},
		{`{"to":"bob","body":"hi"`, BadJSON, ""},
		{`{"to":"bob","body":"hi`, BadJSON, "body"},
		{`{"to":"bob","body":"hi"}}`, BadJSON, ""},
		{`{"to":"bob","body":"hi"} {"to":"eve"}`, BadJSON, ""},
		{`{"to":"bob","body":"hi",}`, BadJSON, ""},
		{`{"to":"bob" "body":"hi"}`, BadJSON, ""},
		{`{'to':'bob'}`, BadJSON, ""},
		{`{"to":"bob","to":"eve","body":"hi"}`, BadJSON, "to"},
		{`{"to":7,"body":"hi"}`, BadJSON, "to"},
		{`{"to":"bob","body":{"deep":1}}`, BadJSON, "body"},
		{`{"to":"bob","body":"a` + "\n" + `b"}`, BadJSON, "body"},
		{`{"to":"bob","body":"\x"}`, BadJSON, "body"},
		{`{"to":"bob","body":"\u12g4"}`, BadJSON, "body"},
		{`{"to":"bob","body":"\`, BadJSON, "body"},
		{"{\"to\":\"bob\",\"body\":\"\xff\"}", BadUTF8, ""},
		{"\xef\xbb\xbf" + `{"to":"bob","body":"hi"}`, BadJSON, ""}, // a byte order mark
		{"\xff\xfe{\x00}\x00", BadUTF8, ""},                        // UTF-16
		{`{"to":"bob","body":"\ud800"}`, BadUTF8, "body"},
		{`{"to":"bob","body":"\ude00\ud83d"}`, BadUTF8, "body"},
		{`{"to":"bob","body":"hi","colour":"red"}`, UnknownField, "colour"},
		{`{"To":"bob","body":"hi"}`, UnknownField, "To"},
		{`{"to":"bob","body":"hi","` + strings.Repeat("x", 1000) + `":1}`, UnknownField, strings.Repeat("x", 64) + "…"},
		{`{"body":"hi"}`, MissingField, "to"},
		{`{"to":"","body":"hi"}`, MissingField, "to"},
		{`{"to":"bob"}`, MissingField, "body"},
		{`{"to":"bob","body":null}`, MissingField, "body"},
		{`{"to":"bob","body":"x","body64":"eA=="}`, BadField, "body64"},
		{`{"to":"bob","body64":"?"}`, BadField, "body64"},
		{`{"to":"bob","body64":"eA===="}`, BadField, "body64"},
		{`{"to":"bob","body64":"e\nA=="}`, BadField, "body64"},
		{`{"to":"bob","body":"x","expires":0}`, BadField, "expires"},
		{`{"to":"bob","body":"x","expires":-1}`, BadField, "expires"},
		{`{"to":"bob","body":"x","expires":1e400}`, BadField, "expires"},
		{`{"to":"bob","body":"x","expires":"tomorrow"}`, BadField, "expires"},
		{`{"to":"bob","body":"x","expires":true}`, BadJSON, "expires"},
		{`{"to":"bob","body":"x","expires":-}`, BadJSON, "expires"},
		{`{"to":"bob","body":"x","attrs":{"a":1}}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":{"a":"1","a":"2"}}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":[["a"]]}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":[["a","b","c"]]}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":[[]]}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":[["a",1]]}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":["a","b"]}`, BadJSON, "attrs"},
		{`{"to":"bob","body":"x","attrs":[["a","b"]`, BadJSON, "attrs"},
		{`[]`, MissingField, "messages"},
		{`{}`, MissingField, "to"},
		{`[{"to":"a","body":"1"},{"to":"b"}]`, MissingField, "messages[1].body"},
		{`[{"to":"a","body":"1"},{"to":"b","x":1}]`, UnknownField, "messages[1].x"},
		{`[{"to":"a","body":"1"},{"to":"b","body":3}]`, BadJSON, "messages[1].body"},
		{`{"messages":[{"to":"a","body":"1"}],"to":"b"}`, UnknownField, "to"},
		{`{"to":"b","messages":[]}`, UnknownField, "messages"},
		{`[` + strings.Repeat(`{"to":"a","body":""},`, 3) + `{"to":"a","body":""}]`, TooLarge, "messages"},
		{strings.Repeat("[", 100000), BadJSON, "messages[0]"},
		{strings.Repeat(`{"messages":`, 100000), BadJSON, "messages"},
		{`{"to":"a","body":` + strings.Repeat(`{"a":`, 100000), BadJSON, "body"},
	} {
		got, err := DecodePost([]byte(c.in), 3)
		if err == nil {
			t.Errorf("%.80s: taken as %+v", c.in, got)
			continue
		}
		if err.Kind() != c.kind || err.Field != c.field {
			t.Errorf("%.80s: %s at %q (%s), want %s at %q", c.in, err.Kind(), err.Field, err.Detail, c.kind, c.field)
		}
		if got.Drafts != nil {
			t.Errorf("%.80s: refused, and yet %+v", c.in, got)
		}
	}
}

func TestDecodeAck(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Ack
		kind Kind
	}{
		{`{"seq":7}`, Ack{Seq: 7}, ""},
		{`{"seq":0,"device":"phone"}`, Ack{Device: "phone"}, ""},
		{`{"next":"abc"}`, Ack{Next: "abc"}, ""},
		{`{}`, Ack{}, MissingField},
		{`[]`, Ack{}, BadJSON},
		{`{"seq":7,"next":"x"}`, Ack{}, BadField},
		{`{"seq":-7}`, Ack{}, BadField},
		{`{"seq":7.5}`, Ack{}, BadField},
		{`{"seq":18446744073709551616}`, Ack{}, BadField},
		{`{"seq":"7"}`, Ack{}, BadJSON},
		{`{"seq":7,"seq":8}`, Ack{}, BadJSON},
		{`{"seq":7,"x":8}`, Ack{}, UnknownField},
		{`{"seq":7}x`, Ack{}, BadJSON},
	} {
		got, err := DecodeAck([]byte(c.in))
		if got != c.want || (err == nil) != (c.kind == "") || err != nil && err.Kind() != c.kind {
			t.Errorf("%s: %+v, %v", c.in, got, err)
		}
	}
}

func TestNext(t *testing.T) {
	const box = "alice@localhost"
	for _, seq := range []uint64{0, 1, 255, 256, 1 << 40, 1<<64 - 1} {
		s := Next(box, seq)
		if got, ok := ParseNext(box, s); !ok || got != seq {
			t.Errorf("%d: %s gave %d, %v", seq, s, got, ok)
		}
		if _, ok := ParseNext("bob@localhost", s); ok {
			t.Errorf("%d: somebody else's next was taken", seq)
		}
		for cut := range len(s) {
			if _, ok := ParseNext(box, s[:cut]); ok {
				t.Errorf("%d: %s cut to %d was taken", seq, s, cut)
			}
		}
	}
	for _, s := range []string{"", "0", "1", "12", "garbage", "AAAAAAAA", strings.Repeat("A", 1000), Next(box, 5) + "\n"} {
		if seq, ok := ParseNext(box, s); ok {
			t.Errorf("%q was taken as %d", s, seq)
		}
	}
}

func TestAppendMessage(t *testing.T) {
	m := Message{Seq: 2, Prev: 1, ID: "m1", From: "a@h", Device: "phone", To: "b@h", Time: time.UnixMilli(1700000000123),
		Type: "text/plain", Body: []byte("<hi> \"\\\n\x00\u2028é"), Expires: time.UnixMilli(1800000000000), Urgency: "high",
		Attrs: []Attr{{"x", "1"}, {"y", "2"}, {"x", "3"}}}
	const want = `{"seq":2,"prev":1,"id":"m1","from":"a@h","device":"phone","to":"b@h","time":"2023-11-14T22:13:20.123Z",` +
		`"type":"text/plain","body":"<hi> \"\\\n\u0000\u2028é","expires":"2027-01-15T08:00:00.000Z","urgency":"high",` +
		`"attrs":[["x","1"],["y","2"],["x","3"]]}`
	if got := string(AppendMessage(nil, &m)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, c := range []struct {
		typ, body, want string
	}{
		{"image/png", "png", `"body64":"cG5n"`},
		{"text/plain", "\xff", `"body64":"/w=="`},
		{"text/plain; charset=latin1", "x", `"body64":"eA=="`},
		{"TEXT/HTML; charset=UTF-8", "x", `"body":"x"`},
		{"application/ld+json", "{}", `"body":"{}"`},
		{"nonsense", "x", `"body64":"eA=="`},
		{"", "x", `"body":"x"`},
	} {
		got := string(AppendMessage(nil, &Message{Type: c.typ, Body: []byte(c.body)}))
		if !strings.Contains(got, c.want) {
			t.Errorf("%s %q: %s has no %s", c.typ, c.body, got, c.want)
		}
	}
}

func TestKinds(t *testing.T) {
	seen := map[Kind]bool{}
	for _, k := range Kinds {
		if seen[k.Kind] || k.Status < 400 || k.Title == "" {
			t.Errorf("%+v", k)
		}
		seen[k.Kind] = true
		if p := NewProblem(k.Kind, "", ""); p.Kind() != k.Kind || p.Status != k.Status {
			t.Errorf("%+v", p)
		}
	}
}

// What decodes encodes to the same, and is what encoding/json makes of it.
func FuzzDecodePost(f *testing.F) {
	for _, s := range []string{
		`{"to":"bob","body":"hi"}`,
		`[{"to":"bob","id":"1","type":"a/b","body64":"AP8=","expires":1.5,"urgency":"low","attrs":{"a":"b","c":["d","e"]}}]`,
		`{"to":"bob","body":"hi","attrs":[["a","b"],["c","d"],["a",""]]}`,
		`{"messages":[{"to":"a","body":"\ud83d\ude00\u0000","expires":"2030-01-02T03:04:05Z"}]}`,
		`{"to":"\ud800","body":"\u12"}`, "[[[[", `{"to":null,"body":null,"messages":[]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, perr := DecodePost(in, 100)
		if perr != nil {
			if perr.Kind().Info().Status >= 500 || !utf8.ValidString(perr.Detail) || !utf8.ValidString(perr.Field) {
				t.Fatalf("%q: %+v", in, perr)
			}
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q is not JSON", in)
		}
		for _, d := range p.Drafts {
			out := AppendDraft(nil, &d)
			again, err := DecodePost(out, 1)
			if err != nil {
				t.Fatalf("%q: %s: %v", in, out, err)
			}
			if out2 := AppendDraft(nil, &again.Drafts[0]); !bytes.Equal(out, out2) {
				t.Fatalf("%s\n%s", out, out2)
			}
			var std struct {
				To, ID, Type, Urgency string
				Body                  *string
				Body64                []byte
			}
			if err := json.Unmarshal(out, &std); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
			if std.Body != nil {
				std.Body64 = []byte(*std.Body)
			}
			if std.To != d.To || std.ID != d.ID || std.Type != d.Type || std.Urgency != d.Urgency || !bytes.Equal(std.Body64, d.Body) {
				t.Fatalf("%s: %+v, want %+v", out, std, d)
			}
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add("id", "text/plain", []byte("hi\u2028"), "a", "b")
	f.Add("\x7f", "image/png", []byte{0, 255}, "a", "a")
	f.Fuzz(func(t *testing.T, id, typ string, body []byte, name1, name2 string) {
		for _, s := range []string{id, typ, name1, name2} {
			if !utf8.ValidString(s) {
				return
			}
		}
		m := Message{Seq: 1, ID: id, Type: typ, Time: time.UnixMilli(1).UTC(), Body: body, Attrs: []Attr{{name1, "1"}, {name2, "2"}}}
		out := AppendMessage(nil, &m)
		var got Message
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if got.ID != id || got.Type != typ || !bytes.Equal(got.Body, body) || len(got.Attrs) != 2 {
			t.Fatalf("%s: %+v", out, got)
		}
	})
}

func FuzzNext(f *testing.F) {
	f.Add("alice@localhost", Next("alice@localhost", 7))
	f.Fuzz(func(t *testing.T, box, s string) {
		if seq, ok := ParseNext(box, s); ok && Next(box, seq) != s {
			t.Fatalf("%q is %d and %q", s, seq, Next(box, seq))
		}
	})
}

func BenchmarkDecodePost(b *testing.B) {
	in := []byte(`{"to":"bob@example.org","id":"3f8a","body":"` + strings.Repeat("hello world ", 20) + `"}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := DecodePost(in, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	m := Message{Seq: 2, Prev: 1, ID: "3f8a", From: "alice@example.org", To: "bob@example.org", Time: time.Now(),
		Type: "text/plain; charset=utf-8", Body: bytes.Repeat([]byte("hello world "), 20)}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = AppendMessage(buf[:0], &m)
	}
}
