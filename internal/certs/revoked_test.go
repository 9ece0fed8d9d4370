package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// signer is an authority.
type signer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	by   *signer // nil if it signed itself
}

var serial int64

// sign makes a certificate, and what can sign with it.
func (s *signer) sign(t *testing.T, name string, authority bool) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if authority {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	made := &signer{t: t, key: key, by: s}
	parent, signing := c, key
	if s != nil {
		parent, signing = s.cert, s.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signing)
	if err == nil {
		made.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func newSigner(t *testing.T, name string) *signer { return (*signer)(nil).sign(t, name, true) }

func (s *signer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
}

// list is a CRL that is good for life, with the certificates of some.
func (s *signer) list(life time.Duration, exts []pkix.Extension, revoked ...*signer) []byte {
	s.t.Helper()
	serial++
	l := &x509.RevocationList{Number: big.NewInt(serial), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(life), ExtraExtensions: exts}
	for _, r := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, s.cert, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// login is a handshake of a client that shows a certificate, with those that
// have signed it but for the last. It returns the server's error.
func login(t *testing.T, server *tls.Config, who *signer, cache tls.ClientSessionCache) (resumed bool, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // both may write at once, which in a pipe nobody would read
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cfg := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, ClientSessionCache: cache}
	if who != nil {
		pair := tls.Certificate{PrivateKey: who.key}
		for c := who; c.by != nil; c = c.by {
			pair.Certificate = append(pair.Certificate, c.cert.Raw)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	over := make(chan error, 1)
	go func() { // ends with the connection
		srv := tls.Server(b, server)
		err := srv.Handshake()
		resumed = srv.ConnectionState().DidResume
		if err == nil {
			srv.Write([]byte{1}) // so that the client reads its ticket
		}
		over <- err
	}()
	c := tls.Client(a, cfg)
	if c.Handshake() == nil {
		io.ReadFull(c, make([]byte, 1))
	}
	a.Close()
	err = <-over
	return resumed, err
}

// files are what a server reads.
type files struct {
	ca, crl string
	refused func(error) // may be nil
}

func newFiles(t *testing.T, authorities ...*signer) files {
	f := files{ca: filepath.Join(t.TempDir(), "ca.pem"), crl: filepath.Join(t.TempDir(), "crl.pem")}
	var all [][]byte
	for _, a := range authorities {
		all = append(all, a.pem())
	}
	write(t, f.ca, all...)
	return f
}

func write(t *testing.T, file string, parts ...[]byte) {
	t.Helper()
	if err := os.WriteFile(file, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f files) open(t *testing.T) (*Source, error) {
	return Open(Options{Dir: t.TempDir(), Domain: "localhost", Clients: Optional, ClientCA: f.ca, ClientCRL: f.crl, Refused: f.refused})
}

func want(t *testing.T, what string, err error, text string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", what, err, text)
	}
}

// A certificate that its authority, or one of those above, has revoked is
// refused. Others are not, nor is nobody.
func TestRevoked(t *testing.T) {
	root, other := newSigner(t, "root"), newSigner(t, "other")
	good, bad := root.sign(t, "good", false), root.sign(t, "bad", false)
	below := root.sign(t, "below", true)
	leaf := below.sign(t, "leaf", false)
	serial = bad.cert.SerialNumber.Int64() - 1
	same := other.sign(t, "the same number of another authority", false)
	f := newFiles(t, root, other)
	write(t, f.crl, root.list(time.Hour, nil, bad), other.list(time.Hour, nil))
	told := 0
	f.refused = func(error) { told++ }
	s, err := f.open(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		who  *signer
		want string
	}{
		{good, ""},
		{nil, ""},
		{same, ""},
		{bad, "the certificate of CN=bad is revoked"},
		{leaf, "no list says which certificates CN=below has revoked"},
	} {
		_, err := login(t, s.ForClients(), tt.who, nil)
		want(t, tt.want, err, tt.want)
	}
	if told != 2 {
		t.Errorf("told of %d that were refused", told)
	}
	// With the authority between in both files.
	f = newFiles(t, root, other, below)
	write(t, f.crl, root.list(time.Hour, nil), other.list(time.Hour, nil), below.list(time.Hour, nil))
	if s, err = f.open(t); err != nil {
		t.Fatal(err)
	}
	_, err = login(t, s.ForClients(), leaf, nil)
	want(t, "leaf", err, "")
	write(t, f.crl, root.list(time.Hour, nil), other.list(time.Hour, nil), below.list(time.Hour, nil, leaf))
	if _, err := s.reloadRevoked(); err != nil {
		t.Fatal(err)
	}
	_, err = login(t, s.ForClients(), leaf, nil)
	want(t, "leaf", err, "the certificate of CN=leaf is revoked")
}

// Who was let in before is not let in by resuming that session.
func TestRevokedCannotResume(t *testing.T) {
	root := newSigner(t, "root")
	alice := root.sign(t, "alice", false)
	f := newFiles(t, root)
	write(t, f.crl, root.list(time.Hour, nil))
	s, err := f.open(t)
	if err != nil {
		t.Fatal(err)
	}
	cfg, cache := s.ForClients(), tls.NewLRUClientSessionCache(1)
	for _, again := range []bool{false, true} {
		if resumed, err := login(t, cfg, alice, cache); resumed != again || err != nil {
			t.Fatal(resumed, err)
		}
	}
	write(t, f.crl, root.list(time.Hour, nil, alice))
	if _, err := s.reloadRevoked(); err != nil {
		t.Fatal(err)
	}
	resumed, err := login(t, cfg, alice, cache)
	if want(t, "resumed", err, "is revoked"); !resumed {
		t.Error("it was no attempt to resume")
	}
}

// What cannot be trusted is not: a file with it is refused when the server
// starts, and later the one before stays.
func TestBadLists(t *testing.T) {
	root, stranger := newSigner(t, "root"), newSigner(t, "stranger")
	f := newFiles(t, root)
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	for text, lists := range map[string][][]byte{
		"holds no list of revoked certificates that CN=root has signed": {root.pem()},
		"is signed by no authority of the clients":                      {root.list(time.Hour, nil), stranger.list(time.Hour, nil)},
		"has an extension that is not understood: 2.5.29.28":            {root.list(time.Hour, critical)},
		"x509: ": {pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("nonsense")})},
	} {
		write(t, f.crl, lists...)
		_, err := f.open(t)
		want(t, text, err, text)
	}
	os.Remove(f.crl)
	if _, err := f.open(t); err == nil {
		t.Error("opened without the file")
	}
}

// Of two lists of one authority the newer counts, in whatever order.
func TestNewerList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newSigner(t, "root")
		bad := root.sign(t, "bad", false)
		f := newFiles(t, root)
		older := root.list(time.Hour, nil)
		time.Sleep(time.Minute)
		newer := root.list(time.Hour, nil, bad)
		for _, lists := range [][][]byte{{older, newer}, {newer, older}} {
			write(t, f.crl, lists...)
			s, err := f.open(t)
			if err != nil {
				t.Fatal(err)
			}
			_, err = login(t, s.ForClients(), bad, nil)
			want(t, "bad", err, "is revoked")
		}
	})
}

