package frame

import (
	"bytes"
	stdflate "compress/flate"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A body may be deflated (RFC 1951) by itself. Nothing but the body is, and no
// message with another: what one person may choose is never compressed
// together with what another may not know, so that lengths tell nothing of it.

// Bounds of what is deflated.
const (
	// MinDeflate is the shortest body worth it, in bytes: at 200 a fifth is
	// gained, at 256 a quarter, and at 512 a third of prose and half of JSON,
	// for 15 µs.
	MinDeflate = 256
	// MaxDeflate is the longest body that may be deflated, in bytes.
	MaxDeflate = 64 << 10
	// MaxRatio is by how much a body may be longer than what it is deflated
	// to, so that few bytes do not make much work.
	MaxRatio = 32
)

// Deflate returns body deflated, or nil if that does not pay: it is too short
// or too long, its type does not promise it, or an eighth is not gained.
func Deflate(body []byte, media string) []byte {
	if len(body) < MinDeflate || len(body) > MaxDeflate || !IsText(media) {
		return nil
	}
	var b bytes.Buffer
	b.Grow(len(body))
	if err := flate.StatelessDeflate(&b, body, true, nil); err != nil {
		return nil
	}
	if n := b.Len(); n > len(body)-len(body)/8 || len(body) > n*MaxRatio {
		return nil
	}
	return bytes.Clone(b.Bytes()) // with no room to spare: it may be kept
}

// IsText reports whether bodies of a media type are text of some kind. Others
// are compressed already, as a rule.
func IsText(media string) bool {
	t, _, _ := strings.Cut(strings.ToLower(media), ";")
	t = strings.TrimSpace(t)
	return t == "" || strings.HasPrefix(t, "text/") || t == "application/json" || t == "application/xml" ||
		strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

var inflaters = sync.Pool{New: func() any { return stdflate.NewReader(nil) }}

// Inflate undoes Deflate. Size is what the frame says, which has been checked
// against the bounds; any other length is malformed.
func Inflate(p []byte, size uint64) ([]byte, error) {
	z := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(z)
	in := bytes.NewReader(p)
	if err := z.(stdflate.Resetter).Reset(in, nil); err != nil {
		return nil, err
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(z, body); err != nil {
		return nil, malformed("body does not inflate to %d bytes", size)
	}
	var more [1]byte
	if n, err := z.Read(more[:]); n != 0 || err != io.EOF || in.Len() != 0 {
		return nil, malformed("body inflates to more than %d bytes", size)
	}
	return body, nil
}

// deflated reads the size that stands before a deflated body, and checks it
// against the bounds.
func (r *reader) deflated() uint64 {
	size := r.uvarint()
	if n := uint64(len(r.p)); r.err == nil && (size < MinDeflate || size > MaxDeflate || size <= n || size > n*MaxRatio) {
		r.fail("%d bytes deflated to %d", size, n)
	}
	return size
}
