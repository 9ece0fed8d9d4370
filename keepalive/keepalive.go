// Package keepalive says how often a connection must speak so that the NAT
// between us and the device does not forget it. Every door asks it.
package keepalive

import (
	"net/netip"
	"time"

	"github.com/posthouse-im/posthouse/keepalive/learn"
)

// Network names the way a device reaches us, without naming the device: a hash
// of what the client declares, or the prefix of its address. Empty is unknown.
type Network string

// Advisor knows how long connections may idle.
type Advisor interface {
	// Interval is how long a connection on n may stay silent before the
	// device should say something.
	Interval(n Network) time.Duration
}

// Finding is what a device found about its network.
type Finding = learn.Finding

// A Learner is an [Advisor] that learns from what devices find: a [*Table].
type Learner interface {
	Advisor
	// Name returns the network of a device that declares one, or else of one
	// that comes from addr.
	Name(declared string, addr netip.Addr) Network
	// Prior is what is believed of n; zero if nothing is known.
	Prior(n Network) Finding
	// Report tells what a device of user found on n.
	Report(n Network, user string, f Finding)
}

// Best returns the first of some names of a network under which something is
// known; else the first of all.
func Best(a Advisor, names ...Network) Network {
	if l, ok := a.(Learner); ok {
		for _, n := range names {
			if l.Prior(n).Good > 0 {
				return n
			}
		}
	}
	return names[0]
}

// Fixed advises the same interval for every network. Zero means [Default].
type Fixed time.Duration

// Default is what is advised where nothing is known: short enough for the
// five minutes that the strictest of the common mobile NATs allow.
const Default = 4*time.Minute + 30*time.Second

// Interval returns f.
func (f Fixed) Interval(Network) time.Duration {
	if f == 0 {
		return Default
	}
	return time.Duration(f)
}

// Patience is how long a server waits for a peer that promised to speak every
// interval: one and a half times, as MQTT-3.1.2-22 has it.
func Patience(interval time.Duration) time.Duration { return interval + interval/2 }
