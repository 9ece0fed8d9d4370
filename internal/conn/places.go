package conn

import (
	"net/netip"
	"sync"
)

// Places are how many connections there are, in all and from each source. All
// listeners and endpoints that have the same Places are bounded together. The
// zero value is ready.
type Places struct {
	mu  sync.Mutex
	n   int               // guarded by mu
	per map[uint64]uint32 // guarded by mu; by source, none of them zero
}

// Take takes a place unless so many are taken; a limit of zero is none. Give
// must follow if it says yes.
func (p *Places) Take(limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if limit > 0 && p.n >= limit {
		return false
	}
	p.n++
	return true
}

// Give gives back what Take took.
func (p *Places) Give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
}

// TakeFrom takes one of the places that there are for one source: an IPv4
// address, or an IPv6 /64, which is what one customer has. GiveFrom must follow
// if it says yes.
func (p *Places) TakeFrom(a netip.Addr, limit int) bool { return p.takeFrom(a.As16(), limit) }

// GiveFrom gives back what TakeFrom took.
func (p *Places) GiveFrom(a netip.Addr) { p.giveFrom(a.As16()) }

func (p *Places) takeFrom(s source, limit int) bool {
	k := s.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(p.per[k]) >= limit {
		return false
	}
	if p.per == nil {
		p.per = make(map[uint64]uint32)
	}
	p.per[k]++
	return true
}

func (p *Places) giveFrom(s source) {
	k := s.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.per[k]--; p.per[k] == 0 {
		delete(p.per, k)
	}
}

// full reports whether Take would say no.
func (p *Places) full(limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return limit > 0 && p.n >= limit
}

// source is an address in 16 bytes, IPv4 as in IPv6.
type source [16]byte

func (s source) addr() netip.Addr { return netip.AddrFrom16(s).Unmap() }

// key is what counts as one source: an IPv4 address or an IPv6 /64, whose
// upper half it is. IPv4 stands in a part of IPv6 that is not assigned.
func (s source) key() uint64 {
	half := func(b []byte) (n uint64) {
		for _, x := range b {
			n = n<<8 | uint64(x)
		}
		return n
	}
	if a := netip.AddrFrom16(s); a.Is4In6() {
		return 0xffff<<32 | half(s[12:])
	}
	return half(s[:8])
}
