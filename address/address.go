// Package address reads and writes the names of users and their devices:
//
//	alice                      a user of this server, for short
//	alice/phone                one of his devices
//	alice@example.org          a user, the bare address
//	alice@example.org/phone    a device of a user, the full address
//	example.org                a server; only ParseJID reads it as one
//
// They are XMPP addresses (RFC 7622) at every door, so that one name means one
// user everywhere. Parse returns the canonical form, in which equal addresses
// are equal strings; parsing a canonical form gives it back unchanged.
//
//	part           profile                         becomes
//	localpart      PRECIS UsernameCaseMapped       lower case, wide and narrow letters as usual ones
//	domainpart     IDNA 2008 with UTS 46 mapping   lower case, U-labels, no dot at the end;
//	                                               or an IP address, IPv6 in brackets
//	resourcepart   PRECIS OpaqueString             other spaces as U+0020; case is kept
//
// Each part is at least one and at most 1023 bytes long.
//
// A short name has no domain, so a lone "localhost" or "example.org" is a user
// when a person types it (Parse). Where a protocol says that it is an XMPP
// address, as in a stanza's 'to', it is a server (ParseJID).
//
// Names that look alike are told apart only as far as PRECIS and IDNA do so:
// the Cyrillic "аlice" is another user than the Latin "alice", and a name may
// mix scripts. Who lets strangers choose their names must see to that himself.
// The escapes of XEP-0106 (\40 for @) are not undone: they are ordinary
// characters.
package address

import (
	"errors"
	"strings"
)

// MaxPart is the greatest length of each part in bytes.
//
// RFC 7622 sections 3.2, 3.3 and 3.4 say of each: it "MUST NOT be zero octets
// in length and MUST NOT be more than 1023 octets in length".
const MaxPart = 1023

// ErrInvalid is what every error of this package is, by errors.Is.
var ErrInvalid = errors.New("address: invalid address")

// Part names a part of an address in errors.
type Part string

const (
	Localpart    Part = "localpart"
	Domainpart   Part = "domainpart"
	Resourcepart Part = "resourcepart"
)

// Error says which part of an address is wrong, and why. Its text may be shown
// to whoever gave the address.
type Error struct {
	Part Part
	Why  string
}

func (e *Error) Error() string { return "address: " + string(e.Part) + " " + e.Why }

// Is reports whether target is ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

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

// Parse reads an address as people write it, filling in domain, which is
// canonical, where s names none. The result always has a user. An error is an
// *Error.
func Parse(s, domain string) (Address, error) {
	bare, dev, hasDev := strings.Cut(s, "/")
	user, dom, hasDom := strings.Cut(bare, "@")
	var (
		a   = Address{Domain: domain}
		err error
	)
	if a.User, err = localpart(user); err != nil {
		return Address{}, err
	}
	if hasDom || domain == "" {
		if a.Domain, err = domainpart(dom); err != nil {
			return Address{}, err
		}
	}
	if hasDev {
		if a.Device, err = resourcepart(dev); err != nil {
			return Address{}, err
		}
	}
	return a, nil
}

// ParseJID reads a complete XMPP address: one without an '@' is a server, or
// with a '/' something at one. An error is an *Error.
//
// RFC 7622 section 3.2: what is behind the first '/' is the resourcepart,
// whatever it holds; in the rest, what is before the first '@' is the
// localpart.
func ParseJID(s string) (Address, error) {
	bare, dev, hasDev := strings.Cut(s, "/")
	if strings.IndexByte(bare, '@') >= 0 {
		return Parse(s, "")
	}
	var (
		a   Address
		err error
	)
	if a.Domain, err = domainpart(bare); err != nil {
		return Address{}, err
	}
	if hasDev {
		if a.Device, err = resourcepart(dev); err != nil {
			return Address{}, err
		}
	}
	return a, nil
}

// ParseDomain reads a domainpart alone, such as the name of a server.
func ParseDomain(s string) (string, error) { return domainpart(s) }

// ParseDevice reads a resourcepart alone, the name of a device.
func ParseDevice(s string) (string, error) { return resourcepart(s) }
