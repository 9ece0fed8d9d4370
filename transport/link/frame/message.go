package frame

// Peer names an address by a number. The first use, and any later one that
// gives the number another meaning, defines it (New). In a Send only Address
// is defined.
type Peer struct {
	N       uint64
	New     bool
	Address string
	Device  string // the sender's device
	Prefix  string // what his ids begin with, before the dot
}

// MaxPeers bounds the numbers of peers whatever is agreed.
const MaxPeers = 1 << 16

// ID is a message's id: the text itself, or if Text is empty the peer's
// prefix, a dot, and a number Step beyond the peer's last.
type ID struct {
	Text string
	Step int64
}

// Attr is one property of a message.
type Attr struct{ Name, Value string }

// Urgency is one of RFC 8030's words (section 5.3).
type Urgency uint8

// The numbers of the wire.
const (
	UrgencyNormal Urgency = iota
	UrgencyVeryLow
	UrgencyLow
	UrgencyHigh
)

// Types are the media types that have a number: the index. Text without a
// type has none at all.
var types = [...]string{
	1: "application/octet-stream",
	2: "application/json",
	3: "application/cbor",
	4: "text/markdown",
	5: "text/html",
	6: "image/jpeg",
	7: "image/png",
	8: "image/webp",
	9: "audio/ogg",
}

func typeNumber(t string) uint64 {
	for i := 1; i < len(types); i++ {
		if types[i] == t {
			return uint64(i)
		}
	}
	return 0
}

// Send is a message to be stored.
type Send struct {
	To      Peer
	ID      ID     // Step 1 costs nothing
	Media   string // media type; empty is text/plain; charset=utf-8
	Urgency Urgency
	Expires uint64 // milliseconds that it is worth delivering; zero is for ever
	Attrs   []Attr
	// Deflated, if not zero, is how long the body is when Inflate has undone
	// what was done to it.
	Deflated uint64
	Body     []byte
}

// Flags of a Send. With the last comes a byte of the urgency and of one more
// flag.
const (
	sendID      = 1 << 0
	sendMedia   = 1 << 1
	sendExpires = 1 << 2
	sendAttrs   = 1 << 3
	sendMore    = 1 << 4

	sendUrgency  = 3 << 0
	sendDeflated = 1 << 2
	sendKnown    = sendUrgency | sendDeflated
)

func (f *Send) Type() Type   { return TypeSend }
func (f *Send) tail() []byte { return f.Body }

func (f *Send) lead() byte {
	b := byte(TypeSend)
	if f.ID != (ID{Step: 1}) {
		b |= sendID
	}
	if f.Media != "" {
		b |= sendMedia
	}
	if f.Expires != 0 {
		b |= sendExpires
	}
	if len(f.Attrs) > 0 {
		b |= sendAttrs
	}
	if f.more() != 0 {
		b |= sendMore
	}
	return b
}

func (f *Send) more() byte {
	b := byte(f.Urgency)
	if f.Deflated != 0 {
		b |= sendDeflated
	}
	return b
}

func (f *Send) head(b []byte) []byte {
	b = appendRecipient(b, &f.To)
	if f.ID != (ID{Step: 1}) {
		b = appendID(b, f.ID)
	}
	if f.Media != "" {
		b = appendMedia(b, f.Media)
	}
	if f.Expires != 0 {
		b = appendUvarint(b, f.Expires)
	}
	b = appendAttrs(b, f.Attrs)
	if more := f.more(); more != 0 {
		b = append(b, more)
	}
	if f.Deflated != 0 {
		b = appendUvarint(b, f.Deflated)
	}
	return b
}

