package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/store/mem"
)

// device is a client whose states are kept.
type device struct {
	*client.Client
	t *testing.T

	mu     sync.Mutex
	states []string // guarded by mu
	news   chan struct{}
}

func (h *house) open(t *testing.T, user string, more ...func(*client.Config)) *device {
	t.Helper()
	d := &device{t: t, news: make(chan struct{}, 1)}
	cfg := client.Config{Ways: h.ways(), User: user, Password: "secret", Device: "phone"}
	cfg.OnState = func(s client.State) {
		d.mu.Lock()
		d.states = append(d.states, strings.TrimSpace(fmt.Sprint(string(s.Phase), " ", s.Way)))
		d.mu.Unlock()
		select {
		case d.news <- struct{}{}:
		default:
		}
	}
	for _, f := range more {
		f(&cfg)
	}
	var err error
	if d.Client, err = client.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// await waits for a state, "online poll".
func (d *device) await(want string) client.State {
	d.t.Helper()
	late := time.After(time.Hour)
	for {
		s := d.State()
		if strings.TrimSpace(string(s.Phase)+" "+s.Way) == want {
			return s
		}
		select {
		case <-d.news:
		case <-late:
			d.mu.Lock()
			defer d.mu.Unlock()
			d.t.Fatalf("never %s, but %v, %v", want, d.states, s.Err)
		}
	}
}

func (d *device) send(to, body string) client.Receipt {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Hour)
	defer cancel()
	r, err := d.Send(ctx, client.Draft{To: to, Body: []byte(body)})
	if err != nil {
		d.t.Fatalf("send %q: %v; %+v", body, err, d.State())
	}
	return r
}

func (d *device) receive(want string) client.Message {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Hour)
	defer cancel()
	m, err := d.Receive(ctx)
	if err != nil {
		d.t.Fatalf("waiting for %q: %v; %+v", want, err, d.State())
	}
	if string(m.Body) != want {
		d.t.Fatalf("received %q, want %q", m.Body, want)
	}
	return m
}

func (d *device) ack(m client.Message) {
	d.t.Helper()
	if err := d.Ack(d.t.Context(), m); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) nothing() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	if m, err := d.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		d.t.Fatalf("received %q, %v", m.Body, err)
	}
}

func keep(s client.Store) func(*client.Config) { return func(c *client.Config) { c.Store = s } }

func TestSendReceiveOverTheBestWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		alice, bob := h.open(t, "alice"), h.open(t, "bob")
		if r := alice.send("bob", "one"); r.Seq != 1 || r.ID == "" || r.Duplicate {
			t.Errorf("%+v", r)
		}
		bob.ack(bob.receive("one"))
		bob.await("online link")
		if live, ok := bob.Live().(*link.Mailbox); !ok {
			t.Error("not a link")
		} else if devices, err := live.Devices(t.Context()); err != nil || len(devices) != 1 || devices[0].Name != "phone" {
			t.Errorf("devices %+v, %v", devices, err)
		}
		if n := alice.Pending(); n != 0 {
			t.Errorf("%d pending", n)
		}
		var no *client.Refused
		if _, err := alice.Send(t.Context(), client.Draft{To: "nobody", Body: []byte("x")}); !errors.As(err, &no) || no.Code != "unknown-recipient" {
			t.Errorf("to nobody: %v", err)
		}
	})
}

// A proxy lets nothing but plain HTTP through, and no request for long.
func TestHostileProxy(t *testing.T) {
	for _, upgrade := range []bool{false, true} { // whether it lets WebSockets begin
		t.Run(fmt.Sprint("upgrade=", upgrade), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				alice, bob := h.open(t, "alice"), h.open(t, "bob")
				bob.await("online link")
				n := 0
				both := func(count int) {
					t.Helper()
					for range count {
						n++
						alice.send("bob", fmt.Sprint(n))
						time.Sleep(700 * time.Millisecond)
					}
				}
				both(5)
				h.hostile.Store(true)
				h.noLink.Store(true)
				h.upgrade.Store(upgrade)
				h.cut()
				both(40)
				bob.await("online poll")
				alice.await("online poll")
				both(40)
				h.hostile.Store(false)
				h.noLink.Store(false)
				bob.await("online link")
				alice.await("online link")
				both(5)
				for i := 1; i <= n; i++ {
					m := bob.receive(fmt.Sprint(i))
					if m.Seq != uint64(i) || m.Prev != uint64(i-1) {
						t.Errorf("%d has place %d behind %d", i, m.Seq, m.Prev)
					}
					bob.ack(m)
				}
				bob.nothing()
			})
		})
	}
}

// What worked last on a network is tried first there.
func TestRemembersWhatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.hostile.Store(true)
		h.noLink.Store(true)
		store := new(client.Memory)
		at := func(c *client.Config) { c.Network = "office" }
		first := h.open(t, "bob", keep(store), at)
		first.await("online poll")
		first.Close()
		h.noLink.Store(false)
		h.hostile.Store(false)
		second := h.open(t, "bob", keep(store), at)
		second.await("online poll")
		second.await("online link") // and then the better one
		second.Close()
		third := h.open(t, "bob", keep(store), at)
		third.await("online link")
	})
}

func TestQueueAndPlaceOutliveTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		mine, his := new(client.Memory), new(client.Memory)
		bob := h.open(t, "bob", keep(his))
		alice := h.open(t, "alice", keep(mine))
		alice.send("bob", "one")
		alice.send("bob", "two")
		bob.ack(bob.receive("one"))
		bob.receive("two") // and not acknowledged
		h.refuse.Store(true)
		h.cut()
		for _, body := range []string{"three", "four", "five"} {
			if _, err := alice.Queue(client.Draft{To: "bob", Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		alice.Close()
		bob.Close()
		if _, err := alice.Queue(client.Draft{To: "bob"}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		h.refuse.Store(false)
		stored := make(chan string, 3)
		alice = h.open(t, "alice", keep(mine), func(c *client.Config) { c.OnStored = func(r client.Receipt) { stored <- r.ID } })
		for range 3 {
			<-stored
		}
		alice.send("bob", "six")
		bob = h.open(t, "bob", keep(his))
		for _, body := range []string{"two", "three", "four", "five", "six"} {
			bob.ack(bob.receive(body))
		}
		bob.nothing()
	})
}

// The place is the program's: what it acknowledged while it was offline does
// not come again, by whatever way it comes back.
func TestAcknowledgedOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		store := new(client.Memory)
		alice, bob := h.open(t, "alice"), h.open(t, "bob", keep(store))
		alice.send("bob", "one")
		m := bob.receive("one")
		h.refuse.Store(true)
		h.cut()
		bob.await("waiting")
		bob.ack(m)
		bob.Close()
		h.refuse.Store(false)
		h.noLink.Store(true)
		h.hostile.Store(true)
		bob = h.open(t, "bob", keep(store))
		bob.await("online poll")
		alice.send("bob", "two")
		bob.ack(bob.receive("two"))
		bob.nothing()
	})
}

// A server that was set up anew counts from one again.
func TestServerGoneBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		store := new(client.Memory)
		alice, bob := h.open(t, "alice"), h.open(t, "bob", keep(store))
		for i := range 5 {
			alice.send("bob", fmt.Sprint(i))
			bob.ack(bob.receive(fmt.Sprint(i)))
		}
		bob.Close()
		h = newHouseOn(t, mem.New(mem.Options{}))
		alice, bob = h.open(t, "alice"), h.open(t, "bob", keep(store))
		bob.await("online link")
		alice.send("bob", "anew")
		if m := bob.receive("anew"); m.Seq != 1 {
			t.Errorf("place %d", m.Seq)
		}
	})
}

func TestClosedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		wrong := h.open(t, "alice", func(c *client.Config) { c.Password = "wrong" })
		var no *client.Closed
		if _, err := wrong.Send(t.Context(), client.Draft{To: "bob"}); !errors.As(err, &no) || no.Code != "denied" {
			t.Errorf("wrong password: %v", err)
		}
		if s := wrong.await("closed"); !errors.As(s.Err, &no) {
			t.Errorf("%+v", s)
		}
		first := h.open(t, "bob")
		first.await("online link")
		second := h.open(t, "bob")
		second.await("online link")
		first.await("closed")
		if _, err := first.Receive(t.Context()); !errors.As(err, &no) || no.Code != "replaced" {
			t.Errorf("the first: %v", err)
		}
		store := new(client.Memory)
		h.open(t, "alice", keep(store)).await("online link")
		other := h.open(t, "bob", keep(store), func(c *client.Config) { c.Device = "phone" })
		if s := other.await("closed"); !errors.As(s.Err, &no) || no.Code != "wrong-account" {
			t.Errorf("another account: %+v", s)
		}
		if c, err := client.Open(t.Context(), client.Config{Ways: h.ways(), User: "alice", Device: "tablet", Store: store}); err == nil {
			c.Close()
			t.Error("another device")
		}
	})
}

func TestOfflineAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.refuse.Store(true)
		alice := h.open(t, "alice")
		s := alice.await("waiting")
		if s.Err == nil || s.Again.IsZero() {
			t.Errorf("%+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r, err := alice.Send(ctx, client.Draft{To: "bob", Body: []byte("one")}); !errors.Is(err, context.DeadlineExceeded) || r.ID == "" {
			t.Errorf("%+v, %v", r, err)
		}
		expired := make(chan error, 1)
		go func() {
			_, err := alice.Send(t.Context(), client.Draft{To: "bob", Body: []byte("old"), Expires: time.Second})
			expired <- err
		}()
		time.Sleep(time.Minute)
		h.refuse.Store(false)
		began := time.Now()
		alice.await("waiting")
		alice.NetworkChanged("home")
		alice.await("online link")
		if d := time.Since(began); d > 25*time.Second {
			t.Errorf("after %v", d)
		}
		if err := <-expired; !errors.Is(err, client.ErrExpired) {
			t.Errorf("expired: %v", err)
		}
		bob := h.open(t, "bob")
		bob.receive("one") // its Send was given up; it was not
		bob.nothing()
	})
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		var broken atomic.Bool
		broken.Store(true)
		tokens := func(c *client.Config) {
			c.User, c.Password = "", ""
			c.Tokens = func(context.Context) (string, error) {
				if broken.Load() {
					return "", errors.New("the identity provider sleeps")
				}
				return token("alice", time.Now().Add(10*time.Minute)), nil
			}
		}
		alice := h.open(t, "alice", tokens)
		if s := alice.await("waiting"); !errors.Is(s.Err, client.ErrToken) {
			t.Errorf("%+v", s)
		}
		broken.Store(false)
		alice.await("online link")
		h.noLink.Store(true)
		h.hostile.Store(true)
		for range 200 { // most of a day, by poll
			alice.send("bob", "x")
			time.Sleep(5 * time.Minute)
		}
	})
}

func TestBackgroundAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.noLink.Store(true)
		h.hostile.Store(true)
		bob := h.open(t, "bob")
		bob.await("online poll")
		bob.SetBackground(true)
		h.noLink.Store(false)
		h.hostile.Store(false)
		time.Sleep(time.Hour) // asleep it looks for nothing better
		if s := bob.State(); s.Way != "poll" {
			t.Errorf("%+v", s)
		}
		bob.SetBackground(false)
		bob.await("online link")
		alice := h.open(t, "alice")
		alice.send("bob", "awake")
		bob.receive("awake")
	})
}
