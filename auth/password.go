package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
	"golang.org/x/text/secure/precis"
)

// MaxPassword is the greatest length of a password in bytes.
const MaxPassword = 1024

// ErrPassword: an account cannot have that password.
var ErrPassword = errors.New("auth: password not possible")

const saltLen = 16

// prepare returns password as it is hashed.
//
// "SaltedPassword := Hi(Normalize(password), salt, i)", where Normalize is
// SASLprep: RFC 5802 sections 2.2 and 3. Clients of SCRAM do it on their side.
// SASLprep knows Unicode 3.2 only; what is younger, such as most emoji, is
// prepared by its successor, the OpaqueString profile of RFC 8265 section 4.2.
func prepare(password string) (string, error) {
	if len(password) > MaxPassword {
		return "", fmt.Errorf("%w: longer than %d bytes", ErrPassword, MaxPassword)
	}
	if !utf8.ValidString(password) {
		return "", fmt.Errorf("%w: it is not UTF-8", ErrPassword)
	}
	p, err := stringprep.SASLprep.Prepare(password)
	if err != nil {
		p, err = precis.OpaqueString.String(password)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: it holds a character that passwords may not have", ErrPassword)
	case p == "":
		return "", fmt.Errorf("%w: it is empty", ErrPassword)
	}
	return p, nil
}

// newKeys makes the keys of both mechanisms. The error is ErrPassword.
func newKeys(password string, iters int) (k1, k256 keys, err error) {
	if strings.HasPrefix(password, keyMark) {
		return k1, k256, fmt.Errorf("%w: it begins with %s, as application keys do", ErrPassword, keyMark)
	}
	p, err := prepare(password)
	if err != nil {
		return k1, k256, err
	}
	return derive(sha1.New, p, newSalt(), iters), derive(sha256.New, p, newSalt(), iters), nil
}

func newSalt() []byte {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return salt
}

// derive makes the keys of one mechanism, for a prepared password.
//
//	ClientKey := HMAC(SaltedPassword, "Client Key")
//	StoredKey := H(ClientKey)
//	ServerKey := HMAC(SaltedPassword, "Server Key")
//
// RFC 5802 section 3
func derive[H hash.Hash](h func() H, password string, salt []byte, iters int) keys {
	size := h().Size()
	salted, err := pbkdf2.Key(h, password, salt, iters, size)
	if err != nil {
		panic(err) // only if the parameters are out of range, or not of FIPS 140
	}
	plain := func() hash.Hash { return h() }
	sum := h()
	sum.Write(mac(plain, salted, "Client Key"))
	return keys{iters, salt, sum.Sum(nil), mac(plain, salted, "Server Key")}
}

func mac(h func() hash.Hash, key []byte, parts ...string) []byte {
	m := hmac.New(h, key)
	for _, p := range parts {
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// fake returns the keys of a user that has none. The salt is always the same
// for a name, as if it were real; no password and no proof fits.
func (a *Auth) fake(mechanism, user string, size int) keys {
	none := make([]byte, size) // no known password has such keys
	rand.Read(none)
	salt := mac(newSHA256, a.secret, mechanism, "\x00", user)[:saltLen]
	return keys{a.cfg.Iterations, salt, none, none}
}

func newSHA256() hash.Hash { return sha256.New() }
