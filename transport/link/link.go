// Package link is the door of our own long connection. This comment is the
// specification of its protocol, version 1.0. docs/link.md has it with
// pictures of the bytes; docs/decisions/0005-link.md says why each byte is
// there; testdata/vectors.json has exact bytes, which every SDK runs.
//
//	C: HELLO    who I am, which device, how often I will speak
//	S: WELCOME  what is agreed, and where reading begins
//	S: MSG      in the same flight, and whenever there is one
//	C: ACK      the device has stored everything up to there
//	C: SEND     a message
//	S: STORED   it is durable; or REFUSED, and why
//	C: PING     a heartbeat
//	S: CLOSE    why, and when to come back
//
// # Carriers
//
// The protocol is a stream of frames in each direction, over TCP, TLS, QUIC
// (RFC 9000) with posthouse.link.1 in ALPN, or WebSocket (RFC 6455) with the
// subprotocol posthouse.link.1. Over WebSocket the stream is the concatenation
// of the binary messages: a message may hold many frames, and a frame may span
// messages. Over QUIC it is the one bidirectional stream that the client opens;
// 0-RTT is not taken. A connection ends there with the code of CLOSE as
// application error code, or 1, done; a side that wants its last words to be
// heard ends its stream and waits for the other's end. A password is taken only
// over TLS, QUIC, or when both ends are on one machine.
//
// # Integers and frames
//
// An integer is little-endian base 128: seven bits a byte, lowest first, the
// top bit set on all but the last. It takes its shortest form and is at most
// 2^53-1. A signed one is folded first: 0, -1, 1, -2 are 0, 1, 2, 3. A string
// is its length in bytes and then UTF-8. A frame is
//
//	+-+-------+--------+---------+------------------ - -
//	|A| type  | length | (ack)   | payload
//	+-+-------+--------+---------+------------------ - -
//	 1   7      integer  integer   length bytes with ack
//
// If A is set, which only a client does, an acknowledgement stands first in
// the payload, and counts for any type. A type that the receiver does not know
// is skipped. There is exactly one encoding of each frame: anything else (an
// integer in a longer form, a field that says what its absence says, unknown
// flags, bytes left over) is malformed, and ends the connection with
// protocol.
//
//	0x01 HELLO     0x02 WELCOME   0x03 CLOSE     0x04 PING      0x05 PONG
//	0x06 SET       0x07 STORED    0x08 REFUSED   0x09 ACK       0x0a TRIMMED
//	0x10 SIGNAL    0x11 SIGNALLED 0x12 DEVICES   0x13 DEVICELIST
//	0x40 to 0x5f   MSG, with five flags    0x60 to 0x7f   SEND, with five flags
//	0x14, 0x15     kept for groups
//	0x00, 0x16     never assigned; the second begins a TLS handshake
//
// # Session frames
//
// HELLO and WELCOME begin with the version, two integers, major and minor.
// Then they, and SET and CLOSE from the start, are a list of fields in the
// order of their numbers: number, length, value. A value is a string's bytes or
// an integer. A field that is left out is empty or zero; an unknown one is
// skipped. That HELLO has the type 1 and begins with the major version is true
// of all versions, so that the server can answer upgrade-required.
//
//	HELLO    1 token  2 user  3 password  4 device  5 after  6 network
//	         7 maxframe  8 interval  9 window  10 caps  11 prefix  12 agent  13 (reserved, ignored)
//	         14 probe  15 good  16 bad  17 call
//	WELCOME  1 address  2 device  3 cursor  4 time  5 interval  6 maxframe
//	         7 window  8 inflight  9 peers  10 caps  11 expires  12 good  13 bad
//	SET      1 token  2 interval  3 window  4 expires  5 good  6 bad  7 hold  8 normal
//	CLOSE    1 code  2 text  3 back
//
// A client begins with HELLO, within 10 s and 16 KiB. It may go on sending
// frames at once; they wait for the welcome. It gives a token, or a user and a
// password. A token may name the device; else the client does, or it is
// "link". After says that the device has everything up to that place and wants
// what follows; it acknowledges that, too. Without it reading begins at the
// device's cursor, and a new device's at the oldest message kept. A place
// beyond the box's end is brought back to it. Network is any words that tell
// the network from others; what is learned there is kept under a hash of them,
// and under one of the prefix of the client's address.
//
// Caps are bits by which a client asks for what came later; those that the
// server answers with are agreed. Frames of what was not agreed are not said
// to the client, and are skipped by the server.
//
//	1 learning, see Probes   2 signals   4 devices   8 deflated bodies
//
// WELCOME names the user's canonical address, and as cursor the place after
// which messages follow. Times are Unix milliseconds, durations milliseconds,
// sizes bytes. Maxframe is the longest payload the server takes; the client's
// is the longest it takes. Interval is what the client wished, within bounds,
// or else the server's advice for its network. Expires is when the token ends.
//
// A client may send SET to bring a fresh token, or to change its interval or
// window; the server answers with SET. A token for another user or device ends
// the connection. Hold and normal are for the background, see Silence.
//
// CLOSE is the last frame of either side. With back the client may come back,
// no sooner than that; without it, it should not.
//
//	1 done   2 protocol   3 upgrade-required   4 denied     5 busy
//	6 expired   7 replaced   8 removed   9 draining   10 idle
//	11 frame-too-long   12 bad-ack   13 internal   14 insecure   15 timeout
//
// # Silence
//
// The client sends something at least every interval; PING if nothing else.
// The server answers PING with PONG and the same payload, of at most 32 bytes.
// It closes with idle one and a half intervals and 5 s after the last byte.
// Either side may ping.
//
// A client that goes to the background says so by SET with hold, and for how
// many milliseconds messages may be held; coming back it says hold 0, which is
// there although it is zero. The server answers with what it agrees to. Then
// MSGs of the urgencies very-low and low, with normal 1 of normal urgency too,
// wait: until the client says anything, until one comes that cannot wait,
// until one has waited for so long or would expire, or until there are 64.
// Then all of them go, in their order; for 2 s after the client's last byte
// nothing waits, since its radio is awake. In the background no signals come.
//
// # Probes
//
// A client that learns how long its network remembers a silent connection says
// so with bit 1 of caps; a server that helps it answers with the bit, and
// with what others found there: good, the longest silence that survived, and
// bad, the shortest that did not, if any. When the client has found that out
// itself it tells good and bad in SET, or in the HELLO of its next connection;
// the server takes that once for each connection.
//
// It finds out by probes: connections beside the live one. A HELLO with probe
// says how many milliseconds the connection will be silent; credentials are
// looked at as ever. WELCOME has the address, the time, and probe, within
// bounds, as interval. There is no session: no message comes, nothing is
// replaced, no cursor moves. The client then says nothing for that long, and
// PING; anything but PING, PONG and CLOSE is a breach of the protocol. The
// server closes with idle 5 s after that silence, and answers with busy if the
// account has too many probes at once.
//
// Over QUIC a PING of the client's would only make the NAT a new mapping: what
// counts is whether the server still gets through. So with call in HELLO it is
// the server that says PING after the silence.
//
// # Messages to the client
//
// MSG has the flags step 1, id 2, media 4, to 8, more 16. Its payload is
//
//	more     one byte, if flagged: prev 1, expires 2, attrs 4, left 8,
//	         urgency 0x30 (0 normal, 1 very-low, 2 low, 3 high), deflated 0x40
//	step     from the place before; 1 if not flagged
//	prev     if flagged: how far back the entry before it stands, if that is
//	         not the place before: something is missing
//	from     a peer
//	id       if flagged
//	time     signed, since the message before; the first, since WELCOME's
//	media    if flagged: a number, or 0 and a string
//	to       if flagged: a peer; else the reader himself
//	expires  if flagged: milliseconds after its time
//	attrs    if flagged: how many, then name and value of each, strings
//	left     if flagged: the body has so many bytes, which is more than the
//	         client takes, and was left out
//	size     if deflated: how long the body is when inflated
//	body     the rest
//
// A place is a seq of the user's box. The place before is that of the last MSG
// or TRIMMED on this connection, at first WELCOME's cursor. What the device
// sent itself does not come, so places are skipped without a gap.
//
// A peer is an integer, twice its number, plus 1 where the number is defined,
// which it may be again: then follow three strings, address, device, and the
// prefix of its ids. A number is defined when first used, counting from 0.
//
// An id is either a string, its length doubled in front; or the prefix of the
// sender, a dot, and a number, given as a step from the last number of that
// peer (0 when it is defined): the step folded, doubled, plus 1. Not flagged,
// the step is 1. Media types with a number are 1 application/octet-stream,
// 2 application/json, 3 application/cbor, 4 text/markdown, 5 text/html,
// 6 image/jpeg, 7 image/png, 8 image/webp, 9 audio/ogg; without one it is
// text/plain; charset=utf-8.
//
// TRIMMED says that so many entries behind the place before are gone by
// retention. The place moves over them, and with no ACK the device's cursor, as
// soon as it has come to the place before.
//
// # Acknowledgement and flow
//
// ACK is cumulative: an integer, how many places the device's cursor moves
// from what was acknowledged before on this connection, at first WELCOME's
// cursor. A client acknowledges what it has stored and not before. Beyond the
// last place sent is bad-ack. The server stops before a MSG when the bytes of
// MSG frames not acknowledged have reached the window; one message always
// goes. So a slow reader stalls nobody but itself, and its heartbeats go on.
//
// # Messages from the client
//
// SEND has the flags id 1, media 2, expires 4, attrs 8, more 16. Its payload is
//
//	to       a recipient: twice its number, plus 1 and a string, the address,
//	         where it is defined; numbers below WELCOME's peers
//	id       if flagged, as in MSG, with HELLO's prefix and one counter
//	media    if flagged
//	expires  if flagged: milliseconds that it is worth delivering
//	attrs    if flagged
//	more     if flagged: one byte, urgency 3, deflated 4
//	size     if deflated: how long the body is when inflated
//	body     the rest
//
// The server answers every SEND, in order. STORED answers the oldest ones with
// runs, each two integers: the count doubled, plus 1 if they had been stored
// before; and a signed step from the last place told on this connection to the
// first of the run. In a run each place in the recipient's box is one more than
// the last. REFUSED answers the oldest one with a code and a string.
//
//	1 unknown-recipient   2 too-large   3 conflict   4 unavailable
//	5 invalid   6 forbidden   7 remote   8 internal
//
// At most inflight may be unanswered; beyond it the server does not read. After
// a break a client sends again, with its id, what was not answered. An id is
// unique among the user's messages, so a prefix should be random for each run
// of a client.
//
// # Deflated bodies
//
// With bit 8 of caps either side may deflate a body (RFC 1951). It does so with
// each by itself and with nothing else, so that no length tells anything of
// what somebody else has written; only with text, as the media type says; only
// if the body has 256 to 65536 bytes, and that saves an eighth of them at
// least. The size that is given is exact, more than the bytes that stand there,
// and at most 32 times as many: anything else is malformed. A body that is
// longer than the receiver's maxframe is not deflated.
//
// # Signals
//
// With bit 2 of caps the client may say words of the moment, and hears those of
// others. They are told to who is connected now and asked for them too, are
// stored nowhere, are not answered, and may be dropped on the way: there are
// limits to how many a client may say (four seconds' worth at once) and to how
// many wait for one.
//
//	SIGNAL     to: a recipient, as in SEND, of the same numbers; a kind; a body
//	SIGNALLED  from: a peer, as in MSG, of the same numbers and with no prefix;
//	           a kind; a body
//
// A recipient may be one device, bob/phone. A kind is a number, or 0 and a
// string of 1 to 64 bytes, which is an application's own. A body has at most
// 1024 bytes.
//
//	1 composing   2 paused   3 active   4 inactive   5 gone   (XEP-0085's)
//	6 online   7 offline   8 ask
//
// A device says online to whom it likes; the server remembers to whom, and
// when the device has no connection any more it says offline for it. Ask is
// the wish to be told; whether it is answered is for the other client to say.
// Who may see whom the server does not decide.
//
// # Devices
//
// With bit 4 of caps the client may ask for the devices of its account. The
// payload of DEVICES is empty, or the name of one that is to be removed before
// that: its session ends with removed, and its cursor is forgotten. The server
// answers with DEVICELIST; one question may be unanswered. Of each device come
//
//	name    a string
//	way     0 if it is not connected; 1 link, 2 poll, 3 xmpp, 4 mqtt
//	seen    when it last connected or acknowledged, Unix milliseconds
//	behind  how many places it has not acknowledged
//
// The one seen last comes first, and at most as many as the client's maxframe
// has room for.
//
// # Groups
//
// This version has none, and room for them. What is written to a group is SEND
// to its address; to each member it comes as MSG, with the group as to and the
// writer as from, which clients of today understand. The types 0x14 and 0x15
// and bit 16 of caps are kept for joining, and for boxes that many read.
package link
