package stream

import "bytes"

// tagEnds reports whether the whole of the tag at pos has come. It looks at
// each byte once, however slowly they come.
func (sc *scan) tagEnds(p []byte) bool {
	end := p[sc.pos+1] == '/'
	for i := sc.seek; i < len(p); i++ {
		switch b := p[i]; {
		case sc.quote != 0:
			if b == sc.quote {
				sc.quote = 0
			}
		case b == '>' || b == '<':
			sc.seek = i
			return true
		case !end && (b == '"' || b == '\''):
			sc.quote = b
		}
	}
	sc.seek = len(p)
	return false
}

// wait notes that the tag at pos has not come to its end.
func (sc *scan) wait(p []byte) {
	sc.mode, sc.quote, sc.seek = inTag, 0, sc.pos+1
	sc.tagEnds(p)
}

// nameEnd returns where the name that begins at i ends and where its colon is,
// -1 if it has none.
func nameEnd(p []byte, i int) (end, colon int, err error) {
	colon = -1
	if i < len(p) && class[p[i]]&nameStart == 0 {
		return 0, 0, badName(p[i])
	}
	for i < len(p) {
		if class[p[i]]&name != 0 {
			i++
			continue
		}
		if p[i] != ':' {
			if p[i] >= 0x80 {
				return 0, 0, PolicyViolation
			}
			break
		}
		if colon >= 0 {
			return 0, 0, NotWellFormed
		}
		colon = i
		i++
		if i < len(p) && class[p[i]]&nameStart == 0 {
			return 0, 0, badName(p[i])
		}
	}
	return i, colon, nil
}

// badName says what is wrong with a byte that begins no name.
//
// Not XML 1.0, section 2.3: names outside ASCII are refused. The fourth and
// fifth editions disagree on which there are, and a reader's parser of the
// other edition would end his stream.
func badName(b byte) error {
	switch {
	case b >= 0x80:
		return PolicyViolation
	case b == 0:
		return UnsupportedEncoding
	}
	return NotWellFormed
}

// endTag reads the end tag at pos. Not ok without an error means that more is
// needed.
func (sc *scan) endTag(p []byte) (ok bool, err error) {
	if len(sc.open) == 0 {
		return false, NotWellFormed
	}
	top := sc.open[len(sc.open)-1].of(p)
	i := sc.pos + 2
	rest := p[i:]
	if n := min(len(rest), len(top)); !bytes.Equal(rest[:n], top[:n]) {
		return false, NotWellFormed
	}
	for i += len(top); i < len(p); i++ {
		if p[i] == '>' {
			sc.pos = i + 1
			depth := int32(len(sc.open))
			sc.open = sc.open[:depth-1]
			for n := len(sc.bound); n > 0 && sc.bound[n-1].depth == depth; n-- {
				sc.bound = sc.bound[:n-1]
			}
			return true, nil
		}
		if class[p[i]]&space == 0 {
			return false, NotWellFormed
		}
	}
	sc.wait(p)
	return false, nil
}

// startTag reads the start tag at pos. Not ok without an error means that more
// is needed.
func (sc *scan) startTag(p []byte, s *Scanner, header bool) (ok bool, err error) {
	start := sc.pos + 1
	i, colon, err := nameEnd(p, start)
	if err != nil {
		return false, err
	}
	elem := span{int32(start), int32(i)}
	sc.attrs = sc.attrs[:0]
	for {
		from := i
		for i < len(p) && class[p[i]]&space != 0 {
			i++
		}
		if i >= len(p) {
			break
		}
		switch p[i] {
		case '>':
			i++
			return sc.opened(p, s, elem, colon, i, header, false)
		case '/':
			if i+1 >= len(p) {
				sc.wait(p)
				return false, nil
			}
			if p[i+1] != '>' {
				return false, NotWellFormed
			}
			return sc.opened(p, s, elem, colon, i+2, header, true)
		}
		if i == from {
			return false, badName(p[i])
		}
		if len(sc.attrs) >= s.Limits.Attrs {
			return false, PolicyViolation
		}
		a := attr{name: span{lo: int32(i)}}
		var c int
		if i, c, err = nameEnd(p, i); err != nil {
			return false, err
		}
		a.name.hi, a.colon = int32(i), int32(c)
		for i < len(p) && class[p[i]]&space != 0 {
			i++
		}
		if i >= len(p) {
			break
		}
		if p[i] != '=' {
			return false, NotWellFormed
		}
		i++
		for i < len(p) && class[p[i]]&space != 0 {
			i++
		}
		if i >= len(p) {
			break
		}
		q := p[i]
		if q != '"' && q != '\'' {
			return false, NotWellFormed
		}
		i++
		a.value.lo = int32(i)
		if i, err = valueEnd(p, i, q); err != nil {
			return false, err
		}
		if i >= len(p) {
			break
		}
		a.value.hi = int32(i)
		i++
		sc.attrs = append(sc.attrs, a)
	}
	if i-sc.pos > s.roomBytes() {
		return false, PolicyViolation
	}
	sc.wait(p)
	return false, nil
}