// Decode reads a frame. Body is part of its payload.
func (f *Send) Decode(raw Raw) error {
	r := reader{p: raw.Payload}
	*f = Send{ID: ID{Step: 1}}
	r.recipient(&f.To)
	if raw.Flags&sendID != 0 {
		f.ID = r.id()
	}
	if raw.Flags&sendMedia != 0 {
		f.Media = r.media()
	}
	if raw.Flags&sendExpires != 0 {
		f.Expires = r.positive()
	}
	if raw.Flags&sendAttrs != 0 {
		f.Attrs = r.attrs()
	}
	if raw.Flags&sendMore != 0 {
		more := r.byte()
		if more == 0 || more&^sendKnown != 0 {
			r.fail("urgency %d", more)
		}
		f.Urgency = Urgency(more & sendUrgency)
		if more&sendDeflated != 0 {
			f.Deflated = r.deflated()
		}
	}
	f.Body = r.p
	return r.err
}

// Msg is a message delivered.
type Msg struct {
	Step    uint64 // from the place before to this one's; 1 costs nothing
	Prev    uint64 // if not zero: how far back the entry before stands, where that is not the place before
	From    Peer
	ID      ID
	Time    int64  // milliseconds since the message before; the first since the time in Welcome
	Media   string // media type; empty is text/plain; charset=utf-8
	Urgency Urgency
	To      *Peer  // nil is the reader himself
	Expires uint64 // milliseconds after its time; zero is never
	Attrs   []Attr
	Left    uint64 // if not zero: the body has so many bytes, more than the reader takes, and was left out
	// Deflated is as in Send.
	Deflated uint64
	Body     []byte
}

// Flags of a Msg, and of the byte that its payload begins with if msgMore is set.
const (
	msgStep  = 1 << 0
	msgID    = 1 << 1
	msgMedia = 1 << 2
	msgTo    = 1 << 3
	msgMore  = 1 << 4

	morePrev    = 1 << 0
	moreExpires = 1 << 1
	moreAttrs   = 1 << 2
	moreLeft    = 1 << 3
	moreUrgency = 3 << 4
	moreDeflate = 1 << 6
	moreKnown   = morePrev | moreExpires | moreAttrs | moreLeft | moreUrgency | moreDeflate
)

func (f *Msg) Type() Type   { return TypeMsg }
func (f *Msg) tail() []byte { return f.Body }

func (f *Msg) lead() byte {
	b := byte(TypeMsg)
	if f.Step != 1 {
		b |= msgStep
	}
	if f.ID != (ID{Step: 1}) {
		b |= msgID
	}
	if f.Media != "" {
		b |= msgMedia
	}
	if f.To != nil {
		b |= msgTo
	}
	if f.more() != 0 {
		b |= msgMore
	}
	return b
}

func (f *Msg) more() byte {
	b := byte(f.Urgency) << 4
	if f.Prev != 0 {
		b |= morePrev
	}
	if f.Expires != 0 {
		b |= moreExpires
	}
	if len(f.Attrs) > 0 {
		b |= moreAttrs
	}
	if f.Left != 0 {
		b |= moreLeft
	}
	if f.Deflated != 0 {
		b |= moreDeflate
	}
	return b
}

func (f *Msg) head(b []byte) []byte {
	if more := f.more(); more != 0 {
		b = append(b, more)
	}
	if f.Step != 1 {
		b = appendUvarint(b, f.Step)
	}
	if f.Prev != 0 {
		b = appendUvarint(b, f.Prev)
	}
	b = appendPeer(b, &f.From)
	if f.ID != (ID{Step: 1}) {
		b = appendID(b, f.ID)
	}
	b = appendVarint(b, f.Time)
	if f.Media != "" {
		b = appendMedia(b, f.Media)
	}
	if f.To != nil {
		b = appendPeer(b, f.To)
	}
	if f.Expires != 0 {
		b = appendUvarint(b, f.Expires)
	}
	b = appendAttrs(b, f.Attrs)
	if f.Left != 0 {
		b = appendUvarint(b, f.Left)
	}
	if f.Deflated != 0 {
		b = appendUvarint(b, f.Deflated)
	}
	return b
}

