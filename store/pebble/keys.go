package pebble

import (
	"bytes"
	"encoding/binary"

	"github.com/posthouse-im/posthouse/mailbox"
)

// The first byte of every key.
const (
	kindBox    = 'b'
	kindCursor = 'c'
	kindEntry  = 'e'
	kindFormat = 'f'
	kindID     = 'i'
	kindRecord = 'r'
)

// The format record.
const (
	formatKey     = "format"
	formatVersion = 1 // its value: the version of the layout
)

func appendBoxKey(b []byte, box string) []byte {
	return append(append(b, kindBox), box...)
}

// appendPrefix appends what all entries, or all cursors, of box begin with.
func appendPrefix(b []byte, kind byte, box string) []byte {
	return append(append(append(b, kind), box...), 0)
}

func entryKeyLen(box string) int { return 1 + len(box) + 1 + 8 }

func appendEntryKey(b []byte, box string, seq mailbox.Seq) []byte {
	return binary.BigEndian.AppendUint64(appendPrefix(b, kindEntry, box), uint64(seq))
}

func appendCursorKey(b []byte, box, device string) []byte {
	return append(appendPrefix(b, kindCursor, box), device...)
}

func appendIDKey(b []byte, from, id string) []byte {
	return append(appendPrefix(b, kindID, from), id...)
}

func appendRecordKey(b []byte, key string) []byte {
	return append(append(b, kindRecord), key...)
}

// splitEntryKey takes an entry's key apart.
func splitEntryKey(k []byte) (box []byte, seq mailbox.Seq, ok bool) {
	n := len(k) - 9
	if n < 1 || k[0] != kindEntry || k[n] != 0 {
		return nil, 0, false
	}
	return k[1:n], mailbox.Seq(binary.BigEndian.Uint64(k[n+1:])), true
}

// splitCursorKey takes a cursor's key apart.
func splitCursorKey(k []byte) (box, device []byte, ok bool) {
	if len(k) == 0 || k[0] != kindCursor {
		return nil, nil, false
	}
	return bytes.Cut(k[1:], []byte{0})
}

// after returns the first key that does not begin with prefix, for prefixes
// that do not consist of 0xff alone.
func after(prefix []byte) []byte {
	k := bytes.Clone(prefix)
	for k[len(k)-1] == 0xff {
		k = k[:len(k)-1]
	}
	k[len(k)-1]++
	return k
}
