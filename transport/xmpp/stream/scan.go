package stream

import (
	"bytes"
	"sync"
	"unicode/utf8"
)

// Kind is what [Scanner.Next] found.
type Kind uint8

const (
	More   Kind = iota // nothing whole: call again with more bytes
	Skip               // white space or the XML declaration, to be passed over
	Open               // a stream header; the element is its start tag alone
	Stanza             // a whole first-level element
	Close              // the end of the stream
)

// Scanner finds whole stanzas in a stream of bytes. While it holds no half
// stanza it is a few words. The zero value, with Limits, is ready for a
// stream's first byte.
type Scanner struct {
	Limits Limits
	// Framed says that the transport frames stanzas itself (RFC 7395): there
	// is no stream header, and every element stands alone.
	Framed bool

	opened     bool
	declared   bool
	sumBytes   int
	sumElems   int
	unfinished *scan // of the unit that p begins with; nil if nothing of it was seen
}

// scan is the state of a unit of which only a part has come.
type scan struct {
	pos   int // everything before was checked
	mode  mode
	quote byte // inTag: the quote that we are in, zero if none
	seek  int  // inTag: where to look on for the end of the tag at pos
	elems int
	open  []span    // names of the open elements
	bound []binding // prefixes in scope
	attrs []attr    // of the tag being read
}

type mode uint8

const (
	inContent mode = iota
	inTag          // a tag begins at pos, its end has not come
	inCDATA
)

type span struct{ lo, hi int32 }

func (s span) of(p []byte) []byte { return p[s.lo:s.hi] }

type binding struct {
	prefix, uri span
	depth       int32
}

// attr is an attribute of the tag being read.
type attr struct {
	name  span // qualified
	colon int32
	value span
}

var scans = sync.Pool{New: func() any { return new(scan) }}

// Reset prepares for a new stream on the same connection (RFC 6120, section
// 4.3.3). What was counted by Limits.Sum stays counted.
func (s *Scanner) Reset() {
	s.drop()
	s.opened, s.declared = false, false
}

func (s *Scanner) drop() {
	if s.unfinished != nil {
		s.unfinished.reset()
		scans.Put(s.unfinished)
		s.unfinished = nil
	}
}

func (sc *scan) reset() {
	*sc = scan{open: sc.open[:0], bound: sc.bound[:0], attrs: sc.attrs[:0]}
}

// Next looks at p, which begins where the last call's n ended. It returns what
// p begins with and how long that is. With More, p must be given again with
// more behind it; what was checked already is not looked at again. An error is
// a [Condition], and the stream is over.
func (s *Scanner) Next(p []byte) (k Kind, n int, err error) {
	k, n, err = s.next(p)
	if err != nil {
		s.drop()
		return More, 0, err
	}
	seen := n
	if k == More {
		seen = len(p)
	}
	if seen > s.roomBytes() && (k != Skip || s.Limits.Sum) {
		s.drop()
		return More, 0, PolicyViolation
	}
	if s.Limits.Sum {
		s.sumBytes += n
	}
	return k, n, nil
}

// Relax changes the limits, and forgets what was counted by the old ones.
func (s *Scanner) Relax(l Limits) { s.Limits, s.sumBytes, s.sumElems = l, 0, 0 }

func (s *Scanner) roomBytes() int { return s.Limits.Bytes - s.sumBytes }

func (s *Scanner) next(p []byte) (Kind, int, error) {
	if len(p) == 0 {
		return More, 0, nil
	}
	if s.unfinished == nil {
		if class[p[0]]&space != 0 {
			n := 1
			for n < len(p) && class[p[n]]&space != 0 {
				n++
			}
			// White space may not come before the declaration, but nothing is lost by
			// being lenient, and some clients send it when they restart the stream.
			return Skip, n, nil
		}
		if p[0] != '<' {
			return More, 0, stray(p[0])
		}
		if len(p) < 2 {
			return More, 0, nil
		}
		switch {
		case p[1] == '?':
			return s.declaration(p)
		case p[1] == '!':
			return More, 0, RestrictedXML
		case p[1] == 0:
			return More, 0, UnsupportedEncoding
		case p[1] == '/' && !s.Framed:
			return s.close(p)
		}
	}
	sc := s.unfinished
	if sc == nil {
		sc = scans.Get().(*scan)
	}
	done, err := sc.run(p, s)
	if err != nil || done {
		n, elems := sc.pos, sc.elems
		sc.reset()
		scans.Put(sc)
		s.unfinished = nil
		if err != nil {
			return More, 0, err
		}
		if s.Limits.Sum {
			s.sumElems += elems
		}
		s.declared = true
		if s.opened || s.Framed {
			return Stanza, n, nil
		}
		s.opened = true
		return Open, n, nil
	}
	s.unfinished = sc
	return More, 0, nil
}

// stray says what is wrong with a byte that begins nothing.
func stray(b byte) error {
	if b == 0xfe || b == 0xff || b == 0 { // UTF-16 or UTF-32
		return UnsupportedEncoding
	}
	return NotWellFormed
}

