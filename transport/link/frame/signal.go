package frame

// Signal is a word of the moment for somebody who is there: that the client's
// user is typing, is here, is gone. It is stored nowhere, has no place and is
// not answered.
type Signal struct {
	To   Peer // with Send's numbers
	Kind string
	Body []byte
}

// Signalled is a Signal as its recipient gets it.
type Signalled struct {
	From Peer // with Msg's numbers; its prefix is empty
	Kind string
	Body []byte
}

// What a signal says. An application may have kinds of its own.
const (
	Composing = "composing" // XEP-0085: is typing
	Paused    = "paused"    // has stopped typing, and not sent it
	Active    = "active"    // looks at the conversation
	Inactive  = "inactive"  // does not
	Gone      = "gone"      // has left the conversation
	Online    = "online"    // this device is connected; when it is gone the server says Offline
	Offline   = "offline"
	Ask       = "ask" // wants to know whether the other is online
)

// kinds are those that have a number: the index.
var kinds = [...]string{1: Composing, Paused, Active, Inactive, Gone, Online, Offline, Ask}

// MaxSignal is the longest body of a signal and MaxKind the longest name of
// its kind, in bytes.
const (
	MaxSignal = 1024
	MaxKind   = 64
)

func kindNumber(kind string) uint64 {
	for i, k := range kinds {
		if k == kind && i > 0 {
			return uint64(i)
		}
	}
	return 0
}

// appendKind appends a kind: its number, or 0 and the name.
func appendKind(b []byte, kind string) []byte {
	n := kindNumber(kind)
	b = appendUvarint(b, n)
	if n == 0 {
		b = appendString(b, kind)
	}
	return b
}

func (r *reader) kind() string {
	n := r.uvarint()
	if n >= uint64(len(kinds)) {
		r.fail("kind of signal %d", n)
		return ""
	}
	if n > 0 {
		return kinds[n]
	}
	k := r.string()
	switch {
	case k == "" || len(k) > MaxKind:
		r.fail("kind of signal of %d bytes", len(k))
	case kindNumber(k) != 0:
		r.fail("kind of signal spelled out that has a number")
	}
	return k
}

func (r *reader) signalBody() []byte {
	if len(r.p) > MaxSignal {
		r.fail("signal of %d bytes, at most %d", len(r.p), MaxSignal)
	}
	return r.p
}

func (f *Signal) Type() Type      { return TypeSignal }
func (f *Signal) lead() byte      { return byte(TypeSignal) }
func (f *Signal) tail() []byte    { return f.Body }
func (f *Signalled) Type() Type   { return TypeSignalled }
func (f *Signalled) lead() byte   { return byte(TypeSignalled) }
func (f *Signalled) tail() []byte { return f.Body }

func (f *Signal) head(b []byte) []byte    { return appendKind(appendRecipient(b, &f.To), f.Kind) }
func (f *Signalled) head(b []byte) []byte { return appendKind(appendPeer(b, &f.From), f.Kind) }

// Decode reads the payload of a frame.
func (f *Signal) Decode(p []byte) error {
	r := reader{p: p}
	r.recipient(&f.To)
	f.Kind = r.kind()
	f.Body = r.signalBody()
	return r.err
}

// Decode reads the payload of a frame.
func (f *Signalled) Decode(p []byte) error {
	r := reader{p: p}
	r.peer(&f.From)
	if f.From.Prefix != "" && r.err == nil {
		r.fail("prefix of ids, and a signal has none")
	}
	f.Kind = r.kind()
	f.Body = r.signalBody()
	return r.err
}

// AppendSignal appends a Signalled frame to b.
func (w *MsgWriter) AppendSignal(b []byte, address, device, kind string, body []byte) []byte {
	f := Signalled{Kind: kind, Body: body}
	f.From, _ = w.peer(address, device, "")
	return Append(b, &f)
}

// Signal says who sent f.
func (r *MsgReader) Signal(f *Signalled) (address, device string, err error) {
	from, err := r.peer(&f.From)
	if err != nil {
		return "", "", err
	}
	return from.Address, from.Device, nil
}
