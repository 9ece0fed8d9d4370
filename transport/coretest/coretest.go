// Package coretest makes what doors are given, on a store in memory: for tests of
// doors, and of clients against them.
package coretest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/ledger"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
)

// Domain is the one whose users the core has.
const Domain = "localhost"

// Config says how a core differs from the plainest one.
type Config struct {
	Store mem.Options
	// Engine, if not nil, is what stands before the store.
	Engine func(*mem.Store) mailbox.Store
	Limits mailbox.Limits
	// Auth is for the domain localhost, and hashes as little as it may unless it
	// says otherwise.
	Auth auth.Config
	// Users have accounts with the role user. Default alice, bob and carol.
	Users []string
	// Password is that of a user. Nil means secret for everybody.
	Password func(user string) string
	// Loops is as in [conn.Config]: -1 where time is virtual.
	Loops int
	// Log is the core's. Nil drops what is logged.
	Log *slog.Logger
}

// Core is a core, and what the test has of it that doors have not.
type Core struct {
	*transport.Core
	Store *mem.Store
	stop  context.CancelFunc
}

// New makes a core. Close it when the doors have ended.
func New(t testing.TB, c Config) *Core {
	t.Helper()
	if c.Auth.Domain = Domain; c.Auth.Iterations == 0 {
		c.Auth.Iterations = 4096
	}
	if c.Users == nil {
		c.Users = []string{"alice", "bob", "carol"}
	}
	if c.Password == nil {
		c.Password = func(string) string { return "secret" }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	store := mem.New(c.Store)
	engine := mailbox.Store(store)
	if c.Engine != nil {
		engine = c.Engine(store)
	}
	mail := mailbox.New(engine, c.Limits)
	a, err := auth.Open(ctx, mail, c.Auth)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range c.Users {
		if err := a.Add(ctx, user, c.Password(user), auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	r := router.New(ctx, mail, a, Domain)
	a.OnChange(func(user string) { r.EndUser(user, router.Removed) })
	core := &transport.Core{Mail: mail, Router: r, Auth: a, Log: c.Log, Keepalive: keepalive.Fixed(0),
		Engine: conn.New(conn.Config{Loops: c.Loops, Log: c.Log}), Costs: ledger.New(mail, c.Log)}
	core.Costs.Watch(core.Meters)
	r.OnForget(core.Costs.Drop)
	return &Core{core, store, stop}
}

// Close ends all that the core runs, its engine first.
func (c *Core) Close() {
	c.Engine.Close()
	c.Auth.Close()
	c.stop()
	c.Store.Close()
}
