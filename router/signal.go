package router

import "time"

// Signal is a word of the moment: somebody is typing, is here, has gone. It is
// told to who is connected now and kept nowhere, may be dropped by anybody on
// the way, and has no place in a box.
type Signal struct {
	Door   Door   // by which it came
	From   string // the sender's bare address
	Device string // and device
	To     string // the recipient's bare address; Signal fills it in
	Kind   string // "composing", "paused", "online", …; see docs/link.md
	Body   []byte
}

// Bounds of a signal in bytes, the same at every door.
const (
	MaxKind   = 64
	MaxSignal = 1024
)

// Rate bounds how often somebody says something: so many words in a second,
// and four seconds' worth at once. The zero value has not said anything.
type Rate struct {
	credit int64 // milliseconds of the rate that are not used
	at     int64 // Unix milliseconds, when that was reckoned
}

const maxCredit = 4000

// Take reports whether one more may be said now, and then takes note of it.
func (r *Rate) Take(perSecond int, now time.Time) bool {
	r.reckon(now)
	cost := int64(1000 / max(perSecond, 1))
	if r.credit < cost {
		return false
	}
	r.credit -= cost
	return true
}

// Full reports whether it is as if nothing had been said.
func (r *Rate) Full(now time.Time) bool {
	r.reckon(now)
	return r.credit == maxCredit
}

func (r *Rate) reckon(now time.Time) {
	ms := now.UnixMilli()
	r.credit = min(r.credit+max(ms-r.at, 0), maxCredit)
	r.at = ms
}

// Hearer is a Client that takes signals.
type Hearer interface {
	// Signal tells the device of s.To. It must not block, may be called from
	// any goroutine, and reports whether s was not dropped. S is shared by
	// all who hear it and must not be changed.
	Signal(device string, s *Signal) bool
}

// Signal tells s to the live sessions of the user named by to, or to the one
// device that it names, but never to the one that s comes from. It returns
// how many took it; none is no error.
func (r *Router) Signal(to string, s *Signal) (told int, err error) {
	a, err := r.recipient(to)
	if err != nil {
		return 0, err
	}
	s.To = a.Bare()
	r.signals[s.Door].Add(1)
	var space [8]hearer
	for _, h := range r.hearers(space[:0], s, a.Device) {
		if h.Signal(h.device, s) {
			told++
		}
	}
	return told, nil
}

type hearer struct {
	Hearer
	device string
}

// hearers appends those who are to be told s.
func (r *Router) hearers(buf []hearer, s *Signal, device string) []hearer {
	sh := r.shard(s.To)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for o := sh.live[s.To]; o != nil; o = o.peer {
		if device != "" && device != o.who.Device || o.who.Device == s.Device && s.To == s.From {
			continue
		}
		if h, ok := o.client.(Hearer); ok {
			buf = append(buf, hearer{h, o.who.Device})
		}
	}
	return buf
}
