package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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
	cfg.ClientCAs = x509.NewCertPool()
	for _, a := range s.authorities {
		cfg.ClientCAs.AddCert(a)
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if s.clients == Required {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if s.revoked.Load() != nil {
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			err := s.revoked.Load().check(cs)
			if err != nil && s.refused != nil {
				s.refused(err)
			}
			return err
		}
	}
	return cfg
}

func readAuthorities(file string) ([]*x509.Certificate, error) {
	if file == "" {
		return nil, ErrClients
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certs: %s: %w", file, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("certs: %s holds no certificate", file)
	}
	return all, nil
}
