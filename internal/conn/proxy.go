package conn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The PROXY protocol, versions 1 and 2: what a load balancer says first about
// the connection that it passes on.
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n" // section 2.2
	proxyV1Max     = 107                      // section 2.1: the longest line, with CRLF
	proxyV2Max     = 16 + 4096                // ours: addresses and what extensions there are
)

var errProxy = errors.New("conn: PROXY header is bad")

// proxyHeader reads a header at the beginning of p. N is its length, 0 if more
// is needed. Addresses are zero where the balancer speaks for itself (a health
// check) or for something that is not TCP over IP.
func proxyHeader(p []byte) (h declared, n int, err error) {
	switch {
	case bytes.HasPrefix(p, []byte(proxySignature)):
		return proxyV2(p)
	case bytes.HasPrefix([]byte(proxySignature), p):
		return h, 0, nil
	case bytes.HasPrefix(p, []byte("PROXY ")) || bytes.HasPrefix([]byte("PROXY "), p):
		h.remote, h.local, n, err = proxyV1(p)
		return h, n, err
	}
	return h, 0, errProxy
}

// declared is what a load balancer says of a connection.
type declared struct {
	remote, local netip.AddrPort
	sealed        bool   // the client came to it by TLS
	name          string // common name of the client's certificate, which it has checked
}

// proxyV1 reads "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".
func proxyV1(p []byte) (remote, local netip.AddrPort, n int, err error) {
	end := bytes.Index(p, []byte("\r\n"))
	if end < 0 {
		if len(p) >= proxyV1Max {
			err = errProxy
		}
		return remote, local, 0, err
	}
	if end+2 > proxyV1Max {
		return remote, local, 0, errProxy
	}
	f := strings.Split(string(p[:end]), " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" { // "the receiver must ignore anything presented before the CRLF"
		return remote, local, end + 2, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return remote, local, 0, errProxy
	}
	read := func(addr, port string) (netip.AddrPort, bool) {
		a, err := netip.ParseAddr(addr)
		n, err2 := strconv.ParseUint(port, 10, 16)
		ok := err == nil && err2 == nil && a.Zone() == "" && a.Is4() == (f[1] == "TCP4") && strconv.FormatUint(n, 10) == port
		return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
	}
	var ok, ok2 bool
	remote, ok = read(f[2], f[4])
	local, ok2 = read(f[3], f[5])
	if !ok || !ok2 {
		return netip.AddrPort{}, netip.AddrPort{}, 0, errProxy
	}
	return remote, local, end + 2, nil
}

// proxyV2 reads the binary form.
//
//	12 signature | 1 version<<4 + command | 1 family<<4 + transport | 2 length | addresses | extensions
func proxyV2(p []byte) (h declared, n int, err error) {
	if len(p) < 16 {
		return h, 0, nil
	}
	length := int(binary.BigEndian.Uint16(p[14:]))
	n = 16 + length
	if p[12]>>4 != 2 || p[12]&15 > 1 || n > proxyV2Max {
		return h, 0, errProxy
	}
	if len(p) < n {
		return h, 0, nil
	}
	if p[12]&15 == 0 { // LOCAL: "the receiver must accept this connection as valid and must use the real connection endpoints"
		return h, n, nil
	}
	body := p[16:n]
	size := 0
	switch p[13] {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	default: // UNSPEC, datagrams, Unix: nothing that we could use
		return h, n, nil
	}
	if length < 2*size+4 {
		return h, 0, errProxy
	}
	from, _ := netip.AddrFromSlice(body[:size])
	to, _ := netip.AddrFromSlice(body[size : 2*size])
	h.remote = netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(body[2*size:]))
	h.local = netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(body[2*size+2:]))
	if !h.extensions(body[2*size+4:]) {
		return declared{}, 0, errProxy
	}
	return h, n, nil
}

// Extensions, section 2.2.6 and 2.2.7: type, two bytes of length, value.
const (
	pp2SSL        = 0x20 // PP2_TYPE_SSL: client flags, four bytes of verify, then more extensions
	pp2SSLCN      = 0x22 // PP2_SUBTYPE_SSL_CN
	pp2ClientSSL  = 0x01
	pp2ClientConn = 0x02 // the client gave a certificate on this connection
	pp2ClientSess = 0x04 // or earlier in this TLS session
)

// extensions reads what follows the addresses; false means that it is cut off.
func (h *declared) extensions(p []byte) bool {
	return eachExtension(p, func(kind byte, v []byte) bool {
		if kind != pp2SSL {
			return true
		}
		if len(v) < 5 {
			return false
		}
		client, verify := v[0], binary.BigEndian.Uint32(v[1:])
		h.sealed = client&pp2ClientSSL != 0
		// "pp2_verify will be zero if the client presented a certificate and it
		// was successfully verified"
		proved := h.sealed && client&(pp2ClientConn|pp2ClientSess) != 0 && verify == 0
		return eachExtension(v[5:], func(kind byte, v []byte) bool {
			if kind == pp2SSLCN && proved && utf8.Valid(v) {
				h.name = string(v)
			}
			return true
		})
	})
}

func eachExtension(p []byte, take func(kind byte, v []byte) bool) bool {
	for len(p) > 0 {
		if len(p) < 3 {
			return false
		}
		n := 3 + int(binary.BigEndian.Uint16(p[1:]))
		if len(p) < n || !take(p[0], p[3:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}
