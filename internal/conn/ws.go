package conn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Opcodes and close codes of WebSocket, RFC 6455 sections 5.2 and 7.4.1.
const (
	opMore   = 0x0
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA

	codeNormal   = 1000
	codeAway     = 1001
	codeProtocol = 1002
	codeKind     = 1003
	codeNone     = 1005
	codeUTF8     = 1007
	codePolicy   = 1008
	codeTooBig   = 1009
	codeInternal = 1011
)

// WSError is why a WebSocket connection was closed: the peer broke RFC 6455.
type WSError struct {
	Code int // of section 7.4.1
	Text string
}

func (e *WSError) Error() string { return fmt.Sprintf("conn: websocket: %s (%d)", e.Text, e.Code) }

// wsock is the state of WebSocket framing. Nothing of a message is kept here:
// payload goes to the protocol as it comes, unmasked in the buffer it was read
// into, and messages are put together by whoever needs them whole.
type wsock struct {
	head    [14]byte // of the frame under way
	have    uint8    // bytes of head that are there
	inFrame bool     // head is complete
	fin     bool
	op      byte
	left    uint64 // payload of the frame that is still to come
	key     [4]byte
	turn    uint8 // which byte of key is next

	inMessage bool
	size      uint64 // of the message so far, with the whole frame under way
	tail      [utf8.UTFMax]byte
	tails     int    // bytes of an unfinished rune in tail
	control   []byte // payload of a control frame under way

	code   int  // of the peer's close frame
	closed bool // a close frame has been sent
}

// frame appends a message to the buffer at *b.
//
//	 0                   1                   2                   3
//	|F|R|R|R| opcode|M| length 7    | 16 or 64 bits of length      |
//
// "A server MUST NOT mask any frames that it sends to the client." RFC 6455
// section 5.1.
func frame(b **buf, op byte, p []byte) {
	if *b == nil {
		*b = grab(len(p) + 10)
	}
	(*b).room(len(p) + 10)
	h := append((*b).b, 0x80|op)
	switch {
	case len(p) < 126:
		h = append(h, byte(len(p)))
	case len(p) < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(len(p)))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(len(p)))
	}
	(*b).b = append(h, p...)
}

func (w *wsock) put(c *Conn, op byte, p []byte) {
	if c.encrypts() {
		var b *buf
		frame(&b, op, p)
		c.encrypt(b.bytes())
		b.free()
	} else {
		frame(&c.x.wire, op, p)
	}
	c.d.touch(c)
}

// bye sends a close frame with the code that belongs to why.
func (w *wsock) bye(c *Conn, why error) {
	code := codePolicy
	var ws *WSError
	switch {
	case errors.As(why, &ws):
		code = ws.Code
	case why == nil || why == io.EOF:
		code = codeNormal
	case errors.Is(why, ErrDrain):
		code = codeAway
	case errors.Is(why, ErrInput):
		code = codeTooBig
	case errors.Is(why, ErrPanic):
		code = codeInternal
	}
	w.close(c, code)
}

func (w *wsock) close(c *Conn, code int) {
	if w.closed {
		return
	}
	w.closed = true
	if code == codeNone {
		w.put(c, opClose, nil)
		return
	}
	w.put(c, opClose, binary.BigEndian.AppendUint16(nil, uint16(code)))
}

// unframe takes the payload of data frames out of p, in place, and answers
// control frames. It reports false when the connection is to end.
func (c *Conn) unframe(p []byte) ([]byte, bool) {
	w := c.x.ws
	out := p[:0]
	for {
		if !w.inFrame {
			var done bool
			var err error
			if p, done, err = w.header(p, c.g.opcode(), uint64(c.g.o.MaxInput)); err != nil {
				c.Close(err)
				return nil, false
			}
			if !done {
				return out, true
			}
		}
		n := int(min(uint64(len(p)), w.left))
		w.unmask(p[:n])
		w.left -= uint64(n)
		data := p[:n]
		p = p[n:]
		if w.op >= opClose {
			w.control = append(w.control, data...)
		} else {
			if c.g.o.Text && !w.utf8(data) {
				c.Close(&WSError{codeUTF8, "text is not UTF-8"})
				return nil, false
			}
			out = append(out, data...)
		}
		if w.left > 0 {
			return out, true
		}
		w.inFrame = false
		if err := w.ended(c); err != nil {
			if err != io.EOF {
				c.Close(err)
				return nil, false
			}
			// What came before the close frame still counts.
			if len(out) > 0 {
				c.input(out)
			}
			// "the endpoint MUST send a Close frame in response" section 5.5.1
			c.encode()
			w.close(c, w.code)
			c.Close(io.EOF)
			return nil, false
		}
	}
}

// header completes the header of a frame from p and returns the rest of p.
func (w *wsock) header(p []byte, kind byte, limit uint64) (rest []byte, done bool, err error) {
	for {
		want := uint8(2)
		if w.have >= 2 {
			want = 6
			switch w.head[1] & 0x7f {
			case 126:
				want = 8
			case 127:
				want = 14
			}
		}
		n := copy(w.head[w.have:want], p)
		w.have += uint8(n)
		p = p[n:]
		if w.have < want {
			return p, false, nil
		}
		if want == 2 {
			if err := w.check(kind); err != nil {
				return p, false, err
			}
			continue
		}
		return p, true, w.begin(want, limit)
	}
}

