package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/config"
	"github.com/posthouse-im/posthouse/internal/ledger"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/pebble"
)

// data is an open data directory.
type data struct {
	mail  *mailbox.Mail
	auth  *auth.Auth
	costs *ledger.Ledger
}

// openData opens the data directory, which is then ours alone.
func openData(cfg *config.Config, log *slog.Logger) (*data, error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, err
	}
	o := cfg.Store
	o.Retention, o.Log = cfg.Retention, log
	store, err := pebble.Open(filepath.Join(cfg.Data, "store"), o)
	if errors.Is(err, pebble.ErrInUse) {
		return nil, fmt.Errorf("data: directory %s is in use by another posthouse", cfg.Data)
	} else if err != nil {
		return nil, err
	}
	mail := mailbox.New(store, cfg.Limits)
	ac := cfg.Auth
	ac.Domain, ac.Log = cfg.Domain, log
	a, err := auth.Open(context.Background(), mail, ac)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	costs := ledger.New(mail, log)
	costs.Only(a.Exists)
	return &data{mail, a, costs}, nil
}

// forget removes what is kept of users whose account was removed, or will be;
// doors are what does so for the doors.
func (d *data) forget(ctx context.Context, doors ...func(ctx context.Context, user string) error) error {
	d.auth.OnRemove(func(ctx context.Context, user string) error {
		err := d.costs.ForgetUser(ctx, user)
		for _, forget := range doors {
			err = errors.Join(err, forget(ctx, user))
		}
		return err
	})
	return d.auth.ForgetRemoved(ctx)
}

// Close closes it. The doors must have ended.
func (d *data) Close() error {
	d.auth.Close()
	return d.mail.Close()
}
