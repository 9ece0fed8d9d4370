// Package ledger keeps for every device what it has cost: bytes, packets,
// wake-ups, heartbeats, connections and energy, by way and by day.
//
// Live connections count by themselves, in a [cost.Meter]. The ledger collects
// that when they end, when somebody asks, and every few minutes besides; it is
// then written to the store's records, those of some hundred devices at once. A
// crash, or a disk that takes nothing, loses the counts of those minutes.
package ledger

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Every is how often what live connections have counted is collected.
const Every = 2 * time.Minute

// days is how many days are kept one by one.
const days = 7

// away is after how many collections in a row that found nothing a device of
// requests is gone: longer than any of its connections is silent.
const away = 20

// batch is how many accounts are written at once.
const batch = 256

// Account is what one device has cost.
type Account struct {
	// Since is when it was first seen.
	Since time.Time `json:"since"`
	// Ways has the totals since then, by the name of the door.
	Ways map[string]*cost.Counts `json:"ways"`
	// Days are the last days on which there was something, the newest first.
	Days []Day `json:"days"`
}

// Day is one day, in UTC, by all ways together.
type Day struct {
	Date string `json:"date"` // 2006-01-02
	cost.Counts
}

// Total is what all ways together have cost.
func (a *Account) Total() (c cost.Counts) {
	for _, w := range a.Ways {
		c.Add(w)
	}
	return c
}

// add books counts on a day.
func (a *Account) add(way string, c *cost.Counts, now time.Time) {
	if a.Since.IsZero() {
		a.Since = now.UTC().Truncate(time.Second)
	}
	if a.Ways == nil {
		a.Ways = map[string]*cost.Counts{}
	}
	if a.Ways[way] == nil {
		a.Ways[way] = &cost.Counts{}
	}
	a.Ways[way].Add(c)
	today := now.UTC().Format(time.DateOnly)
	if len(a.Days) == 0 || a.Days[0].Date != today {
		a.Days = slices.Insert(a.Days, 0, Day{Date: today})
		a.Days = a.Days[:min(len(a.Days), days)]
	}
	a.Days[0].Add(c)
}

// merge adds what was counted apart, later than a.
func (a *Account) merge(b *Account) {
	if a.Since.IsZero() {
		a.Since = b.Since
	}
	for way, c := range b.Ways {
		if a.Ways == nil {
			a.Ways = map[string]*cost.Counts{}
		}
		if a.Ways[way] == nil {
			a.Ways[way] = &cost.Counts{}
		}
		a.Ways[way].Add(c)
	}
	for _, d := range slices.Backward(b.Days) {
		if i := slices.IndexFunc(a.Days, func(o Day) bool { return o.Date == d.Date }); i >= 0 {
			a.Days[i].Add(&d.Counts)
		} else {
			a.Days = slices.Insert(a.Days, 0, d)
		}
	}
	a.Days = a.Days[:min(len(a.Days), days)]
}

// Source knows live connections: it yields the meters of user's devices, or of
// everybody's if user is empty. One may be yielded twice.
type Source func(user string, yield func(user, device, way string, m *cost.Meter))

// device is one, by its user's canonical bare address and its name.
type device struct{ user, name string }

// Ledger has the accounts of all devices. A nil Ledger counts nothing.
type Ledger struct {
	mail    *mailbox.Mail
	log     *slog.Logger
	sources []Source
	exists  func(user string) bool // nil if everybody does
	full    chan struct{}

	// turn is for who collects, writes or reads, so that none finds what
	// another is just carrying from one place to the next.
	turn sync.Mutex

	mu     sync.Mutex
	due    map[device]*entry  // not written yet
	shared map[device]*shared // of Meter
	totals map[string]*cost.Counts
}

// entry is what is to be added to an account.
type entry struct {
	Account
	anew bool // what the store has of it is forgotten
}

// shared is a meter that connections without a session count with.
type shared struct {
	cost.Meter
	way  string
	idle int // how often in a row nothing was found to collect
}

// New returns a ledger in the store of mail.
func New(mail *mailbox.Mail, log *slog.Logger) *Ledger {
	return &Ledger{mail: mail, log: log, full: make(chan struct{}, 1),
		due: map[device]*entry{}, shared: map[device]*shared{}, totals: map[string]*cost.Counts{}}
}

// Watch adds a source. Call it before Run and before anybody asks.
func (l *Ledger) Watch(s Source) { l.sources = append(l.sources, s) }

// Only has accounts written of users alone of whom exists says that they are:
// connections of one who was removed end, and are booked, when he is forgotten
// already. Call it before Run.
func (l *Ledger) Only(exists func(user string) bool) { l.exists = exists }

// Book adds to a device's account what m has counted; its connection ends.
func (l *Ledger) Book(user, name, way string, m *cost.Meter) {
	if l == nil || user == "" {
		return
	}
	c := m.Take(time.Now())
	l.book(device{user, name}, way, &c)
}

func (l *Ledger) book(d device, way string, c *cost.Counts) {
	if c.Zero() {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.due[d]
	if a == nil {
		a = &entry{}
		l.dueLocked(d, a)
	}
	a.add(way, c, now)
	if l.totals[way] == nil {
		l.totals[way] = &cost.Counts{}
	}
	l.totals[way].Add(c)
}

func (l *Ledger) dueLocked(d device, e *entry) {
	l.due[d] = e
	if len(l.due) >= batch {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

// Meter returns the meter of a device whose connections come and go.
func (l *Ledger) Meter(user, name, way string) *cost.Meter {
	if l == nil {
		return new(cost.Meter)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := device{user, name}
	m := l.shared[d]
	if m == nil {
		m = &shared{way: way}
		l.shared[d] = m
	}
	m.idle = 0
	return &m.Meter
}

// Totals is what was collected since the server began, by way.
func (l *Ledger) Totals() map[string]cost.Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := make(map[string]cost.Counts, len(l.totals))
	for way, c := range l.totals {
		t[way] = *c
	}
	return t
}

// Run collects and writes until ctx ends, and then once more.
func (l *Ledger) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.round(ctx, true)
		case <-l.full:
			l.round(ctx, false)
		case <-ctx.Done():
			l.round(context.WithoutCancel(ctx), true)
			return
		}
	}
}

