package auth

import (
	"net/netip"
	"sync"
	"time"
)

// The rule is in the package comment.
const (
	firstDelay   = time.Second
	addrDelay    = 60 * time.Second // greatest, for an address
	accountDelay = 4 * time.Second  // greatest, for an account
	forgetEvery  = time.Minute      // one failure is forgotten in this time
	maxOver      = 10               // failures beyond the free ones that are counted
	tableSize    = 32768
)

// backoff counts failed logins.
type backoff struct {
	free    int
	maxWait time.Duration

	mu       sync.Mutex
	addrs    recent[netip.Addr, *failures]
	accounts recent[nameHash, *failures]
	homes    recent[home, *failures] // where accounts have logged in before
}

// home is an account at an address.
type home struct {
	account nameHash
	addr    netip.Addr
}

// failures is one count.
type failures struct {
	most  time.Duration // the greatest delay
	n     int
	since time.Time // n was right then
	until time.Time // the next attempt is not before
}

func newBackoff(free int, maxWait time.Duration) *backoff {
	b := &backoff{free: free, maxWait: maxWait}
	b.addrs.max, b.accounts.max, b.homes.max = tableSize, tableSize, tableSize
	return b
}

// network is what counts as one address.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // an IPv6 address has that many bits
		return p.Addr()
	}
	return a
}

// forget lets the count sink with time.
func (f *failures) forget(now time.Time) {
	if k := int(now.Sub(f.since) / forgetEvery); k >= f.n {
		f.n, f.since = 0, now
	} else if k > 0 {
		f.n -= k
		f.since = f.since.Add(time.Duration(k) * forgetEvery)
	}
}

// delay is how long n failures keep the next attempt away.
func (f *failures) delay(free int) time.Duration {
	over := min(f.n-free, maxOver)
	if over <= 0 {
		return 0
	}
	return min(firstDelay<<(over-1), f.most)
}

// add counts a failure at now.
func (f *failures) add(now time.Time, free int) {
	f.forget(now)
	f.n = min(f.n+1, free+maxOver)
	if next := now.Add(f.delay(free)); next.After(f.until) {
		f.until = next
	}
}

// countsLocked returns what counts for an attempt: the account's own count at
// home, or else the address's and the account's.
func (b *backoff) countsLocked(now time.Time, h home) []*failures {
	if f, ok := b.homes.get(h); ok {
		f.forget(now)
		return []*failures{f}
	}
	fa, ok := b.addrs.get(h.addr)
	if !ok {
		fa = &failures{most: addrDelay, since: now}
		b.addrs.put(h.addr, fa)
	}
	fu, ok := b.accounts.get(h.account)
	if !ok {
		fu = &failures{most: accountDelay, since: now}
		b.accounts.put(h.account, fu)
	}
	fa.forget(now)
	fu.forget(now)
	return []*failures{fa, fu}
}

// admit says how long an attempt must wait before it is made; ok is false if it
// may not be made. Who waits has his place: the next one waits longer.
func (b *backoff) admit(account nameHash, from netip.Addr) (wait time.Duration, ok bool) {
	now := time.Now()
	h := home{account, network(from)}
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := b.countsLocked(now, h)
	at := now
	for _, f := range counts {
		if f.until.After(at) {
			at = f.until
		}
	}
	if at.Sub(now) > b.maxWait {
		// counts[0] is the address, or home: when it is not the reason, the
		// account is, and the address pays for it.
		if counts[0].until.Sub(now) <= b.maxWait {
			counts[0].add(now, b.free)
		}
		return 0, false
	}
	for _, f := range counts {
		if d := f.delay(b.free); d > 0 {
			f.until = at.Add(d)
		}
	}
	return at.Sub(now), true
}

// failed counts an attempt that was wrong.
func (b *backoff) failed(account nameHash, from netip.Addr) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.countsLocked(now, home{account, network(from)}) {
		f.add(now, b.free)
	}
}

// succeeded makes from a home of account.
func (b *backoff) succeeded(account nameHash, from netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := home{account, network(from)}
	if f, ok := b.homes.get(h); ok && f.n == 0 {
		return
	}
	b.homes.put(h, &failures{most: addrDelay, since: time.Now()})
}

// calm reports whether account is at home at from and has not failed there.
func (b *backoff) calm(account nameHash, from netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, ok := b.homes.get(home{account, network(from)})
	return ok && f.n == 0
}
