package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Errors of those who manage accounts. A name can also be
// address.ErrInvalid, a password ErrPassword, a role ErrRole.
var (
	// ErrName: the name is not that of a user of this server.
	ErrName = errors.New("auth: not a user's name here")
	// ErrUserExists: there is an account of that name.
	ErrUserExists = errors.New("auth: account exists")
	// ErrNoUser: there is no account of that name.
	ErrNoUser = errors.New("auth: no such account")
	// ErrLabel: a key cannot have that label.
	ErrLabel = errors.New("auth: label not possible")
	// ErrKeyExists: the account has a key of that label.
	ErrKeyExists = errors.New("auth: account has a key of that label")
	// ErrNoKey: the account has no key of that label.
	ErrNoKey = errors.New("auth: no such key")
	// ErrManyKeys: the account has MaxKeys.
	ErrManyKeys = errors.New("auth: account has too many keys")
)

const (
	// MaxKeys is how many application keys an account may have.
	MaxKeys = 64
	// MaxLabel is the greatest length of a key's label in bytes.
	MaxLabel = 64
)

// Account describes an account.
type Account struct {
	User     string    `json:"user"` // canonical bare address
	Role     Role      `json:"role"`
	Disabled bool      `json:"disabled,omitempty"`
	Password bool      `json:"password"`       // has one
	Keys     int       `json:"keys,omitempty"` // how many application keys
	Created  time.Time `json:"created"`
}

// Key describes an application key.
type Key struct {
	Label   string    `json:"label"`
	Created time.Time `json:"created"`
}

// Add makes an account. An empty password makes one that only application keys
// and tokens open. Messages that an older account of that name left are
// dropped.
func (a *Auth) Add(ctx context.Context, user, password string, role Role) error {
	user, err := a.userName(user)
	if err != nil {
		return err
	}
	if role >= roles {
		return ErrRole
	}
	acc := &account{role: role, created: time.Now().UTC().Truncate(time.Millisecond)}
	if password != "" {
		if acc.sha1, acc.sha256, err = newKeys(password, a.cfg.Iterations); err != nil {
			return err
		}
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	if a.names.has(user) {
		return fmt.Errorf("%w: %s", ErrUserExists, user)
	}
	if err := a.forgetLocked(ctx, user); err != nil {
		return err
	}
	if info, err := a.mail.Info(ctx, user); err != nil {
		return err
	} else if info.Last != 0 {
		if err := a.mail.DropBox(ctx, user); err != nil {
			return fmt.Errorf("auth: drop the old box of %s: %w", user, err)
		}
	}
	if err := a.write(ctx, user, acc); err != nil {
		return err
	}
	a.names.add(user)
	return nil
}

// Remove ends an account with its keys, drops its box and calls the function
// given to OnRemove.
func (a *Auth) Remove(ctx context.Context, user string) error {
	user, err := a.userName(user)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, user); err != nil {
		return err
	}
	a.tell(user)
	a.admin.Lock()
	defer a.admin.Unlock()
	// He is gone, and what was his must go.
	return a.forgetLocked(context.WithoutCancel(ctx), user)
}

// forgetLocked drops what is left of user if his account was removed. A record
// says so until that has succeeded: a crash or a full disk in between must not
// leave it to the next of that name.
func (a *Auth) forgetLocked(ctx context.Context, user string) error {
	left, err := a.mail.Get(ctx, removedPrefix+user)
	if err != nil || left == nil {
		return err
	}
	err = a.mail.DropBox(ctx, user)
	if f := a.onRemove.Load(); f != nil {
		err = errors.Join(err, (*f)(ctx, user))
	}
	if err == nil {
		err = a.mail.Put(ctx, mailbox.Record{Key: removedPrefix + user})
	}
	if err != nil {
		return fmt.Errorf("auth: %s is removed, but not all that was his: %w", user, err)
	}
	return nil
}

// ForgetRemoved finishes what Remove had begun when the server ended, or could
// not be done then. Call it after OnRemove.
func (a *Auth) ForgetRemoved(ctx context.Context) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	var users []string
	err := a.mail.Scan(ctx, removedPrefix, func(key string, _ []byte) bool {
		users = append(users, strings.TrimPrefix(key, removedPrefix))
		return true
	})
	for _, user := range users {
		err = errors.Join(err, a.forgetLocked(ctx, user))
	}
	return err
}

func (a *Auth) remove(ctx context.Context, user string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	acc, err := a.get(ctx, user)
	if err != nil {
		return err
	}
	records := []mailbox.Record{{Key: userPrefix + user}, {Key: removedPrefix + user, Value: []byte{1}}}
	for _, k := range acc.apps {
		records = append(records, mailbox.Record{Key: keyRecord(k.hash)})
	}
	if err := a.put(ctx, records...); err != nil {
		return err
	}
	a.names.del(user)
	a.changed(user)
	return nil
}

// SetPassword gives an account another password; an empty one takes it away.
// Bearer tokens stay good until they expire; SetDisabled ends them at once.
func (a *Auth) SetPassword(ctx context.Context, user, password string) error {
	var k1, k256 keys
	if password != "" {
		var err error
		if k1, k256, err = newKeys(password, a.cfg.Iterations); err != nil {
			return err
		}
	}
	return a.change(ctx, user, func(acc *account) ([]mailbox.Record, error) {
		acc.sha1, acc.sha256 = k1, k256
		return nil, nil
	})
}

