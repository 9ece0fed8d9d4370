package conn

import "sync"

// buf is a pooled buffer. What lies before off has been sent or consumed.
type buf struct {
	b   []byte
	off int
}

// classes are the sizes of pooled buffers. A fan-out to thousands of idle
// connections takes the smallest for each; a busy one climbs by copying a few
// KiB once a round. Larger buffers are made as needed and left to the
// collector, as are pooled ones that two collections found unused: after a
// burst the memory goes back.
var (
	classes = [...]int{2 << 10, 16 << 10, 64 << 10, 256 << 10}
	pools   [len(classes)]sync.Pool
)

// grab returns an empty buffer for at least n bytes.
func grab(n int) *buf {
	for i, size := range classes {
		if n <= size {
			if b, ok := pools[i].Get().(*buf); ok {
				return b
			}
			return &buf{b: make([]byte, 0, size)}
		}
	}
	return &buf{b: make([]byte, 0, n)}
}

// free gives b back. Nil is fine.
func (b *buf) free() {
	if b == nil || cap(b.b) > 2*classes[len(classes)-1] {
		return
	}
	for i := len(classes) - 1; i >= 0; i-- {
		if cap(b.b) >= classes[i] {
			b.b, b.off = b.b[:0], 0
			pools[i].Put(b)
			return
		}
	}
}

// bytes is what has not been consumed.
func (b *buf) bytes() []byte { return b.b[b.off:] }

// size is how many bytes those are. Nil is empty.
func (b *buf) size() int {
	if b == nil {
		return 0
	}
	return len(b.b) - b.off
}

// room makes space to append n bytes.
func (b *buf) room(n int) {
	if cap(b.b)-len(b.b) >= n {
		return
	}
	held := b.size()
	// Moving down is paid for by what was consumed since the last time.
	if b.off >= held && cap(b.b)-held >= n {
		copy(b.b, b.bytes())
		b.b, b.off = b.b[:held], 0
		return
	}
	size := max(held+n, cap(b.b)+1)
	if size > classes[len(classes)-1] {
		size = max(size, 2*cap(b.b))
	}
	bigger := grab(size)
	bigger.b = append(bigger.b, b.bytes()...)
	*b, *bigger = *bigger, *b
	bigger.free()
}

// add appends p.
func (b *buf) add(p []byte) {
	b.room(len(p))
	b.b = append(b.b, p...)
}

// addTo appends p to the buffer at *b, which may be nil.
func addTo(b **buf, p []byte) {
	if len(p) == 0 {
		return
	}
	if *b == nil {
		*b = grab(len(p))
	}
	(*b).add(p)
}

// join appends the buffer tail to the one at *b without copying where that is
// possible, and takes tail over.
func join(b **buf, tail *buf) {
	switch {
	case tail == nil:
	case *b == nil:
		*b = tail
	default:
		(*b).add(tail.bytes())
		tail.free()
	}
}
