package conn

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
)

// Seam is a connection below TLS that can be taken from under it: what TLS reads
// and writes then goes through something else. A listener for HTTP over TLS
// whose connections are Seams lets those that become WebSockets move to a loop.
type Seam struct {
	net.Conn
	other atomic.Pointer[io.ReadWriter]
}

// NewSeam returns nc as a Seam.
func NewSeam(nc net.Conn) *Seam { return &Seam{Conn: nc} }

// Moved reports whether TLS does not read from the connection any more.
func (s *Seam) Moved() bool { return s.other.Load() != nil }

// NetConn is what NewSeam was given.
func (s *Seam) NetConn() net.Conn { return s.Conn }

func (s *Seam) Read(p []byte) (int, error) {
	if rw := s.other.Load(); rw != nil {
		return (*rw).Read(p)
	}
	return s.Conn.Read(p)
}

func (s *Seam) Write(p []byte) (int, error) {
	if rw := s.other.Load(); rw != nil {
		return (*rw).Write(p)
	}
	return s.Conn.Write(p)
}

// socket is what a connection consists of.
type socket struct {
	tcp   *net.TCPConn // nil if it is none
	crypt *tls.Conn    // nil without TLS
	seam  *Seam        // below crypt
}

// socketOf looks for the socket of nc, around which may be TLS, and wrappers
// that pass all bytes on: those have a method NetConn. Moves says whether it can
// move to a loop: there is no TLS, or a Seam below.
func socketOf(nc net.Conn) (s socket, moves bool) {
	for {
		switch c := nc.(type) {
		case *net.TCPConn:
			s.tcp = c
			return s, (s.crypt == nil) == (s.seam == nil)
		case *tls.Conn:
			s.crypt = c
			nc = c.NetConn()
		case *Seam:
			if s.crypt != nil {
				s.seam = c
			}
			nc = c.Conn
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return s, false
		}
	}
}
