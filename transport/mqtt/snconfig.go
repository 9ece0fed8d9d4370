package mqtt

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// SN bounds the gateway for sensors, MQTT-SN 1.2 over UDP. A zero field means
// its default.
type SN struct {
	// GatewayID is the number of this gateway among those of a network, 1 to
	// 255. Default 1.
	GatewayID int
	// AdvertiseTo is the address, host:port with the host as a number, that
	// the gateway advertises itself to: a broadcast or multicast address.
	// Default: none, nothing is advertised.
	AdvertiseTo string
	// Advertise is how often that is done. Default 15m.
	Advertise time.Duration
	// Topics are the topics that sensors name by a number known beforehand.
	Topics []SNTopic
	// Accounts say which account a sensor acts as, since the protocol has no
	// passwords; the first that fits decides. A sensor that none fits is
	// refused, or if anonymous is on let in without an account.
	Accounts []SNAccount
	// MaxClients is how many sensors may be connected, asleep or not; more are
	// refused for congestion. Default 10000.
	MaxClients int
	// MaxPerAddress is how many of them may share an address, behind a
	// forwarder or a NAT. An IPv6 /64 counts as one. Default 1000.
	MaxPerAddress int
	// MaxSessions is how many sessions the server may keep, those of all
	// clients together, for a sensor to begin another one without clean
	// session: client identifiers cost nothing to make up. Default 100000.
	MaxSessions int
	// MaxTopics is how many topic ids one sensor may have registered, the
	// oldest that the gateway registered give way first; and how many
	// subscriptions it may have. Default 256.
	MaxTopics int
	// MaxInflight is how many messages of QoS 1 and 2, subscriptions and the
	// like of one sensor may wait for an answer; more are refused for
	// congestion. Default 8.
	MaxInflight int
	// MaxWaiting is how many bytes of messages wait in memory for one sensor
	// that is asleep or slow, beside a buffer of 8 KiB and two datagrams.
	// Beyond that messages of QoS 0 are dropped and counted; those of QoS 1
	// and 2 wait in the session. Default 16 KiB.
	MaxWaiting int
	// MaxDatagram is the longest datagram sent and taken, in bytes. Longer
	// messages are dropped and counted. Default 1400.
	MaxDatagram int
	// Retry is how long a sensor may take to answer before the gateway says
	// it again. Default 10s.
	Retry time.Duration
	// Retries is how often it does so before it takes the sensor for lost.
	// Default 3.
	Retries int
	// MaxSilence is how long a sensor may be silent that gave no keep alive.
	// Default 24h.
	MaxSilence time.Duration
}

// SNTopic is a topic with a number known beforehand.
type SNTopic struct {
	// ID is the number, 1 to 65534.
	ID uint16
	// Topic is its name.
	Topic string
}

// SNAccount lets sensors act as an account.
type SNAccount struct {
	// Clients are client identifiers, in which * stands for any characters.
	// Default: all.
	Clients []string
	// From are the networks that they must come from, 10.1.0.0/16. Default: all.
	From []netip.Prefix
	// User is the account.
	User string
}

func (c SN) withDefaults() SN {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&c.GatewayID, 1)
	dur(&c.Advertise, 15*time.Minute)
	def(&c.MaxClients, 10000)
	def(&c.MaxPerAddress, 1000)
	def(&c.MaxSessions, 100_000)
	def(&c.MaxTopics, 256)
	def(&c.MaxInflight, 8)
	def(&c.MaxWaiting, 16<<10)
	def(&c.MaxDatagram, 1400)
	c.MaxDatagram = max(64, min(c.MaxDatagram, 65507)) // what UDP over IPv4 can carry
	dur(&c.Retry, 10*time.Second)
	def(&c.Retries, 3)
	dur(&c.MaxSilence, 24*time.Hour)
	return c
}

// longest is the longest PUBLISH of MQTT 5.0 that may fit a datagram once its
// topic and its properties are left out.
func (c *SN) longest() int { return c.MaxDatagram + 2<<10 }

// prepare checks what was configured, and returns it for use: the users of the
// accounts by their whole address, the predefined topics both ways.
func (c SN) prepare(domain string) (as []SNAccount, names map[uint16]string, ids map[string]uint16, to netip.AddrPort, err error) {
	var errs []error
	if c.GatewayID > 255 {
		errs = append(errs, fmt.Errorf("mqtt: sn: gateway id %d is over 255", c.GatewayID))
	}
	names, ids = map[uint16]string{}, map[string]uint16{}
	for _, t := range c.Topics {
		switch {
		case t.ID == 0 || t.ID == 0xffff: // section 5.3.11
			errs = append(errs, fmt.Errorf("mqtt: sn: topic id %d is reserved", t.ID))
		case topic.CheckName([]byte(t.Topic)) != nil:
			errs = append(errs, fmt.Errorf("mqtt: sn: %q is no topic", t.Topic))
		case names[t.ID] != "":
			errs = append(errs, fmt.Errorf("mqtt: sn: topic id %d is given twice", t.ID))
		}
		names[t.ID] = t.Topic
		if ids[t.Topic] == 0 {
			ids[t.Topic] = t.ID
		}
	}
	for _, a := range c.Accounts {
		ad, perr := address.Parse(a.User, domain)
		if perr != nil {
			errs = append(errs, fmt.Errorf("mqtt: sn: account %q: %w", a.User, perr))
		}
		a.User = ad.Bare()
		as = append(as, a)
	}
	if c.AdvertiseTo != "" {
		if to, err = netip.ParseAddrPort(c.AdvertiseTo); err != nil {
			errs = append(errs, fmt.Errorf("mqtt: sn: advertise to: %w", err))
		}
		if c.Advertise < time.Second || c.Advertise > 65535*time.Second {
			errs = append(errs, fmt.Errorf("mqtt: sn: advertise every %s: from 1s to 65535s are possible", c.Advertise))
		}
	}
	return as, names, ids, to, errors.Join(errs...)
}

// fits reports whether a is for a sensor called id that comes from addr.
func (a *SNAccount) fits(id string, addr netip.Addr) bool {
	ok := len(a.From) == 0
	for _, p := range a.From {
		ok = ok || p.Contains(addr)
	}
	if !ok || len(a.Clients) == 0 {
		return ok
	}
	for _, p := range a.Clients {
		if glob(p, id) {
			return true
		}
	}
	return false
}

// glob reports whether s is like pattern, in which * stands for any characters.
func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}

// SNStats counts what the gateway for sensors did.
type SNStats struct {
	Clients   int64  // sensors connected now, asleep or not
	Asleep    int64  // of these, those that are asleep
	Malformed uint64 // datagrams that were no message, or came out of place
	Congested uint64 // requests refused since a limit was reached
	Repeated  uint64 // messages said again since no answer came
	Lost      uint64 // sensors not heard of any more
	Open      uint64 // messages of QoS −1 taken
}

type snCounters struct {
	clients, asleep                            atomic.Int64
	malformed, congested, repeated, lost, open atomic.Uint64
}

func (c *snCounters) stats() SNStats {
	return SNStats{
		Clients: c.clients.Load(), Asleep: c.asleep.Load(), Malformed: c.malformed.Load(), Congested: c.congested.Load(),
		Repeated: c.repeated.Load(), Lost: c.lost.Load(), Open: c.open.Load(),
	}
}
