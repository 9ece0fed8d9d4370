package learn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/internal/golden"
)

// player plays a trace, of which the lines are
//
//	learner min=2s own=50s,53s,8h prior=1m,2m   one begins, with these bounds, what it
//	                      found so long ago, and what others found; all may be missing
//	nat 5m                from now on silences end as on a NAT that forgets after so long,
//	                      without a word or, with "reset" behind it, with resets
//	probe                 the silence that it asks for is tried
//	beat                  the live connection is silent for as long as it may be
//	probe silent          either ends so, whatever the NAT would do: survived, silent,
//	                      reset, unrelated
//	silent 20s            a silence of this length ends so
//	stale                 it is looked whether what is known has grown old
//	~ 5m                  time passes
//
// and behind a "=" stands the silence and how it ended, and how things are
// then: what is to be tried next, how often to beat, what is known and when that was confirmed, and how many
// silences have been judged. The TypeScript SDK plays the same files.
type player struct {
	l     *Learner
	now   time.Time
	nat   nat
	fails string // how a silence ends that the NAT does not bear
	ended string // what the last event was the end of
}

var outcomes = []string{Survived: "survived", Silent: "silent", Unrelated: "unrelated", Reset: "reset"}

func (p *player) play(event string) error {
	words := strings.Fields(event)
	if len(words) == 0 {
		return nil
	}
	verb, rest := words[0], words[1:]
	p.ended = ""
	switch verb {
	case "learner":
		return p.begin(rest)
	case "stale":
		p.l.Stale(p.now)
		return nil
	case "probe", "beat":
		silence, ok := p.l.Interval(), true
		if verb == "probe" {
			silence, ok = p.l.Probe()
		}
		if !ok {
			return fmt.Errorf("it asks for none")
		}
		p.now = p.now.Add(silence)
		if len(rest) > 0 {
			return p.end(silence, rest[0])
		}
		how := "survived"
		if p.nat.idle(silence) != Survived {
			how = p.fails
		}
		return p.end(silence, how)
	}
	d, err := time.ParseDuration(rest[0])
	if err != nil {
		return err
	}
	switch verb {
	case "~":
		p.now = p.now.Add(d)
		return nil
	case "nat":
		p.nat.timeout, p.fails = d, "silent"
		if len(rest) > 1 {
			p.fails = rest[1]
		}
		return nil
	}
	return p.end(d, verb)
}

func (p *player) end(silence time.Duration, how string) error {
	o := slices.Index(outcomes, how)
	if o < 0 {
		return fmt.Errorf("no such end: %s", how)
	}
	p.l.Ended(silence, Outcome(o), p.now)
	p.ended = fmt.Sprintf("%v %s, ", silence, how)
	return nil
}

func (p *player) begin(words []string) error {
	var c Config
	var own, prior Finding
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		var ds []time.Duration
		for v := range strings.SplitSeq(value, ",") {
			d, err := time.ParseDuration(v)
			if err != nil {
				return err
			}
			ds = append(ds, d)
		}
		switch name {
		case "min":
			c.Min = ds[0]
		case "max":
			c.Max = ds[0]
		case "own":
			own = Finding{ds[0], ds[1], p.now.Add(-ds[2])}
		case "prior":
			prior = Finding{Good: ds[0], Bad: ds[1]}
		default:
			return fmt.Errorf("what is %s?", w)
		}
	}
	p.l = New(c, own, prior, p.now)
	return nil
}

// String is how things are.
func (p *player) String() string {
	next, f := "-", p.l.Finding()
	if d, ok := p.l.Probe(); ok {
		next = d.String()
	}
	s := fmt.Sprintf("%snext %s beat %v", p.ended, next, p.l.Interval())
	if f.Good > 0 {
		s += fmt.Sprintf(" good %v", f.Good)
	}
	if f.Bad > 0 {
		s += fmt.Sprintf(" bad %v", f.Bad)
	}
	if !f.At.IsZero() {
		s += fmt.Sprintf(" at %d", f.At.UnixMilli())
	}
	return s + fmt.Sprintf(" judged %d", p.l.Probes())
}

// state is what stands behind an event.
func (p *player) state(event string) string {
	if event[0] == '~' || strings.HasPrefix(event, "nat ") {
		return ""
	}
	return " = " + p.String()
}

