package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

func certificate(t *testing.T, key crypto.Signer) tls.Certificate {
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// handshake returns what both ends know of a TLS connection.
func handshake(t *testing.T, cert tls.Certificate, version uint16) (server, client tls.ConnectionState) {
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	srv := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, SessionTicketsDisabled: true})
	cli := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- srv.Handshake() }() // ends with the handshake
	must(t, cli.Handshake())
	must(t, <-done)
	return srv.ConnectionState(), cli.ConnectionState()
}

func TestBindings(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	c256, c384, c25519 := certificate(t, p256), certificate(t, p384), certificate(t, private)
	h256 := sha256.Sum256(c256.Certificate[0])
	h384 := sha512.Sum384(c384.Certificate[0])
	for _, tc := range []struct {
		what     string
		cert     tls.Certificate
		version  uint16
		exporter bool
		endpoint []byte
	}{
		{"TLS 1.3", c256, tls.VersionTLS13, true, h256[:]},
		{"SHA-384", c384, tls.VersionTLS13, true, h384[:]},
		{"Ed25519", c25519, tls.VersionTLS13, true, nil},
		{"TLS 1.2", c256, tls.VersionTLS12, false, h256[:]},
	} {
		server, client := handshake(t, tc.cert, tc.version)
		bs := Bindings(&server, tc.cert.Leaf)
		if tc.exporter {
			want, err := client.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
			must(t, err)
			if len(bs) == 0 || bs[0].Type != "tls-exporter" || !bytes.Equal(bs[0].Data, want) {
				t.Errorf("%s: %+v", tc.what, bs)
				continue
			}
			bs = bs[1:]
		}
		if tc.endpoint != nil {
			if len(bs) != 1 || bs[0].Type != "tls-server-end-point" || !bytes.Equal(bs[0].Data, tc.endpoint) {
				t.Errorf("%s: %+v", tc.what, bs)
			}
			bs = bs[1:]
		}
		if len(bs) != 0 {
			t.Errorf("%s: %+v", tc.what, bs)
		}
	}
	if Bindings(nil, c256.Leaf) != nil {
		t.Error("bound to a connection without TLS")
	}
}
