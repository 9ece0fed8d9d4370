package stream

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

const header = `<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`

// read feeds in to a scanner, n bytes at a time, and lists what it finds.
func read(in string, l Limits, n int) (got []string, err error) {
	s := Scanner{Limits: l}
	p := []byte(in)
	for at, seen := 0, min(n, len(p)); ; {
		k, used, err := s.Next(p[at:seen])
		if err != nil {
			return got, err
		}
		if k == More {
			if seen == len(p) {
				if at < seen {
					got = append(got, "more")
				}
				return got, nil
			}
			seen = min(seen+n, len(p))
			continue
		}
		if k != Skip {
			got = append(got, string(p[at:at+used]))
		}
		at += used
	}
}

func TestScan(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("<a>", n) + strings.Repeat("</a>", n) }
	small := Limits{Bytes: 1000, Elements: 50, Depth: 10, Attrs: 5}
	for _, c := range []struct {
		name, in string // behind the header unless it begins with ^
		want     string // stanzas found, separated by |
		err      error
	}{
		{"stanzas", "<a/><b>x</b> \n<c d='e'/>", "<a/>|<b>x</b>|<c d='e'/>", nil},
		{"header alone", "", "", nil},
		{"incomplete", "<a><b/>", "more", nil},
		{"end", "<a/></stream:stream>", "<a/>|</stream:stream>", nil},
		{"end with space", "</stream:stream \n>", "</stream:stream \n>", nil},
		{"white space in tags", "<a  b = 'c' \n/ >", "", NotWellFormed},
		{"white space in tags allowed", "<a  b = 'c' \n></a \t>", "<a  b = 'c' \n></a \t>", nil},
		{"cdata", "<a><![CDATA[ <x> & ]] ]]]]></a>", "<a><![CDATA[ <x> & ]] ]]]]></a>", nil},
		{"cdata outside", "<![CDATA[x]]>", "", RestrictedXML},
		{"cdata unfinished name", "<a><![CDATAX[]]></a>", "", RestrictedXML},
		{"comment", "<a><!-- x --></a>", "", RestrictedXML},
		{"comment outside", "<!-- x -->", "", RestrictedXML},
		{"doctype", "^<!DOCTYPE a [<!ENTITY l 'lol'>]>", "", RestrictedXML},
		{"entity", "<a>&lol;</a>", "", RestrictedXML},
		{"entity in attribute", "<a b='&lol;'/>", "", RestrictedXML},
		{"entity without end", "<a>&lolololololololololol</a>", "", RestrictedXML},
		{"five entities", "<a b='&quot;&apos;'>&amp;&lt;&gt;</a>", "<a b='&quot;&apos;'>&amp;&lt;&gt;</a>", nil},
		{"ampersand", "<a>& </a>", "", NotWellFormed},
		{"empty reference", "<a>&;</a>", "", NotWellFormed},
		{"character references", "<a>&#65;&#x1F600;&#xA;</a>", "<a>&#65;&#x1F600;&#xA;</a>", nil},
		{"reference to nothing", "<a>&#;</a>", "", NotWellFormed},
		{"reference to nothing in hex", "<a>&#x;</a>", "", NotWellFormed},
		{"reference to U+0000", "<a>&#0;</a>", "", NotWellFormed},
		{"reference to a control character", "<a>&#8;</a>", "", NotWellFormed},
		{"reference to a surrogate", "<a>&#xD800;</a>", "", NotWellFormed},
		{"reference to U+FFFE", "<a>&#xFFFE;</a>", "", NotWellFormed},
		{"reference too great", "<a>&#x110000;</a>", "", NotWellFormed},
		{"instruction", "<?php ?>", "", RestrictedXML},
		{"instruction inside", "<a><?php ?></a>", "", RestrictedXML},
		{"second declaration", "<?xml version='1.0'?>", "", RestrictedXML},
		{"declaration", "^<?xml version='1.0' encoding='utf-8' standalone=\"yes\" ?>" + header, header, nil},
		{"declaration of latin-1", "^<?xml version='1.0' encoding='ISO-8859-1'?>" + header, "", UnsupportedEncoding},
		{"declaration of 1.1", "^<?xml version='1.1'?>" + header, "", NotWellFormed},
		{"declaration without version", "^<?xml encoding='UTF-8'?>" + header, "", NotWellFormed},
		{"declaration without end", "^<?xml version='1.0'" + strings.Repeat(" ", 200), "", NotWellFormed},
		{"utf-16", "^\xfe\xff\x00<", "", UnsupportedEncoding},
		{"utf-16 without mark", "^<\x00s\x00", "", UnsupportedEncoding},
		{"an HTTP request", "^GET / HTTP/1.1\r\n", "", NotWellFormed},
		{"text between stanzas", "<a/>x", "<a/>", NotWellFormed},
		{"mismatch", "<a></b>", "", NotWellFormed},
		{"mismatch longer", "<a></ab>", "", NotWellFormed},
		{"end of the stream inside", "<a></stream:stream>", "", NotWellFormed},
		{"attribute twice", "<a b='1' b='2'/>", "", NotWellFormed},
		{"attribute twice by namespace", "<a xmlns:x='u' xmlns:y='&#117;' x:b='1' y:b='2'/>", "", NotWellFormed},
		{"attributes of two namespaces", "<a xmlns:x='u' xmlns:y='v' x:b='1' y:b='2' b='3'/>", "<a xmlns:x='u' xmlns:y='v' x:b='1' y:b='2' b='3'/>", nil},
		{"attribute without quotes", "<a b=c/>", "", NotWellFormed},
		{"attribute without value", "<a b/>", "", NotWellFormed},
		{"attributes without space", "<a b='c'd='e'/>", "", NotWellFormed},
		{"< in attribute", "<a b='<'/>", "", NotWellFormed},
		{"> in attribute", "<a b='>'/>", "<a b='>'/>", nil},
		{"other quote in attribute", `<a b='"' c="'"/>`, `<a b='"' c="'"/>`, nil},
		{"unbound prefix", "<x:a/>", "", NotWellFormed},
		{"unbound prefix of an attribute", "<a x:b='c'/>", "", NotWellFormed},
		{"prefix out of scope", "<a><b xmlns:x='u'/><x:c/></a>", "", NotWellFormed},
		{"prefix in scope", "<a><b xmlns:x='u'><x:c/></b></a>", "<a><b xmlns:x='u'><x:c/></b></a>", nil},
		{"prefix of the header", "<a><stream:b/></a>", "", NotWellFormed},
		{"stream error", "<stream:error/>", "<stream:error/>", nil},
		{"stream prefix rebound", "<a xmlns:stream='u'/>", "", BadNamespacePrefix},
		{"xml prefix", "<a xml:lang='en'/>", "<a xml:lang='en'/>", nil},
		{"xml prefix rebound", "<a xmlns:xml='u'/>", "", NotWellFormed},
		{"xmlns prefix", "<a xmlns:xmlns='u'/>", "", NotWellFormed},
		{"another prefix for xml", "<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>", "", NotWellFormed},
		{"xmlns as an element's prefix", "<xmlns:a/>", "", NotWellFormed},
		{"prefix undeclared", "<a xmlns:x=''/>", "", NotWellFormed},
		{"two colons", "<a:b:c/>", "", NotWellFormed},
		{"colon first", "<:a/>", "", NotWellFormed},
		{"digit first", "<1/>", "", NotWellFormed},
		{"name outside ASCII", "<é/>", "", PolicyViolation},
		{"U+0000", "<a>\x00</a>", "", NotWellFormed},
		{"U+0000 in a tag", "<a \x00/>", "", UnsupportedEncoding},
		{"control character", "<a>\x1b</a>", "", NotWellFormed},
		{"control character in CDATA", "<a><![CDATA[\x1b]]></a>", "", NotWellFormed},
		{"control character in attribute", "<a b='\x1b'/>", "", NotWellFormed},
		{"]]> in text", "<a>]]></a>", "", NotWellFormed},
		{"]] in text", "<a>]] ]> ></a>", "<a>]] ]> ></a>", nil},
		{"utf-8", "<a b='ü'>日本語 😀</a>", "<a b='ü'>日本語 😀</a>", nil},
		{"utf-8 overlong", "<a>\xc0\xaf</a>", "", NotWellFormed},
		{"utf-8 surrogate", "<a>\xed\xa0\x80</a>", "", NotWellFormed},
		{"utf-8 cut off", "<a>\xe6\x97</a>", "", NotWellFormed},
		{"latin-1", "<a>\xfc</a>", "", NotWellFormed},
		{"U+FFFE", "<a>\uFFFE</a>", "", NotWellFormed},
		{"depth at the limit", deep(10), deep(10), nil},
		{"depth", deep(11), "", PolicyViolation},
		{"elements at the limit", "<a>" + strings.Repeat("<b/>", 49) + "</a>", "<a>" + strings.Repeat("<b/>", 49) + "</a>", nil},
		{"elements", "<a>" + strings.Repeat("<b/>", 50) + "</a>", "", PolicyViolation},
		{"attributes", "<a b='' c='' d='' e='' f='' g=''/>", "", PolicyViolation},
		{"prefixes", "<a xmlns:b='b' xmlns:c='c' xmlns:d='d'><a xmlns:b='b' xmlns:c='c' xmlns:d='d'/></a>", "", PolicyViolation},
		{"bytes", "<a>" + strings.Repeat("x", 1000) + "</a>", "", PolicyViolation},
		{"bytes without end", "<a>" + strings.Repeat("x", 2000), "", PolicyViolation},
		{"bytes in a name", "<" + strings.Repeat("x", 2000), "", PolicyViolation},
		{"bytes in an attribute", "<a b='" + strings.Repeat("x", 2000), "", PolicyViolation},
		{"bytes in CDATA", "<a><![CDATA[" + strings.Repeat("x", 2000), "", PolicyViolation},
		{"other prefix in the header", "^<s:stream xmlns:s='http://etherx.jabber.org/streams'>", "", BadNamespacePrefix},
		{"other header", "^<message/>", "", InvalidXML},
		{"other header open", "^<message>", "", BadFormat},
		{"empty header", "^<stream:stream xmlns:stream='u'/>", "", InvalidXML},
		{"header without namespace", "^<stream:stream>", "", NotWellFormed},
	} {
		in, found := "^"+header+c.in, true
		if strings.HasPrefix(c.in, "^") {
			in, found = c.in, false
		}
		var whole []string
		for _, step := range []int{1 << 20, 7, 1} {
			got, err := read(in[1:], small, step)
			if found && len(got) > 0 {
				got = got[1:]
			}
			if step == 1<<20 {
				whole = got
			}
			if strings.Join(got, "|") != c.want && c.err == nil || !errors.Is(err, c.err) {
				t.Errorf("%s, %d bytes at a time: got %q, %v; want %q, %v", c.name, step, got, err, c.want, c.err)
			}
			if c.err == nil && strings.Join(got, "|") != strings.Join(whole, "|") {
				t.Errorf("%s: %q in one piece, %q by %d", c.name, whole, got, step)
			}
		}
	}
}