var endOfStream = []byte("</stream:stream")

func (s *Scanner) close(p []byte) (Kind, int, error) {
	n := min(len(p), len(endOfStream))
	if !s.opened || !bytes.Equal(p[:n], endOfStream[:n]) {
		return More, 0, NotWellFormed
	}
	for i := n; i < len(p); i++ {
		if p[i] == '>' {
			s.opened = false
			return Close, i + 1, nil
		}
		if class[p[i]]&space == 0 {
			return More, 0, NotWellFormed
		}
		if i > 64 {
			return More, 0, PolicyViolation
		}
	}
	return More, 0, nil
}

// declaration reads <?xml version='1.0' encoding='UTF-8'?>, which may stand
// before the stream header only.
func (s *Scanner) declaration(p []byte) (Kind, int, error) {
	const start, longest = "<?xml", 128
	n := min(len(p), len(start))
	if s.declared || s.Framed || string(p[:n]) != start[:n] {
		return More, 0, RestrictedXML
	}
	end := bytes.Index(p[:min(len(p), longest)], []byte("?>"))
	if end < 0 {
		if len(p) >= longest {
			return More, 0, NotWellFormed
		}
		return More, 0, nil
	}
	if err := declared(p[n:end]); err != nil {
		return More, 0, err
	}
	s.declared = true
	return Skip, end + 2, nil
}

// declared checks the inside of an XML declaration: version, encoding and
// standalone, in that order, the first of them required.
func declared(p []byte) error {
	for i, want := range [...]string{"version", "encoding", "standalone"} {
		rest := bytes.TrimLeft(p, " \t\r\n")
		if len(rest) == 0 {
			if i == 0 {
				return NotWellFormed
			}
			return nil
		}
		after, ok := bytes.CutPrefix(rest, []byte(want))
		if !ok {
			if i == 0 {
				return NotWellFormed
			}
			continue
		}
		if len(rest) == len(p) {
			return NotWellFormed
		}
		after, ok = bytes.CutPrefix(bytes.TrimLeft(after, " \t\r\n"), []byte("="))
		after = bytes.TrimLeft(after, " \t\r\n")
		if !ok || len(after) < 2 || after[0] != '"' && after[0] != '\'' {
			return NotWellFormed
		}
		end := bytes.IndexByte(after[1:], after[0])
		if end < 0 {
			return NotWellFormed
		}
		switch v := after[1 : end+1]; {
		case want == "version" && string(v) != "1.0":
			return NotWellFormed
		case want == "encoding" && !bytes.EqualFold(v, []byte("utf-8")):
			return UnsupportedEncoding
		case want == "standalone" && string(v) != "yes" && string(v) != "no":
			return NotWellFormed
		}
		p = after[end+2:]
	}
	if len(bytes.TrimLeft(p, " \t\r\n")) != 0 {
		return NotWellFormed
	}
	return nil
}

