// Package control is how commands talk to the running server: a Unix socket,
// control.sock, in its data directory. Only the user that the server runs as
// may connect to it (mode 0600), and who may connect may do everything.
//
// On it goes HTTP, each call a POST of a JSON object:
//
//	POST /v1/user/add       {"user", "password", "role"}    {}
//	POST /v1/user/rm        {"user"}                        {}
//	POST /v1/user/passwd    {"user", "password"}            {}
//	POST /v1/user/role      {"user", "role"}                {}
//	POST /v1/user/disable   {"user", "disabled"}            {}
//	POST /v1/user/ls        {}                              {"accounts": [auth.Account, ...]}
//	POST /v1/key/add        {"user", "label"}               {"key"}
//	POST /v1/key/rm         {"user", "label"}               {}
//	POST /v1/key/ls         {"user"}                        {"keys": [auth.Key, ...]}
//	POST /v1/token          {"user", "device", "life"}      {"token", "expires"}; life in nanoseconds
//	POST /v1/rules/ls       {}                              acl.List
//	POST /v1/rules/set      {"rules", "version"}            acl.List
//	POST /v1/rules/check    {"question"}                    acl.Answer
//	POST /v1/status         {}                              Status
//
// An error has a status from 400 up and the body {"error": code, "text": text}.
// Server and client are of one version; nobody else should rely on this.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
)

// Accounts is what can be done with accounts. A running server does it through
// a [Client]; while none runs, an [auth.Auth] on the store does. The methods
// are described there, and both return the same errors, for errors.Is.
type Accounts interface {
	Add(ctx context.Context, user, password string, role auth.Role) error
	Remove(ctx context.Context, user string) error
	SetPassword(ctx context.Context, user, password string) error
	SetRole(ctx context.Context, user string, role auth.Role) error
	SetDisabled(ctx context.Context, user string, disabled bool) error
	List(ctx context.Context) ([]auth.Account, error)
	AddKey(ctx context.Context, user, label string) (key string, err error)
	RemoveKey(ctx context.Context, user, label string) error
	ListKeys(ctx context.Context, user string) ([]auth.Key, error)
	IssueToken(ctx context.Context, user, device string, life time.Duration) (token string, expires time.Time, err error)
}

// Rules is what can be done with the rules for MQTT topics, likewise.
type Rules interface {
	List(ctx context.Context) (acl.List, error)
	Set(ctx context.Context, rules []acl.Rule, version string) (acl.List, error)
	Explain(ctx context.Context, q acl.Question) (acl.Answer, error)
}

var (
	_ Accounts = (*auth.Auth)(nil)
	_ Accounts = (*Client)(nil)
	_ Rules    = (*acl.Rules)(nil)
	_ Rules    = clientRules{}
)

// Status says what the running server is.
type Status struct {
	PID      int               `json:"pid"`
	Version  string            `json:"version"`
	Domain   string            `json:"domain"`
	Started  time.Time         `json:"started"`
	Accounts int               `json:"accounts"`
	Open     map[string]string `json:"open"`     // what listens, and its address
	Sessions map[string]int64  `json:"sessions"` // live, by door
}

// Errors of Listen and Dial.
var (
	// ErrInUse: another server answers on the socket.
	ErrInUse = errors.New("control: another server runs on this data directory")
	// ErrNotRunning: there is no socket, or nobody answers on it.
	ErrNotRunning = errors.New("control: no server runs on this data directory")
)

// codes are the errors that a client can tell apart.
var codes = []struct {
	code string
	err  error
}{
	{"address", address.ErrInvalid},
	{"name", auth.ErrName},
	{"user-exists", auth.ErrUserExists},
	{"no-user", auth.ErrNoUser},
	{"password", auth.ErrPassword},
	{"role", auth.ErrRole},
	{"label", auth.ErrLabel},
	{"key-exists", auth.ErrKeyExists},
	{"no-key", auth.ErrNoKey},
	{"many-keys", auth.ErrManyKeys},
	{"no-signing-key", auth.ErrNoSigningKey},
	{"rule", acl.ErrInvalid},
	{"many-rules", acl.ErrMany},
	{"rules-changed", acl.ErrChanged},
	{"topic", acl.ErrTopic},
}

// Error is an error that the server has answered with.
type Error struct {
	Code string `json:"error"`
	Text string `json:"text"`
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the error that Code stands for, nil if it is none of those.
func (e *Error) Unwrap() error {
	for _, c := range codes {
		if c.code == e.Code {
			return c.err
		}
	}
	return nil
}

// errorOf returns what is sent of err. The client is the operator, so he is
// told the text of our own failures, too.
func errorOf(err error) *Error {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return &Error{c.code, err.Error()}
		}
	}
	return &Error{"failed", err.Error()}
}

// What goes over the socket.
type (
	request struct {
		User     string        `json:"user,omitempty"`
		Password string        `json:"password,omitempty"`
		Role     auth.Role     `json:"role,omitempty"`
		Disabled bool          `json:"disabled,omitempty"`
		Label    string        `json:"label,omitempty"`
		Device   string        `json:"device,omitempty"`
		Life     time.Duration `json:"life,omitempty"`
		Rules    []acl.Rule    `json:"rules,omitempty"`
		Version  string        `json:"version,omitempty"`
		Question acl.Question  `json:"question,omitzero"`
	}
	accountList struct {
		Accounts []auth.Account `json:"accounts"`
	}
	keyList struct {
		Keys []auth.Key `json:"keys"`
	}
	newKey struct {
		Key string `json:"key"`
	}
	newToken struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires"`
	}
)