// What comes before a login is counted over all stanzas.
func TestSum(t *testing.T) {
	l := Before
	if _, err := read(header+strings.Repeat("<a/>", 31), l, 100); err != nil {
		t.Error("31 elements and a header:", err)
	}
	if _, err := read(header+strings.Repeat("<a/>", 32), l, 100); err != PolicyViolation {
		t.Error("32 elements and a header:", err)
	}
	if _, err := read(header+strings.Repeat("<a b='"+strings.Repeat("x", 1000)+"'/>", 9), l, 100); err != PolicyViolation {
		t.Error("9,000 bytes:", err)
	}
	if _, err := read(header+strings.Repeat(" ", 9000), l, 100); err != PolicyViolation {
		t.Error("9,000 bytes of nothing:", err)
	}
}

// A stanza that comes one byte at a time costs no more than its length.
func TestSlowBytes(t *testing.T) {
	s := Scanner{Limits: After, Framed: true}
	in := []byte("<a b='" + strings.Repeat(">", 100_000) + "'>" + strings.Repeat("x", 100_000) + "</a" + strings.Repeat(" ", 20_000) + ">")
	for i := 1; i <= len(in); i++ {
		k, n, err := s.Next(in[:i])
		if err != nil || (k == Stanza) != (i == len(in)) {
			t.Fatal(i, k, n, err)
		}
	}
}

