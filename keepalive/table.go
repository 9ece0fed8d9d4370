package keepalive

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Config bounds what a [Table] keeps. A zero field means its default.
type Config struct {
	// Unknown is the interval advised on a network nothing is known of.
	// Default 4 min 30 s.
	Unknown time.Duration
	// Min and Max bound every advice. Default 15 s and 30 min.
	Min, Max time.Duration
	// Reports is how many findings are kept per network, the newest. Default 16.
	Reports int
	// Networks is how many networks are remembered, those heard of last.
	// Default 20,000.
	Networks int
	// HalfLife is the age at which a finding counts for half. Default 14 days.
	HalfLife time.Duration
}

func (c Config) withDefaults() Config {
	c.Unknown = cmp.Or(c.Unknown, Default)
	c.Min = cmp.Or(c.Min, 15*time.Second)
	c.Max = cmp.Or(c.Max, 30*time.Minute)
	c.Reports = cmp.Or(c.Reports, 16)
	c.Networks = cmp.Or(c.Networks, 20_000)
	c.HalfLife = cmp.Or(c.HalfLife, 14*24*time.Hour)
	return c
}

// Table is an [Advisor] that learns from what devices found on each network,
// so that the next device there starts near the right value. It is kept as
// records under "keepalive/"; what it keeps names networks by a salted hash
// and no device at all. Methods do not block and may be called by anybody.
type Table struct {
	cfg  Config
	mail *mailbox.Mail
	salt []byte
	seed maphash.Seed // for who reports
	now  func() time.Time

	mu   sync.Mutex
	nets map[Network]*known
}

// known is one network. Its JSON form is the record's value.
type known struct {
	Reports []report `json:"reports"` // oldest first
}

// report is what somebody found.
type report struct {
	learn.Finding
	by uint64 // a hash of who, in memory alone; zero is not known any more
}

const (
	recordSalt = "keepalive/salt"
	recordNet  = "keepalive/net/"
)

// Open returns the table kept in mail.
func Open(ctx context.Context, mail *mailbox.Mail, cfg Config) (*Table, error) {
	t := &Table{cfg: cfg.withDefaults(), mail: mail, seed: maphash.MakeSeed(), now: time.Now, nets: map[Network]*known{}}
	var err error
	if t.salt, err = mail.Get(ctx, recordSalt); err != nil {
		return nil, fmt.Errorf("keepalive: open: %w", err)
	}
	if t.salt == nil {
		t.salt = []byte(rand.Text())
		if err := mail.Put(ctx, mailbox.Record{Key: recordSalt, Value: t.salt}); err != nil {
			return nil, fmt.Errorf("keepalive: open: %w", err)
		}
	}
	err = mail.Scan(ctx, recordNet, func(key string, value []byte) bool {
		k := new(known)
		// What does not read is from another version, and is learned again.
		if json.Unmarshal(value, k) == nil && len(k.Reports) > 0 {
			t.nets[Network(strings.TrimPrefix(key, recordNet))] = k
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("keepalive: open: %w", err)
	}
	return t, nil
}

// Name returns the network of a device that declares one ("carrier 310-260
// lte"), or else of one that comes from addr: its /24, or /48 in IPv6.
func (t *Table) Name(declared string, addr netip.Addr) Network {
	what := "declared " + declared
	if declared == "" {
		if !addr.IsValid() {
			return ""
		}
		addr = addr.Unmap()
		bits := 48
		if addr.Is4() {
			bits = 24
		}
		p, err := addr.Prefix(bits)
		if err != nil {
			return ""
		}
		what = "prefix " + p.String()
	}
	h := hmac.New(sha256.New, t.salt)
	h.Write([]byte(what))
	return Network(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:10])))
}

