package ledger

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

const alice = "alice@localhost"

// desk is a ledger and the connections that it watches.
type desk struct {
	*Ledger
	t    *testing.T
	mail *mailbox.Mail
	mu   sync.Mutex
	live map[string]*cost.Meter // of alice's devices, by link; guarded by mu
}

func newDesk(t *testing.T) *desk {
	store := mem.New(mem.Options{})
	t.Cleanup(func() { store.Close() })
	d := &desk{t: t, mail: mailbox.New(store, mailbox.Limits{}), live: map[string]*cost.Meter{}}
	d.reopen()
	return d
}

// reopen is what a start after a crash finds: what is in memory is gone.
func (d *desk) reopen() {
	d.Ledger = New(d.mail, slog.New(slog.DiscardHandler))
	d.Watch(func(user string, yield func(user, device, way string, m *cost.Meter)) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for name, m := range d.live {
			if user == "" || user == alice {
				yield(alice, name, "link", m)
			}
		}
	})
}

func (d *desk) run() (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		d.Run(ctx)
		close(done)
	}()
	return func() { cancel(); <-done }
}

func (d *desk) account(name string) *Account {
	d.t.Helper()
	a, err := d.Account(d.t.Context(), alice, name)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

// A device that beats once a minute for a day and comes back by another way:
// asked at any time the account has all of it, and a crash loses two minutes.
func TestDayOfADevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		stop := d.run()
		m := new(cost.Meter)
		d.mu.Lock()
		d.live["phone"] = m
		d.mu.Unlock()
		m.Login(time.Now())
		for range 24 * 60 {
			m.Up(2, time.Now(), cost.Quiet)
			m.Down(2, time.Now(), cost.Quiet)
			m.Beat()
			time.Sleep(time.Minute)
		}
		a := d.account("phone")
		c := a.Total()
		if c.Wakeups != 1440 || c.Heartbeats != 1440 || c.BytesUp != 2880 || c.Connects != 1 || c.Connected != 86_400_000 {
			t.Errorf("%+v", c)
		}
		if j := c.Joules(cost.LTE); j < 24*670 || j > 24*690 {
			t.Errorf("%.0f J", j)
		}
		if len(a.Days) != 2 || a.Days[0].Date != "2000-01-02" || a.Days[1].Wakeups+a.Days[0].Wakeups != 1440 {
			t.Errorf("%+v", a.Days)
		}

		d.mu.Lock()
		delete(d.live, "phone")
		d.mu.Unlock()
		d.Book(alice, "phone", "link", m)
		pm := d.Meter(alice, "phone", "poll")
		pm.Connect()
		pm.Up(500, time.Now(), cost.Quiet)
		a = d.account("phone")
		if len(a.Ways) != 2 || a.Ways["poll"].BytesUp != 500 || a.Ways["link"].Connects != 1 {
			t.Errorf("%+v", a)
		}

		time.Sleep(2*Every + time.Second)
		pm.Up(70, time.Now(), cost.Quiet)
		synctest.Wait()
		crashed := d.Ledger
		d.reopen()
		if c := d.account("phone").Total(); c.BytesUp != 2880+500 || c.Connects != 2 {
			t.Errorf("after a crash: %+v", c)
		}
		d.Ledger = crashed
		stop()
		d.reopen()
		if c := d.account("phone").Total(); c.BytesUp != 2880+570 {
			t.Errorf("after a stop: %+v", c)
		}
	})
}

// Only as many days are kept as are said; the totals have all of them.
func TestDaysAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		m := new(cost.Meter)
		for range 30 {
			m.Up(10, time.Now(), cost.Quiet)
			d.Book(alice, "phone", "mqtt", m)
			d.flush(t.Context())
			time.Sleep(24 * time.Hour)
		}
		a := d.account("phone")
		if c := a.Total(); len(a.Days) != days || c.BytesUp != 300 || a.Days[0].Date != "2000-01-30" {
			t.Errorf("%d days, %+v", len(a.Days), c)
		}
	})
}

// What is forgotten is gone, also what was not written yet.
func TestForget(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"phone", "tablet", "watch"} {
		m := new(cost.Meter)
		m.Up(1, time.Now(), cost.Quiet)
		d.Book(alice, name, "link", m)
		if name != "watch" {
			d.flush(t.Context())
		}
	}
	if err := d.Forget(t.Context(), alice, "phone"); err != nil {
		t.Fatal(err)
	}
	if !d.account("phone").Since.IsZero() || d.account("tablet").Since.IsZero() {
		t.Error("the wrong one was forgotten")
	}
	if err := d.ForgetUser(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	if !d.account("tablet").Since.IsZero() || !d.account("watch").Since.IsZero() {
		t.Error("something is left of the user")
	}
}