// oracle reads p with encoding/xml and keeps the rules that it does not know.
func oracle(p string) bool {
	d := xml.NewDecoder(strings.NewReader(p))
	depth := 0
	for done := false; ; {
		at := d.InputOffset()
		tok, err := d.RawToken()
		if err == io.EOF {
			return done && depth == 0
		}
		if err != nil || done {
			return false
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			if depth--; depth == 0 {
				done = true
			}
		case xml.CharData:
			if depth == 0 {
				return false
			}
			_ = at
		default:
			_ = tok
			return false
		}
	}
}

// FuzzScan checks that what is accepted is well-formed to encoding/xml too,
// that the bytes may come in any pieces, and that views of it hold together.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		"<a/>", "<a b='c'>d</a>", "<a><![CDATA[x]]></a>", "<a xmlns:x='y'><x:b/></a>", "<a>&amp;&#65;</a>", "<a>]]></a>",
		"<x:a xmlns:x='1'><x:b xmlns:x='2' xmlns:y='3'><x:c/><y:d xmlns:y='4'/></x:b><x:e xmlns='5'><f/></x:e></x:a>",
		`<message to='bob@localhost' id='1'><body>hi &lt; there</body><x xmlns='y' z="'"/></message>`, "<a b='1' b='2'/>", "<é/>", "<a>\xff</a>",
	} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, in string, step uint8) {
		s := Scanner{Limits: After, Framed: true}
		k, n, err := s.Next([]byte(in))
		s.drop()
		slow := Scanner{Limits: After, Framed: true}
		for i := 0; i <= len(in); i += int(step) + 1 {
			k2, n2, err2 := slow.Next([]byte(in[:i]))
			if err2 != nil {
				if err == nil {
					t.Fatalf("%q in pieces: %v", in, err2)
				}
				break
			}
			if k2 == Stanza {
				if k != Stanza || n2 != n {
					t.Fatalf("%q: %d %d in one piece, %d %d in pieces", in, k, n, k2, n2)
				}
				break
			}
			if k2 == Skip {
				break
			}
		}
		if err != nil || k != Stanza {
			return
		}
		if !oracle(in[:n]) {
			t.Fatalf("accepted %q", in[:n])
		}
		e := View([]byte(in[:n]), NSClient)
		walk(t, e, in[:n])
		again := append(e.AppendTag(nil), '>')
		again = e.AppendEnd(e.AppendInner(again, func(Element) bool { return false }))
		if _, err := Parse(again, After, NSClient); err != nil {
			t.Fatalf("%q written again as %q: %v", in[:n], again, err)
		}
	})
}