// SetRole gives an account another role.
func (a *Auth) SetRole(ctx context.Context, user string, role Role) error {
	if role >= roles {
		return ErrRole
	}
	return a.change(ctx, user, func(acc *account) ([]mailbox.Record, error) {
		acc.role = role
		return nil, nil
	})
}

// SetDisabled makes an account refuse all logins, or take them again. It goes
// on to receive.
func (a *Auth) SetDisabled(ctx context.Context, user string, disabled bool) error {
	return a.change(ctx, user, func(acc *account) ([]mailbox.Record, error) {
		acc.disabled = disabled
		return nil, nil
	})
}

// List returns all accounts by user.
func (a *Auth) List(ctx context.Context) ([]Account, error) {
	list := []Account{}
	var bad error
	err := a.mail.Scan(ctx, userPrefix, func(key string, value []byte) bool {
		user := strings.TrimPrefix(key, userPrefix)
		acc, err := decodeAccount(value)
		if err != nil {
			bad = fmt.Errorf("auth: account %s: %w", user, err)
			return false
		}
		list = append(list, Account{user, acc.role, acc.disabled, acc.sha256.iters != 0, len(acc.apps), acc.created})
		return true
	})
	return list, errors.Join(err, bad)
}

// AddKey makes an application key for an account and returns it. It cannot be
// had again. Label tells the account's keys apart.
func (a *Auth) AddKey(ctx context.Context, user, label string) (key string, err error) {
	if err := checkLabel(label); err != nil {
		return "", err
	}
	key = newAppKey()
	k := appKey{label, hashKey(key), time.Now().UTC().Truncate(time.Millisecond)}
	user, err = a.userName(user)
	if err != nil {
		return "", err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	acc, err := a.get(ctx, user)
	switch {
	case err != nil:
		return "", err
	case slices.ContainsFunc(acc.apps, func(k appKey) bool { return k.label == label }):
		return "", fmt.Errorf("%w: %q", ErrKeyExists, label)
	case len(acc.apps) >= MaxKeys:
		return "", ErrManyKeys
	}
	acc.apps = append(acc.apps, k)
	if err := a.write(ctx, user, acc, mailbox.Record{Key: keyRecord(k.hash), Value: []byte(user)}); err != nil {
		return "", err
	}
	return key, nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return fmt.Errorf("%w: it is empty", ErrLabel)
	case len(label) > MaxLabel:
		return fmt.Errorf("%w: longer than %d bytes", ErrLabel, MaxLabel)
	case !utf8.ValidString(label), strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: it holds a character that cannot be shown", ErrLabel)
	}
	return nil
}

// RemoveKey makes the application key of that label worthless.
func (a *Auth) RemoveKey(ctx context.Context, user, label string) error {
	return a.change(ctx, user, func(acc *account) ([]mailbox.Record, error) {
		i := slices.IndexFunc(acc.apps, func(k appKey) bool { return k.label == label })
		if i < 0 {
			return nil, fmt.Errorf("%w: %q", ErrNoKey, label)
		}
		gone := mailbox.Record{Key: keyRecord(acc.apps[i].hash)}
		acc.apps = slices.Delete(acc.apps, i, i+1)
		return []mailbox.Record{gone}, nil
	})
}

// ListKeys returns the application keys of an account, oldest first.
func (a *Auth) ListKeys(ctx context.Context, user string) ([]Key, error) {
	user, err := a.userName(user)
	if err != nil {
		return nil, err
	}
	acc, err := a.get(ctx, user)
	if err != nil {
		return nil, err
	}
	list := []Key{}
	for _, k := range acc.apps {
		list = append(list, Key{k.label, k.created})
	}
	return list, nil
}

// change changes an account by f, writes it with the records that f returns,
// and has the sessions of its user ended.
func (a *Auth) change(ctx context.Context, user string, f func(*account) ([]mailbox.Record, error)) error {
	user, err := a.userName(user)
	if err != nil {
		return err
	}
	if err := a.changeQuietly(ctx, user, f); err != nil {
		return err
	}
	a.tell(user)
	return nil
}

func (a *Auth) changeQuietly(ctx context.Context, user string, f func(*account) ([]mailbox.Record, error)) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	acc, err := a.get(ctx, user)
	if err != nil {
		return err
	}
	records, err := f(acc)
	if err != nil {
		return err
	}
	return a.write(ctx, user, acc, records...)
}

// get reads an account afresh, so that it may be changed.
func (a *Auth) get(ctx context.Context, user string) (*account, error) {
	acc, err := a.read(ctx, user)
	if err == nil && acc == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	return acc, err
}

func (a *Auth) write(ctx context.Context, user string, acc *account, more ...mailbox.Record) error {
	err := a.put(ctx, append(more, mailbox.Record{Key: userPrefix + user, Value: acc.encode()})...)
	if err == nil {
		a.changed(user)
	}
	return err
}

// put writes records although the client may have left, since what memory
// knows must follow what the store does.
func (a *Auth) put(ctx context.Context, records ...mailbox.Record) error {
	return a.mail.Put(context.WithoutCancel(ctx), records...)
}

// tell calls the function given to OnChange. No lock is held.
func (a *Auth) tell(user string) {
	if f := a.onChange.Load(); f != nil {
		(*f)(user)
	}
}
