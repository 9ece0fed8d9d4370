package frame

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The text form is one line: the type, words, and the body behind a colon, or
// in hexadecimal behind a # when it is not printable text.
//
//	SEND 0=bob id=m1 :hello
//	MSG +1 0=alice@example.org,phone,k3 +12ms :hello
//	STORED 3+1 ack+2

func (t Type) String() string {
	names := [...]string{1: "HELLO", "WELCOME", "CLOSE", "PING", "PONG", "SET", "STORED", "REFUSED", "ACK", "TRIMMED",
		TypeSignal: "SIGNAL", TypeSignalled: "SIGNALLED", TypeDevices: "DEVICES", TypeDeviceList: "DEVICELIST"}
	switch {
	case int(t) < len(names) && names[t] != "":
		return names[t]
	case t == TypeMsg:
		return "MSG"
	case t == TypeSend:
		return "SEND"
	}
	return fmt.Sprintf("0x%02x", byte(t))
}

// Text is the text form of a frame with an acknowledgement on its back.
func Text(f Frame, ack uint64) string {
	s := f.String()
	if ack == 0 {
		return s
	}
	verb, rest, _ := strings.Cut(s, " ")
	if rest != "" {
		rest = " " + rest
	}
	return fmt.Sprintf("%s ack+%d%s", verb, ack, rest)
}

// Head is Text without the body.
func Head(f Frame, ack uint64) string {
	switch m := f.(type) {
	case *Send:
		h := *m
		h.Body = nil
		f = &h
	case *Msg:
		h := *m
		h.Body = nil
		f = &h
	case *Signal:
		f = &Signal{To: m.To, Kind: m.Kind}
	case *Signalled:
		f = &Signalled{From: m.From, Kind: m.Kind}
	}
	return Text(f, ack)
}

// line builds a text form.
type line struct{ b strings.Builder }

func newLine(t Type) *line {
	l := new(line)
	l.b.WriteString(t.String())
	return l
}

func (l *line) add(format string, a ...any) *line {
	l.b.WriteByte(' ')
	fmt.Fprintf(&l.b, format, a...)
	return l
}

func (l *line) body(p []byte) string {
	if len(p) > 0 {
		if printable(p) {
			l.b.WriteString(" :")
			l.b.Write(p)
		} else {
			l.b.WriteString(" #")
			l.b.WriteString(hex.EncodeToString(p))
		}
	}
	return l.b.String()
}

func (l *line) String() string { return l.b.String() }

func printable(p []byte) bool {
	for _, r := range string(p) {
		if r == utf8.RuneError || r != ' ' && !unicode.IsGraphic(r) {
			return false
		}
	}
	last, _ := utf8.DecodeLastRune(p)
	return !unicode.IsSpace(last)
}

// quote quotes s if it could be taken for something else.
func quote(s string) string {
	if s == "" || !printable([]byte(s)) || strings.ContainsAny(s, " \"\\,=:#+") || strings.ContainsFunc(s, unicode.IsSpace) {
		return strconv.Quote(s)
	}
	return s
}