// walk compares the views of e with what encoding/xml makes of the same bytes.
func walk(t *testing.T, e Element, in string) {
	var x struct {
		XMLName xml.Name
		Attrs   []xml.Attr `xml:",any,attr"`
		Text    string     `xml:",chardata"`
	}
	if err := xml.Unmarshal([]byte(in), &x); err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	if x.XMLName.Local != string(e.Name()) {
		t.Fatalf("%q: name %q, want %q", in, e.Name(), x.XMLName.Local)
	}
	if got := e.Text(); got != x.Text {
		t.Fatalf("%q: text %q, want %q", in, got, x.Text)
	}
	var want, got []xml.Name
	d := xml.NewDecoder(strings.NewReader(in))
	for tok, err := d.Token(); err == nil; tok, err = d.Token() {
		if start, ok := tok.(xml.StartElement); ok {
			want = append(want, start.Name)
		}
	}
	names(View([]byte(in), ""), &got)
	if !slices.Equal(got, want) {
		t.Fatalf("%q: names %q, want %q", in, got, want)
	}
}

// names lists those of e and of all elements in it.
func names(e Element, to *[]xml.Name) {
	*to = append(*to, xml.Name{Space: string(e.NS()), Local: string(e.Name())})
	for c := range e.Children() {
		names(c, to)
	}
}

