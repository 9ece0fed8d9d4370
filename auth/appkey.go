package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
)

// keyMark begins every application key, so that programs that search for
// leaked secrets find it.
const keyMark = "pha_"

// newAppKey returns a key that nobody can guess.
func newAppKey() string {
	b := make([]byte, 32)
	rand.Read(b)
	return keyMark + base64.RawURLEncoding.EncodeToString(b)
}

// hashKey is what is kept of a key. It needs no salt and no iterations: there
// are 2^256 keys to try.
func hashKey(key string) [32]byte { return sha256.Sum256([]byte(key)) }

func keyRecord(hash [32]byte) string { return keyPrefix + hex.EncodeToString(hash[:]) }

// verifyKey says whose application key it is. Looking it up by its hash tells
// nothing by the time it takes that would help to find another.
func (a *Auth) verifyKey(ctx context.Context, key string) (Who, error) {
	if len(key) != len(keyMark)+43 {
		return Who{}, ErrDenied
	}
	hash := hashKey(key)
	user, err := a.mail.Get(ctx, keyRecord(hash))
	if err != nil {
		return Who{}, err
	}
	acc, err := a.load(ctx, string(user))
	if err != nil {
		return Who{}, err
	}
	if acc == nil || acc.disabled ||
		!slices.ContainsFunc(acc.apps, func(k appKey) bool { return k.hash == hash }) {
		return Who{}, ErrDenied
	}
	return Who{User: string(user), Role: RoleApp}, nil
}
