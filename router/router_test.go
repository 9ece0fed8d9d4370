package router_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
)

type accounts []string

func (a accounts) Exists(user string) bool { return slices.Contains(a, user) }

// house is a router on a store in memory, with alice and bob.
func house(t *testing.T, o mem.Options) (*router.Router, *mailbox.Mail) {
	t.Helper()
	st := mem.New(o)
	t.Cleanup(func() { st.Close() })
	ml := mailbox.New(st, mailbox.Limits{})
	return router.New(t.Context(), ml, accounts{"alice@localhost", "bob@localhost"}, "localhost"), ml
}

// peer is a connection without a network.
type peer struct {
	bell chan struct{}
	mu   sync.Mutex
	end  []router.Reason
}

func newPeer() *peer { return &peer{bell: make(chan struct{}, 1)} }

func (p *peer) Wake() {
	select {
	case p.bell <- struct{}{}:
	default:
	}
}

func (p *peer) End(why router.Reason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = append(p.end, why)
}

func (p *peer) ended() []router.Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.end)
}

func who(user, device string) auth.Who { return auth.Who{User: user + "@localhost", Device: device} }

func attach(t *testing.T, r *router.Router, p *peer, user, device string) *router.Session {
	t.Helper()
	s, err := r.Attach(t.Context(), router.Link, who(user, device), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func say(t *testing.T, r *router.Router, from auth.Who, to, id, body string) *mailbox.Post {
	t.Helper()
	done := make(chan struct{})
	p := &mailbox.Post{Message: mailbox.Message{ID: id, Body: []byte(body)}}
	p.Notify = mailbox.WakeFunc(func() { close(done) })
	if err := r.Submit(router.Link, from, to, p); err != nil {
		t.Fatal(err)
	}
	<-done
	if p.Err != nil {
		t.Fatal(p.Err)
	}
	return p
}

// next waits until the session has something, as a connection would.
func next(t *testing.T, s *router.Session, p *peer, max int) []mailbox.Entry {
	t.Helper()
	for {
		es, err := s.Next(nil, max)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) > 0 {
			return es
		}
		select {
		case <-p.bell:
		case <-time.After(30 * time.Second):
			t.Fatal("the bell never rang")
		}
	}
}

func bodies(es []mailbox.Entry) (out []string) {
	for _, e := range es {
		out = append(out, string(e.Body))
	}
	return out
}

func TestRungSessionReadsFromItsCursor(t *testing.T) {
	r, _ := house(t, mem.Options{})
	say(t, r, who("alice", "phone"), "bob", "1", "waiting")
	p := newPeer()
	s := attach(t, r, p, "bob", "phone")
	if got := bodies(next(t, s, p, 10)); !slices.Equal(got, []string{"waiting"}) {
		t.Fatalf("at first: %q", got)
	}
	post := say(t, r, who("alice", "phone"), "bob@localhost/laptop", "2", "live")
	es := next(t, s, p, 10)
	if es[0].Seq != post.Seqs[0] || es[0].Prev != 1 || es[0].From != "alice@localhost" {
		t.Fatalf("live: %+v, posted at %d", es[0], post.Seqs[0])
	}
	// Not acknowledged, so the next session has both again.
	s.Close()
	s = attach(t, r, p, "bob", "phone")
	if got := bodies(next(t, s, p, 10)); len(got) != 2 {
		t.Fatalf("after a reconnect: %q", got)
	}
	s.Ack(1)
	s.Close()
	s = attach(t, r, p, "bob", "phone")
	if got := bodies(next(t, s, p, 10)); !slices.Equal(got, []string{"live"}) {
		t.Fatalf("after an acknowledgement: %q", got)
	}
}

func TestOwnMessagesReachTheOtherDevicesOnly(t *testing.T) {
	r, ml := house(t, mem.Options{})
	phone, laptop := newPeer(), newPeer()
	sp, sl := attach(t, r, phone, "alice", "phone"), attach(t, r, laptop, "alice", "laptop")
	say(t, r, who("alice", "phone"), "bob", "1", "from my phone")
	say(t, r, who("bob", "x"), "alice", "2", "hello")
	if got := bodies(next(t, sl, laptop, 10)); !slices.Equal(got, []string{"from my phone", "hello"}) {
		t.Errorf("laptop: %q", got)
	}
	es := next(t, sp, phone, 10)
	if got := bodies(es); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("phone: %q", got)
	}
	if es[0].Prev != 0 || es[0].Seq != 2 {
		t.Errorf("phone: seq %d after %d; what was passed over must not look like a gap", es[0].Seq, es[0].Prev)
	}
	// What is passed over at the end of the box does not hold the cursor back.
	sp.Ack(2)
	say(t, r, who("alice", "phone"), "bob", "3", "again")
	for {
		if es, err := sp.Next(nil, 10); err != nil || len(es) > 0 {
			t.Fatal(es, err)
		}
		if sp.Acked() == 3 {
			break
		}
		<-phone.bell
	}
	if c, _, err := ml.Cursor(t.Context(), "alice@localhost", "phone"); err != nil || c.Seq != 3 {
		t.Errorf("cursor at %d, %v; want 3", c.Seq, err)
	}
	// A message to oneself is for every device.
	say(t, r, who("alice", "phone"), "alice", "4", "note")
	if got := bodies(next(t, sp, phone, 10)); !slices.Equal(got, []string{"note"}) {
		t.Errorf("to herself: %q", got)
	}
}

