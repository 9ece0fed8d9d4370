package carrier

import (
	"net"
	"syscall"
)

// Packets is how many packets have gone over nc either way, also those that
// carry nothing of ours: acknowledgements, what was lost and is sent again. Ok is
// false where nobody tells.
func Packets(nc net.Conn) (n uint64, ok bool) {
	for {
		switch c := nc.(type) {
		case interface{ Packets() uint64 }: // QUIC
			return c.Packets(), true
		case interface{ NetConn() net.Conn }: // TLS, WebSocket
			nc = c.NetConn()
		case syscall.Conn:
			return segments(c)
		default:
			return 0, false
		}
	}
}
