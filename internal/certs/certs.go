// Package certs provides the server's certificate: from files that may change
// while the server runs, or one that it makes itself.
//
// A certificate of its own is signed by nobody, so a client must be told to
// trust it. It is kept in the data directory and used again at the next start,
// so that a client that has pinned it goes on.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Options says where the certificate comes from.
type Options struct {
	// Cert and Key are PEM files. If they are empty a certificate is made.
	Cert, Key string
	// Dir is where a certificate that was made is kept.
	Dir string
	// Domain is whom a certificate that is made is for, besides localhost.
	Domain string
	// Clients says whether clients are asked for certificates, signed by one of
	// the authorities in the PEM file ClientCA.
	Clients  Clients
	ClientCA string
	// ClientCRL is a PEM file with the lists of what these authorities have
	// revoked; empty means that they are not asked for. Refused is told whom
	// they keep out.
	ClientCRL string
	Refused   func(why error)
}

// A certificate that was made is good for this long, and is made anew when
// less than a tenth of it is left.
const validity = 5 * 365 * 24 * time.Hour

// Source provides a certificate. Its methods may be called from any goroutine.
type Source struct {
	cert, key string
	made      bool
	current   atomic.Pointer[loaded]

	clients     Clients
	authorities []*x509.Certificate // nil while clients are not asked
	crl         string
	refused     func(error)
	revoked     atomic.Pointer[revoked] // nil if that is not asked for
}

type loaded struct {
	cert  *tls.Certificate
	stamp [2]stamp
}

// stamp tells one version of a file from the next.
type stamp struct {
	at   time.Time
	size int64
}

// Open reads the certificate, or makes it.
func Open(o Options) (*Source, error) {
	s := &Source{cert: o.Cert, key: o.Key, clients: o.Clients}
	if s.clients != "" && s.clients != Off {
		var err error
		if s.authorities, err = readAuthorities(o.ClientCA); err != nil {
			return nil, err
		}
		if s.crl, s.refused = o.ClientCRL, o.Refused; s.crl != "" {
			r, err := readRevoked(s.crl, s.authorities)
			if err != nil {
				return nil, err
			}
			s.revoked.Store(r)
		}
	}
	if o.Cert == "" {
		s.cert, s.key, s.made = filepath.Join(o.Dir, "cert.pem"), filepath.Join(o.Dir, "key.pem"), true
		if err := ensure(s.cert, s.key, o.Domain, time.Now()); err != nil {
			return nil, err
		}
	}
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Made reports whether the server made the certificate itself, and the file
// that it is in.
func (s *Source) Made() (file string, made bool) { return s.cert, s.made }

// Config is for servers that present this certificate: TLS 1.2 or newer.
func (s *Source) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.current.Load().cert, nil
		},
	}
}

// Leaf is the certificate in use.
func (s *Source) Leaf() *x509.Certificate { return s.current.Load().cert.Leaf }

// Reload reads the files again if they have changed. If that fails the
// certificate in use stays.
func (s *Source) Reload() (changed bool, err error) {
	var now [2]stamp
	for i, file := range []string{s.cert, s.key} {
		fi, err := os.Stat(file)
		if err != nil {
			return false, fmt.Errorf("certs: %w", err)
		}
		now[i] = stamp{fi.ModTime(), fi.Size()}
	}
	was := s.current.Load()
	if was != nil && was.stamp == now {
		return false, nil
	}
	cert, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return false, fmt.Errorf("certs: %s and %s: %w", s.cert, s.key, err)
	}
	s.current.Store(&loaded{&cert, now})
	return was != nil, nil
}

// Watch reloads whenever now says so and at every interval, until done.
func (s *Source) Watch(done <-chan struct{}, now <-chan os.Signal, every time.Duration, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	cert := trouble{log: log, text: "certificate not read again; the old one stays"}
	lists := trouble{log: log, text: "lists of revoked certificates not read again; the old ones stay"}
	age := trouble{log: log, text: "client certificates are refused"}
	age.say(s.outOfDate(time.Now()), false)
	for {
		asked := false
		select {
		case <-done:
			return
		case <-now:
			asked = true
		case <-tick.C:
		}
		changed, err := s.Reload()
		cert.say(err, asked)
		if changed {
			log.Info("certificate read again", "file", s.cert, "until", s.Leaf().NotAfter)
		}
		changed, err = s.reloadRevoked()
		lists.say(err, asked)
		if changed {
			log.Info("lists of revoked certificates read again", "file", s.crl)
		}
		age.say(s.outOfDate(time.Now()), asked)
	}
}

// trouble is told in the log when it begins, not at every interval.
type trouble struct {
	log  *slog.Logger
	text string
	told bool
}

func (t *trouble) say(err error, asked bool) {
	if err != nil && (asked || !t.told) {
		t.log.Error(t.text, "err", err)
	}
	t.told = err != nil
}

// ensure makes the files if they are not there, or if they are for another
// domain or about to expire.
func ensure(certFile, keyFile, domain string, now time.Time) error {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && pair.Leaf.VerifyHostname(domain) == nil && now.Before(pair.Leaf.NotAfter.Add(-validity/10)):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("certs: %s: %w (remove it to have it made again)", certFile, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certs: make a key: %w", err)
	}
	// "The serial number MUST be a positive integer", at most 20 octets.
	// RFC 5280 4.1.2.2
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("certs: make a serial number: %w", err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: domain, Organization: []string{"Posthouse, self-signed"}},
		NotBefore:    now.Add(-time.Hour), // a client's clock may be behind
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		// It is its own authority, so that a client can be given it to trust.
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(domain); ip != nil {
		cert.IPAddresses = append(cert.IPAddresses, ip)
	} else if domain != "localhost" {
		cert.DNSNames = append(cert.DNSNames, domain)
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return fmt.Errorf("certs: sign: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	if err := writePEM(keyFile, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", der, 0o644)
}

func writePEM(file, kind string, der []byte, mode fs.FileMode) error {
	tmp := file + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	return nil
}
