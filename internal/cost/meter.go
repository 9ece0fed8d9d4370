package cost

import (
	"sync/atomic"
	"time"
)

// Meter counts for one connection. Its fields are as small as what can come
// together between two calls of Take allows, as every connection has one. Its
// methods may be called from any goroutine.
type Meter struct {
	up, down               atomic.Uint64
	packetsUp, packetsDown atomic.Uint32
	wakeups, beats, logins atomic.Uint32
	last                   atomic.Uint32 // milliseconds, when something moved; 0 is never
	since                  atomic.Uint32 // milliseconds, of Login or Take; 0 is not logged in
	radio                  [profiles]atomic.Uint32
}

// stamp is a time in milliseconds that wraps after 49 days, and is never 0.
func stamp(t time.Time) uint32 { return max(1, uint32(t.UnixMilli())) }

// between is how long after a stamp another one is, in milliseconds. If that is
// up to a week before it the clock was set back, and no time has passed.
func between(from, to uint32) uint32 {
	const week = 7 * 24 * 60 * 60 * 1000
	if from-to < week {
		return 0
	}
	return to - from
}

// Up counts n bytes that came at once, at a time; Down such that went. They
// report whether the device was woken by it: nothing had moved for quiet.
func (m *Meter) Up(n int, at time.Time, quiet time.Duration) (woken bool) {
	m.up.Add(uint64(n))
	m.packetsUp.Add(1)
	return m.moved(at, quiet)
}

// Down is the other direction; see [Meter.Up].
func (m *Meter) Down(n int, at time.Time, quiet time.Duration) (woken bool) {
	m.down.Add(uint64(n))
	m.packetsDown.Add(1)
	return m.moved(at, quiet)
}

func (m *Meter) moved(at time.Time, quiet time.Duration) (woken bool) {
	now := stamp(at)
	last := m.last.Swap(now)
	gap := between(last, now)
	switch {
	case last == 0:
		gap = ^uint32(0)
	case gap == 0:
		return false
	}
	for i := range m.radio {
		m.radio[i].Add(curves[i].add(gap))
	}
	if time.Duration(gap)*time.Millisecond < quiet {
		return false
	}
	m.wakeups.Add(1)
	return true
}

// Beat counts a heartbeat.
func (m *Meter) Beat() { m.beats.Add(1) }

// Login begins the time that a device is connected.
func (m *Meter) Login(now time.Time) {
	m.Connect()
	m.since.Store(stamp(now))
}

// Connect is Login for connections that are there for single requests, whose
// time is not counted.
func (m *Meter) Connect() { m.logins.Add(1) }

// Take returns what was counted since it was last called.
func (m *Meter) Take(now time.Time) Counts {
	c := Counts{
		BytesUp: m.up.Swap(0), BytesDown: m.down.Swap(0),
		PacketsUp: uint64(m.packetsUp.Swap(0)), PacketsDown: uint64(m.packetsDown.Swap(0)),
		Wakeups: uint64(m.wakeups.Swap(0)), Heartbeats: uint64(m.beats.Swap(0)), Connects: uint64(m.logins.Swap(0)),
	}
	for i := range m.radio {
		c.Radio[i] = uint64(m.radio[i].Swap(0))
	}
	at := stamp(now)
	for {
		since := m.since.Load()
		if since == 0 {
			break
		}
		if m.since.CompareAndSwap(since, at) {
			c.Connected = uint64(between(since, at))
			break
		}
	}
	return c
}

// Moved reports whether anything was counted since Take, the time aside.
func (m *Meter) Moved() bool {
	return m.packetsUp.Load() != 0 || m.packetsDown.Load() != 0 || m.logins.Load() != 0 || m.beats.Load() != 0
}
