package stream

import (
	"bytes"
	"errors"
	"iter"
	"strings"
)

// Element is a view of one element in bytes that a [Scanner] has checked. It
// is valid as long as they are.
type Element struct {
	root  []byte // the outermost element
	at    int32  // of '<'
	tag   int32  // behind the start tag
	end   int32  // behind the end tag
	def   []byte // the default namespace of its content, as written
	scope *scope // the innermost start tag around that declares prefixes, or its own
}

// scope is a start tag that declares prefixes, and the next one around it. What
// a prefix means is found by these alone: a stanza of ten thousand elements has
// no more of them in each other than it is deep.
type scope struct {
	at, tag int32
	up      *scope
}

// ErrTrailing is Parse's answer to more than one element.
var ErrTrailing = errors.New("xmpp: more than one element")

// Parse checks that p is one element that stands alone, and returns it.
// Unprefixed names are in namespace def unless they say otherwise.
func Parse(p []byte, l Limits, def string) (Element, error) {
	s := Scanner{Limits: l, Framed: true}
	k, n, err := s.Next(p)
	s.drop()
	switch {
	case err != nil:
		return Element{}, err
	case k != Stanza:
		return Element{}, NotWellFormed
	case n != len(p):
		return Element{}, ErrTrailing
	}
	return View(p, def), nil
}

// View returns the element that checked bytes p begin with. Of a stream header
// p is the start tag alone.
func View(p []byte, def string) Element {
	e := Element{root: p, tag: int32(tagEnd(p, 0)), end: int32(len(p))}
	e.enter(nsBytes(def), nil)
	return e
}

var nsClient = []byte(NSClient)

func nsBytes(def string) []byte {
	if def == NSClient { // spares an allocation for nearly all
		return nsClient
	}
	return []byte(def)
}

// enter fills in def and scope, from what is declared around e and in its tag.
func (e *Element) enter(def []byte, up *scope) {
	e.def, e.scope = def, up
	for n, v := range e.attrs() {
		if len(n) < len("xmlns") || string(n[:len("xmlns")]) != "xmlns" {
			continue
		}
		switch {
		case len(n) == len("xmlns"):
			e.def = v
		case n[len("xmlns")] == ':' && e.scope == up:
			e.scope = &scope{e.at, e.tag, up}
		}
	}
}

// tagEnd returns where the tag at i ends.
func tagEnd(p []byte, i int) int {
	for {
		n := bytes.IndexAny(p[i:], ">\"'")
		if n < 0 {
			return len(p)
		}
		i += n + 1
		if q := p[i-1]; q != '>' {
			i += bytes.IndexByte(p[i:], q) + 1
		} else {
			return i
		}
	}
}

// Raw is the whole element as it was written.
func (e Element) Raw() []byte { return e.root[e.at:e.end] }

// Zero reports whether e is no element.
func (e Element) Zero() bool { return e.end == 0 }

func (e Element) empty() bool { return e.end == 0 || e.root[e.tag-2] == '/' }

// Inner is the content as it was written.
func (e Element) Inner() []byte {
	if e.empty() || e.tag == e.end {
		return nil
	}
	return e.root[e.tag : e.tag+int32(bytes.LastIndexByte(e.root[e.tag:e.end], '<'))]
}

// Qualified is the name as it was written, with its prefix.
func (e Element) Qualified() []byte {
	i := int(e.at) + 1
	for j := i; ; j++ {
		if class[e.root[j]]&name == 0 && e.root[j] != ':' {
			return e.root[i:j]
		}
	}
}

// Name is the local name.
func (e Element) Name() []byte {
	q := e.Qualified()
	return q[bytes.IndexByte(q, ':')+1:]
}

// NS is the namespace of the name.
func (e Element) NS() []byte {
	q := e.Qualified()
	if i := bytes.IndexByte(q, ':'); i >= 0 {
		return unescape(e.resolve(q[:i]))
	}
	return unescape(e.def)
}

