package keepalive

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

func open(t *testing.T, ml *mailbox.Mail, c Config) *Table {
	t.Helper()
	tb, err := Open(t.Context(), ml, c)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func mail(t *testing.T) *mailbox.Mail {
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	return mailbox.New(st, mailbox.Limits{})
}

func found(good, bad time.Duration) learn.Finding { return learn.Finding{Good: good, Bad: bad} }

func TestFixed(t *testing.T) {
	if got := Fixed(0).Interval(""); got != Default {
		t.Errorf("%v, want %v", got, Default)
	}
	if got := Fixed(time.Minute).Interval("x"); got != time.Minute {
		t.Errorf("%v, want a minute", got)
	}
	if got := Patience(time.Minute); got != 90*time.Second {
		t.Errorf("patience %v, want 90 s", got)
	}
}

func TestNextDeviceStartsWhereTheFirstEnded(t *testing.T) {
	ml := mail(t)
	tb := open(t, ml, Config{})
	n := tb.Name("carrier 1", netip.Addr{})
	if n, d := tb.Summary(); n != 0 || d != 0 {
		t.Errorf("nothing in short: %d, %v", n, d)
	}
	if got := tb.Interval(n); got != Default {
		t.Errorf("unknown network: every %v", got)
	}
	tb.Report(n, "bob", found(100*time.Second, 107*time.Second))
	if p := tb.Prior(n); p.Good != 100*time.Second || p.Bad != 107*time.Second {
		t.Errorf("prior %+v", p)
	}
	if got := tb.Interval(n); got != 95*time.Second {
		t.Errorf("every %v, want 95 s", got)
	}
	// A barrier behind the reports, then the table is opened again.
	if err := ml.Put(t.Context(), mailbox.Record{Key: "x", Value: []byte("y")}); err != nil {
		t.Fatal(err)
	}
	again := open(t, ml, Config{})
	if again.Name("carrier 1", netip.Addr{}) != n {
		t.Error("the network has another name after a restart")
	}
	if p := again.Prior(n); p.Good != 100*time.Second {
		t.Errorf("prior after a restart %+v", p)
	}
}

func TestNamesHideAndJoin(t *testing.T) {
	tb, other := open(t, mail(t), Config{}), open(t, mail(t), Config{})
	a := tb.Name("", netip.MustParseAddr("192.0.2.1"))
	if a != tb.Name("", netip.MustParseAddr("::ffff:192.0.2.200")) {
		t.Error("two addresses of one /24 are two networks")
	}
	if a == tb.Name("", netip.MustParseAddr("192.0.3.1")) {
		t.Error("two /24 are one network")
	}
	if tb.Name("", netip.MustParseAddr("2001:db8:1:2::1")) != tb.Name("", netip.MustParseAddr("2001:db8:1:3::1")) {
		t.Error("two addresses of one /48 are two networks")
	}
	if tb.Name("wifi", netip.Addr{}) == other.Name("wifi", netip.Addr{}) {
		t.Error("names are not salted")
	}
	if tb.Name("", netip.Addr{}) != "" {
		t.Error("a pipe has a network")
	}
}

func TestOneLiarMovesNothing(t *testing.T) {
	tb := open(t, mail(t), Config{})
	for _, who := range []string{"alice", "bob", "carol", "dave"} {
		tb.Report("n", who, found(60*time.Second, 64*time.Second))
	}
	for range 20 { // and says so again and again
		tb.Report("n", "mallory", found(29*time.Minute, 30*time.Minute))
		tb.Report("n", "mallory", found(8*time.Second, 9*time.Second))
	}
	if p := tb.Prior("n"); p.Good != 60*time.Second || p.Bad != 64*time.Second {
		t.Errorf("prior %+v", p)
	}
	for _, f := range []learn.Finding{{}, found(-1, 0), found(time.Second, 0), found(3*time.Hour, 0), found(time.Minute, time.Second)} {
		tb.Report("m", "mallory", f)
	}
	if p := tb.Prior("m"); p.Good != 0 {
		t.Errorf("believed what cannot be: %+v", p)
	}
}

func TestNewerCountsMore(t *testing.T) {
	tb := open(t, mail(t), Config{})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tb.now = func() time.Time { return now }
	for _, who := range []string{"alice", "bob", "carol"} {
		tb.Report("n", who, found(20*time.Minute, 0))
	}
	now = now.Add(60 * 24 * time.Hour)
	tb.Report("n", "dave", found(time.Minute, 65*time.Second))
	if p := tb.Prior("n"); p.Good != time.Minute {
		t.Errorf("prior %+v, want what was found last", p)
	}
	if err := tb.mail.Put(t.Context(), mailbox.Record{Key: "x", Value: []byte("y")}); err != nil { // behind the reports
		t.Fatal(err)
	}
	slow := open(t, tb.mail, Config{HalfLife: 365 * 24 * time.Hour})
	slow.now = tb.now
	if p := slow.Prior("n"); p.Good != 20*time.Minute {
		t.Errorf("prior %+v, want what most have found", p)
	}
}

func TestLimits(t *testing.T) {
	tb := open(t, mail(t), Config{Networks: 3, Reports: 2, Unknown: time.Minute})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tb.now = func() time.Time { return now }
	for i := range 5 {
		now = now.Add(time.Second)
		for who := range 3 {
			tb.Report(Network(fmt.Sprint(i)), fmt.Sprint(who), found(time.Minute, 0))
		}
	}
	if n, d := tb.Summary(); n != 3 || d != 57*time.Second {
		t.Errorf("in short: %d, %v", n, d)
	}
	ks := tb.Networks()
	if len(ks) != 3 || ks[0].Network != "4" || ks[2].Network != "2" || ks[0].Reports != 2 {
		t.Errorf("kept %+v", ks)
	}
	if got := tb.Interval("0"); got != time.Minute {
		t.Errorf("a network that was forgotten: every %v", got)
	}
	// Opened anew with room for fewer.
	if err := tb.mail.Put(t.Context(), mailbox.Record{Key: "x", Value: []byte("y")}); err != nil {
		t.Fatal(err)
	}
	tb = open(t, tb.mail, Config{Networks: 1})
	tb.Report("new", "alice", found(time.Minute, 0))
	if ks := tb.Networks(); len(ks) != 1 || ks[0].Network != "new" {
		t.Errorf("kept %+v", ks)
	}
}

// Every advice is within the bounds that are configured, whatever was found, and
// nothing far beyond them is kept.
func TestBounds(t *testing.T) {
	tb := open(t, mail(t), Config{Min: 40 * time.Second, Max: time.Minute})
	for _, c := range []struct{ found, want time.Duration }{
		{19 * time.Second, Default}, // not kept
		{20 * time.Second, 40 * time.Second},
		{50 * time.Second, 47 * time.Second},
		{2 * time.Minute, time.Minute},
		{2*time.Minute + 1, Default},
	} {
		n := Network(c.found.String())
		tb.Report(n, "bob", found(c.found, 0))
		if got := tb.Interval(n); got != c.want {
			t.Errorf("%v were found: every %v, want %v", c.found, got, c.want)
		}
	}
}

// What is kept tells neither who was there, nor where that was, nor what he
// calls it.
func TestNothingPersonalIsKept(t *testing.T) {
	ml := mail(t)
	tb := open(t, ml, Config{})
	tb.Report(tb.Name("alice at home", netip.Addr{}), "alice@localhost", found(time.Minute, 0))
	tb.Report(tb.Name("", netip.MustParseAddr("192.0.2.1")), "alice@localhost", found(time.Minute, 0))
	if err := ml.Put(t.Context(), mailbox.Record{Key: "x", Value: []byte("y")}); err != nil { // behind the reports
		t.Fatal(err)
	}
	records := 0
	err := ml.Scan(t.Context(), "keepalive/", func(key string, value []byte) bool {
		records++
		for _, private := range []string{"alice", "home", "192.0.2"} {
			if strings.Contains(key+string(value), private) {
				t.Errorf("%s = %s", key, value)
			}
		}
		return true
	})
	if err != nil || records != 3 {
		t.Errorf("%d records, %v", records, err)
	}
}
