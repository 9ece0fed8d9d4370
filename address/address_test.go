package address_test

import (
	"errors"
	"strings"
	"testing"

	. "github.com/posthouse-im/posthouse/address"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a", MaxPart)
	name253 := strings.Repeat("abcdefghi.", 25) + "abc"
	for _, tc := range []struct{ in, want string }{
		{"alice", "alice@home.example"},
		{"ALICE", "alice@home.example"},
		{"alice/phone", "alice@home.example/phone"},
		{"alice/Phone", "alice@home.example/Phone"},
		{"alice/a@b/c", "alice@home.example/a@b/c"},
		{"localhost", "localhost@home.example"},
		{"example.org", "example.org@home.example"},
		{"alice@example.org", "alice@example.org"},
		{"Alice@Example.ORG/Phone", "alice@example.org/Phone"},
		{"alice@example.org.", "alice@example.org"},
		{"alice@localhost", "alice@localhost"},
		{`al\40ice@example.org`, `al\40ice@example.org`},
		{"a+b!#$%*=?^_`{|}~@x", "a+b!#$%*=?^_`{|}~@x"},
		{"alice@127.0.0.1", "alice@127.0.0.1"},
		{"alice@[::1]", "alice@[::1]"},
		{"alice@[2001:DB8:0:0::1]/x", "alice@[2001:db8::1]/x"},
		{"fussball@example.com", "fussball@example.com"},
		{"fußball@example.com", "fußball@example.com"},
		{"π@example.com", "π@example.com"},
		{"Σ@example.com/foo", "σ@example.com/foo"},
		{"king@example.com/♚", "king@example.com/♚"},
		{"foo@example.com/foo bar", "foo@example.com/foo bar"},
		{"foo@example.com/foo\u00a0bar", "foo@example.com/foo bar"},
		{"ＡＬＩＣＥ", "alice@home.example"},
		{"e\u0301ve", "éve@home.example"},
		{"a@BÜCHER.example", "a@bücher.example"},
		{"a@xn--bcher-kva.example", "a@bücher.example"},
		{"a@XN--BCHER-KVA.example.", "a@bücher.example"},
		{"a@ex。example。", "a@ex.example"},
		{"張@例え.テスト", "張@例え.テスト"},
		{long, long + "@home.example"},
		{"a@x/" + long, "a@x/" + long},
		{"a@" + name253, "a@" + name253},
		{"a@" + name253 + ".", "a@" + name253},
	} {
		a, err := Parse(tc.in, "home.example")
		if err != nil || a.String() != tc.want {
			t.Errorf("Parse(%q) = %q, %v; want %q", tc.in, a, err, tc.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	long := strings.Repeat("a", MaxPart+1)
	for _, tc := range []struct {
		in   string
		part Part
		why  string
	}{
		{"", Localpart, "is empty"},
		{"/phone", Localpart, "is empty"},
		{"@example.org", Localpart, "is empty"},
		{"@", Localpart, "is empty"},
		{`"juliet"@example.com`, Localpart, `may not hold '"'`},
		{"foo bar@example.com", Localpart, "may not hold ' '"},
		{"a:b", Localpart, "may not hold ':'"},
		{"a\x00b", Localpart, `may not hold '\x00'`},
		{"a\x7f", Localpart, `may not hold '\x7f'`},
		{"a＠b", Localpart, "may not hold '@'"},
		{"henryⅣ@example.com", Localpart, "holds a character that is not allowed there"},
		{"♚@example.com", Localpart, "holds a character that is not allowed there"},
		{"a\xffb", Localpart, "is not UTF-8"},
		{long, Localpart, "is longer than 1023 bytes"},
		{"alice@", Domainpart, "is empty"},
		{"alice@.", Domainpart, "is empty"},
		{"alice@/phone", Domainpart, "is empty"},
		{"alice@a..b", Domainpart, "is not a domain name"},
		{"alice@.b", Domainpart, "is not a domain name"},
		{"alice@a..", Domainpart, "is not a domain name"},
		{"alice@a。。", Domainpart, "is not a domain name"},
		{"alice@。", Domainpart, "is empty"},
		{"alice@b@c", Domainpart, "is not a domain name"},
		{"alice@a b", Domainpart, "is not a domain name"},
		{"alice@a_b", Domainpart, "is not a domain name"},
		{"alice@-a", Domainpart, "is not a domain name"},
		{"alice@a-", Domainpart, "is not a domain name"},
		{"alice@a-.b", Domainpart, "is not a domain name"},
		{"alice@ab--c", Domainpart, "is not a domain name"},
		{"alice@xn--\x00", Domainpart, "is not a domain name"},
		{"alice@" + strings.Repeat("a", 64), Domainpart, "is not a domain name"},
		{"alice@" + strings.Repeat("abcdefghi.", 25) + "abcd", Domainpart, "is not a domain name"},
		{"alice@" + strings.Repeat("a.", 512), Domainpart, "is not a domain name"},
		{"alice@" + long, Domainpart, "is longer than 1023 bytes"},
		{"alice@\xff", Domainpart, "is not UTF-8"},
		{"alice@[::1", Domainpart, "is not an IPv6 address in brackets"},
		{"alice@[fe80::1%eth0]", Domainpart, "is not an IPv6 address in brackets"},
		{"alice@[127.0.0.1]", Domainpart, "is not an IPv6 address in brackets"},
		{"alice@[", Domainpart, "is not an IPv6 address in brackets"},
		{"alice@x/", Resourcepart, "is empty"},
		{"alice/", Resourcepart, "is empty"},
		{"alice@x/a\nb", Resourcepart, `may not hold '\n'`},
		{"alice@x/" + long, Resourcepart, "is longer than 1023 bytes"},
		{"alice@x/é\x00", Resourcepart, "holds a character that is not allowed there"},
		{"alice@x/\xc3", Resourcepart, "is not UTF-8"},
	} {
		a, err := Parse(tc.in, "home.example")
		var e *Error
		if !errors.Is(err, ErrInvalid) || !errors.As(err, &e) || e.Part != tc.part || e.Why != tc.why {
			t.Errorf("Parse(%.40q) = %q, %v; want %s %s", tc.in, a, err, tc.part, tc.why)
		}
		if a != (Address{}) {
			t.Errorf("Parse(%.40q) returned %q with its error", tc.in, a)
		}
	}
	if _, err := Parse("alice", ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("without any domain: %v", err)
	}
}

func TestParseJID(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Address
	}{
		{"localhost", Address{Domain: "localhost"}},
		{"LocalHost.", Address{Domain: "localhost"}},
		{"example.org/x@y", Address{Domain: "example.org", Device: "x@y"}},
		{"a@b", Address{User: "a", Domain: "b"}},
		{"A@b/C", Address{User: "a", Domain: "b", Device: "C"}},
		{"[::1]", Address{Domain: "[::1]"}},
	} {
		if a, err := ParseJID(tc.in); err != nil || a != tc.want {
			t.Errorf("ParseJID(%q) = %#v, %v", tc.in, a, err)
		}
	}
	for _, in := range []string{"", "/x", "@", "@b", "a@", "a b", "a@b/", "b/"} {
		if a, err := ParseJID(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseJID(%q) = %#v, %v", in, a, err)
		}
	}
}

func TestParseAlone(t *testing.T) {
	if d, err := ParseDomain("Example.ORG."); d != "example.org" || err != nil {
		t.Error(d, err)
	}
	if d, err := ParseDevice("Phone 1"); d != "Phone 1" || err != nil {
		t.Error(d, err)
	}
	if _, err := ParseDevice(""); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestForms(t *testing.T) {
	for _, tc := range []struct {
		a          Address
		bare, full string
	}{
		{Address{"a", "b", "c"}, "a@b", "a@b/c"},
		{Address{"a", "b", ""}, "a@b", "a@b"},
		{Address{"", "b", ""}, "b", "b"},
		{Address{"", "b", "c"}, "b", "b/c"},
	} {
		if tc.a.Bare() != tc.bare || tc.a.String() != tc.full || Bare(tc.full) != tc.bare {
			t.Errorf("%#v: %q %q", tc.a, tc.a.Bare(), tc.a.String())
		}
	}
}

func TestParseAllocates(t *testing.T) {
	for in, most := range map[string]float64{
		"alice":                   0,
		"alice@example.org/phone": 0,
		"alice@Example.org/Phone": 1, // the lowered domain
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, err := Parse(in, "localhost"); err != nil {
				t.Fatal(err)
			}
		})
		if n > most {
			t.Errorf("Parse(%q) allocates %v times", in, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"alice", "Alice@Example.org/Phone", "a@[::1]/x", "a@xn--bcher-kva.example", "ＡＬＩＣＥ@BÜCHER。/\u00a0",
		"σς@x", "e\u0301@e\u0301", "İ@İ/İ", "ſ@ſ", "a@ß", "\u0660\u06f0", "a@1.2.3.4", "a@xn--", "a@\u00ad", "ᾳ\u0345@x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s, "localhost")
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
		} else {
			if a.User == "" || a.Domain == "" || max(len(a.User), len(a.Domain), len(a.Device)) > MaxPart {
				t.Fatalf("%q: %#v", s, a)
			}
			if b, err := Parse(a.String(), "localhost"); err != nil || b != a {
				t.Fatalf("%q: canonical %q parses as %q, %v", s, a, b, err)
			}
			if b, err := ParseJID(a.String()); err != nil || b != a {
				t.Fatalf("%q: canonical %q parses as %q, %v", s, a, b, err)
			}
			if Bare(a.String()) != a.Bare() {
				t.Fatalf("%q: bare", s)
			}
		}
		if a, err := ParseJID(s); err == nil {
			if b, err := ParseJID(a.String()); err != nil || b != a {
				t.Fatalf("%q: canonical %q parses as %q, %v", s, a, b, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, s := range []string{"alice", "alice@example.org/phone", "Alice@example.org", "张@例え.テスト"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(s, "localhost"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