// Is reports whether e is called local in namespace ns.
func (e Element) Is(ns, local string) bool {
	return !e.Zero() && string(e.Name()) == local && string(e.NS()) == ns
}

// resolve returns what prefix is bound to at e.
func (e Element) resolve(prefix []byte) []byte {
	if string(prefix) == "xml" {
		return []byte(NSXML)
	}
	for in := e.scope; in != nil; in = in.up {
		for n, v := range (Element{root: e.root, at: in.at, tag: in.tag}).attrs() {
			if rest, ok := bytes.CutPrefix(n, []byte("xmlns:")); ok && bytes.Equal(rest, prefix) {
				return v
			}
		}
	}
	if string(prefix) == "stream" {
		return []byte(NSStreams) // bound by the stream header
	}
	return nil
}

// attrs yields names and values as written.
func (e Element) attrs() iter.Seq2[[]byte, []byte] {
	return func(yield func(n, v []byte) bool) {
		if e.tag == 0 {
			return
		}
		p := e.root[:e.tag]
		i := int(e.at) + 1 + len(e.Qualified())
		for {
			for class[p[i]]&space != 0 {
				i++
			}
			if p[i] == '>' || p[i] == '/' {
				return
			}
			from := i
			for class[p[i]]&name != 0 || p[i] == ':' {
				i++
			}
			n := p[from:i]
			for p[i] != '"' && p[i] != '\'' {
				i++
			}
			end := i + 1 + bytes.IndexByte(p[i+1:], p[i])
			if !yield(n, p[i+1:end]) {
				return
			}
			i = end + 1
		}
	}
}

// RawAttr returns the value of an attribute as it was written between its
// quotes. The name is as written, xml:lang for example.
func (e Element) RawAttr(name string) (value []byte, ok bool) {
	for n, v := range e.attrs() {
		if string(n) == name {
			return v, true
		}
	}
	return nil, false
}

// Attr returns the value of an attribute, empty if it is not there.
func (e Element) Attr(name string) string {
	v, _ := e.RawAttr(name)
	return string(unescapeAttr(v))
}

// Children yields the child elements.
func (e Element) Children() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		if e.empty() || e.tag == e.end {
			return
		}
		p := e.root[:e.end]
		for i := int(e.tag); ; {
			i += bytes.IndexByte(p[i:], '<')
			switch p[i+1] {
			case '/':
				return
			case '!':
				i += bytes.Index(p[i:], []byte("]]>")) + 3
				continue
			}
			c := Element{root: e.root, at: int32(i), tag: int32(tagEnd(p, i))}
			i = elementEnd(p, int(c.tag))
			c.end = int32(i)
			c.enter(e.def, e.scope)
			if !yield(c) {
				return
			}
		}
	}
}

// elementEnd returns where the element ends whose start tag ends at i.
func elementEnd(p []byte, i int) int {
	if p[i-2] == '/' {
		return i
	}
	for depth := 1; depth > 0; {
		i += bytes.IndexByte(p[i:], '<')
		switch p[i+1] {
		case '!':
			i += bytes.Index(p[i:], []byte("]]>")) + 3
		case '/':
			i += bytes.IndexByte(p[i:], '>') + 1
			depth--
		default:
			i = tagEnd(p, i)
			if p[i-2] != '/' {
				depth++
			}
		}
	}
	return i
}

// First returns the first child element, the zero Element if there is none.
func (e Element) First() Element {
	for c := range e.Children() {
		return c
	}
	return Element{}
}

// Child returns the first child called local in namespace ns.
func (e Element) Child(ns, local string) (Element, bool) {
	for c := range e.Children() {
		if c.Is(ns, local) {
			return c, true
		}
	}
	return Element{}, false
}

// Text is the character data directly in e.
func (e Element) Text() string { return string(e.AppendText(nil)) }

