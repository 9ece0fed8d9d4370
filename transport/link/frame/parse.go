package frame

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Parse reads the text form of a frame, and of the acknowledgement on its
// back. It is what dialogues are written in.
func Parse(s string) (f Frame, ack uint64, err error) {
	p := parser{}
	words, body, err := split(s)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %q", err, s)
	}
	p.words = words
	verb := p.next()
	if w, ok := p.prefixed("ack+"); ok {
		ack = p.number(w)
	}
	f = p.frame(verb, body)
	if p.err == nil && len(p.words) > 0 {
		p.fail("what is %q", p.words[0])
	}
	if p.err != nil {
		return nil, 0, fmt.Errorf("%w in %q", p.err, s)
	}
	return f, ack, nil
}

// split cuts a line into words, which may hold quoted strings, and a body.
func split(s string) (words []string, body []byte, err error) {
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		if len(words) > 0 && s[0] == ':' {
			return words, []byte(s[1:]), nil
		}
		if len(words) > 0 && s[0] == '#' {
			body, err = hex.DecodeString(s[1:])
			return words, body, err
		}
		i, quoted := 0, false
		for ; i < len(s) && (quoted || s[i] != ' '); i++ {
			switch {
			case s[i] == '"':
				quoted = !quoted
			case s[i] == '\\' && quoted:
				i++
			}
		}
		if quoted || i > len(s) {
			return nil, nil, malformed("quotation without an end")
		}
		words = append(words, s[:i])
		s = s[i:]
	}
	return words, nil, nil
}

type parser struct {
	words []string
	err   error
}

func (p *parser) fail(format string, a ...any) {
	if p.err == nil {
		p.err = malformed(format, a...)
	}
}

func (p *parser) next() string {
	if len(p.words) == 0 {
		p.fail("ends too early")
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// prefixed takes the next word if it begins with prefix.
func (p *parser) prefixed(prefix string) (rest string, ok bool) {
	if len(p.words) == 0 {
		return "", false
	}
	if rest, ok = strings.CutPrefix(p.words[0], prefix); ok {
		p.words = p.words[1:]
	}
	return rest, ok
}

func (p *parser) number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 53)
	if err != nil {
		p.fail("%q is not a number", s)
	}
	return n
}

func (p *parser) signed(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 53)
	if err != nil {
		p.fail("%q is not a number", s)
	}
	return n
}

func (p *parser) millis(s string) uint64 {
	if n, err := strconv.ParseUint(s, 10, 53); err == nil {
		return n
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		p.fail("%q is not a duration", s)
	}
	return uint64(d / time.Millisecond)
}

func (p *parser) unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	u, err := strconv.Unquote(s)
	if err != nil {
		p.fail("quotation %s", s)
	}
	return u
}

// list cuts s at commas outside of quotations, into exactly n parts; missing
// ones are empty.
func (p *parser) list(s string, n int) []string {
	parts := make([]string, 0, n)
	for start, i, quoted := 0, 0, false; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ',' && !quoted:
			parts = append(parts, p.unquote(s[start:i]))
			start = i + 1
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		}
	}
	if len(parts) > n {
		p.fail("%q has %d parts, at most %d", s, len(parts), n)
	}
	for len(parts) < n {
		parts = append(parts, "")
	}
	return parts
}

func (p *parser) frame(verb string, body []byte) Frame {
	switch verb {
	case "HELLO":
		f := new(Hello)
		f.Major, f.Minor = p.version()
		p.fields(f.slots(), &f.Unknown)
		return f
	case "WELCOME":
		f := new(Welcome)
		f.Major, f.Minor = p.version()
		p.fields(f.slots(), &f.Unknown)
		return f
	case "SET":
		f := new(Set)
		p.fields(f.slots(), &f.Unknown)
		return f
	case "CLOSE":
		f := new(Close)
		p.fields(f.slots(), &f.Unknown)
		return f
	case "PING":
		return &Ping{body}
	case "PONG":
		return &Pong{body}
	case "ACK":
		return &Ack{p.number(strings.TrimPrefix(p.next(), "+"))}
	case "TRIMMED":
		return &Trimmed{p.number(strings.TrimPrefix(p.next(), "+"))}
	case "STORED":
		f := new(Stored)
		for len(p.words) > 0 {
			f.Runs = append(f.Runs, p.run(p.next()))
		}
		return f
	case "REFUSED":
		f := new(Refused)
		n, err := unword(refusedWords[:], p.next())
		if err != nil {
			p.fail("%v", err)
		}
		f.Code = RefusedCode(n)
		if t, ok := p.prefixed("text="); ok {
			f.Text = p.unquote(t)
		}
		return f
	case "SEND":
		f := &Send{To: p.recipient(), ID: ID{Step: 1}, Body: body}
		p.id(&f.ID)
		p.properties(&f.Media, &f.Urgency, nil, &f.Expires, &f.Attrs)
		f.Deflated = p.deflated()
		return f
	case "SIGNAL":
		return &Signal{p.recipient(), p.unquote(p.next()), body}
	case "DEVICES":
		f := new(Devices)
		if w, ok := p.prefixed("forget="); ok {
			f.Forget = p.unquote(w)
		}
		return f
	case "DEVICELIST":
		f := new(DeviceList)
		for len(p.words) > 0 {
			f.Devices = append(f.Devices, p.device(p.next()))
		}
		return f
	case "SIGNALLED":
		return &Signalled{p.peer(p.next()), p.unquote(p.next()), body}
	case "MSG":
		f := &Msg{ID: ID{Step: 1}, Body: body}
		f.Step = p.number(strings.TrimPrefix(p.next(), "+"))
		if w, ok := p.prefixed("prev-"); ok {
			f.Prev = p.number(w)
		}
		f.From = p.peer(p.next())
		p.id(&f.ID)
		f.Time = p.signed(strings.TrimSuffix(p.next(), "ms"))
		p.properties(&f.Media, &f.Urgency, &f.To, &f.Expires, &f.Attrs)
		if w, ok := p.prefixed("left="); ok {
			f.Left = p.number(w)
		}
		f.Deflated = p.deflated()
		return f
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(verb, "0x"), 16, 6)
	if err != nil || !strings.HasPrefix(verb, "0x") {
		p.fail("no such frame %q", verb)
	}
	return &Unknown{Type(n), body}
}