// valueEnd returns where the closing quote is, len(p) if it has not come.
func valueEnd(p []byte, i int, q byte) (int, error) {
	i = run(p, i, q, '<', '&')
	for i < len(p) {
		if class[p[i]]&inValue != 0 {
			i++
			continue
		}
		n, err := 1, error(nil)
		switch b := p[i]; b {
		case q:
			return i, nil
		case '"', '\'':
		case '<':
			return 0, NotWellFormed
		case '&':
			n, err = reference(p[i:])
		default:
			n, err = char(p[i:])
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return len(p), nil
		}
		i += n
	}
	return i, nil
}

// opened enters an element whose start tag is whole and ends before end.
func (sc *scan) opened(p []byte, s *Scanner, elem span, colon, end int, header, empty bool) (bool, error) {
	sc.elems++
	if sc.elems > s.Limits.Elements-s.sumElems || len(sc.open) >= s.Limits.Depth {
		return false, PolicyViolation
	}
	depth := int32(len(sc.open)) + 1
	prefixed := 0
	for i := range sc.attrs {
		a := &sc.attrs[i]
		nm := a.name.of(p)
		for _, b := range sc.attrs[:i] {
			if b.name.hi-b.name.lo == a.name.hi-a.name.lo && bytes.Equal(b.name.of(p), nm) {
				return false, NotWellFormed
			}
		}
		if a.colon < 0 {
			if string(nm) == "xmlns" && reserved(p, a.value) {
				return false, NotWellFormed
			}
			continue
		}
		if string(p[a.name.lo:a.colon]) != "xmlns" {
			prefixed++
			continue
		}
		prefix := span{a.colon + 1, a.name.hi}
		switch pre := string(prefix.of(p)); {
		case a.value.lo == a.value.hi, pre == "xmlns":
			// "the attribute value in a namespace declaration for a prefix MUST
			// NOT be empty": Namespaces in XML 1.0, section 2.2.
			return false, NotWellFormed
		case pre == "xml":
			if string(p[a.value.lo:a.value.hi]) != NSXML {
				return false, NotWellFormed
			}
			continue
		case reserved(p, a.value):
			return false, NotWellFormed
		case pre == "stream" && !header:
			if string(p[a.value.lo:a.value.hi]) != NSStreams {
				return false, BadNamespacePrefix
			}
		}
		if len(sc.bound) >= s.Limits.Attrs {
			return false, PolicyViolation
		}
		sc.bound = append(sc.bound, binding{prefix, a.value, depth})
	}
	if colon >= 0 {
		pre := p[elem.lo:colon]
		if string(pre) == "xmlns" {
			return false, NotWellFormed
		}
		// The prefix of the stream header may be used by a first-level element
		// only (stream:error): inside a stanza it would be unbound for a reader
		// whose transport has no stream header.
		if !(string(pre) == "stream" && depth == 1 && s.opened) && !sc.isBound(p, pre) {
			return false, NotWellFormed
		}
	}
	if prefixed > 0 {
		if err := sc.checkPrefixed(p); err != nil {
			return false, err
		}
	}
	sc.pos = end
	switch {
	case header && empty:
		return false, InvalidXML
	case header:
		err := headerName(p[elem.lo:elem.hi])
		return err == nil, err
	case empty:
		for n := len(sc.bound); n > 0 && sc.bound[n-1].depth == depth; n-- {
			sc.bound = sc.bound[:n-1]
		}
	default:
		sc.open = append(sc.open, elem)
	}
	return true, nil
}

// headerName checks the name of a stream header.
func headerName(nm []byte) error {
	if string(nm) == "stream:stream" {
		return nil
	}
	// "an implementation … MAY … consider [another prefix] an error":
	// RFC 6120, section 4.8.5.
	if string(nm) == "stream" || bytes.HasSuffix(nm, []byte(":stream")) {
		return BadNamespacePrefix
	}
	return BadFormat
}

// reserved reports whether a namespace may not be bound to another prefix than
// its own, nor be the default (Namespaces in XML 1.0, section 3).
func reserved(p []byte, v span) bool {
	uri := unescape(v.of(p))
	return string(uri) == NSXML || string(uri) == NSXMLNS
}

func (sc *scan) isBound(p, prefix []byte) bool {
	return string(prefix) == "xml" || sc.lookup(p, prefix) != nil
}

func (sc *scan) lookup(p, prefix []byte) *binding {
	for i := len(sc.bound) - 1; i >= 0; i-- {
		if bytes.Equal(sc.bound[i].prefix.of(p), prefix) {
			return &sc.bound[i]
		}
	}
	return nil
}

// checkPrefixed checks that attributes' prefixes are bound, and that no two of
// them mean the same (Namespaces in XML 1.0, section 6.3).
func (sc *scan) checkPrefixed(p []byte) error {
	for i, a := range sc.attrs {
		if a.colon < 0 {
			continue
		}
		pre := p[a.name.lo:a.colon]
		if string(pre) == "xmlns" || string(pre) == "xml" {
			continue
		}
		ba := sc.lookup(p, pre)
		if ba == nil {
			return NotWellFormed
		}
		for _, b := range sc.attrs[:i] {
			if b.colon < 0 || !bytes.Equal(p[a.colon:a.name.hi], p[b.colon:b.name.hi]) {
				continue
			}
			bb := sc.lookup(p, p[b.name.lo:b.colon])
			if bb != nil && bytes.Equal(unescape(ba.uri.of(p)), unescape(bb.uri.of(p))) {
				return NotWellFormed
			}
		}
	}
	return nil
}
