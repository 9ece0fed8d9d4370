package stream

import "encoding/binary"

// Eight bytes are looked at as one word: most of a stanza stands for itself.

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// zero has the high bit set of the lowest byte of w that is 0, and of no lower
// one; w has no byte over 0x7f.
func zero(w uint64) uint64 { return (w - ones) & highs }

// run passes over bytes from i on that are ASCII, no control characters and
// neither a, b nor c, eight at a time. It returns where to look at them singly.
func run(p []byte, i int, a, b, c byte) int {
	wa, wb, wc := ones*uint64(a), ones*uint64(b), ones*uint64(c)
	for i+8 <= len(p) {
		w := binary.LittleEndian.Uint64(p[i:])
		// Below 0x20 a byte borrows; over 0x7f it has the bit by itself, and what
		// the subtraction does to the bytes above it can only stop us early.
		if (w|(w-ones*0x20)|zero(w^wa)|zero(w^wb)|zero(w^wc))&highs != 0 {
			return i
		}
		i += 8
	}
	return i
}
