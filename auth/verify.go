package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"
)

// Verify checks c and says who it is, or ErrDenied, ErrExpired or ErrBusy.
// Another error is ours: the store could not be read, or ctx ended.
func (a *Auth) Verify(ctx context.Context, c Credential) (who Who, err error) {
	who, err = a.verify(ctx, c)
	a.count(err)
	return who, err
}

// contain turns a panic into an error of ours. What strangers send goes through
// libraries here, and through the doors' own checks, on goroutines of no
// connection: it must end one login alone.
func contain(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("auth: panic: %v\n%s", r, debug.Stack())
	}
}

// wrong takes note of a wrong password. There are not many in a second: more are
// delayed, or not looked at.
func (a *Auth) wrong(user string, name nameHash, from netip.Addr) {
	a.slow.failed(name, from)
	a.cfg.Log.Info("wrong password", "user", user, "from", from)
}

func (a *Auth) count(err error) {
	switch {
	case err == nil:
		a.stats.accepted.Add(1)
	case errors.Is(err, ErrBusy):
		a.stats.busy.Add(1)
	case errors.Is(err, ErrDenied), errors.Is(err, ErrExpired), errors.Is(err, ErrMalformed):
		a.stats.denied.Add(1)
	default:
		a.stats.failed.Add(1)
	}
}

func (a *Auth) verify(ctx context.Context, c Credential) (who Who, err error) {
	defer contain(&err)
	if c.Token != "" {
		if c.User != "" || c.Password != "" {
			return Who{}, ErrDenied
		}
		if strings.HasPrefix(c.Token, keyMark) {
			return a.verifyKey(ctx, c.Token)
		}
		return a.verifyToken(ctx, c.Token)
	}
	if c.Certificate != nil && c.Password == "" {
		return a.verifyCertificate(ctx, c)
	}
	user, err := a.userName(c.User)
	if err != nil {
		user = "" // as an unknown one; it costs the same
	}
	switch {
	case strings.HasPrefix(c.Password, keyMark):
		return sameUser(user)(a.verifyKey(ctx, c.Password))
	case looksLikeToken(c.Password):
		who, err := sameUser(user)(a.verifyToken(ctx, c.Password))
		if !errors.Is(err, ErrDenied) {
			return who, err
		}
		// It may be a password all the same.
	}
	return a.verifyPassword(ctx, user, c.Password, c.From)
}

// sameUser denies a token or key of somebody else than user.
func sameUser(user string) func(Who, error) (Who, error) {
	return func(who Who, err error) (Who, error) {
		if err == nil && who.User != user {
			return Who{}, ErrDenied
		}
		return who, err
	}
}

// verifyPassword checks the password of user, who is empty if his name makes
// no sense. Whether he exists, has a password, or is disabled makes no
// difference to what is done before the answer.
func (a *Auth) verifyPassword(ctx context.Context, user, password string, from netip.Addr) (Who, error) {
	name := a.names.hash(user)
	sum := a.sum(user, password)
	who, ok, counted := a.recall(user, name, sum, from)
	if ok {
		return who, nil
	}
	if err := a.beginHashing(ctx, name, from); err != nil {
		return Who{}, err
	}
	defer a.endHashing()

	a.mu.Lock()
	version := a.version
	a.mu.Unlock()
	acc, err := a.load(ctx, user)
	if err != nil {
		return Who{}, err
	}
	k := a.fake(sha256Name, user, sha256.Size)
	if acc != nil && acc.sha256.iters != 0 {
		k = acc.sha256
	}
	prepared, err := prepare(password)
	bad := err != nil
	if bad {
		prepared = "no password is like this one" // for the work; bad decides
	}
	a.stats.hashes.Add(1)
	got := derive(sha256.New, prepared, k.salt, k.iters)
	right := subtle.ConstantTimeCompare(got.stored, k.stored) == 1
	if !right || bad || acc == nil || acc.disabled {
		if !counted {
			a.wrong(user, name, from)
		}
		return Who{}, ErrDenied
	}
	a.slow.succeeded(name, from)
	a.mu.Lock()
	defer a.mu.Unlock()
	if version == a.version {
		a.verified.put(user, remembered{sum, time.Now().Add(a.cfg.Remember), acc.role})
	}
	return Who{User: user, Role: acc.role}, nil
}

// sum is what is remembered of a password that was right.
func (a *Auth) sum(user, password string) (s [32]byte) {
	m := hmac.New(sha256.New, a.macKey)
	m.Write([]byte(user))
	m.Write([]byte{0}) // no name holds it
	m.Write([]byte(password))
	m.Sum(s[:0])
	return s
}

// recall reports whether sum is that of a password which was right a short
// while ago. It could be asked faster than anybody can hash, so it answers
// only at home (see the package comment), and a wrong one is counted there
// before the next is looked at.
func (a *Auth) recall(user string, name nameHash, sum [32]byte, from netip.Addr) (who Who, ok, counted bool) {
	if !a.slow.calm(name, from) {
		return Who{}, false, false
	}
	a.mu.Lock()
	v, ok := a.verified.get(user)
	a.mu.Unlock()
	if !ok || !time.Now().Before(v.until) {
		return Who{}, false, false
	}
	if subtle.ConstantTimeCompare(sum[:], v.mac[:]) != 1 {
		a.wrong(user, name, from)
		return Who{}, false, true
	}
	a.stats.remembered.Add(1)
	return Who{User: user, Role: v.role}, true, false
}

// beginHashing waits for a place among those who hash and for what back-off
// asks for. If the error is nil endHashing must follow.
func (a *Auth) beginHashing(ctx context.Context, name nameHash, from netip.Addr) error {
	if a.inLine.Add(1) > int64(a.cfg.Queue) {
		a.inLine.Add(-1)
		return ErrBusy
	}
	defer a.inLine.Add(-1)
	if err := a.place(ctx); err != nil {
		return err
	}
	// Only now, so that the failures of those before us count.
	wait, ok := a.slow.admit(name, from)
	if ok && wait == 0 {
		return nil
	}
	a.endHashing()
	if !ok {
		return ErrBusy
	}
	if err := a.wait(ctx, wait); err != nil {
		return err
	}
	return a.place(ctx)
}

func (a *Auth) place(ctx context.Context) error {
	select {
	case a.hashing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Auth) endHashing() { <-a.hashing }

// wait waits out a delay, if there is room to wait.
func (a *Auth) wait(ctx context.Context, d time.Duration) error {
	select {
	case a.waiting <- struct{}{}:
	default:
		return ErrBusy
	}
	defer func() { <-a.waiting }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
