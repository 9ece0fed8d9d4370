package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// revoked are the certificates that authorities have taken back, by the
// authority's certificate. It is never changed.
type revoked struct {
	stamp stamp
	lists map[string]*revocationList
}

// revocationList is a CRL.
type revocationList struct {
	*x509.RevocationList
	serials map[string]bool
}

// readRevoked reads a PEM file of CRLs, of which there must be one for each
// authority.
func readRevoked(file string, authorities []*x509.Certificate) (*revoked, error) {
	fi, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	r := &revoked{stamp{fi.ModTime(), fi.Size()}, map[string]*revocationList{}}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		if err := r.add(block.Bytes, authorities); err != nil {
			return nil, fmt.Errorf("certs: %s: %w", file, err)
		}
	}
	for _, a := range authorities {
		if r.lists[string(a.Raw)] == nil {
			return nil, fmt.Errorf("certs: %s holds no list of revoked certificates that %s has signed", file, a.Subject)
		}
	}
	return r, nil
}

func (r *revoked) add(der []byte, authorities []*x509.Certificate) error {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	// "If a CRL contains a critical extension that the application cannot
	// process, then the application MUST NOT use that CRL" RFC 5280 5.2, and
	// 5.3 likewise of an entry. They would make it one of some certificates, or
	// of others' certificates.
	exts := l.Extensions
	list := &revocationList{l, map[string]bool{}}
	for i := range l.RevokedCertificateEntries {
		e := &l.RevokedCertificateEntries[i]
		exts = append(exts, e.Extensions...)
		list.serials[string(e.SerialNumber.Bytes())] = true
	}
	for _, e := range exts {
		if e.Critical {
			return fmt.Errorf("the list of %s has an extension that is not understood: %s", l.Issuer, e.Id)
		}
	}
	signed := false
	for _, a := range authorities { // one that was renewed is there twice
		if l.CheckSignatureFrom(a) != nil {
			continue
		}
		signed = true
		if have := r.lists[string(a.Raw)]; have == nil || have.ThisUpdate.Before(l.ThisUpdate) {
			r.lists[string(a.Raw)] = list
		}
	}
	if !signed {
		return fmt.Errorf("the list of %s is signed by no authority of the clients", l.Issuer)
	}
	return nil
}

// check refuses a client none of whose chains is good. It is asked for resumed
// sessions, too.
func (r *revoked) check(cs tls.ConnectionState) error {
	err := error(nil)
	for _, chain := range cs.VerifiedChains {
		if err = r.checkChain(chain, time.Now()); err == nil {
			return nil
		}
	}
	return err // nil without a certificate
}

func (r *revoked) checkChain(chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain[:len(chain)-1] {
		l := r.lists[string(chain[i+1].Raw)]
		switch {
		case l == nil:
			return fmt.Errorf("certs: no list says which certificates %s has revoked", chain[i+1].Subject)
		case l.outOfDate(now):
			return fmt.Errorf("certs: the list of certificates that %s has revoked is out of date", l.Issuer)
		case l.serials[string(c.SerialNumber.Bytes())]:
			return fmt.Errorf("certs: the certificate of %s is revoked", c.Subject)
		}
	}
	return nil
}

// outOfDate reports whether there should be a newer list: "The next CRL could
// be issued before the indicated date, but it will not be issued any later"
// RFC 5280 5.1.2.5.
func (l *revocationList) outOfDate(now time.Time) bool {
	return !l.NextUpdate.IsZero() && now.After(l.NextUpdate)
}

// outOfDate is an error if a list is.
func (s *Source) outOfDate(now time.Time) error {
	r := s.revoked.Load()
	if r == nil {
		return nil
	}
	var errs []error
	for _, l := range r.lists {
		if l.outOfDate(now) {
			errs = append(errs, fmt.Errorf("certs: the list of those that %s has revoked is out of date since %s", l.Issuer, l.NextUpdate.Format(time.RFC3339)))
		}
	}
	return errors.Join(errs...)
}

// reloadRevoked reads the lists again if the file has changed. If that fails
// those in use stay.
func (s *Source) reloadRevoked() (changed bool, err error) {
	was := s.revoked.Load()
	if was == nil {
		return false, nil
	}
	fi, err := os.Stat(s.crl)
	if err != nil {
		return false, fmt.Errorf("certs: %w", err)
	}
	if was.stamp == (stamp{fi.ModTime(), fi.Size()}) {
		return false, nil
	}
	now, err := readRevoked(s.crl, s.authorities)
	if err != nil {
		return false, err
	}
	s.revoked.Store(now)
	return true, nil
}
