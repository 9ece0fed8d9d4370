package link_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// "There are no guarantees of non-replay between connections" (RFC 8446 section
// 2.3): whoever has seen a HELLO in 0-RTT could say it again, and end a session
// or move a cursor. So a client that was here before, and sends one, is refused
// before it is read; without it its session is resumed.
func TestEarlyDataIsRefused(t *testing.T) {
	h := newHouse(t, link.Config{}, mem.Options{})
	t.Cleanup(h.close)
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS() // for its certificate
	certs.Close()
	server := certs.TLS.Clone()
	server.NextProtos = []string{frame.Protocol}
	addr := h.listen(t, server)

	hello := frame.Append(nil, &frame.Hello{Major: 1, User: "alice", Password: "secret", Device: "phone", Prefix: "k"})
	cache := tls.NewLRUClientSessionCache(1)
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{frame.Protocol}, ClientSessionCache: cache,
		MinVersion: tls.VersionTLS13}
	for i := range 2 {
		c, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(hello)
		if _, err := c.Read(make([]byte, 256)); err != nil || c.ConnectionState().DidResume != (i == 1) {
			t.Fatalf("connection %d resumed: %v, %v", i, c.ConnectionState().DidResume, err)
		}
		c.Close()
	}
	session, ok := cache.Get("localhost")
	if !ok {
		t.Fatal("no ticket")
	}
	ticket, state, err := session.ResumptionState()
	if err != nil || state.EarlyData {
		t.Fatalf("the ticket promises early data: %v, %v", state.EarlyData, err)
	}
	state.EarlyData = true // as if it had
	if session, err = tls.NewResumptionState(ticket, state); err != nil {
		t.Fatal(err)
	}
	cache.Put("localhost", session)

	before := h.server.Stats()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	first, early := clientHello(t, cfg)
	nc.Write(record(22, first))
	nc.Write(early(hello))
	heard, _ := io.ReadAll(nc)
	// "unsupported_extension: Sent by endpoints receiving … an extension
	// known to be prohibited" RFC 8446 section 6.2
	if alert := []byte{21, 3, 3, 0, 2, 2, 110}; !bytes.Equal(heard, alert) {
		t.Errorf("heard %x, want %x", heard, alert)
	}
	if after := h.server.Stats(); after.Opened != before.Opened || after.Welcomed != before.Welcomed {
		t.Errorf("it was let in: %+v, before %+v", after, before)
	}
}

// clientHello is a ClientHello that announces early data, and what encrypts
// it. The standard library makes such a one for QUIC.
func clientHello(t *testing.T, cfg *tls.Config) (hello []byte, early func([]byte) []byte) {
	t.Helper()
	q := tls.QUICClient(&tls.QUICConfig{TLSConfig: cfg})
	t.Cleanup(func() { q.Close() })
	q.SetTransportParameters(nil)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		switch e := q.NextEvent(); e.Kind {
		case tls.QUICNoEvent:
			if hello == nil || early == nil {
				t.Fatal("no early data in the ClientHello")
			}
			return hello, early
		case tls.QUICWriteData:
			hello = append(hello, e.Data...)
		case tls.QUICSetWriteSecret:
			if e.Level == tls.QUICEncryptionLevelEarly {
				early = encrypts(t, e.Data)
			}
		}
	}
}

// encrypts makes a record of application data with a traffic secret of
// TLS_AES_128_GCM_SHA256 (RFC 8446 sections 5.2 and 7.3).
func encrypts(t *testing.T, secret []byte) func([]byte) []byte {
	t.Helper()
	expand := func(label string, n int) []byte {
		label = "tls13 " + label
		info := append([]byte{0, byte(n), byte(len(label))}, label...)
		out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	block, err := aes.NewCipher(expand("key", 16))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := expand("iv", 12)
	return func(p []byte) []byte {
		inner := append(bytes.Clone(p), 23) // the content's type
		head := record(23, make([]byte, len(inner)+gcm.Overhead()))[:5]
		return append(head, gcm.Seal(nil, nonce, inner, head)...)
	}
}

// record is a TLS record (RFC 8446 section 5.1).
func record(kind byte, p []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind, 3, 3}, uint16(len(p))), p...)
}
