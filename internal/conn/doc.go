// Package conn runs connections. A protocol is a state machine without I/O,
// a [Protocol]: bytes in, wake in, alarm in; bytes out. An [Engine] runs it. It
// owns the socket, TLS, WebSocket framing, buffers, deadlines, coalesced
// writes, the limit on unsent bytes, and the account of bytes, packets and
// wake-ups.
//
//	        ┌─────────────────── Engine ────────────────────┐
//	socket ─▶ PROXY header ─▶ TLS ─▶ WebSocket ─▶ in ─ Data ─▶ Protocol
//	socket ◀─ wire ◀───────── TLS ◀─ WebSocket ◀─ out ─ Write ◀ Protocol ◀─ Wake, Alarm
//	        └──────────▲────────────────────▲───────────────┘
//	                   └──────── side ──────┴── Send, from any goroutine
//
// All methods of a Protocol are called one at a time, never two at once, and
// must not block: they run on a loop that serves thousands of others. What has
// to wait is given to somebody else, who calls [Conn.Wake] when it is ready.
//
// # Three drivers
//
// On Linux a TCP connection is served by an epoll loop, of which there is one
// per core. While idle it has no goroutine, no timer, no buffer and nothing in
// the runtime's poller: 255 bytes of ours, with the alarm. With TLS it has a
// goroutine for the handshake only and costs what crypto/tls keeps, 8.5 KB.
// A WebSocket moves to a loop when HTTP has let go of it, and takes its TLS
// along if there is a [Seam] below.
//
// Elsewhere, and for a net.Conn that is not a TCP socket (a pipe in a test, a
// Unix socket), the same
// protocol runs on goroutines: one that owns the connection, one that reads,
// and one that writes while there is something to write. This works in virtual
// time. A protocol cannot tell which; what all do is in round.go.
//
// A connection may also have no socket at all, where many peers share one: its
// owner moves the bytes, see [Carriage].
//
// # A round of a loop
//
//	wait ─▶ read 64 KiB of each ready socket, Data ─▶ those woken ─▶ alarms ─▶ settle
//	 ▲      └──────────── at most 512 KiB, then settle ─────────┘           │
//	 └── one write for each connection with output; what the socket ◀───────┘
//	     does not take waits for EPOLLOUT; then the ended are closed
//
// Sockets are level-triggered and each is read once a round, so a busy one
// does not keep others waiting. One reading of the clock serves a round.
//
// To wake a loop costs as much as a dozen messages, and two at once are in each
// other's way. So of those that sleep one watches: in the runtime's poller, in
// which an epoll descriptor stands like any file, of an instance that has those
// of all loops. Others wake it by moving its read deadline into the past. The
// rest doze. Who watches does what little there is to do on any of them, and
// wakes them for more; and a little work for a loop that sleeps is left to one
// that is awake. So at a low rate a message that comes in on one loop and goes
// out on another is the work of one thread.
//
// # Who may touch what
//
// Everything of a Conn belongs to its driver, so the normal path takes no lock.
// Three things are for other goroutines: a word of bits that says what the
// driver has to do (pending), the buffer that Send fills (side, under a mutex
// that is held for a copy), and how much is unsent (behind). At the end of the
// round the driver swaps side for nothing and puts it behind what Write has, so
// bytes that were sent stay whole and in order, and nothing is locked while the
// network is written to.
//
// # Limits
//
// What waits to be sent, what is received and not consumed, the time of
// handshakes and of the end, connections in all and per address, handshakes at
// once: each has a bound in [Options] or [Config].
package conn
