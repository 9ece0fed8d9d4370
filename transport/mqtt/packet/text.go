package packet

import (
	"fmt"
	"strings"
)

// Text is the form of a packet in dialogues and in logs:
//
//	CONNECT 5 clean id=phone user=alice keep=60
//	PUBLISH a/b q1 #7 retain dup content-type=text/plain :hello
//	SUBSCRIBE #1 a/+ q1
//	SUBACK #1 1 0x87
//	DISCONNECT 0x8e
//
// Properties are written name=value, in hexadecimal where they are binary.
// What does not decode is written as its error. First and body are from Split.
func Text(v Version, first byte, body []byte) string {
	t := Type(first >> 4)
	var b strings.Builder
	b.WriteString(t.String())
	var err error
	switch t {
	case CONNECT:
		var c Connect
		if err = c.Decode(first, body); err == nil {
			c.text(&b)
		}
	case CONNACK:
		var c Connack
		if err = c.Decode(v, first, body); err == nil {
			fmt.Fprintf(&b, " 0x%02x", byte(c.Code))
			if c.SessionPresent {
				b.WriteString(" present")
			}
			c.Properties.text(&b)
		}
	case PUBLISH:
		var p Publish
		if err = p.Decode(v, first, body); err == nil {
			p.text(&b)
		}
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		var a Ack
		if err = a.Decode(v, first, body); err == nil {
			fmt.Fprintf(&b, " #%d", a.ID)
			codeText(&b, a.Code)
			a.Properties.text(&b)
		}
	case SUBSCRIBE:
		var s Subscribe
		if err = s.Decode(v, first, body); err == nil {
			fmt.Fprintf(&b, " #%d", s.ID)
			for _, f := range s.Filters {
				fmt.Fprintf(&b, " %s 0x%02x", f.Topic, byte(f.Options))
			}
			s.Properties.text(&b)
		}
	case SUBACK, UNSUBACK:
		var s Suback
		if err = s.Decode(v, first, body); err == nil {
			fmt.Fprintf(&b, " #%d", s.ID)
			for _, c := range s.Codes {
				fmt.Fprintf(&b, " 0x%02x", byte(c))
			}
			s.Properties.text(&b)
		}
	case UNSUBSCRIBE:
		var u Unsubscribe
		if err = u.Decode(v, first, body); err == nil {
			fmt.Fprintf(&b, " #%d %s", u.ID, strings.Join(u.Filters, " "))
			u.Properties.text(&b)
		}
	case DISCONNECT:
		var d Disconnect
		if err = d.Decode(v, first, body); err == nil {
			codeText(&b, d.Code)
			d.Properties.text(&b)
		}
	case AUTH:
		var a Auth
		if err = a.Decode(first, body); err == nil {
			codeText(&b, a.Code)
			a.Properties.text(&b)
		}
	default:
		err = DecodeEmpty(first, body)
	}
	if err != nil {
		return fmt.Sprintf("%s ? %v", t, err)
	}
	return b.String()
}

func codeText(b *strings.Builder, c Code) {
	if c != Success {
		fmt.Fprintf(b, " 0x%02x", byte(c))
	}
}

func (c *Connect) text(b *strings.Builder) {
	fmt.Fprintf(b, " %d", c.Version)
	if c.CleanStart {
		b.WriteString(" clean")
	}
	fmt.Fprintf(b, " id=%s", c.ClientID)
	if c.HasUser {
		fmt.Fprintf(b, " user=%s", c.User)
	}
	if c.HasPassword {
		b.WriteString(" password")
	}
	if c.KeepAlive > 0 {
		fmt.Fprintf(b, " keep=%d", c.KeepAlive)
	}
	c.Properties.text(b)
	if w := c.Will; w != nil {
		fmt.Fprintf(b, " will=%s q%d", w.Topic, w.QoS)
		if w.Retain {
			b.WriteString(" retain")
		}
		w.Properties.text(b)
		fmt.Fprintf(b, " :%s", w.Payload)
	}
}

func (p *Publish) text(b *strings.Builder) {
	fmt.Fprintf(b, " %s q%d", p.Topic, p.QoS)
	if p.QoS > 0 {
		fmt.Fprintf(b, " #%d", p.ID)
	}
	if p.Retain {
		b.WriteString(" retain")
	}
	if p.Dup {
		b.WriteString(" dup")
	}
	p.Properties.text(b)
	fmt.Fprintf(b, " :%s", p.Payload)
}

func (ps *Properties) text(b *strings.Builder) {
	if ps == nil {
		return
	}
	dash := func(p Prop) string { return strings.ReplaceAll(props[p].name, " ", "-") }
	for _, n := range ps.nums {
		if n.id != SubscriptionID {
			fmt.Fprintf(b, " %s=%d", dash(n.id), n.v)
		}
	}
	for _, s := range ps.strs {
		if props[s.id].form == fBinary {
			fmt.Fprintf(b, " %s=%x", dash(s.id), s.v)
		} else {
			fmt.Fprintf(b, " %s=%s", dash(s.id), s.v)
		}
	}
	for _, id := range ps.SubscriptionIDs {
		fmt.Fprintf(b, " subscription-identifier=%d", id)
	}
	for _, u := range ps.User {
		fmt.Fprintf(b, " user-property=%s:%s", u.Name, u.Value)
	}
}

// PropNamed finds a property by its name in Text.
func PropNamed(name string) (p Prop, ok bool) {
	for i := range props {
		if props[i].form != none && strings.ReplaceAll(props[i].name, " ", "-") == name {
			return Prop(i), true
		}
	}
	return 0, false
}

// SetNamed adds a property as it stands in Text, for dialogues.
func (ps *Properties) SetNamed(name, value string) error {
	p, ok := PropNamed(name)
	if !ok {
		return fmt.Errorf("packet: no property %q", name)
	}
	switch props[p].form {
	case fPair:
		n, v, _ := strings.Cut(value, ":")
		ps.User = append(ps.User, Pair{n, v})
	case fString:
		ps.SetText(p, value)
	case fBinary:
		var raw []byte
		if _, err := fmt.Sscanf(value, "%x", &raw); err != nil && value != "" {
			return fmt.Errorf("packet: %s: %w", name, err)
		}
		ps.SetText(p, string(raw))
	default:
		var n uint32
		if _, err := fmt.Sscan(value, &n); err != nil {
			return fmt.Errorf("packet: %s: %w", name, err)
		}
		ps.SetNum(p, n)
	}
	return nil
}
