package frame

// The frames that say something about the session as a whole are rare, so
// they are lists of fields, of which any may be left out and more may come:
// a number, a length, a value. Fields stand in the order of their numbers.

// Field is a field of Hello, Welcome, Set or Close that this version does not
// know. It is skipped, and written back in its place.
type Field struct {
	Number uint64
	Value  []byte
}

// Hello is the client's first frame.
type Hello struct {
	Major, Minor uint64
	Token        string  // 1 a bearer token; or
	User         string  // 2
	Password     string  // 3
	Device       string  // 4 which reader of the mailbox this is
	After        *uint64 // 5 everything up to here is on the device; without it, its cursor
	Network      string  // 6 the network the device is on, in its own words
	MaxFrame     uint64  // 7 the longest payload that the client takes, in bytes
	Interval     uint64  // 8 how often the client will speak at least, in milliseconds
	Window       uint64  // 9 how many bytes of messages may be unacknowledged
	Caps         uint64  // 10 capability bits
	Prefix       string  // 11 what the ids of this connection's sends begin with
	Agent        string  // 12 the client's name and version, for logs
	Used         *uint64 // 13 reserved: once a promise about ids, which nobody relies on
	Probe        uint64  // 14 a probe: the connection will be silent for so many milliseconds
	Good         uint64  // 15 what the client has found: the longest silence that its network bore, in milliseconds
	Bad          uint64  // 16 and the shortest that it did not; 0 if none
	Call         uint64  // 17 with Probe, not 0: after the silence it is the server that pings
	Unknown      []Field
}

// Welcome answers Hello. Messages follow at once.
type Welcome struct {
	Major, Minor uint64
	Address      string // 1 the user's canonical address
	Device       string // 2
	Cursor       uint64 // 3 messages begin after this place
	Time         uint64 // 4 the server's clock, Unix milliseconds
	Interval     uint64 // 5 the client is to speak at least this often, in milliseconds
	MaxFrame     uint64 // 6 the longest payload that the server takes, in bytes
	Window       uint64 // 7 how many bytes of messages may be unacknowledged
	Inflight     uint64 // 8 how many sends may be unanswered
	Peers        uint64 // 9 how many recipients may have a number
	Caps         uint64 // 10 capability bits that both sides have
	Expires      uint64 // 11 when the token ends, Unix milliseconds
	Good         uint64 // 12 with CapProbe, what others found on the client's network, as in Hello
	Bad          uint64 // 13
	Unknown      []Field
}

// Capability bits. A client asks with Hello; what is in Welcome, too, is
// agreed.
const (
	CapProbe   = 1 << 0 // the client learns its heartbeat by probes, and the server takes them
	CapSignals = 1 << 1 // Signal and Signalled
	CapDevices = 1 << 2 // Devices and DeviceList
	CapDeflate = 1 << 3 // Send and Msg with deflated bodies
)

// Set changes what was agreed. From the client: all but Expires. From
// the server, as the answer: Interval, Window, Expires, Hold and Normal.
type Set struct {
	Token    string  // 1 a fresh token
	Interval uint64  // 2 milliseconds
	Window   uint64  // 3 bytes
	Expires  uint64  // 4 Unix milliseconds
	Good     uint64  // 5 what the client has found, as in Hello
	Bad      uint64  // 6
	Hold     *uint64 // 7 the client is in the background: messages that can wait may, so many milliseconds; 0 is the foreground
	Normal   uint64  // 8 with Hold, 1: those of normal urgency can wait, too
	Unknown  []Field
}

// Close is the last frame of either side.
type Close struct {
	Code    CloseCode // 1
	Text    string    // 2 for people
	Back    *uint64   // 3 come back, but not before so many milliseconds; without it, do not
	Unknown []Field
}

func (f *Hello) Type() Type     { return TypeHello }
func (f *Hello) lead() byte     { return byte(TypeHello) }
func (f *Welcome) Type() Type   { return TypeWelcome }
func (f *Welcome) lead() byte   { return byte(TypeWelcome) }
func (f *Set) Type() Type       { return TypeSet }
func (f *Set) lead() byte       { return byte(TypeSet) }
func (f *Close) Type() Type     { return TypeClose }
func (f *Close) lead() byte     { return byte(TypeClose) }
func (f *Hello) tail() []byte   { return nil }
func (f *Welcome) tail() []byte { return nil }
func (f *Set) tail() []byte     { return nil }
func (f *Close) tail() []byte   { return nil }

// slot ties a field's number to where its value is: *string, *uint64 or
// **uint64. A zero value, a nil pointer, is a field left out. Name is what the
// text form calls it.
type slot struct {
	n    uint64
	name string
	at   any
}

func (f *Hello) slots() []slot {
	return []slot{{1, "token", &f.Token}, {2, "user", &f.User}, {3, "password", &f.Password}, {4, "device", &f.Device},
		{5, "after", &f.After}, {6, "network", &f.Network}, {7, "maxframe", &f.MaxFrame}, {8, "interval", &f.Interval},
		{9, "window", &f.Window}, {10, "caps", &f.Caps}, {11, "prefix", &f.Prefix}, {12, "agent", &f.Agent}, {13, "used", &f.Used},
		{14, "probe", &f.Probe}, {15, "good", &f.Good}, {16, "bad", &f.Bad}, {17, "call", &f.Call}}
}

