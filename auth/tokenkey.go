package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// TokenKey is a key that tokens may be signed with. As text, in a
// configuration file, it is [ID=]ALGORITHM:KEY or [ID=]ALGORITHM:file:PATH.
type TokenKey struct {
	// ID is the "kid" of tokens signed with this key. A token with a kid must
	// be signed by the key of that ID; for one without, all keys are tried.
	ID string
	// Algorithm is HS256 or EdDSA.
	Algorithm string
	// Key is the key itself. For HS256 a secret of at least 32 bytes: as it
	// stands, or in base64 behind "base64:". For EdDSA an Ed25519 key as PEM,
	// PUBLIC KEY to check tokens or PRIVATE KEY to issue them, too; or in
	// base64 behind "base64:", 32 bytes of public or 64 of private key.
	Key string
	// File has the key, instead of Key and in the same form. White space at
	// its end does not count.
	File string
}

// UnmarshalText reads the text form.
func (c *TokenKey) UnmarshalText(b []byte) error {
	head, key, ok := strings.Cut(string(b), ":")
	if !ok {
		return errors.New("a token key is ID=ALGORITHM:KEY or ID=ALGORITHM:file:PATH")
	}
	*c = TokenKey{Algorithm: head}
	if id, alg, ok := strings.Cut(head, "="); ok {
		c.ID, c.Algorithm = id, alg
	}
	if path, ok := strings.CutPrefix(key, "file:"); ok {
		c.File = path
	} else {
		c.Key = key
	}
	return nil
}

// String is the text form without the key.
func (c TokenKey) String() string {
	s := c.Algorithm + ":"
	if c.ID != "" {
		s = c.ID + "=" + s
	}
	if c.File != "" {
		return s + "file:" + c.File
	}
	return s + "..."
}

// tokenKey is a key that was read. It serves one algorithm.
type tokenKey struct {
	id     string
	alg    string
	method jwt.SigningMethod
	verify any // []byte or ed25519.PublicKey
	sign   any // []byte or ed25519.PrivateKey; nil if we can only verify
}

var base64Mark = []byte("base64:")

func (c TokenKey) read() (tokenKey, error) {
	b := []byte(c.Key)
	switch {
	case c.Key != "" && c.File != "":
		return tokenKey{}, errors.New("has both a key and a file")
	case c.File != "":
		var err error
		if b, err = os.ReadFile(c.File); err != nil {
			return tokenKey{}, err
		}
		b = bytes.TrimRight(b, " \t\r\n")
	}
	if len(b) == 0 {
		return tokenKey{}, errors.New("has no key")
	}
	raw, coded := bytes.CutPrefix(b, base64Mark)
	if coded {
		var err error
		if raw, err = decodeBase64(raw); err != nil {
			return tokenKey{}, err
		}
	}
	switch c.Algorithm {
	case "HS256":
		return readSecret(c.ID, raw)
	case "EdDSA":
		return readEd25519(c.ID, raw, coded)
	}
	return tokenKey{}, fmt.Errorf("algorithm is %q; there are HS256 and EdDSA", c.Algorithm)
}

// decodeBase64 takes both alphabets, with and without padding.
func decodeBase64(b []byte) ([]byte, error) {
	s := string(bytes.TrimRight(bytes.TrimSpace(b), "="))
	raw, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(s)
	}
	if err != nil {
		return nil, errors.New("is not base64")
	}
	return raw, nil
}

func readSecret(id string, secret []byte) (tokenKey, error) {
	// A public key is known to everybody; as a secret it would let everybody sign.
	if p, _ := pem.Decode(secret); p != nil {
		return tokenKey{}, fmt.Errorf("is a %s; HS256 takes a secret", p.Type)
	}
	// "A key of the same size as the hash output (for instance, 256 bits for
	// "HS256") or larger MUST be used" — RFC 7518 section 3.2
	if len(secret) < 32 {
		return tokenKey{}, fmt.Errorf("is %d bytes long; HS256 takes at least 32", len(secret))
	}
	return tokenKey{id, jwt.SigningMethodHS256.Alg(), jwt.SigningMethodHS256, secret, secret}, nil
}

// readEd25519 reads a key for EdDSA, of which Ed25519 is the curve that is
// supported: RFC 8037 section 3.1.
func readEd25519(id string, b []byte, raw bool) (tokenKey, error) {
	k := tokenKey{id: id, alg: jwt.SigningMethodEdDSA.Alg(), method: jwt.SigningMethodEdDSA}
	var key any
	if raw {
		switch len(b) {
		case ed25519.PublicKeySize:
			key = ed25519.PublicKey(b)
		case ed25519.PrivateKeySize:
			private := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
			if !bytes.Equal(private, b) {
				return k, errors.New("its public half does not belong to its private half")
			}
			key = private
		default:
			return k, fmt.Errorf("is %d bytes long; Ed25519 has 32 (public) or 64 (private)", len(b))
		}
	} else {
		p, _ := pem.Decode(b)
		if p == nil {
			return k, errors.New("is not PEM")
		}
		var err error
		switch p.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(p.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(p.Bytes)
		default:
			err = fmt.Errorf("is a %s; EdDSA takes a PUBLIC KEY or PRIVATE KEY", p.Type)
		}
		if err != nil {
			return k, err
		}
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		k.verify = key
	case ed25519.PrivateKey:
		k.verify, k.sign = key.Public().(ed25519.PublicKey), key
	default:
		return k, errors.New("is not an Ed25519 key")
	}
	return k, nil
}
