package wire

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// A "next" is opaque to clients. It holds a place and a check over that place
// and the box it belongs to, so that a slip of the keyboard, a cut-off copy or
// somebody else's next is refused and not taken for a place. It is no secret:
// it can move only the cursors of whoever has logged in.
//
//	version (1 byte: 1) · seq (big-endian, leading zero bytes left out) · CRC-32C of box NUL version seq (4 bytes)
const nextVersion = 1

var nextTable = crc32.MakeTable(crc32.Castagnoli)

// Next returns the opaque form of a place in box.
func Next(box string, seq uint64) string {
	return string(AppendNext(nil, box, seq))
}

// AppendNext appends the opaque form of a place in box to b.
func AppendNext(b []byte, box string, seq uint64) []byte {
	var raw [1 + 8 + 4]byte
	raw[0] = nextVersion
	n := 1
	var be [8]byte
	binary.BigEndian.PutUint64(be[:], seq)
	i := 0
	for i < 8 && be[i] == 0 {
		i++
	}
	n += copy(raw[n:], be[i:])
	binary.BigEndian.PutUint32(raw[n:], nextCheck(box, raw[:n]))
	return base64.RawURLEncoding.AppendEncode(b, raw[:n+4])
}

// ParseNext reads what Next returned for the same box.
func ParseNext(box, s string) (seq uint64, ok bool) {
	var raw [1 + 8 + 4]byte
	// The decoder passes over line ends; there is one way to write a next.
	if len(s) > base64.RawURLEncoding.EncodedLen(len(raw)) || strings.ContainsAny(s, "\r\n") {
		return 0, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(s))
	if err != nil || n < 1+4 || raw[0] != nextVersion {
		return 0, false
	}
	n -= 4
	if binary.BigEndian.Uint32(raw[n:]) != nextCheck(box, raw[:n]) {
		return 0, false
	}
	if n > 1 && raw[1] == 0 {
		return 0, false // there is one way to write a number
	}
	for _, c := range raw[1:n] {
		seq = seq<<8 | uint64(c)
	}
	return seq, true
}

func nextCheck(box string, head []byte) uint32 {
	c := crc32.Update(0, nextTable, []byte(box))
	c = crc32.Update(c, nextTable, []byte{0})
	return crc32.Update(c, nextTable, head)
}