func (l *Ledger) round(ctx context.Context, collect bool) {
	l.turn.Lock()
	defer l.turn.Unlock()
	if collect {
		l.collect("", "")
	}
	l.flush(ctx)
}

// collect books what live connections have counted, of everybody or of one
// user, or of one of his devices. For everybody it leaves out those of which
// only time has passed, so that idle devices are not written again and again.
func (l *Ledger) collect(user, name string) {
	now := time.Now()
	for _, s := range l.sources {
		s(user, func(user, dev, way string, m *cost.Meter) {
			if name != "" && dev != name || name == "" && !m.Moved() {
				return
			}
			c := m.Take(now)
			l.book(device{user, dev}, way, &c)
		})
	}
	var found []func()
	l.mu.Lock()
	for d, m := range l.shared {
		if user != "" && d.user != user || name != "" && d.name != name {
			continue
		}
		if m.Moved() {
			m.idle = 0
			c := m.Take(now)
			found = append(found, func() { l.book(d, m.way, &c) })
		} else if user == "" {
			if m.idle++; m.idle > away {
				delete(l.shared, d)
			}
		}
	}
	l.mu.Unlock()
	for _, book := range found {
		book()
	}
}

const prefix = "cost/"

func key(d device) string { return prefix + d.user + "/" + d.name }

// flush writes what is due.
func (l *Ledger) flush(ctx context.Context) {
	l.mu.Lock()
	due := l.due
	l.due = map[device]*entry{}
	l.mu.Unlock()
	var records []mailbox.Record
	write := func() {
		if len(records) == 0 {
			return
		}
		if err := l.mail.Put(ctx, records...); err != nil {
			l.log.Warn("what devices cost could not be written", "devices", len(records), "err", err)
		}
		records = records[:0]
	}
	for d, more := range due {
		if l.exists != nil && !l.exists(d.user) {
			continue
		}
		a, err := l.with(ctx, d, more)
		if err != nil {
			l.log.Warn("what a device cost could not be read", "user", d.user, "device", d.name, "err", err)
			continue
		}
		var v []byte // none removes the record
		if !a.Since.IsZero() {
			if v, err = json.Marshal(a); err != nil {
				panic(err) // numbers and names
			}
		}
		if records = append(records, mailbox.Record{Key: key(d), Value: v}); len(records) == batch {
			write()
		}
	}
	write()
}

// with is the account of d in the store, and what is to be added to it.
func (l *Ledger) with(ctx context.Context, d device, more *entry) (*Account, error) {
	if more.anew {
		return &more.Account, nil
	}
	a, err := l.read(ctx, d)
	if err == nil {
		a.merge(&more.Account)
	}
	return a, err
}

func (l *Ledger) read(ctx context.Context, d device) (*Account, error) {
	a := &Account{}
	v, err := l.mail.Get(ctx, key(d))
	if err != nil || v == nil {
		return a, err
	}
	if err := json.Unmarshal(v, a); err != nil {
		// It is an estimate, and no reason to fail for ever.
		l.log.Warn("what a device cost is not readable, and begins anew", "user", d.user, "device", d.name, "err", err)
		return &Account{}, nil
	}
	return a, nil
}

// Account returns what a device has cost until now. Its Since is zero if
// nothing is known of it. It may read the disk.
func (l *Ledger) Account(ctx context.Context, user, name string) (*Account, error) {
	if l == nil {
		return &Account{}, nil
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.collect(user, name)
	d := device{user, name}
	l.mu.Lock()
	more := &entry{}
	if e := l.due[d]; e != nil {
		more.anew = e.anew
		more.merge(&e.Account)
	}
	l.mu.Unlock()
	return l.with(ctx, d, more)
}

// Drop removes a device's account a little later. It does not block.
func (l *Ledger) Drop(user, name string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := device{user, name}
	delete(l.shared, d)
	l.dueLocked(d, &entry{anew: true})
}

// Forget removes a device's account now.
func (l *Ledger) Forget(ctx context.Context, user, name string) error {
	if l == nil {
		return nil
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.collect(user, name)
	d := device{user, name}
	l.mu.Lock()
	delete(l.due, d)
	delete(l.shared, d)
	l.mu.Unlock()
	return l.mail.Put(ctx, mailbox.Record{Key: key(d)})
}

// ForgetUser removes the accounts of all of a user's devices.
func (l *Ledger) ForgetUser(ctx context.Context, user string) error {
	if l == nil {
		return nil
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	for d := range l.due {
		if d.user == user {
			delete(l.due, d)
		}
	}
	for d := range l.shared {
		if d.user == user {
			delete(l.shared, d)
		}
	}
	l.mu.Unlock()
	var gone []mailbox.Record
	err := l.mail.Scan(ctx, prefix+user+"/", func(k string, _ []byte) bool {
		gone = append(gone, mailbox.Record{Key: strings.Clone(k)})
		return true
	})
	for part := range slices.Chunk(gone, batch) {
		if err == nil {
			err = l.mail.Put(ctx, part...)
		}
	}
	return err
}
