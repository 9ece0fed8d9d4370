package acl

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Error is a mistake in a list of rules. Its text may be shown to whoever made
// it.
type Error struct {
	Rule  int    // which one, from 0
	Field string // in it, "publish[0]"; empty if it is the whole rule
	Why   string
}

func (e *Error) Error() string {
	at := fmt.Sprintf("rule %d: ", e.Rule+1)
	if e.Field != "" {
		at += e.Field + ": "
	}
	return at + e.Why
}

// Is reports whether target is ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// Check finds the mistakes in rules for the accounts of domain, all of them.
// Each is an [Error].
func Check(rules []Rule, domain string) error {
	var errs []error
	for i := range rules {
		r := &rules[i]
		bad := func(field string, n int, format string, args ...any) {
			if field != "" {
				field = fmt.Sprintf("%s[%d]", field, n)
			}
			errs = append(errs, &Error{i, field, fmt.Sprintf(format, args...)})
		}
		for n, u := range r.Users {
			switch a, err := address.Parse(u, domain); {
			case err != nil:
				bad("users", n, "%q is not the name of an account", u)
			case a.Device != "":
				bad("users", n, "%q names a device; %%c in a filter is the client identifier", u)
			case a.Domain != domain:
				bad("users", n, "%q is not at %s", u, domain)
			}
		}
		for n, name := range r.Roles {
			if _, err := auth.ParseRole(name); err != nil {
				bad("roles", n, "%q is none of user, app and admin", name)
			}
		}
		for n, f := range r.Publish {
			if err := checkFilter(f); err != nil {
				bad("publish", n, "%q: %v", f, err)
			}
		}
		for n, f := range r.Subscribe {
			if err := checkFilter(f); err != nil {
				bad("subscribe", n, "%q: %v", f, err)
			}
		}
		if len(r.Publish)+len(r.Subscribe) == 0 {
			bad("", 0, "it is about nothing: publish or subscribe is wanted")
		}
	}
	return errors.Join(errs...)
}

func checkFilter(f string) error {
	if !utf8.ValidString(f) || strings.ContainsRune(f, 0) || len(f) > math.MaxUint16 {
		return errors.New("not a topic filter")
	}
	if strings.HasPrefix(f, "im/") {
		return errors.New("what is under im/ is the users' mail, which no rule is about")
	}
	if f == "$share" || strings.HasPrefix(f, "$share/") {
		return errors.New("for a shared subscription its filter alone is looked at")
	}
	if err := topic.CheckFilter(f); err != nil {
		return fmt.Errorf("not a topic filter: %s", strings.TrimPrefix(err.Error(), "topic: "))
	}
	return nil
}