func (f *Welcome) slots() []slot {
	return []slot{{1, "address", &f.Address}, {2, "device", &f.Device}, {3, "cursor", &f.Cursor}, {4, "time", &f.Time},
		{5, "interval", &f.Interval}, {6, "maxframe", &f.MaxFrame}, {7, "window", &f.Window}, {8, "inflight", &f.Inflight},
		{9, "peers", &f.Peers}, {10, "caps", &f.Caps}, {11, "expires", &f.Expires},
		{12, "good", &f.Good}, {13, "bad", &f.Bad}}
}

func (f *Set) slots() []slot {
	return []slot{{1, "token", &f.Token}, {2, "interval", &f.Interval}, {3, "window", &f.Window}, {4, "expires", &f.Expires},
		{5, "good", &f.Good}, {6, "bad", &f.Bad}, {7, "hold", &f.Hold}, {8, "normal", &f.Normal}}
}

func (f *Close) slots() []slot {
	return []slot{{1, "code", (*uint64)(&f.Code)}, {2, "text", &f.Text}, {3, "back", &f.Back}}
}

func (f *Hello) head(b []byte) []byte {
	b = appendUvarint(appendUvarint(b, f.Major), f.Minor)
	return appendFields(b, f.slots(), f.Unknown)
}

func (f *Welcome) head(b []byte) []byte {
	b = appendUvarint(appendUvarint(b, f.Major), f.Minor)
	return appendFields(b, f.slots(), f.Unknown)
}

func (f *Set) head(b []byte) []byte   { return appendFields(b, f.slots(), f.Unknown) }
func (f *Close) head(b []byte) []byte { return appendFields(b, f.slots(), f.Unknown) }

// Decode reads the payload of a frame. If the major version is not ours the
// rest is not looked at: that much of a Hello is the same in all versions.
func (f *Hello) Decode(p []byte) error {
	r := reader{p: p}
	*f = Hello{Major: r.uvarint(), Minor: r.uvarint()}
	if r.err != nil || f.Major != Major {
		if r.err == nil && len(r.p) > 0 {
			f.Unknown = []Field{{Value: r.p}}
		}
		return r.err
	}
	return r.fields(f.slots(), &f.Unknown)
}

// Decode reads the payload of a frame.
func (f *Welcome) Decode(p []byte) error {
	r := reader{p: p}
	*f = Welcome{Major: r.uvarint(), Minor: r.uvarint()}
	return r.fields(f.slots(), &f.Unknown)
}

// Decode reads the payload of a frame.
func (f *Set) Decode(p []byte) error {
	*f = Set{}
	r := reader{p: p}
	return r.fields(f.slots(), &f.Unknown)
}

// Decode reads the payload of a frame.
func (f *Close) Decode(p []byte) error {
	*f = Close{}
	r := reader{p: p}
	return r.fields(f.slots(), &f.Unknown)
}

func appendFields(b []byte, slots []slot, unknown []Field) []byte {
	put := func(n uint64, v []byte) {
		b = appendUvarint(b, n)
		b = appendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	for _, s := range slots {
		for len(unknown) > 0 && unknown[0].Number < s.n {
			if unknown[0].Number == 0 { // the rest of another version's Hello
				return append(b, unknown[0].Value...)
			}
			put(unknown[0].Number, unknown[0].Value)
			unknown = unknown[1:]
		}
		switch at := s.at.(type) {
		case *string:
			if *at != "" {
				put(s.n, []byte(*at))
			}
		case *uint64:
			if *at != 0 {
				put(s.n, appendUvarint(nil, *at))
			}
		case **uint64:
			if *at != nil {
				put(s.n, appendUvarint(nil, **at))
			}
		}
	}
	for _, u := range unknown {
		put(u.Number, u.Value)
	}
	return b
}

func (r *reader) fields(slots []slot, unknown *[]Field) error {
	last := uint64(0)
	for len(r.p) > 0 && r.err == nil {
		n := r.uvarint()
		if n <= last && r.err == nil {
			r.fail("field %d out of order", n)
		}
		last = n
		v := reader{p: r.bytes(r.uvarint())}
		if r.err != nil {
			break
		}
		for len(slots) > 0 && slots[0].n < n {
			slots = slots[1:]
		}
		if len(slots) == 0 || slots[0].n != n {
			*unknown = append(*unknown, Field{n, v.p})
			continue
		}
		switch at := slots[0].at.(type) {
		case *string:
			if *at = v.text(uint64(len(v.p))); *at == "" {
				v.fail("field %d is empty", n)
			}
		case *uint64:
			*at = v.positive()
		case **uint64:
			u := v.uvarint()
			*at = &u
		}
		if err := v.end(); err != nil {
			return err
		}
	}
	return r.err
}
