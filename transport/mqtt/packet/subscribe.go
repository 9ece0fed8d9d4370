package packet

// Filter is one subscription asked for.
type Filter struct {
	Topic string
	Options
}

// Options are the subscription options, MQTT 5.0 section 3.8.3.1:
//
//	bit   7 6       5 4               3                    2          1 0
//	     reserved  retain handling  retain as published  no local   QoS
type Options byte

// QoS is the greatest QoS that messages are sent with.
func (o Options) QoS() byte { return byte(o & 3) }

// NoLocal says not to send what the same client published.
func (o Options) NoLocal() bool { return o&4 != 0 }

// RetainAsPublished says to keep the RETAIN flag when forwarding.
func (o Options) RetainAsPublished() bool { return o&8 != 0 }

// RetainHandling says when retained messages are sent: 0 at each SUBSCRIBE, 1
// if the subscription is new, 2 never.
func (o Options) RetainHandling() byte { return byte(o >> 4 & 3) }

// Subscribe is SUBSCRIBE, section 3.8.
type Subscribe struct {
	ID         uint16
	Properties Properties
	Filters    []Filter
}

// Decode reads the body of a SUBSCRIBE. Whether a filter is a good one is the
// server's to say, one by one.
func (s *Subscribe) Decode(v Version, first byte, body []byte) error {
	*s = Subscribe{}
	if err := flags(again(v, first), 2); err != nil { // [MQTT-3.8.1-1]
		return err
	}
	r := reader{p: body}
	if s.ID = r.uint16("packet identifier"); r.err == nil && s.ID == 0 { // [MQTT-2.2.1-3]
		return malformed("packet identifier 0")
	}
	if v == V5 {
		r.properties(SUBSCRIBE, &s.Properties)
	}
	for len(r.p) > 0 && r.err == nil {
		f := Filter{Topic: r.string("topic filter")}
		f.Options = Options(r.byte("subscription options"))
		if r.err != nil {
			break
		}
		// "The Server MUST treat a SUBSCRIBE packet as malformed if any of
		// Reserved bits in the Payload are non-zero" [MQTT-3.8.3-5] 3.1.1
		// [MQTT-3.8.3-4]; "It is a Protocol Error" if QoS or Retain Handling is
		// 3, for the code of which see Error.
		switch {
		case f.QoS() == 3:
			return malformed("subscription QoS 3")
		case f.Options&0xC0 != 0, v != V5 && f.Options&^3 != 0:
			return malformed("reserved subscription options are set")
		case f.RetainHandling() == 3:
			return malformed("retain handling 3")
		}
		s.Filters = append(s.Filters, f)
	}
	if r.err == nil && len(s.Filters) == 0 {
		// "The Payload MUST contain at least one Topic Filter and Subscription
		// Options pair" [MQTT-3.8.3-2]. For the code see Error.
		return malformed("SUBSCRIBE without a filter")
	}
	return r.err
}

// Append appends the packet.
func (s *Subscribe) Append(b []byte, v Version) []byte {
	b = append(b, byte(SUBSCRIBE)<<4|2)
	at := len(b)
	b = appendID(b, s.ID)
	if v == V5 {
		b = s.Properties.append(b)
	}
	for _, f := range s.Filters {
		b = appendString(b, f.Topic)
		b = append(b, byte(f.Options))
	}
	return closeLen(b, at)
}

// Suback is SUBACK or UNSUBACK, sections 3.9 and 3.11. A 3.1.1 UNSUBACK has no codes.
type Suback struct {
	ID         uint16
	Properties Properties
	Codes      []Code
}

// Decode reads the body of the packet that first names.
func (s *Suback) Decode(v Version, first byte, body []byte) error {
	*s = Suback{}
	t := Type(first >> 4)
	if err := flags(first, 0); err != nil {
		return err
	}
	r := reader{p: body}
	if s.ID = r.uint16("packet identifier"); r.err == nil && s.ID == 0 {
		return protocol("packet identifier 0")
	}
	if v == V5 {
		r.properties(t, &s.Properties)
	}
	if t == UNSUBACK && v != V5 {
		return r.done(t)
	}
	for len(r.p) > 0 && r.err == nil {
		c := Code(r.byte("reason code"))
		if v == V5 && !c.valid(t) || v != V5 && c > GrantedQoS2 && c != UnspecifiedError {
			return malformed("reason code of " + t.String())
		}
		s.Codes = append(s.Codes, c)
	}
	if r.err == nil && len(s.Codes) == 0 {
		return malformed(t.String() + " without a reason code")
	}
	return r.err
}

// Append appends the packet as t, SUBACK or UNSUBACK.
func (s *Suback) Append(b []byte, v Version, t Type) []byte {
	b = append(b, byte(t)<<4)
	at := len(b)
	b = appendID(b, s.ID)
	if v == V5 {
		b = s.Properties.append(b)
	}
	if t == SUBACK || v == V5 {
		for _, c := range s.Codes {
			if v != V5 && c.Failed() {
				c = UnspecifiedError // 3.1.1 knows 0x80 only [MQTT-3.9.3-2]
			}
			b = append(b, byte(c))
		}
	}
	return closeLen(b, at)
}

// Unsubscribe is UNSUBSCRIBE, section 3.10.
type Unsubscribe struct {
	ID         uint16
	Properties Properties
	Filters    []string
}

// Decode reads the body of an UNSUBSCRIBE.
func (u *Unsubscribe) Decode(v Version, first byte, body []byte) error {
	*u = Unsubscribe{}
	if err := flags(again(v, first), 2); err != nil { // [MQTT-3.10.1-1]
		return err
	}
	r := reader{p: body}
	if u.ID = r.uint16("packet identifier"); r.err == nil && u.ID == 0 {
		return malformed("packet identifier 0")
	}
	if v == V5 {
		r.properties(UNSUBSCRIBE, &u.Properties)
	}
	for len(r.p) > 0 && r.err == nil {
		f := r.string("topic filter")
		u.Filters = append(u.Filters, f)
	}
	if r.err == nil && len(u.Filters) == 0 {
		// "The Payload of an UNSUBSCRIBE packet MUST contain at least one Topic
		// Filter" [MQTT-3.10.3-2]. For the code see Error.
		return malformed("UNSUBSCRIBE without a filter")
	}
	return r.err
}

// Append appends the packet.
func (u *Unsubscribe) Append(b []byte, v Version) []byte {
	b = append(b, byte(UNSUBSCRIBE)<<4|2)
	at := len(b)
	b = appendID(b, u.ID)
	if v == V5 {
		b = u.Properties.append(b)
	}
	for _, f := range u.Filters {
		b = appendString(b, f)
	}
	return closeLen(b, at)
}
