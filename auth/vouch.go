package auth

import (
	"context"
	"fmt"
)

// Vouched is who an account is, without any proof: for a door whose operator
// has said that certain clients act as user. A user that does not exist or is
// disabled is ErrDenied. It may read the disk.
func (a *Auth) Vouched(ctx context.Context, user string) (Who, error) {
	name, err := a.userName(user)
	if err != nil {
		return Who{}, ErrDenied
	}
	acc, err := a.load(ctx, name)
	if err != nil {
		return Who{}, fmt.Errorf("auth: account of %s: %w", name, err)
	}
	if acc == nil || acc.disabled {
		return Who{}, ErrDenied
	}
	return Who{User: name, Role: acc.role}, nil
}
