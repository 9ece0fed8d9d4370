package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/internal/control"
	"github.com/posthouse-im/posthouse/transport/mqtt"
	"github.com/posthouse-im/posthouse/transport/xmpp"
)

// userCmd manages accounts: through the socket of the server that has the data
// directory open, or on the data itself when none runs.
type userCmd struct {
	Add     userAddCmd     `cmd:"" help:"Make an account."`
	Rm      userRmCmd      `cmd:"" help:"Remove an account, with its messages."`
	Ls      userLsCmd      `cmd:"" help:"List the accounts."`
	Passwd  userPasswdCmd  `cmd:"" help:"Change a password; the user's sessions end."`
	Role    userRoleCmd    `cmd:"" help:"Give an account another role; the user's sessions end."`
	Disable userDisableCmd `cmd:"" help:"Refuse an account's logins, by keys and tokens too, and end its sessions. Messages to it are kept."`
	Enable  userEnableCmd  `cmd:"" help:"Take the logins of an account again that was disabled."`
	Key     userKeyCmd     `cmd:"" help:"Make, list or remove an account's application keys, for back ends."`
	Token   userTokenCmd   `cmd:"" help:"Sign a bearer token, with the first key of auth.tokens.keys that can."`
}

// accounts calls do with the accounts of the data directory that s names. With
// fresh set the directory may be a new one.
func (s *settings) accounts(ctx context.Context, p *program, fresh bool, do func(control.Accounts) error) error {
	return s.manage(p, fresh, func(a control.Accounts, _ control.Rules) error { return do(a) })
}

// manage calls do with what can be managed of it.
func (s *settings) manage(p *program, fresh bool, do func(control.Accounts, control.Rules) error) error {
	cfg, err := s.load(p)
	if err != nil {
		return err
	}
	client, err := control.Dial(cfg.Data)
	if err == nil {
		defer client.Close()
		return do(client, client.Rules())
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "store")); !fresh && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data: there are no accounts in %s, and never were", cfg.Data)
	}
	d, err := openData(cfg, slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	err = d.forget(context.Background(),
		func(ctx context.Context, user string) error { return xmpp.Forget(ctx, d.mail, user) },
		func(ctx context.Context, user string) error { return mqtt.Forget(ctx, d.mail, user) })
	if err != nil {
		return errors.Join(err, d.Close())
	}
	if there := d.auth.Elsewhere(); fresh && there != "" && s.Domain == nil {
		err := fmt.Errorf("domain: the accounts in %s are at %s, not at %s: which one is meant? Say --domain", cfg.Data, there, cfg.Domain)
		return errors.Join(err, d.Close())
	}
	rules := acl.New(d.mail, d.auth, cfg.MQTT.Access(cfg.Domain))
	return errors.Join(do(d.auth, rules), d.Close())
}

type userAddCmd struct {
	User     string    `arg:"" help:"alice, or alice@example.org."`
	Password *string   `placeholder:"PW" help:"The password; without it somebody at a terminal is asked, otherwise a line is read from standard input."`
	Role     auth.Role `default:"user" placeholder:"ROLE" help:"user, app or admin. Default user."`
	settings
}

func (c *userAddCmd) Run(ctx context.Context, p *program) error {
	pw, err := newPassword(p, c.Password)
	if err != nil {
		return err
	}
	return c.accounts(ctx, p, true, func(a control.Accounts) error { return a.Add(ctx, c.User, pw, c.Role) })
}

type userPasswdCmd struct {
	User     string  `arg:"" help:"Whose password it is."`
	Password *string `placeholder:"PW" help:"The new password; without it somebody at a terminal is asked, otherwise a line is read from standard input."`
	settings
}

func (c *userPasswdCmd) Run(ctx context.Context, p *program) error {
	pw, err := newPassword(p, c.Password)
	if err != nil {
		return err
	}
	return c.accounts(ctx, p, false, func(a control.Accounts) error { return a.SetPassword(ctx, c.User, pw) })
}

// newPassword is a password to be set. An empty one would mean that only keys
// and tokens open the account, and must not come about by a slip.
func newPassword(p *program, given *string) (string, error) {
	pw, err := password(p, given, true)
	if err == nil && pw == "" {
		err = errors.New("the password is empty")
	}
	return pw, err
}

type userRmCmd struct {
	User string `arg:"" help:"Whose account it is."`
	settings
}

func (c *userRmCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error { return a.Remove(ctx, c.User) })
}

type userRoleCmd struct {
	User string    `arg:"" help:"Whose account it is."`
	Role auth.Role `arg:"" help:"user, app or admin."`
	settings
}

func (c *userRoleCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error { return a.SetRole(ctx, c.User, c.Role) })
}

type userDisableCmd struct {
	User string `arg:"" help:"Whose account it is."`
	settings
}

func (c *userDisableCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error { return a.SetDisabled(ctx, c.User, true) })
}

type userEnableCmd struct {
	User string `arg:"" help:"Whose account it is."`
	settings
}

func (c *userEnableCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error { return a.SetDisabled(ctx, c.User, false) })
}

type userLsCmd struct{ settings }

func (c *userLsCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error {
		list, err := a.List(ctx)
		if err != nil {
			return err
		}
		return table(p.out, func(w io.Writer) {
			for _, u := range list {
				notes := []string{}
				if u.Disabled {
					notes = append(notes, "disabled")
				}
				if !u.Password {
					notes = append(notes, "no password")
				}
				if u.Keys > 0 {
					notes = append(notes, fmt.Sprintf("%d keys", u.Keys))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.User, u.Role, u.Created.Local().Format(time.DateTime), strings.Join(notes, ", "))
			}
		})
	})
}

type userKeyCmd struct {
	User   string `arg:"" help:"Whose account it is."`
	Label  string `xor:"what" placeholder:"LABEL" help:"Make a key of that label and print it; it cannot be shown again."`
	Remove string `xor:"what" placeholder:"LABEL" help:"Remove the key of that label."`
	settings
}

func (c *userKeyCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error {
		switch {
		case c.Label != "":
			key, err := a.AddKey(ctx, c.User, c.Label)
			if err == nil {
				_, err = fmt.Fprintln(p.out, key)
			}
			return err
		case c.Remove != "":
			return a.RemoveKey(ctx, c.User, c.Remove)
		}
		keys, err := a.ListKeys(ctx, c.User)
		if err != nil {
			return err
		}
		return table(p.out, func(w io.Writer) {
			for _, k := range keys {
				fmt.Fprintf(w, "%s\t%s\n", k.Label, k.Created.Local().Format(time.DateTime))
			}
		})
	})
}

type userTokenCmd struct {
	User   string        `arg:"" help:"Who the bearer is."`
	Device string        `placeholder:"NAME" help:"The one device that the token is for. Default any."`
	Life   time.Duration `placeholder:"DURATION" help:"How long it is good. Default: auth.tokens.life."`
	settings
}

func (c *userTokenCmd) Run(ctx context.Context, p *program) error {
	return c.accounts(ctx, p, false, func(a control.Accounts) error {
		token, expires, err := a.IssueToken(ctx, c.User, c.Device, c.Life)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.err, "good until %s\n", expires.Local().Format(time.DateTime))
		_, err = fmt.Fprintln(p.out, token)
		return err
	})
}

func table(out io.Writer, rows func(io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	rows(w)
	return w.Flush()
}
