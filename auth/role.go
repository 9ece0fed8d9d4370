package auth

import (
	"errors"
	"fmt"
	"slices"
)

// Role is what somebody may do.
type Role uint8

const (
	// RoleUser sends as himself and reads his own box.
	RoleUser Role = iota
	// RoleApp is a back end: it may send in the name of its account.
	RoleApp
	// RoleAdmin may manage accounts.
	RoleAdmin
	roles
)

var roleNames = [roles]string{"user", "app", "admin"}

// ErrRole: there is no role of that name.
var ErrRole = errors.New("auth: no such role")

func (r Role) String() string {
	if r >= roles {
		return fmt.Sprintf("Role(%d)", uint8(r))
	}
	return roleNames[r]
}

// ParseRole reads "user", "app" or "admin".
func ParseRole(s string) (Role, error) {
	i := slices.Index(roleNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("%w: %q; there are user, app and admin", ErrRole, s)
	}
	return Role(i), nil
}

// MarshalText and UnmarshalText use the role's name.
func (r Role) MarshalText() ([]byte, error) {
	if r >= roles {
		return nil, ErrRole
	}
	return []byte(r.String()), nil
}

func (r *Role) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRole(string(b))
	return err
}
