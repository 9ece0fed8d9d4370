package wire

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// Post is the content of a POST /v1/messages.
type Post struct {
	Drafts []Draft
	// Batch says that it was a list, and wants a list as its answer.
	Batch bool
}

// DecodePost reads one draft, a list of them, or {"messages": list} with at
// most max drafts. The error names the field: "to", or "messages[3].to" in a
// batch. The drafts do not share memory with in.
func DecodePost(in []byte, max int) (Post, *Problem) {
	var p Post
	s, err := newScanner(in)
	if err != nil {
		return p, err
	}
	switch s.peek() {
	case '[':
		p.Batch = true
		p.Drafts = s.drafts(max)
	case '{':
		p.decode(s, max)
	default:
		s.unexpected("", "a message or a list of them")
	}
	s.end()
	if s.err != nil {
		return Post{}, s.err
	}
	return p, nil
}

// newScanner checks what is true of the whole input.
func newScanner(in []byte) (*scanner, *Problem) {
	// "JSON text exchanged between systems that are not part of a closed
	// ecosystem MUST be encoded using UTF-8" RFC 8259 section 8.1
	if !utf8.Valid(in) {
		at := 0
		for r, n := utf8.DecodeRune(in); r != utf8.RuneError || n != 1; r, n = utf8.DecodeRune(in[at:]) {
			at += n
		}
		return nil, NewProblem(BadUTF8, "", "invalid UTF-8 at byte "+strconv.Itoa(at))
	}
	return &scanner{in: in}, nil
}

// decode reads an object: a draft, or a list under "messages".
func (p *Post) decode(s *scanner, max int) {
	var d Draft
	var seen fieldSet
	first := true
	for s.expectOpen('{', &first, ""); s.more('}', &first, ""); {
		name := s.raw("")
		if string(name) == "messages" {
			if seen != 0 {
				s.fail(UnknownField, "messages", "a message has no messages; a batch has nothing else")
				return
			}
			s.expect(':', "messages")
			p.Batch = true
			p.Drafts = s.drafts(max)
			if s.peek() == ',' {
				s.pos++
				s.fail(UnknownField, string(s.raw("")), "a batch has nothing but messages")
			}
			s.expect('}', "")
			return
		}
		s.field(&d, &seen, name, "")
	}
	s.check(&d, seen, "")
	p.Drafts = []Draft{d}
}

func (s *scanner) expectOpen(c byte, first *bool, field string) {
	s.expect(c, field)
	*first = true
}

// drafts reads a list of drafts.
func (s *scanner) drafts(max int) []Draft {
	var ds []Draft
	first := true
	for s.expectOpen('[', &first, "messages"); s.more(']', &first, "messages"); {
		if len(ds) == max {
			s.fail(TooLarge, "messages", "more than %d messages in one request", max)
			return nil
		}
		path := "messages[" + strconv.Itoa(len(ds)) + "]"
		var d Draft
		var seen fieldSet
		inner := true
		for s.expectOpen('{', &inner, path); s.more('}', &inner, path); {
			s.field(&d, &seen, s.raw(path), path+".")
		}
		s.check(&d, seen, path+".")
		ds = append(ds, d)
	}
	if len(ds) == 0 {
		s.fail(MissingField, "messages", "an empty batch")
	}
	return ds
}

// fieldSet remembers which fields a draft had.
type fieldSet uint16

const (
	hasTo fieldSet = 1 << iota
	hasID
	hasType
	hasBody
	hasBody64
	hasExpires
	hasUrgency
	hasAttrs
)

// draftFields are the names of a draft's fields.
var draftFields = map[string]fieldSet{
	"to": hasTo, "id": hasID, "type": hasType, "body": hasBody, "body64": hasBody64,
	"expires": hasExpires, "urgency": hasUrgency, "attrs": hasAttrs,
}