// run goes on with a unit. It reports whether its end was reached; then pos is
// behind it.
func (sc *scan) run(p []byte, s *Scanner) (done bool, err error) {
	header := !s.opened && !s.Framed
	for sc.pos < len(p) {
		if sc.pos > s.roomBytes() {
			return false, PolicyViolation
		}
		switch sc.mode {
		case inCDATA:
			if ok, err := sc.cdata(p); !ok {
				return false, err
			}
		case inTag:
			if !sc.tagEnds(p) {
				return false, nil
			}
			sc.mode = inContent
			fallthrough
		default:
			if ok, err := sc.text(p); !ok {
				return false, err
			}
			// p[pos] is '<'.
			if len(p)-sc.pos < 2 {
				return false, nil
			}
			switch p[sc.pos+1] {
			case '/':
				ok, err := sc.endTag(p)
				if !ok {
					return false, err
				}
				if len(sc.open) == 0 {
					return true, nil
				}
			case '!':
				const start = "<![CDATA["
				n := min(len(p)-sc.pos, len(start))
				if string(p[sc.pos:sc.pos+n]) != start[:n] {
					return false, RestrictedXML
				}
				if n < len(start) {
					return false, nil
				}
				sc.pos += n
				sc.mode = inCDATA
			case '?':
				return false, RestrictedXML
			default:
				ok, err := sc.startTag(p, s, header)
				if !ok {
					return false, err
				}
				if header || len(sc.open) == 0 {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// text passes over character data, up to the next tag. Not ok without an error
// means that more is needed.
func (sc *scan) text(p []byte) (ok bool, err error) {
	i := run(p, sc.pos, '<', '&', ']')
	for i < len(p) {
		c := class[p[i]]
		if c&plain != 0 {
			i++
			continue
		}
		n := 1
		switch {
		case p[i] == '<':
			sc.pos = i
			return true, nil
		case p[i] == '&':
			n, err = reference(p[i:])
		case p[i] == ']':
			// "]]>" may not stand in character data (XML 1.0, section 2.4).
			switch rest := p[i:]; {
			case len(rest) > 1 && rest[1] != ']', len(rest) > 2 && rest[2] != '>':
			case len(rest) > 2:
				err = NotWellFormed
			default:
				n = 0
			}
		default:
			n, err = char(p[i:])
		}
		if n == 0 || err != nil {
			sc.pos = i
			return false, err
		}
		i += n
	}
	sc.pos = i
	return false, nil
}

// cdata passes over a CDATA section. Not ok without an error means that more
// is needed.
func (sc *scan) cdata(p []byte) (ok bool, err error) {
	i := sc.pos
	for i < len(p) {
		if p[i] == ']' {
			rest := p[i:]
			if len(rest) >= 3 && rest[1] == ']' && rest[2] == '>' {
				sc.pos = i + 3
				sc.mode = inContent
				return true, nil
			}
			if len(rest) == 1 || len(rest) == 2 && rest[1] == ']' {
				break
			}
			i++
			continue
		}
		if class[p[i]]&(plain|markup) != 0 {
			i++
			continue
		}
		n, err := char(p[i:])
		if err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
		i += n
	}
	sc.pos = i
	return false, nil
}

// char checks a character that is not plain ASCII and returns its length, zero
// if its end has not come.
func char(p []byte) (n int, err error) {
	if p[0] < utf8.RuneSelf {
		return 0, NotWellFormed // a control character
	}
	r, n := utf8.DecodeRune(p)
	if r == utf8.RuneError && n == 1 {
		if !utf8.FullRune(p) {
			return 0, nil
		}
		return 0, NotWellFormed
	}
	if r == 0xfffe || r == 0xffff {
		return 0, NotWellFormed
	}
	return n, nil
}

// reference checks an entity or character reference and returns its length,
// zero if its end has not come.
func reference(p []byte) (n int, err error) {
	_, n, err = dereference(p)
	return n, err
}

// longestReference is the longest that makes sense, &#x0010FFFF; with some
// leading zeros to spare.
const longestReference = 16

func dereference(p []byte) (r rune, n int, err error) {
	end := bytes.IndexByte(p[:min(len(p), longestReference)], ';')
	if end < 0 {
		for _, b := range p[1:min(len(p), longestReference)] {
			if class[b]&name == 0 && b != '#' {
				return 0, 0, NotWellFormed
			}
		}
		if len(p) >= longestReference {
			return 0, 0, RestrictedXML
		}
		return 0, 0, nil
	}
	n = end + 1
	switch string(p[1:end]) {
	case "amp":
		return '&', n, nil
	case "lt":
		return '<', n, nil
	case "gt":
		return '>', n, nil
	case "quot":
		return '"', n, nil
	case "apos":
		return '\'', n, nil
	}
	if end < 2 {
		return 0, 0, NotWellFormed
	}
	if p[1] != '#' {
		for _, b := range p[1:end] {
			if class[b]&name == 0 {
				return 0, 0, NotWellFormed
			}
		}
		return 0, 0, RestrictedXML // an entity that would have to be declared
	}
	digits, base := p[2:end], rune(10)
	if len(digits) > 0 && digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	if len(digits) == 0 {
		return 0, 0, NotWellFormed
	}
	for _, b := range digits {
		d := rune(-1)
		switch {
		case b >= '0' && b <= '9':
			d = rune(b - '0')
		case b >= 'a' && b <= 'f':
			d = rune(b-'a') + 10
		case b >= 'A' && b <= 'F':
			d = rune(b-'A') + 10
		}
		if d < 0 || d >= base {
			return 0, 0, NotWellFormed
		}
		if r = r*base + d; r > utf8.MaxRune {
			return 0, 0, NotWellFormed
		}
	}
	if !isChar(r) {
		return 0, 0, NotWellFormed
	}
	return r, n, nil
}

// isChar reports whether r is a Char (XML 1.0, section 2.2).
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff ||
		r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// Classes of bytes.
const (
	plain     uint8 = 1 << iota // ASCII that stands for itself in text
	markup                      // < & ]
	space                       // white space
	nameStart                   // may begin a name
	name                        // may stand in a name
	inValue                     // ASCII that stands for itself in an attribute value
)

var class = func() (t [256]uint8) {
	for b := 0x20; b < 0x80; b++ {
		t[b] = plain | inValue
	}
	for _, b := range " \t\r\n" {
		t[b] = plain | space | inValue
	}
	for _, b := range "<&]" {
		t[b] = markup
	}
	t[']'] |= inValue
	t['"'] &^= inValue
	t['\''] &^= inValue
	for b := 'a'; b <= 'z'; b++ {
		t[b] |= nameStart | name
		t[b-'a'+'A'] |= nameStart | name
	}
	t['_'] |= nameStart | name
	for _, b := range "0123456789-." {
		t[b] |= name
	}
	return t
}()
