// Package conn runs connections. A protocol is a state machine without I/O,
// a [Protocol]: bytes in, wake in, alarm in; bytes out. An [Engine] runs it. It
// owns the socket, TLS, WebSocket framing, buffers, deadlines, coalesced
// writes, the limit on unsent bytes, and the account of bytes, packets and
// wake-ups.
//
//	        ┌────────── Engine ──────────┐
//	socket ─▶ TLS ─▶ WebSocket ─▶ Data ──▶ Protocol
//	socket ◀─ TLS ◀─ WebSocket ◀─ Write ◀─ Protocol ◀── Wake, Alarm
//	        └────────────────────────────┘
//
// On Linux a TCP connection is served by an epoll loop per core: while idle it
// has no goroutine and no buffer, and with TLS after the handshake it has no
// goroutine either. Elsewhere, and for a net.Conn that is not a TCP socket (a
// pipe in a test), the same protocol runs on a goroutine of its own. A protocol
// cannot tell which.
//
// All methods of a Protocol are called one at a time, never two at once, and
// must not block: they run on a loop that serves thousands of others. What has
// to wait is given to somebody else, who calls [Conn.Wake] when it is ready.
package conn
