package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	v2local = proxySignature + "\x20\x00\x00\x00"
	v2tcp4  = proxySignature + "\x21\x11\x00\x0c" + "\xc0\x00\x02\x01" + "\xc6\x33\x64\x01" + "\xdc\x04\x01\xbb"
	v2tcp6  = proxySignature + "\x21\x21\x00\x27" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\xdc\x04\x01\xbb" + "\x04\x00\x00"
)

func TestProxyHeader(t *testing.T) {
	for _, tt := range []struct{ name, in, remote, local string }{
		{"v1 TCP4", "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "192.0.2.1:56324", "198.51.100.1:443"},
		{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "[2001:db8::1]:56324", "[2001:db8::2]:443"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "", ""},
		{"v1 unknown with addresses", "PROXY UNKNOWN ffff:: ffff:: 1 2\r\n", "", ""},
		{"v2 TCP4", v2tcp4, "192.0.2.1:56324", "198.51.100.1:443"},
		{"v2 TCP6 with an extension", v2tcp6, "[2001:db8::1]:56324", "[2001:db8::2]:443"},
		{"v2 LOCAL", v2local, "", ""},
		{"v2 Unix", proxySignature + "\x21\x31\x00\x02..", "", ""},
	} {
		h, n, err := proxyHeader([]byte(tt.in + "rest"))
		remote, local := h.remote, h.local
		str := func(a netip.AddrPort) string {
			if !a.IsValid() {
				return ""
			}
			return a.String()
		}
		if err != nil || n != len(tt.in) || str(remote) != tt.remote || str(local) != tt.local {
			t.Errorf("%s: %v %v %d %v", tt.name, remote, local, n, err)
		}
		for i := range len(tt.in) {
			if _, n, err := proxyHeader([]byte(tt.in[:i])); n != 0 || err != nil {
				t.Errorf("%s, %d bytes of it: %d %v", tt.name, i, n, err)
			}
		}
	}
	for _, in := range []string{
		"GET / HTTP/1.1\r\n", "\x16\x03\x01", "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
		"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.1 66000 443\r\n", "PROXY TCP5 a b 1 2\r\n", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
		"PROXY " + strings.Repeat("x", 120), proxySignature + "\x11\x11\x00\x0c" + "............",
		proxySignature + "\x22\x11\x00\x0c" + "............", proxySignature + "\x21\x11\x00\x04" + "....",
		proxySignature + "\x21\x11\xff\xff",
	} {
		if _, _, err := proxyHeader([]byte(in)); err == nil {
			t.Errorf("%.40q is taken", in)
		}
	}
}

// withTLS is v2tcp4 and what a balancer says of the client's TLS.
func withTLS(flags, verify byte, name string) string {
	sub := "\x21\x00\x07TLSv1.3" + "\x22\x00" + string(rune(len(name))) + name
	v := string([]byte{flags, 0, 0, 0, verify}) + sub
	ext := "\x01\x00\x04mqtt" + "\x20\x00" + string(rune(len(v))) + v
	return v2tcp4[:14] + "\x00" + string(rune(12+len(ext))) + v2tcp4[16:] + ext
}

func TestProxyTLS(t *testing.T) {
	for _, tt := range []struct {
		flags, verify byte
		sealed        bool
		name          string
	}{
		{7, 0, true, "alice"}, {3, 0, true, "alice"}, {5, 0, true, "alice"},
		{1, 0, true, ""},  // no certificate
		{7, 1, true, ""},  // not verified
		{0, 0, false, ""}, // no TLS
		{6, 0, false, ""},
	} {
		in := withTLS(tt.flags, tt.verify, "alice")
		h, n, err := proxyHeader([]byte(in))
		if err != nil || n != len(in) || h.sealed != tt.sealed || h.name != tt.name || !h.remote.IsValid() {
			t.Errorf("%+v: %+v %d %v", tt, h, n, err)
		}
	}
	good := withTLS(7, 0, "alice")
	for _, in := range []string{
		good[:14] + "\x00" + string(rune(good[15]-1)) + good[16:],
		v2tcp4[:14] + "\x00\x0e" + v2tcp4[16:] + "\x20\x00",
		v2tcp4[:14] + "\x00\x10" + v2tcp4[16:] + "\x20\x00\x01\x07",
	} {
		if h, _, err := proxyHeader([]byte(in)); err == nil {
			t.Errorf("%q is taken: %+v", in, h)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{v2local, withTLS(7, 0, "alice"), v2tcp4, v2tcp6, "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "PROXY UNKNOWN\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		_, n, err := proxyHeader(in)
		if n < 0 || n > len(in) || err != nil && n != 0 {
			t.Errorf("%d of %d bytes, %v", n, len(in), err)
		}
	})
}

func TestProxy(t *testing.T) {
	lb := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	each(t, func(t *testing.T, w way) {
		r := w.start(t, Options{Proxy: lb, MaxPerAddr: 1}, func() *probe {
			return &probe{data: func(p *probe, b []byte) (int, error) {
				p.c.Write([]byte(p.c.Remote().String() + " " + p.c.Local().String()))
				if p.c.Secure() != (w.layer == "tls") {
					t.Error("loopback says nothing about the way to a load balancer")
				}
				return len(b), nil
			}}
		})
		dial := func(header string) net.Conn {
			c := must(net.Dial("tcp", r.addr))
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, header[:5])
			io.WriteString(c, header[5:])
			if w.layer == "tls" {
				return tls.Client(c, clientTLS())
			}
			return c
		}
		for _, header := range []string{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", strings.Replace(v2tcp4, "\xc0\x00\x02\x01", "\xc0\x00\x02\x02", 1)} {
			c := dial(header)
			io.WriteString(c, "who")
			want := "192.0.2.1:56324 198.51.100.1:443"
			if header[0] == '\r' {
				want = "192.0.2.2:56324 198.51.100.1:443"
			}
			expect(t, c, want)
		}
		// The declared source is the one that counts.
		io.WriteString(dial(v2tcp4), "who")
		again := dial(v2tcp4)
		if _, err := io.WriteString(again, "who"); err == nil {
			if n, err := again.Read(make([]byte, 1)); err == nil {
				t.Errorf("a second connection from there: %d", n)
			}
		}
	}, "tcp", "tls")
}

func TestProxyHeaderIsDue(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		probes := make(chan *probe, 1)
		r := w.start(t, Options{Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, func() *probe {
			p := &probe{ended: make(chan error, 1)}
			probes <- p
			return p
		})
		c := must(net.Dial("tcp", r.addr))
		defer c.Close()
		io.WriteString(c, "HELLO\n")
		io.ReadAll(c)
		if err := <-(<-probes).ended; !errors.Is(err, ErrHandshake) {
			t.Errorf("ended with %v", err)
		}
	}, "tcp")
}