func TestElement(t *testing.T) {
	in := `<message xmlns:x='urn:x' to="a&amp;b" id='1'><body>1 &lt; <![CDATA[<2>]]></body><x:y/><z xmlns='urn:&#122;'><w/><x:y xmlns:x='urn:q'/></z></message>`
	e, err := Parse([]byte(in), After, NSClient)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Is(NSClient, "message") || e.Attr("to") != "a&b" || e.Attr("id") != "1" || e.Attr("no") != "" {
		t.Error("message")
	}
	b, ok := e.Child(NSClient, "body")
	if !ok || b.Text() != "1 < <2>" {
		t.Errorf("body %q", b.Text())
	}
	if _, ok := e.Child("urn:x", "y"); !ok {
		t.Error("no x:y")
	}
	z, ok := e.Child("urn:z", "z")
	if !ok || !z.First().Is("urn:z", "w") {
		t.Error("no z")
	}
	if _, ok := z.Child("urn:q", "y"); !ok {
		t.Error("no y in z")
	}
	out := append(e.AppendTag(nil, "to"), '>')
	out = e.AppendEnd(e.AppendInner(out, func(c Element) bool { return c.Is("urn:x", "y") }))
	want := strings.Replace(strings.Replace(in, "<x:y/>", "", 1), ` to="a&amp;b"`, "", 1)
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if d := e.Declarations(); d != " xmlns:x='urn:x'" {
		t.Error(d)
	}
}

// FuzzText checks that what is written reads back the same.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "<&>'\"\r\n\t", "\x00", "\xff", "]]>", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := append(AppendAttr([]byte("<a"), "b", s), '>')
		out = append(AppendText(out, s), "</a>"...)
		e, err := Parse(out, Limits{1 << 20, 10, 10, 10, false}, "")
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if Carries(s) && (e.Text() != s || e.Attr("b") != s) {
			t.Fatalf("%q came back as %q and %q", s, e.Text(), e.Attr("b"))
		}
	})
}

var stanza = []byte(`<message to='juliet@example.org/balcony' type='chat' id='purple5b3a7c91'><body>Wherefore art thou, Romeo? &lt;3</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>`)

func BenchmarkScan(b *testing.B) {
	s := Scanner{Limits: After}
	if _, _, err := s.Next([]byte(header)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(stanza)))
	b.ReportAllocs()
	for b.Loop() {
		if k, _, err := s.Next(stanza); k != Stanza {
			b.Fatal(k, err)
		}
	}
}

func BenchmarkView(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		e := View(stanza, NSClient)
		if to, ok := e.RawAttr("to"); !ok || len(to) == 0 {
			b.Fatal("to")
		}
		if _, ok := e.Child(NSClient, "body"); !ok {
			b.Fatal("body")
		}
	}
}

func TestRun(t *testing.T) {
	for b := range 256 {
		for at := range 16 {
			p := []byte("xxxxxxxxxxxxxxxxx")
			p[at] = byte(b)
			stop := b < 0x20 || b > 0x7f || b == '<' || b == '&' || b == ']'
			got := run(p, 0, '<', '&', ']')
			if stop && got != at/8*8 || !stop && got != 16 {
				t.Errorf("byte %#x at %d: stopped at %d", b, at, got)
			}
		}
	}
}

// BenchmarkPrefixed is the dearest stanza of 10,000 elements: a prefix is
// looked up for each of them.
func BenchmarkPrefixed(b *testing.B) {
	for _, n := range []int{100, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := []byte("<message xmlns:x='urn:x'>" + strings.Repeat("<x:a b='c'/>", n) + "</message>")
			e, err := Parse(in, After, NSClient)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				for c := range e.Children() {
					if !c.Is("urn:x", "a") {
						b.Fatal(c)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/element")
		})
	}
}