// field reads the colon and the value of one field of d.
func (s *scanner) field(d *Draft, seen *fieldSet, name []byte, prefix string) {
	if s.err != nil {
		return
	}
	bit, ok := draftFields[string(name)]
	if !ok {
		s.fail(UnknownField, prefix+clip(name), "a message has no such field")
		return
	}
	if *seen&bit != 0 {
		s.fail(BadJSON, "", "the field is there twice")
	} else if s.expect(':', "") && !s.null() { // null is as good as nothing
		*seen |= bit
		s.value(d, bit)
	}
	if s.err != nil && s.err.Field == "" {
		s.err.Field = prefix + bitName(bit)
	}
}

// value reads the value of one field of d.
func (s *scanner) value(d *Draft, bit fieldSet) {
	switch bit {
	case hasTo:
		d.To = string(s.raw(""))
	case hasID:
		d.ID = string(s.raw(""))
	case hasType:
		d.Type = string(s.raw(""))
	case hasBody:
		d.Body = bytes.Clone(s.raw(""))
	case hasBody64:
		d.Binary = true
		d.Body = s.base64()
	case hasExpires:
		s.expires(d)
	case hasUrgency:
		d.Urgency = string(s.raw(""))
	case hasAttrs:
		d.Attrs = s.attrs()
	}
}

func bitName(bit fieldSet) string {
	for name, b := range draftFields {
		if b == bit {
			return name
		}
	}
	return ""
}