// millis is a duration; what is too long for one stays a number.
func millis(ms uint64) string {
	if ms > 1e12 {
		return strconv.FormatUint(ms, 10)
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func (f *Unknown) String() string { return newLine(f.T).body(f.Payload) }
func (f *Ping) String() string    { return newLine(TypePing).body(f.Payload) }
func (f *Pong) String() string    { return newLine(TypePong).body(f.Payload) }
func (f *Ack) String() string     { return newLine(TypeAck).add("+%d", f.Step).String() }
func (f *Trimmed) String() string { return newLine(TypeTrimmed).add("+%d", f.Step).String() }

func (f *Stored) String() string {
	l := newLine(TypeStored)
	for _, r := range f.Runs {
		dup := ""
		if r.Duplicate {
			dup = "dup"
		}
		l.add("%d%+d%s", r.Count, r.Step, dup)
	}
	return l.String()
}

func (f *Refused) String() string {
	l := newLine(TypeRefused).add("%s", f.Code)
	if f.Text != "" {
		l.add("text=%s", quote(f.Text))
	}
	return l.String()
}

func (f *Hello) String() string {
	return newLine(TypeHello).add("%d.%d", f.Major, f.Minor).fields(f.slots(), f.Unknown)
}
func (f *Welcome) String() string {
	return newLine(TypeWelcome).add("%d.%d", f.Major, f.Minor).fields(f.slots(), f.Unknown)
}
func (f *Set) String() string   { return newLine(TypeSet).fields(f.slots(), f.Unknown) }
func (f *Close) String() string { return newLine(TypeClose).fields(f.slots(), f.Unknown) }

func (l *line) fields(slots []slot, unknown []Field) string {
	for _, s := range slots {
		switch at := s.at.(type) {
		case *string:
			switch {
			case *at == "":
			case s.name == "token" || s.name == "password":
				l.add("%s=***", s.name)
			default:
				l.add("%s=%s", s.name, quote(*at))
			}
		case *uint64:
			if *at != 0 {
				l.add("%s=%s", s.name, fieldText(s.name, *at))
			}
		case **uint64:
			if *at != nil {
				l.add("%s=%s", s.name, fieldText(s.name, **at))
			}
		}
	}
	for _, u := range unknown {
		l.add("%d=#%s", u.Number, hex.EncodeToString(u.Value))
	}
	return l.String()
}

// The numbers of some fields have a better text.
func fieldText(name string, v uint64) string {
	switch name {
	case "code":
		return CloseCode(v).String()
	case "interval", "back", "probe", "good", "bad", "hold":
		return millis(v)
	case "time", "expires":
		if v > maxTime {
			break
		}
		return time.UnixMilli(int64(v)).UTC().Format(timeLayout)
	}
	return strconv.FormatUint(v, 10)
}

const (
	timeLayout = "2006-01-02T15:04:05.000Z"
	maxTime    = 253402300799999 // the end of the year 9999
)

func (f *Devices) String() string {
	l := newLine(TypeDevices)
	if f.Forget != "" {
		l.add("forget=%s", quote(f.Forget))
	}
	return l.String()
}

func (f *DeviceList) String() string {
	l := newLine(TypeDeviceList)
	for _, d := range f.Devices {
		way := "-"
		if d.Way != WayNone {
			way = d.Way.String()
		}
		l.add("%s,%s,%s,%d", quote(d.Name), way, fieldText("time", d.Seen), d.Behind)
	}
	return l.String()
}

func (l *line) recipient(p *Peer) *line {
	if p.New {
		return l.add("%d=%s", p.N, quote(p.Address))
	}
	return l.add("%d", p.N)
}

func (f *Signal) String() string {
	return newLine(TypeSignal).recipient(&f.To).add("%s", quote(f.Kind)).body(f.Body)
}

func (f *Signalled) String() string {
	return newLine(TypeSignalled).add("%s", f.From).add("%s", quote(f.Kind)).body(f.Body)
}

func (f *Send) String() string {
	l := newLine(TypeSend).recipient(&f.To)
	l.id(f.ID).properties(f.Media, f.Urgency, nil, f.Expires, f.Attrs)
	l.deflated(f.Deflated)
	return l.body(f.Body)
}

func (f *Msg) String() string {
	l := newLine(TypeMsg).add("+%d", f.Step)
	if f.Prev != 0 {
		l.add("prev-%d", f.Prev)
	}
	l.add("%s", f.From).id(f.ID).add("%+dms", f.Time)
	l.properties(f.Media, f.Urgency, f.To, f.Expires, f.Attrs)
	if f.Left != 0 {
		l.add("left=%d", f.Left)
	}
	l.deflated(f.Deflated)
	return l.body(f.Body)
}

// String is N, or N=address,device,prefix where it is defined.
func (p Peer) String() string {
	if !p.New {
		return strconv.FormatUint(p.N, 10)
	}
	return fmt.Sprintf("%d=%s,%s,%s", p.N, quote(p.Address), quote(p.Device), quote(p.Prefix))
}

func (l *line) deflated(size uint64) {
	if size != 0 {
		l.add("deflated=%d", size)
	}
}

func (l *line) id(id ID) *line {
	switch {
	case id.Text != "":
		l.add("id=%s", quote(id.Text))
	case id.Step != 1:
		l.add("id%+d", id.Step)
	}
	return l
}

func (l *line) properties(media string, u Urgency, to *Peer, expires uint64, attrs []Attr) {
	if media != "" {
		l.add("type=%s", quote(media))
	}
	if u != UrgencyNormal {
		l.add("urgency=%s", u)
	}
	if to != nil {
		l.add("to=%s", to)
	}
	if expires != 0 {
		l.add("expires=%s", millis(expires))
	}
	for _, a := range attrs {
		l.add("attr=%s,%s", quote(a.Name), quote(a.Value))
	}
}

var urgencyWords = [...]string{"normal", "very-low", "low", "high"}

// String returns RFC 8030's word.
func (u Urgency) String() string { return urgencyWords[u&3] }

// ParseUrgency reads one of RFC 8030's words; the empty string is normal.
func ParseUrgency(s string) (u Urgency, ok bool) {
	for i, w := range urgencyWords {
		if w == s {
			return Urgency(i), true
		}
	}
	return UrgencyNormal, s == ""
}
