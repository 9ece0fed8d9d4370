package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/conn/quic"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// QUIC listens on a UDP socket, for Serve, and owns it from then on. Each
// connection is one over QUIC (RFC 9000): the frames go over the one
// bidirectional stream that the client opens, and the connection lives on when
// the client's address changes.
func (s *Server) QUIC(pc net.PacketConn, cfg *tls.Config) (net.Listener, error) {
	ln, err := quic.Listen(pc, quic.Config{
		TLS:      cfg,
		Protocol: frame.Protocol,
		// "an endpoint … silently closes the connection … when it remains idle
		// for longer than the minimum of both peers' max_idle_timeout" RFC 9000
		// section 10.1. Who is silent longer than agreed is for link to say.
		Idle:       keepalive.Patience(s.cfg.MaxInterval) + s.cfg.Margin + time.Minute,
		Handshake:  s.cfg.HelloTime,
		Handshakes: s.cfg.Handshakes,
		Retry:      s.cfg.Retry,
		Code:       func(why error) uint64 { return uint64(closeCode(why)) },
	})
	if err != nil {
		return nil, err
	}
	return ln, nil
}

// closeCode is what a connection's end is called where a carrier has a place
// for that.
func closeCode(why error) frame.CloseCode {
	var bye errBye
	switch {
	case errors.As(why, &bye):
		return frame.CloseCode(bye)
	case errors.Is(why, context.DeadlineExceeded) || errors.Is(why, conn.ErrTimeout):
		return frame.CloseTimeout
	case errors.Is(why, conn.ErrDrain) || errors.Is(why, net.ErrClosed) || errors.Is(why, context.Canceled):
		return frame.CloseDraining
	case errors.Is(why, conn.ErrFull):
		return frame.CloseBusy
	case errors.Is(why, conn.ErrUnsent) || errors.Is(why, conn.ErrPanic):
		return frame.CloseInternal
	case errors.Is(why, conn.ErrInput):
		return frame.CloseTooLong
	}
	return frame.CloseDone
}
