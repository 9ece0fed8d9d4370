// Package address reads and writes the names of users and their devices:
//
//	alice                      a user of this server, for short
//	alice@example.org          a user, the bare address
//	alice@example.org/phone    a device of a user, the full address
//
// They are XMPP addresses (RFC 7622) at every door, so that one name means one
// user everywhere. Parse returns the canonical form, in which equal addresses
// are equal strings.
package address

import "strings"

// Address is a canonical address.
type Address struct {
	User   string // localpart; empty for a server
	Domain string // domainpart, never empty
	Device string // resourcepart; empty in a bare address
}

// Bare returns user@domain, or the domain alone.
func (a Address) Bare() string {
	if a.User == "" {
		return a.Domain
	}
	return a.User + "@" + a.Domain
}

// String returns the whole address.
func (a Address) String() string {
	if a.Device == "" {
		return a.Bare()
	}
	return a.Bare() + "/" + a.Device
}

// Bare returns the bare form of a canonical address.
func Bare(s string) string {
	bare, _, _ := strings.Cut(s, "/")
	return bare
}

// Parse reads s, filling in domain where it names none, and returns its
// canonical form.
func Parse(s, domain string) (Address, error) {
	bare, dev, _ := strings.Cut(s, "/")
	u, d, ok := strings.Cut(bare, "@")
	if !ok {
		d = domain
	}
	return Address{u, d, dev}, nil
}
