package auth

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/address"
)

// Certificate is what a client's certificate says of its owner. Whoever makes
// one has checked that it is signed by an authority that the operator trusts,
// and that the client has its key.
type Certificate struct {
	CommonName        string
	Emails, DNS, URIs []string  // subject alternative names, RFC 5280 4.2.1.6
	NotAfter          time.Time // zero if it is not known
}

// CertificateOf returns what the client of a TLS connection has proved to have,
// nil if there is nothing.
func CertificateOf(s *tls.ConnectionState) *Certificate {
	if s == nil || len(s.VerifiedChains) == 0 {
		return nil // a certificate that nobody has checked is none
	}
	leaf := s.PeerCertificates[0]
	c := &Certificate{
		CommonName: leaf.Subject.CommonName, Emails: leaf.EmailAddresses, DNS: leaf.DNSNames, NotAfter: leaf.NotAfter,
	}
	for _, u := range leaf.URIs {
		c.URIs = append(c.URIs, u.String())
	}
	return c
}

// The places of a certificate where an account may be named.
const (
	nameCN    = "cn"
	nameEmail = "email"
	nameDNS   = "dns"
	nameURI   = "uri"
)

func checkCertificateName(s string) error {
	switch s {
	case nameCN, nameEmail, nameDNS, nameURI:
		return nil
	}
	return fmt.Errorf("auth: certificate name %q; there are cn, email, dns and uri", s)
}

// certificateUser is the bare address of the account that c belongs to, empty if it
// names none of this domain, or more than one.
func (a *Auth) certificateUser(c *Certificate) string {
	var names []string
	switch a.cfg.CertificateName {
	case nameCN:
		names = []string{c.CommonName}
	case nameEmail:
		for _, e := range c.Emails {
			if strings.Contains(e, "@") {
				names = append(names, e)
			}
		}
	case nameDNS:
		for _, d := range c.DNS {
			// meter-7.example.org is meter-7@example.org.
			if n, ok := strings.CutSuffix(strings.ToLower(d), "."+a.cfg.Domain); ok && !strings.Contains(n, ".") {
				names = append(names, n)
			}
		}
	case nameURI:
		for _, u := range c.URIs {
			for _, scheme := range [...]string{"xmpp:", "acct:", "mailto:"} {
				if n, ok := strings.CutPrefix(u, scheme); ok && strings.Contains(n, "@") && !strings.ContainsAny(n, "%?#") {
					names = append(names, n)
				}
			}
		}
	}
	user := ""
	for _, n := range names {
		if n == "" {
			continue
		}
		ad, err := address.Parse(n, a.cfg.Domain)
		switch {
		case err != nil || ad.Domain != a.cfg.Domain || ad.Device != "":
			continue
		case user != "" && user != ad.Bare():
			return "" // whose it is nobody can say
		}
		user = ad.Bare()
	}
	return user
}

// verifyCertificate says whose certificate it is. A user that the client names
// must be that one.
func (a *Auth) verifyCertificate(ctx context.Context, c Credential) (Who, error) {
	user := a.certificateUser(c.Certificate)
	if user == "" {
		return Who{}, ErrDenied
	}
	if c.User != "" {
		if named, err := a.userName(c.User); err != nil || named != user {
			return Who{}, ErrDenied
		}
	}
	if !c.Certificate.NotAfter.IsZero() && !time.Now().Before(c.Certificate.NotAfter) {
		return Who{}, ErrExpired
	}
	acc, err := a.load(ctx, user)
	if err != nil {
		return Who{}, err
	}
	if acc == nil || acc.disabled {
		return Who{}, ErrDenied
	}
	return Who{User: user, Role: acc.role, Expires: c.Certificate.NotAfter}, nil
}
