package quic

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// socket is a UDP socket for QUIC that survives the network. A system says at
// once that there is no route just now, which would be the end of the
// connection: here it is a lost packet. And it can be let go of while the
// connection lives on elsewhere.
type socket struct {
	net.PacketConn
	lossy atomic.Bool   // an error to write is a lost packet
	gone  atomic.Bool   // letGo was called
	over  chan struct{} // closed when nobody reads any more
	end   sync.Once
	n     atomic.Uint64 // packets, either way
}

func newSocket(pc net.PacketConn) *socket { return &socket{PacketConn: pc, over: make(chan struct{})} }

// letGo closes the socket. Who reads from it waits for ever, until close.
func (s *socket) letGo() {
	s.gone.Store(true)
	s.PacketConn.Close()
}

func (s *socket) close() {
	s.end.Do(func() { close(s.over) })
	s.PacketConn.Close()
}

func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := s.PacketConn.ReadFrom(p)
	s.n.Add(1)
	if err != nil && s.gone.Load() {
		<-s.over
	}
	return n, from, err
}

// SetReadDeadline is how QUIC says that it reads no more.
func (s *socket) SetReadDeadline(t time.Time) error {
	if s.gone.Load() {
		if !t.IsZero() {
			s.end.Do(func() { close(s.over) })
		}
		return nil
	}
	return s.PacketConn.SetReadDeadline(t)
}

func (s *socket) WriteTo(p []byte, to net.Addr) (int, error) {
	n, err := s.PacketConn.WriteTo(p, to)
	s.n.Add(1)
	if err != nil && (s.gone.Load() || s.lossy.Load() && !errors.Is(err, net.ErrClosed)) {
		return len(p), nil
	}
	return n, err
}

// SetReadBuffer and SetWriteBuffer do nothing: a client is content with the
// system's.
func (s *socket) SetReadBuffer(int) error  { return nil }
func (s *socket) SetWriteBuffer(int) error { return nil }
