package frame

import (
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
)

// Message is a message delivered, in absolute terms.
type Message struct {
	Seq, Prev uint64
	ID        string
	From      string
	Device    string
	To        string // empty is the reader himself
	Time      int64  // Unix milliseconds
	Expires   int64  // Unix milliseconds; zero is never
	Media     string
	Urgency   Urgency
	Attrs     []Attr
	Left      uint64 // the body was left out and has so many bytes
	Deflated  uint64 // if not zero, Inflate the body to so many bytes
	Body      []byte
}

// splitID cuts prefix.17 into the prefix and 17. Ok is false for any other id.
func splitID(id string) (prefix string, n uint64, ok bool) {
	i := strings.LastIndexByte(id, '.')
	digits := id[i+1:]
	if i < 1 || len(digits) == 0 || len(digits) > 15 || digits[0] == '0' {
		return "", 0, false
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return id[:i], n, true
}

func joinID(prefix string, n uint64) string {
	b := make([]byte, 0, 64)
	b = append(append(b, prefix...), '.')
	return string(strconv.AppendUint(b, n, 10))
}

// MsgWriter turns messages into Msg frames: the server's half of one
// connection. It remembers of each peer a hash and a number, 16 bytes, and may
// forget them at any time. Before the first Write set Place and Time to
// Welcome's Cursor and Time.
type MsgWriter struct {
	Place uint64 // of the last message, or of what was trimmed
	Time  int64  // of the last message
	peers []known
	next  int // the number to be defined next
}

type known struct {
	hash uint64
	last uint64 // number of the last id
}

// maxKnown is how many peers a MsgWriter remembers.
const maxKnown = 64

var seed = maphash.MakeSeed()

func hashPeer(address, device, prefix string) uint64 {
	h := maphash.String(seed, address)
	h = h*31 + maphash.String(seed, device)
	return h*31 + maphash.String(seed, prefix)
}

// peer finds or makes the number of a peer.
func (w *MsgWriter) peer(address, device, prefix string) (p Peer, k *known) {
	h := hashPeer(address, device, prefix)
	for i := range w.peers {
		if w.peers[i].hash == h {
			return Peer{N: uint64(i)}, &w.peers[i]
		}
	}
	if len(w.peers) < maxKnown {
		w.peers = append(w.peers, known{})
		w.next = len(w.peers) - 1
	} else {
		w.next = (w.next + 1) % maxKnown
	}
	k = &w.peers[w.next]
	*k = known{hash: h}
	return Peer{N: uint64(w.next), New: true, Address: address, Device: device, Prefix: prefix}, k
}

// Mark is what a MsgWriter remembered at a time. Two writers with the same mark
// make the same frames of the same messages, and then have the same mark again.
type Mark struct {
	place uint64
	time  int64
	next  int
	peers []known
}

// Mark returns what w remembers.
func (w *MsgWriter) Mark() Mark {
	return Mark{place: w.Place, time: w.Time, next: w.next, peers: slices.Clone(w.peers)}
}

// At reports whether w's mark is m.
func (w *MsgWriter) At(m *Mark) bool {
	return w.Place == m.place && w.Time == m.time && w.next == m.next && slices.Equal(w.peers, m.peers)
}

// Jump has w remember what m says.
func (w *MsgWriter) Jump(m *Mark) {
	w.Place, w.Time, w.next, w.peers = m.place, m.time, m.next, append(w.peers[:0], m.peers...)
}

// Hash is the same for writers with the same mark, and one more for the next
// place.
func (w *MsgWriter) Hash() uint64 {
	h := uint64(0)
	for _, k := range w.peers {
		h = h*31 + k.hash
	}
	return h + w.Place
}

// Append appends m as a Msg frame to b. If its payload would be longer than
// max the body is left out.
func (w *MsgWriter) Append(b []byte, m *Message, max int) []byte {
	f := Msg{Step: m.Seq - w.Place, Time: m.Time - w.Time, Media: m.Media, Urgency: m.Urgency, Attrs: m.Attrs, Left: m.Left,
		Deflated: m.Deflated, Body: m.Body}
	if m.Prev != w.Place {
		f.Prev = m.Seq - m.Prev
	}
	prefix, n, ok := splitID(m.ID)
	var k *known
	if f.From, k = w.peer(m.From, m.Device, prefix); ok {
		f.ID.Step = int64(n - k.last)
		k.last = n
	} else {
		f.ID.Text = m.ID
	}
	if m.Expires > m.Time {
		f.Expires = uint64(m.Expires - m.Time)
	}
	var to Peer
	if m.To != "" {
		to, _ = w.peer(m.To, "", "")
		f.To = &to
	}
	w.Place, w.Time = m.Seq, m.Time
	var h [128]byte
	head := f.head(h[:0])
	if len(head)+len(f.Body) > max {
		if f.Left, f.Deflated = m.Deflated, 0; f.Left == 0 {
			f.Left = uint64(len(f.Body))
		}
		f.Body = nil
		head = f.head(h[:0])
	}
	return appendParts(b, f.lead(), 0, head, f.Body)
}

// MsgReader turns Msg frames into messages: the client's half.
type MsgReader struct {
	Place uint64
	Time  int64
	peers []peerState
}

type peerState struct {
	Peer
	last uint64
}

func (r *MsgReader) peer(p *Peer) (*peerState, error) {
	switch {
	case p.N < uint64(len(r.peers)):
	case !p.New:
		return nil, malformed("peer %d was not defined", p.N)
	case p.N > uint64(len(r.peers)) || p.N >= MaxPeers:
		return nil, malformed("peer %d defined, %d are in use", p.N, len(r.peers))
	default:
		r.peers = append(r.peers, peerState{})
	}
	s := &r.peers[p.N]
	if p.New {
		*s = peerState{Peer: *p}
	}
	return s, nil
}

// Read resolves f. Body is f's.
func (r *MsgReader) Read(f *Msg) (m Message, err error) {
	m = Message{Seq: r.Place + f.Step, Prev: r.Place, Time: r.Time + f.Time, Media: f.Media, Urgency: f.Urgency, Attrs: f.Attrs,
		Left: f.Left, Deflated: f.Deflated, Body: f.Body}
	if m.Seq > MaxInt || f.Prev > m.Seq {
		return m, malformed("place out of range")
	}
	if f.Prev != 0 {
		m.Prev = m.Seq - f.Prev
	}
	from, err := r.peer(&f.From)
	if err != nil {
		return m, err
	}
	m.From, m.Device = from.Address, from.Device
	if m.ID = f.ID.Text; m.ID == "" {
		if m.ID, err = from.id(f.ID.Step); err != nil {
			return m, err
		}
	}
	if f.Expires != 0 {
		m.Expires = m.Time + int64(f.Expires)
	}
	if f.To != nil {
		to, err := r.peer(f.To)
		if err != nil {
			return m, err
		}
		m.To = to.Address
	}
	r.Place, r.Time = m.Seq, m.Time
	return m, nil
}

func (s *peerState) id(step int64) (string, error) {
	if s.last += uint64(step); s.last > MaxInt || s.Prefix == "" {
		return "", malformed("id's number out of range")
	}
	return joinID(s.Prefix, s.last), nil
}

// SendWriter makes the recipients and ids of Send frames: the client's half of
// one connection.
type SendWriter struct {
	Prefix string // Hello's
	Peers  uint64 // Welcome's: how many recipients may have a number; at least one
	last   uint64
	peers  map[string]uint64
	turn   []string // recipients by number
	next   uint64
}

// To returns the recipient's number, which is new if it has to be defined.
func (w *SendWriter) To(address string) Peer {
	if n, ok := w.peers[address]; ok {
		return Peer{N: n}
	}
	if w.peers == nil {
		w.peers = map[string]uint64{}
	}
	if n := uint64(len(w.turn)); n < max(w.Peers, 1) {
		w.turn = append(w.turn, address)
		w.next = n
	} else {
		w.next = (w.next + 1) % n
		delete(w.peers, w.turn[w.next])
		w.turn[w.next] = address
	}
	w.peers[address] = w.next
	return Peer{N: w.next, New: true, Address: address}
}

// ID returns the short form of id, if it has one.
func (w *SendWriter) ID(id string) ID {
	prefix, n, ok := splitID(id)
	if !ok || prefix != w.Prefix {
		return ID{Text: id}
	}
	step := int64(n - w.last)
	w.last = n
	return ID{Step: step}
}

// SendReader resolves the recipients and ids of Send frames: the server's
// half.
type SendReader struct {
	prefix string
	last   uint64
	peers  []string
}

// NewSendReader is for a client whose Hello gave prefix.
func NewSendReader(prefix string) *SendReader { return &SendReader{prefix: prefix} }

// To returns the recipient's address. Numbers go up to peers-1.
func (r *SendReader) To(p *Peer, peers int) (string, error) {
	switch {
	case p.N < uint64(len(r.peers)):
	case !p.New:
		return "", malformed("recipient %d was not defined", p.N)
	case p.N > uint64(len(r.peers)) || p.N >= uint64(peers):
		return "", malformed("recipient %d defined, %d are in use and %d allowed", p.N, len(r.peers), peers)
	default:
		r.peers = append(r.peers, "")
	}
	if p.New {
		r.peers[p.N] = p.Address
	}
	return r.peers[p.N], nil
}

// ID returns the id in full.
func (r *SendReader) ID(id ID) (string, error) {
	if id.Text != "" {
		return id.Text, nil
	}
	if r.prefix == "" {
		return "", malformed("short id, and hello gave no prefix")
	}
	if r.last += uint64(id.Step); r.last > MaxInt {
		return "", malformed("id's number out of range")
	}
	return joinID(r.prefix, r.last), nil
}