// Lists are read again when they change. While a newer one is due nobody of that
// authority is let in, and the log says so once.
func TestListsThatChange(t *testing.T) {
	var text strings.Builder
	synctest.Test(t, func(t *testing.T) {
		root, other := newSigner(t, "root"), newSigner(t, "other")
		alice, bob := root.sign(t, "alice", false), other.sign(t, "bob", false)
		f := newFiles(t, root, other)
		write(t, f.crl, root.list(time.Hour, nil), other.list(100*time.Hour, nil))
		s, err := f.open(t)
		if err != nil {
			t.Fatal(err)
		}
		done, hup := make(chan struct{}), make(chan os.Signal)
		go s.Watch(done, hup, time.Minute, slog.New(slog.NewTextHandler(&text, nil)))
		shows := func(who *signer, text string) {
			t.Helper()
			synctest.Wait()
			_, err := login(t, s.ForClients(), who, nil)
			want(t, who.cert.Subject.CommonName, err, text)
		}
		shows(alice, "")
		time.Sleep(time.Hour + 2*time.Minute)
		shows(alice, "is out of date")
		shows(bob, "")
		write(t, f.crl, root.list(time.Hour, nil), other.list(100*time.Hour, nil), nil)
		time.Sleep(time.Minute)
		shows(alice, "")
		write(t, f.crl, []byte("broken"))
		time.Sleep(3 * time.Minute)
		shows(alice, "")
		write(t, f.crl, root.list(time.Hour, nil, alice), other.list(100*time.Hour, nil))
		hup <- nil
		shows(alice, "is revoked")
		shows(bob, "")
		close(done)
	})
	for line, n := range map[string]int{"client certificates are refused": 1, "the old ones stay": 1, "lists of revoked certificates read again": 2} {
		if got := strings.Count(text.String(), line); got != n {
			t.Errorf("%q is %d times in the log, want %d:\n%s", line, got, n, &text)
		}
	}
}