func TestAckGoesNoFurtherThanWhatWasHandedOut(t *testing.T) {
	r, _ := house(t, mem.Options{})
	p := newPeer()
	s := attach(t, r, p, "bob", "phone")
	for i := range 3 {
		say(t, r, who("alice", "a"), "bob", fmt.Sprint(i), fmt.Sprint(i))
	}
	next(t, s, p, 2)
	if s.Ack(3) {
		t.Error("acknowledging what was never sent was accepted")
	}
	if s.Acked() != 2 {
		t.Errorf("acknowledged up to %d, want 2", s.Acked())
	}
	if !s.Ack(1) || s.Acked() != 2 {
		t.Errorf("an acknowledgement moved the cursor back to %d", s.Acked())
	}
}

func TestSameDeviceReplacesItself(t *testing.T) {
	r, _ := house(t, mem.Options{})
	old, other, young := newPeer(), newPeer(), newPeer()
	so := attach(t, r, old, "bob", "phone")
	attach(t, r, other, "bob", "laptop")
	s, err := r.Attach(t.Context(), router.MQTT, who("bob", "phone"), young)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := old.ended(); !slices.Equal(got, []router.Reason{router.Replaced}) {
		t.Errorf("the old session was told %q", got)
	}
	if got := append(other.ended(), young.ended()...); len(got) > 0 {
		t.Errorf("others were told %q", got)
	}
	so.Close()
	so.Close() // twice is once
	var got []string
	for _, p := range r.Presence("bob@localhost") {
		got = append(got, p.Device+" by "+p.Door.String())
	}
	slices.Sort(got)
	if want := []string{"laptop by link", "phone by mqtt"}; !slices.Equal(got, want) {
		t.Errorf("present: %q, want %q", got, want)
	}
	if l, m := r.Stats(router.Link).Sessions, r.Stats(router.MQTT).Sessions; l != 1 || m != 1 {
		t.Errorf("%d link and %d mqtt sessions, want 1 and 1", l, m)
	}
	r.EndUser("bob@localhost", router.Removed)
	if got := young.ended(); !slices.Equal(got, []router.Reason{router.Removed}) {
		t.Errorf("told %q when the account went", got)
	}
}

func TestClosingOneLeavesTheOthers(t *testing.T) {
	for out := range 4 {
		r, _ := house(t, mem.Options{})
		var ss []*router.Session
		for i := range 4 {
			ss = append(ss, attach(t, r, newPeer(), "bob", fmt.Sprint(i)))
		}
		ss[out].Close()
		for _, p := range r.Presence("bob@localhost") {
			if p.Device == fmt.Sprint(out) {
				t.Errorf("%d is still there", out)
			}
		}
		if n := len(r.Presence("bob@localhost")); n != 3 {
			t.Errorf("%d left after closing %d, want 3", n, out)
		}
	}
}