// Decode reads a frame. Body is part of its payload.
func (f *Msg) Decode(raw Raw) error {
	r := reader{p: raw.Payload}
	flags := raw.Flags
	var more byte
	if flags&msgMore != 0 {
		if more = r.byte(); more == 0 || more&^moreKnown != 0 {
			r.fail("more flags %#x", more)
		}
	}
	*f = Msg{Step: 1, ID: ID{Step: 1}, Urgency: Urgency(more & moreUrgency >> 4)}
	if flags&msgStep != 0 {
		if f.Step = r.positive(); f.Step == 1 {
			r.fail("step of 1 given")
		}
	}
	if more&morePrev != 0 {
		f.Prev = r.positive()
	}
	r.peer(&f.From)
	if flags&msgID != 0 {
		f.ID = r.id()
	}
	f.Time = r.varint()
	if flags&msgMedia != 0 {
		f.Media = r.media()
	}
	if flags&msgTo != 0 {
		f.To = new(Peer)
		r.peer(f.To)
	}
	if more&moreExpires != 0 {
		f.Expires = r.positive()
	}
	if more&moreAttrs != 0 {
		f.Attrs = r.attrs()
	}
	if more&moreLeft != 0 {
		f.Left = r.positive()
		if len(r.p) > 0 {
			r.fail("body both there and left out")
		}
	}
	if more&moreDeflate != 0 {
		f.Deflated = r.deflated()
	}
	f.Body = r.p
	return r.err
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func appendPeer(b []byte, p *Peer) []byte {
	b = appendUvarint(b, p.N<<1|bit(p.New))
	if p.New {
		b = appendString(b, p.Address)
		b = appendString(b, p.Device)
		b = appendString(b, p.Prefix)
	}
	return b
}

func (r *reader) peer(p *Peer) {
	n := r.uvarint()
	p.N, p.New = n>>1, n&1 != 0
	if p.New {
		p.Address, p.Device, p.Prefix = r.string(), r.string(), r.string()
	}
}

func appendRecipient(b []byte, p *Peer) []byte {
	b = appendUvarint(b, p.N<<1|bit(p.New))
	if p.New {
		b = appendString(b, p.Address)
	}
	return b
}

func (r *reader) recipient(p *Peer) {
	n := r.uvarint()
	if p.N, p.New = n>>1, n&1 != 0; p.New {
		p.Address = r.string()
	}
}

// appendID appends an id. The lowest bit of its first integer tells a step (1)
// from a length (0).
func appendID(b []byte, id ID) []byte {
	if id.Text == "" {
		return appendUvarint(b, zigzag(id.Step)<<1|1)
	}
	b = appendUvarint(b, uint64(len(id.Text))<<1)
	return append(b, id.Text...)
}

func (r *reader) id() ID {
	n := r.uvarint()
	if n&1 == 0 {
		if n == 0 {
			r.fail("empty id")
		}
		return ID{Text: r.text(n >> 1)}
	}
	id := ID{Step: unzigzag(n >> 1)}
	if id.Step == 1 {
		r.fail("id's step of 1 given")
	}
	return id
}

// appendMedia appends a media type: its number, or 0 and the type.
func appendMedia(b []byte, t string) []byte {
	n := typeNumber(t)
	b = appendUvarint(b, n)
	if n == 0 {
		b = appendString(b, t)
	}
	return b
}

func (r *reader) media() string {
	n := r.uvarint()
	if n >= uint64(len(types)) {
		r.fail("media type number %d", n)
		return ""
	}
	if n > 0 {
		return types[n]
	}
	t := r.string()
	if t == "" || typeNumber(t) != 0 {
		r.fail("media type spelled out that has a number")
	}
	return t
}

func appendAttrs(b []byte, as []Attr) []byte {
	if len(as) == 0 {
		return b
	}
	b = appendUvarint(b, uint64(len(as)))
	for _, a := range as {
		b = appendString(b, a.Name)
		b = appendString(b, a.Value)
	}
	return b
}

func (r *reader) attrs() []Attr {
	n := r.positive()
	if n > uint64(len(r.p)/2) { // each takes two bytes at least
		r.fail("ends too early")
		return nil
	}
	as := make([]Attr, n)
	for i := range as {
		as[i] = Attr{r.string(), r.string()}
	}
	return as
}
