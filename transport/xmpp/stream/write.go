package stream

import "unicode/utf8"

// Carries reports whether XML can carry s as character data: whether it is
// UTF-8 and holds nothing but Chars (XML 1.0, section 2.2).
func Carries[T string | []byte](s T) bool {
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if class[b]&(plain|markup) == 0 {
				return false
			}
			i++
			continue
		}
		r, n := decode(s[i:])
		if r == utf8.RuneError && n == 1 || !isChar(r) {
			return false
		}
		i += n
	}
	return true
}

func decode[T string | []byte](s T) (rune, int) {
	var b [utf8.UTFMax]byte
	return utf8.DecodeRune(b[:copy(b[:], s)])
}

// AppendText appends s as character data. What XML cannot carry becomes
// U+FFFD; ask [Carries] first where that matters.
func AppendText[T string | []byte](dst []byte, s T) []byte {
	from := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf && b != '<' && b != '&' && b != '>' && b != '\r' && class[b]&(plain|markup) != 0 {
			i++
			continue
		}
		sub, n := "", 1
		switch b {
		case '<':
			sub = "&lt;"
		case '>': // for "]]>"
			sub = "&gt;"
		case '&':
			sub = "&amp;"
		case '\r': // would be read as a newline
			sub = "&#xD;"
		default:
			r, size := decode(s[i:])
			if n = size; r == utf8.RuneError && size == 1 || !isChar(r) {
				sub = "\ufffd"
			}
		}
		if sub != "" {
			dst = append(append(dst, s[from:i]...), sub...)
			from = i + n
		}
		i += n
	}
	return append(dst, s[from:]...)
}

// AppendAttr appends an attribute, with a space before it.
func AppendAttr[T string | []byte](dst []byte, name string, value T) []byte {
	dst = append(append(append(dst, ' '), name...), '=', '\'')
	from := len(dst)
	dst = AppendText(dst, value)
	quoted := 0
	for _, b := range dst[from:] {
		if b == '\'' || b == '\n' || b == '\t' {
			quoted++
		}
	}
	if quoted > 0 {
		in := append([]byte(nil), dst[from:]...)
		dst = dst[:from]
		for _, b := range in {
			switch b {
			case '\'':
				dst = append(dst, "&apos;"...)
			case '\n':
				dst = append(dst, "&#xA;"...)
			case '\t':
				dst = append(dst, "&#x9;"...)
			default:
				dst = append(dst, b)
			}
		}
	}
	return append(dst, '\'')
}

// AppendElement appends <name xmlns='ns'>text</name>; without ns if that is
// empty, and as an empty element if text is.
func AppendElement[T string | []byte](dst []byte, name, ns string, text T) []byte {
	dst = append(append(dst, '<'), name...)
	if ns != "" {
		dst = AppendAttr(dst, "xmlns", ns)
	}
	if len(text) == 0 {
		return append(dst, "/>"...)
	}
	dst = AppendText(append(dst, '>'), text)
	return append(append(append(dst, "</"...), name...), '>')
}
