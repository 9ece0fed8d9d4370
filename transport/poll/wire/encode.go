package wire

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Textual reports whether a body of media type t is text, so that it travels
// as "body" if it is UTF-8. An empty type is text/plain.
func Textual(t string) bool {
	switch t {
	case "", "text/plain", "text/plain; charset=utf-8", "application/json":
		return true
	}
	mt, params, err := mime.ParseMediaType(t)
	if err != nil {
		return false
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") && !strings.EqualFold(c, "us-ascii") {
		return false
	}
	switch mt {
	case "application/json", "application/xml", "application/javascript", "application/yaml", "application/toml",
		"application/x-www-form-urlencoded":
		return true
	}
	return strings.HasPrefix(mt, "text/") || strings.HasSuffix(mt, "+json") || strings.HasSuffix(mt, "+xml")
}

// AppendMessage appends m as JSON.
func AppendMessage(b []byte, m *Message) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, m.Seq, 10)
	b = append(b, `,"prev":`...)
	b = strconv.AppendUint(b, m.Prev, 10)
	b = appendField(b, "id", m.ID)
	b = appendField(b, "from", m.From)
	if m.Device != "" {
		b = appendField(b, "device", m.Device)
	}
	b = appendField(b, "to", m.To)
	b = appendTime(b, "time", m.Time)
	b = appendField(b, "type", m.Type)
	b = appendBody(b, m.Body, !Textual(m.Type) || !utf8.Valid(m.Body))
	if !m.Expires.IsZero() {
		b = appendTime(b, "expires", m.Expires)
	}
	if m.Urgency != "" {
		b = appendField(b, "urgency", m.Urgency)
	}
	b = appendAttrs(b, m.Attrs)
	return append(b, '}')
}

// AppendDraft appends d as JSON. A body that is not UTF-8 goes as body64
// whatever d.Binary says.
func AppendDraft(b []byte, d *Draft) []byte {
	b = append(b, `{"to":`...)
	b = AppendString(b, d.To)
	if d.ID != "" {
		b = appendField(b, "id", d.ID)
	}
	if d.Type != "" {
		b = appendField(b, "type", d.Type)
	}
	b = appendBody(b, d.Body, d.Binary || !utf8.Valid(d.Body))
	switch {
	case !d.Expires.IsZero():
		b = appendTime(b, "expires", d.Expires)
	case d.TTL > 0:
		b = append(b, `,"expires":`...)
		b = strconv.AppendFloat(b, d.TTL.Seconds(), 'f', -1, 64)
	}
	if d.Urgency != "" {
		b = appendField(b, "urgency", d.Urgency)
	}
	b = appendAttrs(b, d.Attrs)
	return append(b, '}')
}

// AppendSignal appends a word of the moment as JSON, its body if it has one.
func AppendSignal(b []byte, from, device, kind string, body []byte, binary bool) []byte {
	b = append(b, `{"from":`...)
	b = AppendString(b, from)
	if device != "" {
		b = appendField(b, "device", device)
	}
	b = appendField(b, "kind", kind)
	if len(body) > 0 {
		b = appendBody(b, body, binary)
	}
	return append(b, '}')
}

// AppendSaid appends a word of the moment as its sender writes it.
func AppendSaid(b []byte, to, kind string, body []byte, binary bool) []byte {
	b = append(b, `{"to":`...)
	b = AppendString(b, to)
	b = appendField(b, "kind", kind)
	if len(body) > 0 {
		b = appendBody(b, body, binary)
	}
	return append(b, '}')
}

// AppendReceipt appends r as JSON.
func AppendReceipt(b []byte, r *Receipt) []byte {
	b = append(b, `{"id":`...)
	b = AppendString(b, r.ID)
	if r.Problem != nil {
		b = append(b, `,"problem":`...)
		b = AppendProblem(b, r.Problem)
		return append(b, '}')
	}
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, r.Seq, 10)
	b = append(b, `,"duplicate":`...)
	b = strconv.AppendBool(b, r.Duplicate)
	b = appendTime(b, "time", r.Time)
	return append(b, '}')
}

// AppendProblem appends p as JSON.
func AppendProblem(b []byte, p *Problem) []byte {
	j, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and a number always marshal
	}
	return append(b, j...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return AppendString(b, value)
}

func appendTime(b []byte, name string, t time.Time) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '"')
	b = t.UTC().AppendFormat(b, TimeFormat)
	return append(b, '"')
}

func appendBody(b, body []byte, binary bool) []byte {
	if !binary {
		b = append(b, `,"body":`...)
		return appendString(b, body)
	}
	b = append(b, `,"body64":"`...)
	b = base64.StdEncoding.AppendEncode(b, body)
	return append(b, '"')
}

// appendAttrs appends the properties as a list of pairs.
func appendAttrs(b []byte, as []Attr) []byte {
	if len(as) == 0 {
		return b
	}
	b = append(b, `,"attrs":`...)
	for i, a := range as {
		b = append(b, "[,"[min(i, 1)], '[')
		b = AppendString(b, a.Name)
		b = append(b, ',')
		b = AppendString(b, a.Value)
		b = append(b, ']')
	}
	return append(b, ']')
}

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte { return appendString(b, s) }

const hexDigits = "0123456789abcdef"

// appendString writes what is not UTF-8 as U+FFFD; callers for whom that
// matters have checked before.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf && c != 0x7f {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			// The two line separators end a line in JavaScript before ES2019.
			if (r != utf8.RuneError || n != 1) && r != '\u2028' && r != '\u2029' {
				i += n
				continue
			}
			b = append(b, s[start:i]...)
			if r == utf8.RuneError {
				b = append(b, "\ufffd"...)
			} else {
				b = append(b, '\\', 'u', '2', '0', '2', hexDigits[r&15])
			}
			i += n
			start = i
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// UnmarshalJSON reads a message from an inbox. Fields that it does not know
// are passed over, so that an older client can read a newer server.
func (m *Message) UnmarshalJSON(in []byte) error {
	var j struct {
		Seq     uint64      `json:"seq"`
		Prev    uint64      `json:"prev"`
		ID      string      `json:"id"`
		From    string      `json:"from"`
		Device  string      `json:"device"`
		To      string      `json:"to"`
		Time    time.Time   `json:"time"`
		Type    string      `json:"type"`
		Body    *string     `json:"body"`
		Body64  []byte      `json:"body64"`
		Expires time.Time   `json:"expires"`
		Urgency string      `json:"urgency"`
		Attrs   [][2]string `json:"attrs"`
	}
	if err := json.Unmarshal(in, &j); err != nil {
		return err
	}
	*m = Message{Seq: j.Seq, Prev: j.Prev, ID: j.ID, From: j.From, Device: j.Device, To: j.To, Time: j.Time,
		Type: j.Type, Body: j.Body64, Expires: j.Expires, Urgency: j.Urgency}
	if j.Body != nil {
		m.Body = []byte(*j.Body)
	}
	for _, a := range j.Attrs {
		m.Attrs = append(m.Attrs, Attr{a[0], a[1]})
	}
	return nil
}

// Inbox is the answer of GET /v1/inbox.
type Inbox struct {
	Messages []Message `json:"messages"`
	Next     string    `json:"next"`
	Trimmed  *Trimmed  `json:"trimmed,omitempty"`
}
