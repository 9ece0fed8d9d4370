package bench

import (
	"bufio"
	"net"
	"sync"
)

// stream is the socket of a connection with its two buffers. An idle one has
// hardly any.
type stream struct {
	nc net.Conn

	mu  sync.Mutex
	out *bufio.Writer // guarded by mu: senders publish, receivers acknowledge

	in []byte // the receiver's: bytes read and not yet whole packets
}

func newStream(nc net.Conn, role Role) stream {
	if role == Idle {
		return stream{nc: nc, out: bufio.NewWriterSize(nc, 64)}
	}
	return stream{nc: nc, out: bufio.NewWriterSize(nc, 64<<10), in: make([]byte, 0, 64<<10)}
}

// Flush sends what is buffered.
func (s *stream) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Flush()
}

// write buffers p.
func (s *stream) write(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.out.Write(p)
	return err
}

// answer sends p, if it is anything, behind what is buffered.
func (s *stream) answer(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := s.write(p); err != nil {
		return err
	}
	return s.Flush()
}

// read reads once and returns all bytes that were not taken yet; what the
// caller does not take he gives back with keep.
func (s *stream) read() ([]byte, error) {
	if len(s.in) == cap(s.in) {
		s.in = append(s.in, make([]byte, max(4096, cap(s.in)))...)[:len(s.in)]
	}
	n, err := s.nc.Read(s.in[len(s.in):cap(s.in)])
	s.in = s.in[:len(s.in)+n]
	return s.in, err
}

func (s *stream) keep(rest []byte) { s.in = s.in[:copy(s.in[:cap(s.in)], rest)] }
