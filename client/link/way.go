package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/stream"
	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Way makes the long connection one of the ways of a client.Client, which
// brings the account, the device, the network and the store.
//
//	link.Way("link", link.Config{Options: client.Options{Addr: "push.example.org:7401", TLS: &tls.Config{}}})
//	link.Way("websocket", link.Config{Options: client.Options{Addr: "wss://push.example.org/link"}})
//
// What it learns of networks is in the client's store, unless Findings says
// where else.
func Way(name string, cfg Config) client.Way {
	if cfg.Dial == nil {
		cfg.Dial = stream.Dialer(cfg.Options, frame.Protocol)
	}
	w := &way{cfg: cfg, nets: map[string]*network{}}
	return client.Way{Name: name, Open: w.open}
}

// way is what one connection leaves to the next.
type way struct {
	cfg Config

	opening sync.Mutex // held while a connection is made
	last    *Mailbox   // guarded by opening
	nets    map[string]*network

	mu      sync.Mutex
	network string        // guarded by mu; where the last connection ended
	quiet   time.Duration // guarded by mu; which did not survive such a silence; zero says nothing
	spare   *spare        // guarded by mu; opened when it was in doubt
}

func (w *way) open(ctx context.Context, a client.Attempt) (client.Mailbox, error) {
	w.opening.Lock()
	defer w.opening.Unlock()
	cfg := w.cfg
	cfg.User, cfg.Password, cfg.Token, cfg.Device, cfg.Log = a.User, a.Password, a.Token, a.Device, a.Log
	cfg.Network = a.Network
	if a.Tokens != nil {
		cfg.Tokens = firstToken(a)
	}
	if cfg.Findings == nil {
		cfg.Findings = storeFindings{a.Store}
	}
	mb := newMailbox(cfg)
	mb.way, mb.prefix, mb.background, mb.better = w, a.Prefix, a.Background, a.Better
	if a.Place != nil {
		mb.placed, mb.got, mb.acked = true, *a.Place, *a.Place
	}
	last := w.last
	if last != nil {
		last.Close() // and it no longer uses what it leaves
		mb.reports, mb.shows = last.reports, last.shows
	}
	mb.nets = w.nets
	w.mu.Lock()
	network, quiet := w.network, w.quiet
	w.quiet = 0
	sp := w.spare
	w.spare = nil
	w.mu.Unlock()
	switch {
	case last == nil:
	case network == a.Network:
		mb.pace, mb.spare, mb.suspect = last.pace, sp, quiet
	case sp != nil:
		sp.drop()
	}
	if err := mb.open(ctx); err != nil {
		mb.mu.Lock()
		mb.dropLocked() // if it did not come to be used
		mb.mu.Unlock()
		return nil, forClient(err)
	}
	w.last = mb
	return mb, nil
}

// firstToken brings the token that the client has, then fresh ones.
func firstToken(a client.Attempt) func(context.Context) (string, error) {
	var first atomic.Pointer[string]
	first.Store(&a.Token)
	return func(ctx context.Context) (string, error) {
		if t := first.Swap(nil); t != nil {
			return *t, nil
		}
		return a.Tokens(ctx)
	}
}

// ended takes note of how a connection ended, and keeps what was opened in its
// stead for a moment.
func (w *way) ended(network string, quiet time.Duration, sp *spare) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.network, w.quiet = network, quiet
	if w.spare = sp; sp == nil {
		return
	}
	time.AfterFunc(firstTime, func() { // another way was faster, or the client is closed
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.spare == sp {
			w.spare = nil
			sp.drop()
		}
	})
}

// forClient puts a reason to close into the client's words.
func forClient(err error) error {
	var later *comeBack
	if errors.As(err, &later) {
		return &client.Later{Code: later.code.String(), After: later.after}
	}
	return err
}

// Greeting says whose mailbox it is and after which place messages followed.
func (mb *Mailbox) Greeting() (address string, after uint64, known bool) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.address, mb.after, true
}

// storeFindings keeps findings in a client's store.
type storeFindings struct{ s client.Store }

const findingsKey = "link/heartbeat/" // and the network

func (k storeFindings) Load(network string) (f learn.Finding, err error) {
	err = k.s.Range(findingsKey+network, func(key string, value []byte) error {
		if key != findingsKey+network {
			return nil
		}
		return json.Unmarshal(value, &f)
	})
	if err != nil {
		return learn.Finding{}, fmt.Errorf("link: findings: %w", err)
	}
	return f, nil
}

func (k storeFindings) Save(network string, f learn.Finding) error {
	v, err := json.Marshal(f)
	if err == nil {
		err = k.s.Apply(client.Change{Key: findingsKey + network, Value: v})
	}
	if err != nil {
		return fmt.Errorf("link: findings: %w", err)
	}
	return nil
}
