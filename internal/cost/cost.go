// Package cost says what a connection costs the device at its other end:
// bytes, packets, wake-ups of its radio, and energy.
package cost

import "time"

// Quiet is how long nothing must have gone over the wire for what comes next to
// be a wake-up, unless somebody says otherwise: about as long as an LTE radio
// stays awake by itself.
const Quiet = 10 * time.Second

// Counts is what one device, or many together, has cost.
type Counts struct {
	// BytesUp came from the device, BytesDown went to it: of the transport's
	// stream, with TLS and framing, without the headers of IP and TCP.
	BytesUp   uint64 `json:"bytes_up"`
	BytesDown uint64 `json:"bytes_down"`
	// PacketsUp and PacketsDown are reads and writes of the socket: what was
	// sent at once. The network may cut them into several.
	PacketsUp   uint64 `json:"packets_up"`
	PacketsDown uint64 `json:"packets_down"`
	// Wakeups are bursts of traffic after a silence.
	Wakeups uint64 `json:"wakeups"`
	// Heartbeats were sent for the connection's sake alone: the protocol's
	// pings, and polls that brought nothing.
	Heartbeats uint64 `json:"heartbeats"`
	// Connects are connections that logged in.
	Connects uint64 `json:"connects"`
	// Connected is for how long they were there, in milliseconds.
	Connected uint64 `json:"connected_ms"`
	// Radio is the energy that each of Profiles spent on being awake, in
	// tenths of a millijoule. Joules has what the bytes cost besides.
	Radio [profiles]uint64 `json:"radio"`
}

// Add adds what another count has.
func (c *Counts) Add(o *Counts) {
	c.BytesUp += o.BytesUp
	c.BytesDown += o.BytesDown
	c.PacketsUp += o.PacketsUp
	c.PacketsDown += o.PacketsDown
	c.Wakeups += o.Wakeups
	c.Heartbeats += o.Heartbeats
	c.Connects += o.Connects
	c.Connected += o.Connected
	for i, n := range o.Radio {
		c.Radio[i] += n
	}
}

// Zero reports whether nothing was counted.
func (c *Counts) Zero() bool { return *c == Counts{} }

// Joules estimates the energy that the traffic took with a radio, without what
// the device spends when it is idle. Other applications' traffic, which may
// have had the radio awake anyway, is not known; compare ways by their ratio.
func (c *Counts) Joules(p Profile) float64 {
	r := &radios[p]
	return float64(c.Radio[p])/unitsPerJoule + float64(c.BytesUp)*r.up + float64(c.BytesDown)*r.down
}

// Profile is a kind of radio.
type Profile uint8

// The radios that are known. Their figures are those of the device profiles of
// AT&T's Application Resource Optimizer; LTE's are from Huang et al., "A Close
// Examination of Performance and Power Characteristics of 4G LTE Networks",
// MobiSys 2012.
const (
	LTE Profile = iota
	UMTS
	WiFi
	profiles
)

// Profiles lists all of them.
func Profiles() []Profile { return []Profile{LTE, UMTS, WiFi} }

func (p Profile) String() string { return radios[p].name }

const unitsPerJoule = 10_000

// radio is a radio's state machine, which every packet starts anew.
type radio struct {
	name      string
	promotion float64 // joules, for waking up
	states    []state // that it falls through after a packet, before it sleeps
	up, down  float64 // joules for each byte besides
}

// state is one that a radio stays in for a while.
type state struct{ seconds, watts float64 }

var radios = [profiles]radio{
	LTE: {"lte", 0.26 * 1.21, []state{
		{0.1, 1.2},
		// Discontinuous reception: awake for 2 ms of each 20, later of each 40.
		{0.02, 1.06 + (1.68-1.06)*2/20},
		{10, 1.06 + (1.68-1.06)*2/40},
	}, 438.39e-9 * 8, 51.97e-9 * 8}, // mW for a Mbit/s is nJ for a bit
	UMTS: {"3g", 2 * 0.65, []state{{4, 1.30}, {10, 0.30}}, 0, 0},
	WiFi: {"wifi", 0, []state{{0.25, 0.403}}, 0, 0},
}

// spent is what a radio has used between a packet and the next one, gap
// later; or since it fell asleep for ever, if that is longer than it stays
// awake. Woken says that it was asleep again, so that the next packet wakes it.
func (r *radio) spent(gap time.Duration) (joules float64, woken bool) {
	left := gap.Seconds()
	for _, s := range r.states {
		if left < s.seconds {
			return joules + left*s.watts, false
		}
		joules += s.seconds * s.watts
		left -= s.seconds
	}
	return joules, true
}

// curves has for each radio what a packet adds, by the gap before it: see add.
var curves = func() (cs [profiles]curve) {
	for i := range radios {
		r := &radios[i]
		c := &cs[i]
		all, _ := r.spent(time.Hour)
		c.most = uint32((r.promotion+all)*unitsPerJoule + 0.5)
		at, sum := 0.0, 0.0
		for _, s := range r.states {
			c.pieces = append(c.pieces, piece{uint32((at+s.seconds)*1000 + 0.5), at * 1000, sum * unitsPerJoule, s.watts * unitsPerJoule / 1000})
			at += s.seconds
			sum += s.seconds * s.watts
		}
	}
	return cs
}()

// curve is spent with the sums made.
type curve struct {
	most   uint32 // units: waking up, and staying awake for as long as it does
	pieces []piece
}

type piece struct {
	until        uint32  // milliseconds after the packet
	from, before float64 // milliseconds, units at its begin
	slope        float64 // units for each millisecond
}

// add is what one more packet adds, in units, when the one before was gap
// milliseconds ago. The radio's staying awake is charged with the packet that
// wakes it, so one that comes while it is awake adds just the time by which it
// keeps it awake longer.
func (c *curve) add(gap uint32) uint32 {
	for i := range c.pieces {
		if p := &c.pieces[i]; gap < p.until {
			return uint32(p.before + (float64(gap)-p.from)*p.slope + 0.5)
		}
	}
	return c.most
}