// Report tells what a device of user found on n, in place of what user has told
// before, so that who speaks often is not heard more. A finding that cannot be,
// or that is outside the bounds, is dropped.
func (t *Table) Report(n Network, user string, f learn.Finding) {
	if n == "" || f.Good < t.cfg.Min/2 || f.Good > 2*t.cfg.Max || f.Bad != 0 && f.Bad <= f.Good {
		return
	}
	f.At = t.now().UTC().Truncate(time.Second) // the device's clock is not believed
	var records []mailbox.Record
	t.mu.Lock()
	k := t.nets[n]
	if k == nil {
		for len(t.nets) > 0 && len(t.nets) >= t.cfg.Networks {
			records = append(records, mailbox.Record{Key: recordNet + string(t.forgetLocked())})
		}
		k = new(known)
		t.nets[n] = k
	}
	by := max(1, maphash.String(t.seed, user))
	k.Reports = slices.DeleteFunc(k.Reports, func(r report) bool { return r.by == by })
	k.Reports = append(k.Reports, report{f, by})
	if over := len(k.Reports) - t.cfg.Reports; over > 0 {
		k.Reports = slices.Delete(k.Reports, 0, over)
	}
	value, err := json.Marshal(k)
	t.mu.Unlock()
	if err != nil {
		panic(err) // durations and times always marshal
	}
	// Not waited for: what a crash forgets is learned again.
	t.mail.Post(&mailbox.Post{Records: append(records, mailbox.Record{Key: recordNet + string(n), Value: value})})
}

// forgetLocked forgets the network heard of longest ago.
func (t *Table) forgetLocked() (oldest Network) {
	var at time.Time
	for n, k := range t.nets {
		if heard := k.Reports[len(k.Reports)-1].At; oldest == "" || heard.Before(at) {
			oldest, at = n, heard
		}
	}
	delete(t.nets, oldest)
	return oldest
}

// Prior is what is believed of n: the weighted medians of what was found
// there, newer findings counting more. It is zero if nothing is known. One
// device that errs, or lies, does not move it where others have reported.
func (t *Table) Prior(n Network) learn.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.nets[n]
	if k == nil {
		return learn.Finding{}
	}
	return t.priorLocked(k)
}

func (t *Table) priorLocked(k *known) learn.Finding {
	now := t.now()
	f := learn.Finding{At: k.Reports[len(k.Reports)-1].At}
	f.Good = t.median(k.Reports, now, func(r report) time.Duration { return r.Good })
	f.Bad = t.median(k.Reports, now, func(r report) time.Duration { return r.Bad })
	if f.Bad <= f.Good {
		f.Bad = 0
	}
	return f
}

// median is the weighted median of what is not zero.
func (t *Table) median(rs []report, now time.Time, of func(report) time.Duration) time.Duration {
	type vote struct {
		d time.Duration
		w float64
	}
	var votes []vote
	sum := 0.0
	for _, r := range rs {
		if d := of(r); d > 0 {
			w := math.Exp2(-float64(now.Sub(r.At)) / float64(t.cfg.HalfLife))
			votes, sum = append(votes, vote{d, w}), sum+w
		}
	}
	slices.SortFunc(votes, func(a, b vote) int { return cmp.Compare(a.d, b.d) })
	half := 0.0
	for _, v := range votes {
		if half += v.w; half >= sum/2 {
			return v.d
		}
	}
	return 0
}

// Interval advises what n is believed to bear, less a margin of five per cent,
// for doors whose devices cannot probe.
func (t *Table) Interval(n Network) time.Duration {
	p := t.Prior(n)
	if p.Good == 0 {
		return t.cfg.Unknown
	}
	return min(max(p.Good*95/100, t.cfg.Min), t.cfg.Max).Truncate(time.Second)
}

// Known is one network in a list.
type Known struct {
	Network Network       `json:"network"`
	Good    time.Duration `json:"good"`
	Bad     time.Duration `json:"bad,omitempty"`
	Reports int           `json:"reports"`
	At      time.Time     `json:"at"`
}

// Networks lists what is known, the network heard of last first. Who asks for
// one of them meanwhile does not wait until all are reckoned.
func (t *Table) Networks() []Known {
	t.mu.Lock()
	names := slices.Collect(maps.Keys(t.nets))
	t.mu.Unlock()
	ks := make([]Known, 0, len(names))
	for _, n := range names {
		t.mu.Lock()
		if k := t.nets[n]; k != nil {
			p := t.priorLocked(k)
			ks = append(ks, Known{n, p.Good, p.Bad, len(k.Reports), p.At})
		}
		t.mu.Unlock()
	}
	slices.SortFunc(ks, func(a, b Known) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Network, b.Network))
	})
	return ks
}

// Summary is how many networks are known, and the median of what is advised on
// them; zero if there are none.
func (t *Table) Summary() (networks int, median time.Duration) {
	ks := t.Networks()
	if len(ks) == 0 {
		return 0, 0
	}
	slices.SortFunc(ks, func(a, b Known) int { return cmp.Compare(a.Good, b.Good) })
	return len(ks), t.Interval(ks[len(ks)/2].Network)
}
