package frame

import "unicode/utf8"

// Integers are little-endian base 128, as in Protocol Buffers, in their
// shortest form, and at most MaxInt, so that a JavaScript number holds them.
const (
	MaxInt    = 1<<53 - 1
	maxVarint = 8
)

func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendVarint appends a signed integer, zigzag: 0 -1 1 -2 2 are 0 1 2 3 4.
func appendVarint(b []byte, v int64) []byte {
	return appendUvarint(b, zigzag(v))
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func lenUvarint(v uint64) (n int) {
	for n = 1; v >= 0x80; n++ {
		v >>= 7
	}
	return n
}

// uvarint reads an integer that begins p; n is zero if p ends within it.
func uvarint(p []byte) (v uint64, n int, err error) {
	for i, c := range p {
		if i == maxVarint {
			return 0, 0, malformed("integer of more than %d bytes", maxVarint)
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, 0, malformed("integer not in its shortest form")
			}
			if v > MaxInt {
				return 0, 0, malformed("integer over 2^53-1")
			}
			return v, i + 1, nil
		}
	}
	if len(p) >= maxVarint {
		return 0, 0, malformed("integer of more than %d bytes", maxVarint)
	}
	return 0, 0, nil
}

func appendString(b []byte, s string) []byte {
	b = appendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader reads a payload. After the first error it returns zeros.
type reader struct {
	p   []byte
	err error
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = malformed(format, a...)
		r.p = nil
	}
}

func (r *reader) byte() byte {
	if len(r.p) == 0 {
		r.fail("ends too early")
		return 0
	}
	c := r.p[0]
	r.p = r.p[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	if len(r.p) > 0 && r.p[0] < 0x80 { // most are short
		v := r.p[0]
		r.p = r.p[1:]
		return uint64(v)
	}
	v, n, err := uvarint(r.p)
	if err == nil && n == 0 && r.err == nil {
		err = malformed("ends too early")
	}
	if err != nil {
		if r.err == nil {
			r.err = err
		}
		r.p = nil
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) varint() int64 { return unzigzag(r.uvarint()) }

func (r *reader) positive() uint64 {
	v := r.uvarint()
	if v == 0 {
		r.fail("zero where there may be none")
	}
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.p)) {
		r.fail("ends too early")
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) text(n uint64) string {
	b := r.bytes(n)
	if !utf8.Valid(b) {
		r.fail("text is not UTF-8")
		return ""
	}
	return string(b)
}

func (r *reader) string() string { return r.text(r.uvarint()) }

func (r *reader) end() error {
	if r.err == nil && len(r.p) > 0 {
		r.fail("%d bytes too many", len(r.p))
	}
	return r.err
}