// AppendText appends the character data directly in e.
func (e Element) AppendText(dst []byte) []byte {
	if e.empty() || e.tag == e.end {
		return dst
	}
	p := e.root[:e.end]
	for i := int(e.tag); ; {
		n := bytes.IndexByte(p[i:], '<')
		dst = appendUnescaped(dst, p[i:i+n], false)
		i += n
		switch p[i+1] {
		case '/':
			return dst
		case '!':
			end := i + bytes.Index(p[i:], []byte("]]>"))
			dst = appendNewlines(dst, p[i+len("<![CDATA["):end])
			i = end + 3
		default:
			i = elementEnd(p, tagEnd(p, i))
		}
	}
}

// unescape resolves the references in character data or a namespace's name.
func unescape(p []byte) []byte {
	if bytes.IndexByte(p, '&') < 0 && bytes.IndexByte(p, '\r') < 0 {
		return p
	}
	return appendUnescaped(nil, p, false)
}

// unescapeAttr is unescape for an attribute, where white space is normalized
// (XML 1.0, section 3.3.3).
func unescapeAttr(p []byte) []byte {
	if !bytes.ContainsAny(p, "&\r\n\t") {
		return p
	}
	return appendUnescaped(nil, p, true)
}

func appendUnescaped(dst, p []byte, attr bool) []byte {
	for i := 0; i < len(p); {
		switch b := p[i]; {
		case b == '&':
			r, n, _ := dereference(p[i:])
			if n == 0 {
				return dst // not reached: the bytes were checked
			}
			dst = append(dst, string(r)...)
			i += n
			continue
		case b == '\r':
			// "translating … #xD #xA and any #xD that is not followed by #xA to a
			// single #xA": XML 1.0, section 2.11.
			if i+1 < len(p) && p[i+1] == '\n' {
				i++
			}
			if attr {
				dst = append(dst, ' ')
			} else {
				dst = append(dst, '\n')
			}
		case attr && (b == '\n' || b == '\t'):
			dst = append(dst, ' ')
		default:
			dst = append(dst, b)
		}
		i++
	}
	return dst
}

func appendNewlines(dst, p []byte) []byte {
	for i, b := range p {
		if b == '\r' {
			if i+1 < len(p) && p[i+1] == '\n' {
				continue
			}
			b = '\n'
		}
		dst = append(dst, b)
	}
	return dst
}

// AppendTag appends e's start tag without its end, with all attributes but
// those named in drop, and without a prefix of the element itself:
//
//	<message type='chat'
func (e Element) AppendTag(dst []byte, drop ...string) []byte {
	dst = append(append(dst, '<'), e.Qualified()...)
next:
	for n, v := range e.attrs() {
		for _, d := range drop {
			if string(n) == d {
				continue next
			}
		}
		q := byte('\'')
		if bytes.IndexByte(v, q) >= 0 {
			q = '"'
		}
		dst = append(append(append(dst, ' '), n...), '=', q)
		dst = append(append(dst, v...), q)
	}
	return dst
}

// AppendInner appends e's content without the child elements for which drop
// returns true, byte for byte.
func (e Element) AppendInner(dst []byte, drop func(Element) bool) []byte {
	from := e.tag
	for c := range e.Children() {
		if drop(c) {
			dst = append(dst, e.root[from:c.at]...)
			from = c.end
		}
	}
	if end := e.tag + int32(len(e.Inner())); from < end {
		dst = append(dst, e.root[from:end]...)
	}
	return dst
}

// AppendEnd appends the end tag that belongs to AppendTag.
func (e Element) AppendEnd(dst []byte) []byte {
	return append(append(append(dst, "</"...), e.Qualified()...), '>')
}

// Declarations returns the declarations of prefixes in e's own start tag, as
// attributes: what its content needs if it is to stand elsewhere.
func (e Element) Declarations() string {
	var b strings.Builder
	for n, v := range e.attrs() {
		if bytes.HasPrefix(n, []byte("xmlns:")) {
			q := "'"
			if bytes.IndexByte(v, '\'') >= 0 {
				q = "\""
			}
			b.WriteString(" " + string(n) + "=" + q + string(v) + q)
		}
	}
	return b.String()
}
