package client_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
)

// mast is a way whose attempts take a second, and whose mailboxes end when the
// network is another.
type mast struct {
	late time.Duration // how long NetworkChanged takes after that

	mu    sync.Mutex
	opens []string // guarded by mu; networks of the attempts
	told  []string // guarded by mu; what mailboxes were told
}

type mastBox struct {
	client.Mailbox
	m    *mast
	once sync.Once
	over chan struct{}
}

func (m *mast) way(name string) client.Way {
	return client.Way{Name: name, Open: func(ctx context.Context, a client.Attempt) (client.Mailbox, error) {
		m.mu.Lock()
		m.opens = append(m.opens, a.Network)
		m.mu.Unlock()
		time.Sleep(time.Second) // an attempt that cannot be given up any more
		return &mastBox{m: m, over: make(chan struct{})}, nil
	}}
}

func (b *mastBox) NetworkChanged(name string) {
	b.m.mu.Lock()
	b.m.told = append(b.m.told, name)
	b.m.mu.Unlock()
	b.Close()
	time.Sleep(b.m.late)
}

func (b *mastBox) Receive(ctx context.Context) (client.Message, error) {
	select {
	case <-b.over:
		return client.Message{}, client.ErrMoved
	case <-ctx.Done():
		return client.Message{}, ctx.Err()
	}
}

func (b *mastBox) Close() error {
	b.once.Do(func() { close(b.over) })
	return nil
}

// What the program says of the network is looked at once, and once only: however
// late the bell is heard, no attempt that knows already is given up for it.
func TestNetworkChangedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		late, then time.Duration
		opens      int
	}{
		"heard while it connects again": {500 * time.Millisecond, 10 * time.Second, 2},
		"heard when it has":             {5 * time.Second, 10 * time.Second, 2},
		"changed while it connects":     {0, 500 * time.Millisecond, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := &mast{late: c.late}
			cl, err := client.Open(t.Context(), client.Config{
				Ways: []client.Way{m.way("mast")}, User: "alice", Password: "secret", Network: "lte",
			})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			time.Sleep(5 * time.Second)
			go cl.NetworkChanged("wifi")
			time.Sleep(c.then)
			if c.opens == 3 {
				cl.NetworkChanged("cafe")
				time.Sleep(10 * time.Second)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(m.opens) != c.opens || cl.State().Phase != client.Online {
				t.Errorf("%s: attempts on %v, %+v", name, m.opens, cl.State())
			}
		})
	}
}

// Of a connection that was made in the moment in which the network changed it is
// not believed that it is on the new one.
func TestMadeOnTheNetworkThatWasLeft(t *testing.T) {
	for range 50 { // it is chance which of the two is seen first
		synctest.Test(t, func(t *testing.T) {
			m := new(mast)
			cl, err := client.Open(t.Context(), client.Config{
				Ways: []client.Way{m.way("mast")}, User: "alice", Password: "secret", Network: "lte",
			})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			time.Sleep(time.Second)
			cl.NetworkChanged("wifi")
			time.Sleep(10 * time.Second)
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(m.opens) != 2 || m.opens[1] != "wifi" || cl.State().Phase != client.Online {
				t.Errorf("attempts on %v, told %v, %+v", m.opens, m.told, cl.State())
			}
		})
	}
}