// clip keeps a name that somebody made up from filling the answer.
func clip(name []byte) string {
	const most = 64
	if len(name) <= most {
		return string(name)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return string(name[:cut]) + "…"
}

// base64 takes a string of RFC 4648 section 4, with or without padding.
func (s *scanner) base64() []byte {
	b := s.raw("")
	if s.err != nil {
		return nil
	}
	for range 2 {
		b = bytes.TrimSuffix(b, []byte{'='})
	}
	enc := base64.RawStdEncoding.Strict()
	out := make([]byte, enc.DecodedLen(len(b)))
	n, err := enc.Decode(out, b)
	if err != nil || bytes.ContainsAny(b, "\r\n") {
		s.fail(BadField, "", "not base64")
		return nil
	}
	return out[:n]
}

// expires takes seconds from now, or a date.
func (s *scanner) expires(d *Draft) {
	if s.peek() == '"' {
		text := string(s.raw(""))
		t, err := time.Parse(time.RFC3339, text)
		if err != nil || t.Year() > 9999 {
			s.fail(BadField, "", "%s is neither seconds nor a time of RFC 3339", strconv.Quote(clip([]byte(text))))
		}
		d.Expires = t.UTC().Truncate(time.Millisecond)
		return
	}
	b := s.number("")
	if s.err != nil {
		return
	}
	sec, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(sec > 0 && sec <= MaxTTL.Seconds()) {
		s.fail(BadField, "", "%s seconds: it must be more than 0 and at most %.0f", clip(b), MaxTTL.Seconds())
		return
	}
	d.TTL = max(time.Duration(sec*1000)*time.Millisecond, time.Millisecond)
}

// attrs takes an object of strings or lists of strings, or a list of pairs.
func (s *scanner) attrs() []Attr {
	if s.peek() == '[' {
		return s.pairs()
	}
	var as []Attr
	names := map[string]bool{}
	first := true
	for s.expectOpen('{', &first, ""); s.more('}', &first, ""); {
		name := string(s.raw(""))
		if names[name] {
			s.fail(BadJSON, "", "%s is there twice; give it a list of values", strconv.Quote(clip([]byte(name))))
		}
		names[name] = true
		if !s.expect(':', "") {
			break
		}
		if s.peek() != '[' {
			as = append(as, Attr{name, string(s.raw(""))})
			continue
		}
		inner := true
		for s.expectOpen('[', &inner, ""); s.more(']', &inner, ""); {
			as = append(as, Attr{name, string(s.raw(""))})
		}
	}
	if s.err != nil {
		return nil
	}
	return as
}

func (s *scanner) pairs() []Attr {
	var as []Attr
	first := true
	for s.expectOpen('[', &first, ""); s.more(']', &first, ""); {
		var pair [2]string
		n, inner := 0, true
		for s.expectOpen('[', &inner, ""); s.more(']', &inner, ""); n++ {
			v := string(s.raw(""))
			if n < len(pair) {
				pair[n] = v
			}
		}
		if n != len(pair) {
			s.fail(BadJSON, "", "a property is a pair of name and value")
		}
		as = append(as, Attr{pair[0], pair[1]})
	}
	if s.err != nil {
		return nil
	}
	return as
}

// check looks at a draft as a whole.
func (s *scanner) check(d *Draft, seen fieldSet, prefix string) {
	switch {
	case s.err != nil:
	case seen&hasTo == 0 || d.To == "":
		s.fail(MissingField, prefix+"to", "a message needs a recipient")
	case seen&hasBody != 0 && seen&hasBody64 != 0:
		s.fail(BadField, prefix+"body64", "a message has either body or body64")
	case seen&(hasBody|hasBody64) == 0:
		s.fail(MissingField, prefix+"body", "a message needs body or body64")
	}
}

// fields reads an object, of what is called what in errors. It calls value for
// each field, behind the colon; value reports whether there is such a one.
func (s *scanner) fields(what string, value func(name string) bool) (seen map[string]bool) {
	seen = map[string]bool{}
	first := true
	for s.expectOpen('{', &first, ""); s.more('}', &first, ""); {
		name := string(s.raw(""))
		if s.err != nil {
			break
		}
		if seen[name] {
			s.fail(BadJSON, clip([]byte(name)), "the field is there twice")
			break
		}
		seen[name] = true
		s.expect(':', name)
		if !value(name) {
			s.fail(UnknownField, clip([]byte(name)), "%s has no such field", what)
		}
	}
	s.end()
	return seen
}

// DecodeAck reads the content of a POST /v1/ack.
func DecodeAck(in []byte) (a Ack, _ *Problem) {
	s, err := newScanner(in)
	if err != nil {
		return a, err
	}
	seen := s.fields("an acknowledgement", func(name string) bool {
		switch name {
		case "seq":
			a.Seq = s.uint(name)
		case "next":
			a.Next = string(s.raw(name))
		case "device":
			a.Device = string(s.raw(name))
		default:
			return false
		}
		return true
	})
	switch {
	case s.err != nil:
	case seen["seq"] && seen["next"]:
		s.fail(BadField, "next", "either seq or next")
	case !seen["seq"] && !seen["next"]:
		s.fail(MissingField, "seq", "an acknowledgement needs seq or next")
	}
	if s.err != nil {
		return Ack{}, s.err
	}
	return a, nil
}

// DecodeSignal reads the content of a POST /v1/signals.
func DecodeSignal(in []byte) (g Signal, _ *Problem) {
	s, err := newScanner(in)
	if err != nil {
		return g, err
	}
	seen := s.fields("a signal", func(name string) bool {
		switch name {
		case "to":
			g.To = string(s.raw(name))
		case "kind":
			g.Kind = string(s.raw(name))
		case "body":
			g.Body = bytes.Clone(s.raw(name))
		case "body64":
			if g.Body = s.base64(); s.err != nil && s.err.Field == "" {
				s.err.Field = name
			}
		default:
			return false
		}
		return true
	})
	switch {
	case s.err != nil:
	case g.To == "":
		s.fail(MissingField, "to", "a signal needs a recipient")
	case g.Kind == "":
		s.fail(MissingField, "kind", "a signal needs a kind")
	case seen["body"] && seen["body64"]:
		s.fail(BadField, "body64", "a signal has either body or body64")
	}
	if s.err != nil {
		return Signal{}, s.err
	}
	return g, nil
}
