package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake returns what a client that trusts only trusted sees.
func handshake(t *testing.T, s *Source, name string, version uint16, trusted *x509.Certificate) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { // ends with the pipe
		srv := tls.Server(b, s.Config())
		srv.Handshake()
		io.Copy(io.Discard, srv)
	}()
	pool := x509.NewCertPool()
	pool.AddCert(trusted)
	return tls.Client(a, &tls.Config{ServerName: name, RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: version}).Handshake()
}

func TestMade(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Domain: "example.org"})
	if _, made := s.Made(); !made {
		t.Error("not made")
	}
	for _, name := range []string{"example.org", "localhost", "127.0.0.1", "::1"} {
		if err := handshake(t, s, name, tls.VersionTLS13, s.Leaf()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := handshake(t, s, "example.com", tls.VersionTLS13, s.Leaf()); err == nil {
		t.Error("good for another name")
	}
	if err := handshake(t, s, "localhost", tls.VersionTLS12, s.Leaf()); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	if err := handshake(t, s, "localhost", tls.VersionTLS11, s.Leaf()); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	fi, err := os.Stat(filepath.Join(dir, "key.pem"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", fi.Mode(), err)
	}

	again := open(t, Options{Dir: dir, Domain: "example.org"})
	if !again.Leaf().Equal(s.Leaf()) {
		t.Error("made anew at the second start")
	}
	other := open(t, Options{Dir: dir, Domain: "example.net"})
	if other.Leaf().Equal(s.Leaf()) || other.Leaf().VerifyHostname("example.net") != nil {
		t.Error("not made anew for another domain")
	}
}

func TestMadeAnewBeforeItExpires(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := ensure(cert, key, "localhost", time.Now().Add(-validity)); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Dir: dir, Domain: "localhost"})
	now, err := os.ReadFile(cert)
	if err != nil || string(now) == string(old) || time.Until(s.Leaf().NotAfter) < validity/2 {
		t.Errorf("until %v, %v", s.Leaf().NotAfter, err)
	}
}

func TestBrokenFilesAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, Domain: "localhost"}); err == nil {
		t.Error("opened")
	}
}

func TestFilesThatChange(t *testing.T) {
	from, dir := t.TempDir(), t.TempDir()
	o := Options{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k")}
	if _, err := Open(o); err == nil {
		t.Fatal("opened without files")
	}
	install := func(domain string) *Source {
		made := open(t, Options{Dir: from, Domain: domain})
		for src, dst := range map[string]string{"cert.pem": o.Cert, "key.pem": o.Key} {
			text, err := os.ReadFile(filepath.Join(from, src))
			if err == nil {
				err = os.WriteFile(dst, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return made
	}
	first := install("example.org")
	s := open(t, o)
	if _, made := s.Made(); made {
		t.Error("says that it made the files")
	}

	var text strings.Builder
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.NewTextHandler(&text, nil))
		done, hup := make(chan struct{}), make(chan os.Signal)
		go s.Watch(done, hup, time.Minute, log)

		second := install("example.net")
		hup <- nil
		synctest.Wait()
		if !s.Leaf().Equal(second.Leaf()) || s.Leaf().Equal(first.Leaf()) {
			t.Error("not read again at the signal")
		}
		third := install("chat.example.com")
		time.Sleep(time.Minute)
		synctest.Wait()
		if !s.Leaf().Equal(third.Leaf()) {
			t.Error("not read again after the interval")
		}
		if err := os.WriteFile(o.Key, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if !s.Leaf().Equal(third.Leaf()) {
			t.Error("a broken file has replaced the certificate")
		}
		close(done)
	})
	if n := strings.Count(text.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors logged, want 1:\n%s", n, &text)
	}
}
