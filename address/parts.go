package address

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
)

// Each part has a quick way for what nearly all addresses are, ASCII, which
// allocates nothing unless letters must be lowered. What it does not know it
// leaves to the tables of PRECIS and IDNA.

// localpart reads an instance of the UsernameCaseMapped profile (RFC 8265
// section 3.3) without the characters that RFC 7622 section 3.3.1 excludes.
func localpart(s string) (string, error) {
	if err := length(Localpart, s); err != nil {
		return "", err
	}
	lower := true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z':
			lower = false
		case c >= utf8.RuneSelf:
			return localpartSlow(s)
		case c <= ' ' || c == 0x7f || excluded(c):
			return "", &Error{Localpart, fmt.Sprintf("may not hold %q", c)}
		}
	}
	if lower {
		return s, nil
	}
	return strings.ToLower(s), nil
}

// excluded reports whether c is one of the characters that would make an
// address ambiguous, or were once forbidden.
//
// RFC 7622 section 3.3.1: U+0022 ("), U+0026 (&), U+0027 ('), U+002F (/),
// U+003A (:), U+003C (<), U+003E (>), U+0040 (@)
func excluded(c byte) bool {
	switch c {
	case '"', '&', '\'', '/', ':', '<', '>', '@':
		return true
	}
	return false
}

func localpartSlow(s string) (string, error) {
	s, err := stable(Localpart, s, precis.UsernameCaseMapped.String)
	if err != nil {
		return "", err
	}
	for i := 0; i < len(s); i++ { // after mapping: U+FF20 has become '@'
		if excluded(s[i]) {
			return "", &Error{Localpart, fmt.Sprintf("may not hold %q", s[i])}
		}
	}
	return s, length(Localpart, s)
}

// resourcepart reads an instance of the OpaqueString profile (RFC 8265 section
// 4.2).
func resourcepart(s string) (string, error) {
	if err := length(Resourcepart, s); err != nil {
		return "", err
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			s, err := stable(Resourcepart, s, precis.OpaqueString.String)
			if err != nil {
				return "", err
			}
			return s, length(Resourcepart, s)
		case c < ' ' || c == 0x7f:
			return "", &Error{Resourcepart, fmt.Sprintf("may not hold %q", c)}
		}
	}
	return s, nil
}

// domainpart reads a domain name or an IP address.
func domainpart(s string) (string, error) {
	// "If the domainpart includes a final character considered to be a label
	// separator (dot) by [RFC1034], this character MUST be stripped"
	// RFC 7622 section 3.2
	s = strings.TrimSuffix(s, ".")
	if err := length(Domainpart, s); err != nil {
		return "", err
	}
	if s[0] == '[' {
		return ipLiteral(s)
	}
	lower, label := true, 0 // label is where the current one starts
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		case 'A' <= c && c <= 'Z':
			lower = false
		case c == '-':
			// Two hyphens as third and fourth: an A-label, or reserved.
			if i == label || i+1 == len(s) || s[i+1] == '.' || i == label+3 && s[i-1] == '-' {
				return domainpartSlow(s)
			}
		case c == '.' && i > label && i-label <= 63:
			label = i + 1
		default:
			return domainpartSlow(s)
		}
	}
	if n := len(s) - label; n == 0 || n > 63 || len(s) > 253 {
		return domainpartSlow(s)
	}
	if lower {
		return s, nil
	}
	return strings.ToLower(s), nil
}

// names maps to lower case and U-labels, and refuses what the DNS could not
// hold.
var (
	names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false))
	dns   = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.VerifyDNSLength(true))
)

func domainpartSlow(s string) (string, error) {
	if r, n := utf8.DecodeLastRuneInString(s); strings.ContainsRune("\u3002\uff0e\uff61", r) {
		s = s[:len(s)-n] // what UTS 46 maps to a dot; a second one is an error
	}
	s, err := stable(Domainpart, s, names.ToUnicode)
	if err != nil {
		return "", err
	}
	if _, err := dns.ToASCII(s); err != nil || strings.HasSuffix(s, ".") {
		return "", &Error{Domainpart, "is not a domain name"}
	}
	return s, length(Domainpart, s)
}

// ipLiteral reads an IPv6 address in brackets, without a zone. An IPv4 address
// has the form of a domain name.
//
// RFC 7622 section 3.2: domainpart = IP-literal / IPv4address / ifqdn
func ipLiteral(s string) (string, error) {
	a, err := netip.ParseAddr(strings.TrimSuffix(s[1:], "]"))
	if err != nil || !strings.HasSuffix(s, "]") || !a.Is6() || a.Zone() != "" {
		return "", &Error{Domainpart, "is not an IPv6 address in brackets"}
	}
	return "[" + a.String() + "]", nil
}

func length(p Part, s string) error {
	switch {
	case s == "":
		return &Error{p, "is empty"}
	case len(s) > MaxPart:
		return &Error{p, fmt.Sprintf("is longer than %d bytes", MaxPart)}
	}
	return nil
}

// stable applies enforce until nothing changes any more.
//
// "an implementation SHOULD apply the rules repeatedly until the output string
// is stable; if the output string does not stabilize after reapplying the
// rules three (3) additional times ... reject the input string as invalid"
// RFC 8264 section 7
func stable(p Part, s string, enforce func(string) (string, error)) (string, error) {
	if !utf8.ValidString(s) {
		return "", &Error{p, "is not UTF-8"}
	}
	for range 4 {
		t, err := enforce(s)
		switch {
		case err != nil && p == Domainpart:
			return "", &Error{p, "is not a domain name"}
		case err != nil:
			return "", &Error{p, "holds a character that is not allowed there"}
		case t == "":
			return "", &Error{p, "is empty"}
		case t == s:
			return t, nil
		}
		s = t
	}
	return "", &Error{p, "has no canonical form"}
}
