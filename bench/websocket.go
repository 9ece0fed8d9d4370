package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// webSocket is the client's end of a WebSocket (RFC 6455) of binary messages,
// as a stream of bytes: each Write is one message, Read gives the payloads.
// It masks with zeros, which changes nothing, so that the generator spends its
// processor time elsewhere; the server unmasks as ever.
type webSocket struct {
	net.Conn
	in   *bufio.Reader
	left uint64 // bytes of the frame under way
	head [14]byte
	out  net.Buffers
}

// openWebSocket makes of nc a WebSocket at u. subprotocol may be empty.
func openWebSocket(nc net.Conn, u *url.URL, subprotocol string, role Role) (net.Conn, error) {
	size := 64 << 10
	if role == Idle {
		size = 256
	}
	ws := &webSocket{Conn: nc, in: bufio.NewReaderSize(nc, size)}
	if err := ws.open(u, subprotocol); err != nil {
		nc.Close()
		return nil, err
	}
	return ws, nil
}

// open is the handshake (RFC 6455 section 4.1).
func (ws *webSocket) open(u *url.URL, subprotocol string) error {
	ws.SetDeadline(time.Now().Add(30 * time.Second))
	defer ws.SetDeadline(time.Time{})
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}
	if subprotocol != "" {
		req.Header.Set("Sec-Websocket-Protocol", subprotocol)
	}
	if err := req.Write(ws.Conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(ws.in, req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("server answered %s", res.Status)
	}
	return nil
}

// Write sends p as one binary message.
func (ws *webSocket) Write(p []byte) (int, error) {
	h := append(ws.head[:0], 0x82) // FIN, binary
	switch n := len(p); {
	case n < 126:
		h = append(h, 0x80|byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 0x80|126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 0x80|127), uint64(n))
	}
	h = append(h, 0, 0, 0, 0)
	ws.out = net.Buffers{h, p}
	if _, err := ws.out.WriteTo(ws.Conn); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read reads payload, at least a byte of it.
func (ws *webSocket) Read(p []byte) (int, error) {
	for ws.left == 0 {
		if err := ws.header(); err != nil {
			return 0, err
		}
	}
	// Frames that are here already come with the same call.
	n := 0
	for n < len(p) && (n == 0 || ws.in.Buffered() > 0) {
		if ws.left == 0 {
			if ws.in.Buffered() < len(ws.head) {
				break
			}
			if err := ws.header(); err != nil {
				return n, err
			}
			continue
		}
		k, err := ws.in.Read(p[n:min(uint64(len(p)), uint64(n)+ws.left)])
		n, ws.left = n+k, ws.left-uint64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// header reads that of one frame (RFC 6455 section 5.2).
func (ws *webSocket) header() error {
	var b [8]byte
	if _, err := io.ReadFull(ws.in, b[:2]); err != nil {
		return err
	}
	if b[0]&0x0f == 8 {
		return errors.New("server closed the WebSocket")
	}
	control := b[0]&0x08 != 0
	ws.left = uint64(b[1] & 0x7f)
	switch ws.left {
	case 126:
		if _, err := io.ReadFull(ws.in, b[:2]); err != nil {
			return err
		}
		ws.left = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		if _, err := io.ReadFull(ws.in, b[:8]); err != nil {
			return err
		}
		ws.left = binary.BigEndian.Uint64(b[:])
	}
	if control { // pings and pongs; a load needs no answer to them
		_, err := ws.in.Discard(int(ws.left))
		ws.left = 0
		return err
	}
	return nil
}
