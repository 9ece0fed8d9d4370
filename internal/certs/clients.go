package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Clients says whether a server asks its clients for certificates.
type Clients string

// What Clients can be.
const (
	Off      Clients = "off"      // they are not asked
	Optional Clients = "optional" // one that is given must be good
	Required Clients = "required" // without a good one there is no connection
)

// ErrClients: what is said of client certificates makes no sense.
var ErrClients = errors.New("certs: client certificates are off, optional or required; unless off they need a file of authorities")

// ParseClients reads a word; empty is Off.
func ParseClients(s string) (Clients, error) {
	switch c := Clients(s); c {
	case "":
		return Off, nil
	case Off, Optional, Required:
		return c, nil
	}
	return "", fmt.Errorf("%w, not %q", ErrClients, s)
}

// ForClients is Config where clients are asked for a certificate, as Options say.
func (s *Source) ForClients() *tls.Config {
	cfg := s.Config()
	if s.authorities == nil {
		return cfg
	}
	cfg.ClientCAs = s.authorities
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if s.clients == Required {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg
}

func readAuthorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, ErrClients
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("certs: %s holds no certificate", file)
	}
	return pool, nil
}