// trace plays all lines of a text, and returns it as it should be.
func trace(text string) (string, error) {
	p := player{now: start}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		event, _, _ := strings.Cut(line, " = ")
		if event == "" || event[0] == '#' {
			continue
		}
		if err := p.play(event); err != nil {
			return "", fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
		lines[i] = event + p.state(event)
	}
	return strings.Join(lines, "\n"), nil
}

// TestTraces plays what happens to a learner, which is the specification of
// its rules for both SDKs.
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatal("where are the traces?", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := trace(string(b))
			if err != nil {
				t.Fatal(err)
			}
			keep(t, file, got, string(b))
		})
	}
}

// keep compares with what a file has, or puts it there.
func keep(t *testing.T, file, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] && !golden.Rewriting() {
			t.Fatalf("%s:%d:\n got %s\nwant %s", file, i+1, g[i], w[i])
		}
	}
	golden.File(t, file, "run with -rewrite and read the diff", []byte(got))
}

// TestRandomTrace sees that testdata/random.txt is what chance makes of forty
// learners on networks of every kind: they forget sooner or later, silently or
// with resets, lose packets, and become better and worse. TestTraces plays it.
func TestRandomTrace(t *testing.T) {
	const file = "testdata/random.txt"
	b, err := os.ReadFile(file)
	if err != nil && !golden.Rewriting() {
		t.Fatal(err)
	}
	c := chance{Rand: rand.New(rand.NewPCG(8, 2026)), p: player{now: start}}
	c.out = append(c.out, "# Chance has made this: see TestRandomTrace.")
	for range 40 {
		c.network(t)
	}
	keep(t, file, strings.Join(c.out, "\n")+"\n", string(b))
}

// chance makes a trace.
type chance struct {
	*rand.Rand
	p   player
	out []string
}

func (c *chance) play(t *testing.T, format string, a ...any) {
	t.Helper()
	event := fmt.Sprintf(format, a...)
	if err := c.p.play(event); err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	c.out = append(c.out, event+c.p.state(event))
}

// between is a duration, as likely to be in one octave as in the next.
func (c *chance) between(least, most time.Duration) time.Duration {
	d := float64(least) * math.Exp(c.Float64()*math.Log(float64(most)/float64(least)))
	return time.Duration(d).Truncate(time.Millisecond)
}

// network is what happens to one learner.
func (c *chance) network(t *testing.T) {
	forgets := c.between(10*time.Second, 40*time.Minute)
	resets, loss := c.IntN(2) == 0, []float64{0, 0, 0.1, 0.3}[c.IntN(4)]
	bracket := func() string {
		good := min(time.Duration(float64(forgets)*(0.5+c.Float64())).Truncate(time.Millisecond), 2*time.Hour)
		if c.IntN(3) == 0 {
			return fmt.Sprintf("%v,0s", good)
		}
		return fmt.Sprintf("%v,%v", good, (good + good/time.Duration(10+c.IntN(20))).Truncate(time.Millisecond))
	}
	begin := "learner"
	if c.IntN(3) == 0 {
		least := c.between(time.Second, time.Minute)
		begin += fmt.Sprintf(" min=%v max=%v", least, least*time.Duration(3+c.IntN(20)))
	}
	if c.IntN(3) == 0 {
		begin += fmt.Sprintf(" own=%s,%v", bracket(), c.between(time.Hour, 14*24*time.Hour))
	}
	if c.IntN(2) == 0 {
		begin += " prior=" + bracket()
	}
	c.play(t, "%s", begin)
	how := func(silence time.Duration) string {
		switch {
		case c.IntN(20) == 0:
			return "unrelated"
		case c.Float64() < loss:
			return "silent"
		case silence < forgets:
			return "survived"
		case resets:
			return "reset"
		}
		return "silent"
	}
	for range 30 {
		silence, more := c.p.l.Probe()
		switch n := c.IntN(20); {
		case n < 13 && more:
			c.play(t, "probe %s", how(silence))
		case n < 16 && (more || n < 4):
			c.play(t, "beat %s", how(c.p.l.Interval()))
		case n == 16:
			d := c.between(time.Second, time.Hour)
			c.play(t, "%s %v", how(d), d)
		case n == 17 && c.IntN(3) == 0:
			forgets = c.between(10*time.Second, 40*time.Minute)
		case n > 17 || !more:
			c.play(t, "~ %v", c.between(time.Hour, 14*24*time.Hour))
			c.play(t, "stale")
		}
	}
}
