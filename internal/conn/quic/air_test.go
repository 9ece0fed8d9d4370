package quic

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// air carries datagrams between ports in memory, so that QUIC can be run in
// virtual time.
type air struct {
	mu    sync.Mutex
	ports map[int]*port // guarded by mu
}

type datagram struct {
	b    []byte
	from net.Addr
}

// port is a net.PacketConn.
type port struct {
	air  *air
	addr *net.UDPAddr
	in   chan datagram

	mu   sync.Mutex
	late chan struct{} // guarded by mu; closed when nobody is to read any more
	over bool          // guarded by mu
}

func (a *air) listen() *port {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ports == nil {
		a.ports = map[int]*port{}
	}
	p := &port{air: a, addr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1000 + len(a.ports)}, in: make(chan datagram, 1000), late: make(chan struct{})}
	a.ports[p.addr.Port] = p
	return p
}

// dial is quic.DialAddr from a port of its own.
func (a *air) dial(ctx context.Context, t *testing.T, to net.Addr) (*quic.Conn, error) {
	t.Helper()
	tr := &quic.Transport{Conn: a.listen()}
	t.Cleanup(func() { tr.Close() })
	return tr.Dial(ctx, to, clientTLS(), nil)
}

func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	late := p.late
	p.mu.Unlock()
	select {
	case d := <-p.in:
		return copy(b, d.b), d.from, nil
	case <-late:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.over {
			return 0, nil, net.ErrClosed
		}
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (p *port) WriteTo(b []byte, to net.Addr) (int, error) {
	p.air.mu.Lock()
	q := p.air.ports[to.(*net.UDPAddr).Port]
	p.air.mu.Unlock()
	if q != nil {
		select {
		case q.in <- datagram{append([]byte(nil), b...), p.addr}:
		default: // lost
		}
	}
	return len(b), nil
}

// SetReadDeadline is used with a time that has passed, or with none.
func (p *port) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return net.ErrClosed
	}
	select {
	case <-p.late:
		if t.IsZero() {
			p.late = make(chan struct{})
		}
	default:
		if !t.IsZero() {
			close(p.late)
		}
	}
	return nil
}

func (p *port) Close() error {
	p.SetReadDeadline(time.Unix(1, 0))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	return nil
}

func (p *port) LocalAddr() net.Addr                { return p.addr }
func (p *port) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *port) SetWriteDeadline(_ time.Time) error { return nil }
func (p *port) SetReadBuffer(int) error            { return nil }
func (p *port) SetWriteBuffer(int) error           { return nil }