func TestWhatIsNotInMemoryIsReadBehindTheBack(t *testing.T) {
	r, _ := house(t, mem.Options{Tail: 10}) // only the newest ten are "in memory"
	const n = 1000
	for i := range n {
		say(t, r, who("alice", "a"), "bob", fmt.Sprint(i), fmt.Sprint(i))
	}
	p := newPeer()
	s := attach(t, r, p, "bob", "phone")
	for i := 0; i < n; {
		for _, e := range next(t, s, p, 7) {
			if string(e.Body) != fmt.Sprint(i) || e.Prev != mailbox.Seq(i) {
				t.Fatalf("entry %d is %q after %d", i, e.Body, e.Prev)
			}
			i++
		}
	}
}

// A batch ends when it is large, whether it comes from memory or from the disk.
func TestLargeMessagesComeInSmallBatches(t *testing.T) {
	const n, size = 40, 50_000
	for name, o := range map[string]mem.Options{"memory": {}, "disk": {Tail: 1}} {
		r, _ := house(t, o)
		for i := range n {
			say(t, r, who("alice", "a"), "bob", fmt.Sprint(i), fmt.Sprintf("%0*d", size, i))
		}
		say(t, r, who("alice", "a"), "bob", "huge", strings.Repeat("x", 2*router.Batch))
		p := newPeer()
		s := attach(t, r, p, "bob", "phone")
		for i := 0; i <= n; {
			es := next(t, s, p, 64)
			if len(es) > 3 {
				t.Fatalf("%s: %d messages of %d bytes at once", name, len(es), size)
			}
			for _, e := range es {
				if want := fmt.Sprintf("%0*d", size, i); string(e.Body) != want && e.ID != "huge" || e.Prev != mailbox.Seq(i) {
					t.Fatalf("%s: entry %d is %.10q after %d", name, i, e.Body, e.Prev)
				}
				i++
			}
		}
	}
}

func TestTrimmedIsToldOnceAndThenReadingGoesOn(t *testing.T) {
	r, _ := house(t, mem.Options{Retention: mailbox.Retention{Count: 5}})
	p := newPeer()
	s := attach(t, r, p, "bob", "phone")
	for i := range 20 {
		say(t, r, who("alice", "a"), "bob", fmt.Sprint(i), fmt.Sprint(i))
	}
	var trimmed *mailbox.TrimmedError
	var got []string
	for len(got) < 5 {
		es, err := s.Next(nil, 10)
		if errors.As(err, &trimmed) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, bodies(es)...); len(es) == 0 {
			<-p.bell
		}
	}
	if trimmed == nil || trimmed.After != 0 || trimmed.First != 16 {
		t.Errorf("told %v", trimmed)
	}
	if want := []string{"15", "16", "17", "18", "19"}; !slices.Equal(got, want) {
		t.Errorf("then read %q, want %q", got, want)
	}
}

// Who is told of a hole has nothing to acknowledge in it: the cursor goes over it
// with the entry before, and the next session is not told again.
func TestCursorGoesOverAHole(t *testing.T) {
	ahead := time.Duration(0)
	st := mem.New(mem.Options{Retention: mailbox.Retention{Age: time.Hour}, Now: func() time.Time { return time.Now().Add(ahead) }})
	defer st.Close()
	ml := mailbox.New(st, mailbox.Limits{})
	r := router.New(t.Context(), ml, accounts{"alice@localhost", "bob@localhost"}, "localhost")
	p := newPeer()
	say(t, r, who("alice", "a"), "bob", "1", "one")
	s := attach(t, r, p, "bob", "phone")
	next(t, s, p, 1)
	for _, id := range []string{"2", "3"} {
		say(t, r, who("alice", "a"), "bob", id, id)
	}
	ahead = 2 * time.Hour
	if err := st.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	var trimmed *mailbox.TrimmedError
	for trimmed == nil {
		if es, err := s.Next(nil, 10); len(es) > 0 || err != nil && !errors.As(err, &trimmed) {
			t.Fatal(es, err)
		}
		<-p.bell
	}
	if trimmed.After != 1 || trimmed.First != 4 {
		t.Fatalf("told %v", trimmed)
	}
	if _, err := s.Next(nil, 10); err != nil || s.Acked() != 0 {
		t.Errorf("%v; the cursor is at %d before the first message is acknowledged", err, s.Acked())
	}
	if !s.Ack(1) || s.Acked() != 3 {
		t.Errorf("the cursor is at %d, want it behind the hole, at 3", s.Acked())
	}
}

