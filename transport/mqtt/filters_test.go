package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Whether a session has few filters or many, and whatever was added and removed,
// what matches a name is the same.
func TestMatching(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	filter := func() string {
		levels := make([]string, 1+r.IntN(4))
		for i := range levels {
			levels[i] = []string{"+", "a", "b", "c", "d"}[r.IntN(5)]
		}
		if r.IntN(4) == 0 {
			levels = append(levels, "#")
		}
		f := strings.Join(levels, "/")
		if r.IntN(8) == 0 {
			f = "$share/g/" + f
		}
		return f
	}
	c := &client{srv: &Server{}, s: new(session)}
	for step := range 3000 {
		f := filter()
		if i := c.find(f); i >= 0 {
			c.removeSub(i)
		} else if len(c.s.subs) < 100 {
			c.addSub(subscription{filter: f})
		}
		if step%1000 == 999 {
			for len(c.s.subs) > manySubs/2 {
				c.removeSub(r.IntN(len(c.s.subs)))
			}
		}
		name := strings.NewReplacer("+", "a", "/#", "", "$share/g/", "").Replace(filter())
		var want, got []string
		for _, sb := range c.s.subs {
			if !isShared(sb.filter) && topic.Match(sb.filter, name) {
				want = append(want, sb.filter)
			}
		}
		for sb := range c.matching([]byte(name)) {
			got = append(got, sb.filter)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("step %d, %d filters: %s matches %q, want %q", step, len(c.s.subs), name, got, want)
		}
	}
}

// A kept session with many filters gets what waited as one with few does: once,
// with the identifiers of all that match, and by the group's where it is shared.
func TestManyFiltersFromTheQueue(t *testing.T) {
	var fill strings.Builder
	for i := range manySubs {
		fmt.Fprintf(&fill, "hub C: SUBSCRIBE #9 fill/%d/+ q1\nhub S: SUBACK #9 0x01\n", i)
	}
	dialogue(t, Config{}, fmt.Sprintf(`
		hub C: CONNECT 5 id=hub user=alice session-expiry-interval=3600
		hub S: CONNACK 0x00 *
		%s
		hub C: SUBSCRIBE #1 a/+ q1 subscription-identifier=7
		hub S: SUBACK #1 0x01
		hub C: SUBSCRIBE #2 a/b q2 subscription-identifier=8
		hub S: SUBACK #2 0x02
		hub C: SUBSCRIBE #3 $share/g/s/# q1 subscription-identifier=9
		hub S: SUBACK #3 0x01
		hub C: SUBSCRIBE #4 im/inbox/+ q1 subscription-identifier=10
		hub S: SUBACK #4 0x01
		hub C: SUBSCRIBE #5 own/+ 0x05
		hub S: SUBACK #5 0x01
		hub C: PUBLISH own/x q1 #6 :mine
		hub S: PUBACK #6
		hub --
		tv  C: CONNECT 5 clean id=tv user=bob
		tv  S: CONNACK 0x00 *
		tv  C: PUBLISH a/b q2 #1 :both
		tv  S: PUBREC #1
		tv  C: PUBREL #1
		tv  S: PUBCOMP #1
		tv  C: PUBLISH s/x q1 #2 :shared
		tv  S: PUBACK #2
		tv  C: PUBLISH fill/3/x q1 #3 :filled
		tv  S: PUBACK #3
		hub C: CONNECT 5 id=hub user=alice session-expiry-interval=3600
		hub S: CONNACK 0x00 present *
		hub S: PUBLISH a/b q2 #1 subscription-identifier=8 subscription-identifier=7 :both
		hub S: PUBLISH s/x q1 #2 subscription-identifier=9 :shared
		hub S: PUBLISH fill/3/x q1 #3 :filled
		hub C: UNSUBSCRIBE #1 a/+
		hub S: UNSUBACK #1 0x00
		tv  C: PUBLISH a/c q1 #4 :nobody's
		tv  S: PUBACK #4 0x10
		tv  C: PUBLISH a/b q1 #5 :one
		tv  S: PUBACK #5
		hub S: PUBLISH a/b q1 #4 subscription-identifier=8 :one
		tv  C: PUBLISH im/to/alice q1 #6 content-type=text/plain :mail
		tv  S: PUBACK #6
		hub S: PUBLISH im/inbox/bob@localhost q1 #32768 *
	`, fill.String()))
}
