package link

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Mover is a connection that can go on over another network: QUIC's. Config.Dial
// may return one.
type Mover interface {
	net.Conn
	// Move goes on over the network that the device is on now, with nothing
	// lost. When it fails the connection is given up and made anew.
	Move(ctx context.Context) error
}

func movable(nc net.Conn) bool {
	_, ok := nc.(Mover)
	return ok
}

// moveTime is how long a move may take, and then a fresh connection is tried.
const moveTime = 4 * time.Second

// follow moves the connection each time that the network has changed. It ends
// with ctx, or when a move has failed, which ends the session.
func (mb *Mailbox) follow(ctx context.Context, s *session, m Mover) {
	for {
		select {
		case <-s.elsewhere:
		case <-ctx.Done():
			return
		}
		try, stop := context.WithTimeout(ctx, moveTime)
		mb.mu.Lock()
		s.stopMove = stop
		mb.mu.Unlock()
		err := m.Move(try)
		stop()
		mb.mu.Lock()
		switch {
		case len(s.elsewhere) > 0: // and again
		case err == nil:
			mb.arrivedLocked(s)
		default:
			mb.cfg.Log.Info("link: the connection could not move", "err", err)
			s.moved = true
			s.nc.Close()
		}
		mb.mu.Unlock()
	}
}

// arrivedLocked goes on with s on another network.
func (mb *Mailbox) arrivedLocked(s *session) {
	s.moving = false
	s.strayed = true
	s.network, s.quiet = mb.net, 0
	s.key = learnedAs(s.network, s.nc)
	// "An endpoint can migrate a connection to a new local address by sending
	// packets containing non-probing frames from that address" (RFC 9000 section
	// 9.2). Until the server has one its own go where the device is no more. And
	// it shows at once that it has followed.
	s.waits, s.check, s.patience = false, true, quickAnswer
	mb.counts.Moves++
	if mb.cfg.Heartbeat == 0 {
		mb.networkLocked(s.key, learn.Finding{}).helped = s.welcome.Caps&frame.CapProbe != 0
		mb.agreeLocked(s, learn.Finding{})
	}
	mb.cfg.Log.Info("link: moved", "network", s.network, "local", s.nc.LocalAddr())
	ring(mb.nudge)
	ring(mb.work)
}

// datagrams reports whether nc is on UDP. There whatever the client sends makes
// the NAT a new mapping, so that only what the server sends tells whether the
// old one was still there.
func datagrams(nc net.Conn) bool {
	a := nc.LocalAddr()
	return a != nil && a.Network() == "udp"
}

// learnedAs is what a network is called where it is kept what was learned
// there. A NAT has other patience with UDP than with TCP.
func learnedAs(network string, nc net.Conn) string {
	if datagrams(nc) {
		return strings.TrimSpace(network + " udp")
	}
	return network
}