// A device that is dropped is forgotten before anything is written, whether it was
// before or not, and may begin anew.
func TestDrop(t *testing.T) {
	d := newDesk(t)
	m := new(cost.Meter)
	book := func(name string) {
		m.Up(100, time.Now(), cost.Quiet)
		d.Book(alice, name, "link", m)
	}
	book("phone")
	book("tablet")
	d.flush(t.Context())
	book("watch")
	d.Meter(alice, "pad", "poll").Up(1, time.Now(), cost.Quiet)
	for _, name := range []string{"phone", "watch", "pad"} {
		d.Drop(alice, name)
		if !d.account(name).Since.IsZero() {
			t.Errorf("the %s is still known", name)
		}
	}
	book("watch")
	d.flush(t.Context())
	d.reopen()
	if !d.account("phone").Since.IsZero() || !d.account("pad").Since.IsZero() || d.account("tablet").Since.IsZero() {
		t.Error("the wrong one was forgotten")
	}
	if c := d.account("watch").Total(); c.BytesUp != 100 {
		t.Errorf("%+v", c)
	}
	n := 0
	if err := d.mail.Scan(t.Context(), prefix, func(string, []byte) bool { n++; return true }); err != nil || n != 2 {
		t.Errorf("%d accounts in the store, %v", n, err)
	}
}

// What a removed user's connections book when they end is not kept.
func TestOnlyUsers(t *testing.T) {
	d := newDesk(t)
	d.Only(func(user string) bool { return user == alice })
	for _, user := range []string{alice, "bob@localhost"} {
		m := new(cost.Meter)
		m.Up(1, time.Now(), cost.Quiet)
		d.Book(user, "phone", "link", m)
	}
	d.flush(t.Context())
	d.reopen()
	if d.account("phone").Since.IsZero() {
		t.Error("alice's phone is not there")
	}
	if a, err := d.Account(t.Context(), "bob@localhost", "phone"); err != nil || !a.Since.IsZero() {
		t.Errorf("bob's is: %+v, %v", a, err)
	}
}

// A device of requests that says something now and then stays; one that has
// gone does not take up memory.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		stop := d.run()
		defer stop()
		d.Meter(alice, "gone", "poll").Up(1, time.Now(), cost.Quiet)
		m := d.Meter(alice, "phone", "poll")
		for range 3 {
			m.Up(1, time.Now(), cost.Quiet)
			time.Sleep((away - 1) * Every)
		}
		m.Up(1, time.Now(), cost.Quiet)
		if c := d.account("phone").Total(); c.BytesUp != 4 {
			t.Errorf("%+v", c)
		}
		d.Ledger.mu.Lock()
		defer d.Ledger.mu.Unlock()
		if len(d.shared) != 1 {
			t.Errorf("%d devices in memory", len(d.shared))
		}
	})
}

// A record that cannot be read is no reason to fail.
func TestBrokenRecord(t *testing.T) {
	d := newDesk(t)
	if err := d.mail.Put(t.Context(), mailbox.Record{Key: key(device{alice, "phone"}), Value: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	m := new(cost.Meter)
	m.Up(1, time.Now(), cost.Quiet)
	d.Book(alice, "phone", "link", m)
	d.flush(t.Context())
	if c := d.account("phone").Total(); c.BytesUp != 1 {
		t.Errorf("%+v", c)
	}
}

// Many devices at once are written in batches, before the next time is due.
func TestManyDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		stop := d.run()
		for i := range 3 * batch {
			m := new(cost.Meter)
			m.Up(1, time.Now(), cost.Quiet)
			d.Book(alice, time.Duration(i).String(), "link", m)
			synctest.Wait()
		}
		d.Ledger.mu.Lock()
		n := len(d.due)
		d.Ledger.mu.Unlock()
		if n >= batch {
			t.Errorf("%d accounts wait in memory", n)
		}
		stop()
		if c := d.Totals()["link"]; c.BytesUp != 3*batch {
			t.Errorf("%+v", c)
		}
	})
}

// Without a ledger nothing is counted, and nothing fails.
func TestNil(t *testing.T) {
	var l *Ledger
	l.Book(alice, "phone", "link", new(cost.Meter))
	l.Meter(alice, "phone", "poll").Beat()
	if a, err := l.Account(t.Context(), alice, "phone"); err != nil || !a.Since.IsZero() {
		t.Error(a, err)
	}
	if l.Forget(t.Context(), alice, "phone") != nil || l.ForgetUser(t.Context(), alice) != nil {
		t.Error("forget")
	}
}