// check looks at the first two bytes of a frame.
func (w *wsock) check(kind byte) error {
	w.fin, w.op = w.head[0]&0x80 != 0, w.head[0]&0x0f
	length := w.head[1] & 0x7f
	switch {
	case w.head[0]&0x70 != 0:
		// "MUST be 0 unless an extension is negotiated" section 5.2
		return &WSError{codeProtocol, "reserved bit is set"}
	case w.head[1]&0x80 == 0:
		// "The server MUST close the connection upon receiving a frame that
		// is not masked." section 5.1
		return &WSError{codeProtocol, "frame is not masked"}
	}
	switch w.op {
	case opMore:
		if !w.inMessage {
			return &WSError{codeProtocol, "continuation of nothing"}
		}
	case opText, opBinary:
		if w.inMessage {
			return &WSError{codeProtocol, "message inside of a message"}
		}
		if w.op != kind {
			return &WSError{codeKind, "wrong kind of message"}
		}
		w.inMessage, w.size = true, 0
	case opClose, opPing, opPong:
		// "All control frames MUST have a payload length of 125 bytes or less
		// and MUST NOT be fragmented." section 5.5
		if !w.fin || length > 125 {
			return &WSError{codeProtocol, "control frame is too long or in parts"}
		}
		w.control = w.control[:0]
	default:
		return &WSError{codeProtocol, "unknown opcode"}
	}
	return nil
}

// begin starts the payload: head is complete.
func (w *wsock) begin(headLen uint8, limit uint64) error {
	switch headLen {
	case 8:
		w.left = uint64(binary.BigEndian.Uint16(w.head[2:]))
	case 14:
		w.left = binary.BigEndian.Uint64(w.head[2:])
	default:
		w.left = uint64(w.head[1] & 0x7f)
	}
	// "the minimal number of bytes MUST be used to encode the length", "the
	// most significant bit MUST be 0" section 5.2
	if headLen == 8 && w.left < 126 || headLen == 14 && (w.left < 1<<16 || w.left >= 1<<63) {
		return &WSError{codeProtocol, "length is badly encoded"}
	}
	if w.op < opClose {
		if w.size += w.left; w.size > limit {
			return &WSError{codeTooBig, "message is too long"}
		}
	}
	copy(w.key[:], w.head[headLen-4:headLen])
	w.turn, w.have, w.inFrame = 0, 0, true
	return nil
}

func (w *wsock) unmask(p []byte) {
	for len(p) > 0 && w.turn != 0 {
		p[0] ^= w.key[w.turn]
		w.turn = (w.turn + 1) & 3
		p = p[1:]
	}
	key := uint64(binary.LittleEndian.Uint32(w.key[:]))
	key |= key << 32
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^key)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= w.key[w.turn]
		w.turn = (w.turn + 1) & 3
	}
}

// ended is called when all of a frame is there. It returns io.EOF for a close
// frame that is in order.
func (w *wsock) ended(c *Conn) error {
	switch w.op {
	case opPing:
		w.put(c, opPong, w.control)
		if c.Unsent() > c.g.o.MaxUnsent {
			c.abort(ErrUnsent)
			return ErrUnsent
		}
	case opClose:
		code := codeNone
		if len(w.control) == 1 {
			return &WSError{codeProtocol, "close code is cut off"}
		}
		if len(w.control) >= 2 {
			code = int(binary.BigEndian.Uint16(w.control))
			if !goodCode(code) {
				return &WSError{codeProtocol, "close code is not one"}
			}
			if !utf8.Valid(w.control[2:]) {
				return &WSError{codeUTF8, "close reason is not UTF-8"}
			}
		}
		w.code = code
		return io.EOF
	case opPong:
	default:
		if w.fin {
			w.inMessage = false
			if w.tails > 0 {
				return &WSError{codeUTF8, "text ends inside of a character"}
			}
		}
	}
	if cap(w.control) > 0 && w.op >= opClose {
		w.control = nil // nothing is held while idle
	}
	return nil
}

// goodCode says whether a peer may send code, RFC 6455 section 7.4 and IANA.
func goodCode(code int) bool {
	return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006 || code >= 3000 && code < 5000
}

// utf8 checks a piece of text that may begin and end inside of a character.
func (w *wsock) utf8(p []byte) bool {
	for len(p) > 0 && w.tails > 0 {
		w.tail[w.tails] = p[0]
		w.tails++
		p = p[1:]
		if utf8.FullRune(w.tail[:w.tails]) {
			if r, n := utf8.DecodeRune(w.tail[:w.tails]); r == utf8.RuneError && n == 1 {
				return false
			}
			w.tails = 0
		}
	}
	end := len(p)
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		if utf8.RuneStart(p[len(p)-back]) {
			if !utf8.FullRune(p[len(p)-back:]) {
				end = len(p) - back
			}
			break
		}
	}
	w.tails += copy(w.tail[w.tails:], p[end:])
	return utf8.Valid(p[:end])
}