func (p *parser) deflated() uint64 {
	if w, ok := p.prefixed("deflated="); ok {
		return p.number(w)
	}
	return 0
}

func (p *parser) version() (major, minor uint64) {
	a, b, _ := strings.Cut(p.next(), ".")
	return p.number(a), p.number(b)
}

func (p *parser) run(s string) (r Run) {
	s, r.Duplicate = strings.CutSuffix(s, "dup")
	i := strings.IndexAny(s, "+-")
	if i < 0 {
		p.fail("%q is not a run", s)
		return r
	}
	r.Count, r.Step = p.number(s[:i]), p.signed(s[i:])
	return r
}

func (p *parser) device(s string) Device {
	c := p.list(s, 4)
	d := Device{Name: c[0], Seen: p.fieldValue("time", c[2]), Behind: p.number(c[3])}
	if c[1] != "-" {
		n, err := unword(wayWords[:], c[1])
		if err != nil || n == 0 {
			p.fail("no such way %q", c[1])
		}
		d.Way = Way(n)
	}
	return d
}

func (p *parser) recipient() Peer {
	n, def, isNew := strings.Cut(p.next(), "=")
	return Peer{N: p.number(n), New: isNew, Address: p.unquote(def)}
}

func (p *parser) peer(s string) Peer {
	n, def, isNew := strings.Cut(s, "=")
	c := p.list(def, 3)
	return Peer{p.number(n), isNew, c[0], c[1], c[2]}
}

func (p *parser) id(id *ID) {
	if w, ok := p.prefixed("id="); ok {
		*id = ID{Text: p.unquote(w)}
	} else if w, ok := p.prefixed("id"); ok {
		*id = ID{Step: p.signed(w)}
	}
}

func (p *parser) properties(media *string, u *Urgency, to **Peer, expires *uint64, attrs *[]Attr) {
	if w, ok := p.prefixed("type="); ok {
		*media = p.unquote(w)
	}
	if w, ok := p.prefixed("urgency="); ok {
		if *u, ok = ParseUrgency(w); !ok {
			p.fail("no such urgency %q", w)
		}
	}
	if to != nil {
		if w, ok := p.prefixed("to="); ok {
			peer := p.peer(w)
			*to = &peer
		}
	}
	if w, ok := p.prefixed("expires="); ok {
		*expires = p.millis(w)
	}
	for {
		w, ok := p.prefixed("attr=")
		if !ok {
			return
		}
		c := p.list(w, 2)
		*attrs = append(*attrs, Attr{c[0], c[1]})
	}
}

func (p *parser) fields(slots []slot, unknown *[]Field) {
	for len(p.words) > 0 {
		name, value, _ := strings.Cut(p.next(), "=")
		var s slot
		for _, s = range slots {
			if s.name == name {
				break
			}
		}
		if s.name != name {
			v, err := hex.DecodeString(strings.TrimPrefix(value, "#"))
			if err != nil {
				p.fail("no such field %q", name)
			}
			*unknown = append(*unknown, Field{p.number(name), v})
			continue
		}
		switch at := s.at.(type) {
		case *string:
			*at = p.unquote(value)
		case *uint64:
			*at = p.fieldValue(name, value)
		case **uint64:
			v := p.fieldValue(name, value)
			*at = &v
		}
	}
}

func (p *parser) fieldValue(name, s string) uint64 {
	switch name {
	case "code":
		n, err := unword(closeWords[:], s)
		if err != nil {
			p.fail("%v", err)
		}
		return n
	case "interval", "back", "probe", "good", "bad", "hold":
		return p.millis(s)
	case "time", "expires":
		if n, err := strconv.ParseUint(s, 10, 53); err == nil {
			return n
		}
		t, err := time.Parse(timeLayout, s)
		if err != nil {
			p.fail("%v", err)
		}
		return uint64(t.UnixMilli())
	}
	return p.number(s)
}