func TestExpiredIsPassedOver(t *testing.T) {
	r, _ := house(t, mem.Options{})
	p := newPeer()
	s := attach(t, r, p, "bob", "phone")
	post := &mailbox.Post{Message: mailbox.Message{ID: "1", Body: []byte("late"), Expires: time.Now().Add(-time.Second)}}
	if err := r.Submit(router.Link, who("alice", "a"), "bob", post); err != nil {
		t.Fatal(err)
	}
	say(t, r, who("alice", "a"), "bob", "2", "good")
	es := next(t, s, p, 10)
	if got := bodies(es); !slices.Equal(got, []string{"good"}) || es[0].Prev != 0 {
		t.Errorf("received %q after %d", got, es[0].Prev)
	}
}

func TestSubmitRefuses(t *testing.T) {
	r, _ := house(t, mem.Options{})
	for to, want := range map[string]error{
		"carol":             router.ErrNoRecipient,
		"bob@elsewhere.org": router.ErrRemote,
	} {
		post := &mailbox.Post{Message: mailbox.Message{ID: "1"}}
		if err := r.Submit(router.Poll, who("alice", "a"), to, post); !errors.Is(err, want) {
			t.Errorf("to %s: %v, want %v", to, err, want)
		}
		if post.Done() {
			t.Errorf("to %s: refused, and yet posted", to)
		}
	}
	for _, to := range []string{"", "@localhost", "bob@"} {
		if err := r.Submit(router.Poll, who("alice", "a"), to, &mailbox.Post{}); err == nil {
			t.Errorf("to %q: accepted", to)
		}
	}
}

func TestRemovedAccountHasNoSession(t *testing.T) {
	r, _ := house(t, mem.Options{})
	p := newPeer()
	attach(t, r, p, "gone", "phone") // verified before it was removed
	if got := p.ended(); !slices.Equal(got, []router.Reason{router.Removed}) {
		t.Errorf("told %q, want removed", got)
	}
	if err := r.Submit(router.Link, who("gone", "phone"), "bob", &mailbox.Post{}); !errors.Is(err, router.ErrNoSender) {
		t.Errorf("a message from it: %v, want ErrNoSender", err)
	}
}

// Many write while many come and go: nothing is missed, nothing comes twice or
// out of order within a session.
func TestRingingIsNeverLost(t *testing.T) {
	r, _ := house(t, mem.Options{})
	const senders, each = 4, 200
	var wg sync.WaitGroup
	for d := range 3 {
		wg.Go(func() {
			p := newPeer()
			seen := map[string]bool{}
			for len(seen) < senders*each {
				s, err := r.Attach(t.Context(), router.Link, who("bob", fmt.Sprint("d", d)), p)
				if err != nil {
					t.Error(err)
					return
				}
				last := s.Handed()
				for range 50 {
					es, err := s.Next(nil, 16)
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range es {
						key := e.Device + e.ID
						if seen[key] || e.Seq <= last || e.Prev != last {
							t.Errorf("%s at %d after %d (prev %d), seen before: %t", key, e.Seq, last, e.Prev, seen[key])
						}
						seen[key], last = true, e.Seq
					}
					s.Ack(last)
					if len(seen) == senders*each {
						break
					}
					if len(es) == 0 {
						select {
						case <-p.bell:
						case <-time.After(30 * time.Second):
							t.Errorf("the bell never rang; %d of %d seen", len(seen), senders*each)
							s.Close()
							return
						}
					}
				}
				s.Close()
			}
		})
	}
	for n := range senders {
		wg.Go(func() {
			from := who("alice", fmt.Sprint("s", n))
			for i := range each {
				say(t, r, from, "bob", fmt.Sprint(n, "-", i), "x")
			}
		})
	}
	wg.Wait()
}
