package wire

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) from a buffer that is known to be UTF-8. It
// never recurses: a shape asks for the values that it expects, and anything
// else is an error where it stands, so depth costs nothing.
type scanner struct {
	in  []byte
	pos int
	buf []byte // scratch for strings with escapes
	err *Problem
}

// fail notes the first error; everything after it does nothing.
func (s *scanner) fail(k Kind, field, format string, args ...any) {
	if s.err == nil {
		s.err = NewProblem(k, field, fmt.Sprintf(format, args...))
		s.pos = len(s.in)
	}
}

func (s *scanner) space() {
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte that is not space, zero at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.pos == len(s.in) {
		return 0
	}
	return s.in[s.pos]
}

// expect takes c.
func (s *scanner) expect(c byte, field string) bool {
	if s.peek() != c {
		s.unexpected(field, strconv.QuoteRune(rune(c)))
		return false
	}
	s.pos++
	return true
}

func (s *scanner) unexpected(field, want string) {
	if s.err != nil {
		return
	}
	if s.peek() == 0 && s.pos == len(s.in) {
		s.fail(BadJSON, field, "the body ends where %s was expected", want)
		return
	}
	r, _ := utf8.DecodeRune(s.in[s.pos:])
	s.fail(BadJSON, field, "%q at byte %d where %s was expected", r, s.pos, want)
}

// more says whether a list or object goes on: it takes the comma, or the
// closing bracket. First is true before the first element.
func (s *scanner) more(closing byte, first *bool, field string) bool {
	if s.err != nil {
		return false
	}
	if s.peek() == closing {
		s.pos++
		return false
	}
	if !*first && !s.expect(',', field) {
		return false
	}
	*first = false
	return true
}

// null takes null if it is there.
func (s *scanner) null() bool {
	if s.peek() == 'n' && len(s.in)-s.pos >= 4 && string(s.in[s.pos:s.pos+4]) == "null" {
		s.pos += 4
		return true
	}
	return false
}

// end checks that nothing but space is left.
func (s *scanner) end() {
	if s.err == nil && s.peek() != 0 || s.pos < len(s.in) {
		s.fail(BadJSON, "", "something follows the end at byte %d", s.pos)
	}
}

// raw takes a string and returns it without quotes; the bytes are valid until
// the next call.
func (s *scanner) raw(field string) []byte {
	if s.peek() != '"' {
		s.unexpected(field, "a string")
		return nil
	}
	start := s.pos + 1
	for i := start; i < len(s.in); i++ {
		switch c := s.in[i]; {
		case c == '"':
			s.pos = i + 1
			return s.in[start:i]
		case c == '\\':
			return s.escaped(start, i, field)
		case c < ' ':
			s.fail(BadJSON, field, "control character in a string at byte %d", i)
			return nil
		}
	}
	s.fail(BadJSON, field, "the body ends inside a string")
	return nil
}

// escaped goes on where raw met the first backslash.
func (s *scanner) escaped(start, i int, field string) []byte {
	b := append(s.buf[:0], s.in[start:i]...)
	for i < len(s.in) {
		c := s.in[i]
		switch {
		case c == '"':
			s.pos, s.buf = i+1, b
			return b
		case c < ' ':
			s.fail(BadJSON, field, "control character in a string at byte %d", i)
			return nil
		case c != '\\':
			b = append(b, c)
			i++
			continue
		}
		if i+1 == len(s.in) {
			break
		}
		i += 2
		switch e := s.in[i-1]; e {
		case '"', '\\', '/':
			b = append(b, e)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, n := s.unicode(i)
			if n == 0 {
				s.fail(BadJSON, field, `bad \u escape at byte %d`, i-2)
				return nil
			}
			if r == utf8.RuneError && n < 0 {
				// RFC 8259 section 8.2: such a string has no UTF-8 form.
				s.fail(BadUTF8, field, `half a surrogate pair at byte %d`, i-2)
				return nil
			}
			b = utf8.AppendRune(b, r)
			i += n
		default:
			s.fail(BadJSON, field, `bad escape \%c at byte %d`, e, i-2)
			return nil
		}
	}
	s.fail(BadJSON, field, "the body ends inside a string")
	return nil
}

// unicode reads the digits of a \u escape at i, and the second half of a
// surrogate pair; n is how many bytes they take, 0 for bad digits and negative
// for half a pair.
func (s *scanner) unicode(i int) (r rune, n int) {
	r, ok := hex4(s.in, i)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 4
	}
	if i+6 <= len(s.in) && s.in[i+4] == '\\' && s.in[i+5] == 'u' {
		if low, ok := hex4(s.in, i+6); ok {
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, 10
			}
		}
	}
	return utf8.RuneError, -1
}

func hex4(in []byte, i int) (r rune, ok bool) {
	if i+4 > len(in) {
		return 0, false
	}
	for _, c := range in[i : i+4] {
		r <<= 4
		switch {
		case '0' <= c && c <= '9':
			r |= rune(c - '0')
		case 'a' <= c && c <= 'f':
			r |= rune(c - 'a' + 10)
		case 'A' <= c && c <= 'F':
			r |= rune(c - 'A' + 10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number takes a number and returns its text, which is one by RFC 8259
// section 6.
func (s *scanner) number(field string) []byte {
	s.space()
	start, i := s.pos, s.pos
	digits := func() bool {
		from := i
		for i < len(s.in) && '0' <= s.in[i] && s.in[i] <= '9' {
			i++
		}
		return i > from
	}
	at := func(c byte) bool { return i < len(s.in) && s.in[i] == c }
	if at('-') {
		i++
	}
	ok := true
	if at('0') {
		i++
	} else {
		ok = digits()
	}
	if ok && at('.') {
		i++
		ok = digits()
	}
	if ok && (at('e') || at('E')) {
		i++
		if at('+') || at('-') {
			i++
		}
		ok = digits()
	}
	if !ok {
		s.unexpected(field, "a number")
		return nil
	}
	s.pos = i
	return s.in[start:i]
}

// uint takes a whole number that is not negative.
func (s *scanner) uint(field string) uint64 {
	b := s.number(field)
	if b == nil {
		return 0
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		s.fail(BadField, field, "%s is not a whole number from 0 to %d", b, uint64(1<<64-1))
	}
	return n
}
