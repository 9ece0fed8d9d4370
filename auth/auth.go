// Package auth says who somebody is: accounts with SCRAM keys, bearer tokens,
// application keys, and the back-off that failed logins earn.
package auth

import (
	"context"
	"errors"
	"net/netip"
	"time"
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
)

// Who is somebody who has proved who he is.
type Who struct {
	User    string // canonical bare address, alice@example.org
	Device  string // named by a token; otherwise the door fills it in
	Role    Role
	Expires time.Time // when a token ends; zero means never
}

// Credential is what somebody offers as proof: a user and a password, or a token.
type Credential struct {
	User     string     // as typed, "alice" or "alice@example.org"
	Password string     // or an application key
	Token    string     // a bearer token; then User and Password are empty
	From     netip.Addr // where it comes from, for back-off
}

// Why a login fails. A door tells the peer nothing more than these.
var (
	// ErrDenied: unknown user, wrong password, bad token; never which.
	ErrDenied = errors.New("auth: not authorized")
	// ErrExpired: the token was good once.
	ErrExpired = errors.New("auth: token has expired")
	// ErrBusy: too many failures from there, or too many logins at once.
	ErrBusy = errors.New("auth: too many attempts, try again later")
)

// Auth knows the accounts. Methods block unless they say otherwise.
type Auth struct{}

// Exists reports whether user, a canonical bare address, is an account. It
// does not block.
func (a *Auth) Exists(user string) bool { return false }

// Verify checks c and says who it is, or ErrDenied, ErrExpired or ErrBusy.
func (a *Auth) Verify(ctx context.Context, c Credential) (Who, error) { return Who{}, ErrDenied }

// Go runs check, which may block, on one of a bounded number of goroutines. It
// does not block itself; false means that too many wait already (ErrBusy).
func (a *Auth) Go(check func()) bool { return false }
