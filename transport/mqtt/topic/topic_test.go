package topic

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true}, // the examples of section 4.7.1
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true}, {"#", "a/b", true}, {"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false}, {"sport/+", "sport", false}, {"sport/+", "sport/", true},
		{"+/+", "/finance", true}, {"/+", "/finance", true}, {"+", "/finance", false},
		{"#", "$SYS/x", false}, {"+/monitor/Clients", "$SYS/monitor/Clients", false}, {"$SYS/#", "$SYS/x", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true}, {"a", "A", false}, {"/a", "a", false}, {"a/b", "a/b", true}, {"a/+/c", "a//c", true},
	} {
		if got := Match(c.filter, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.name, got)
		}
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"a/b": "|a/b", "#": "|#", "+": "|+", "+/#": "|+/#", "$share/g/a/#": "g|a/#", "$share/g//a": "g|/a", "$shared/x": "|$shared/x",
		"": "!", "a#": "!", "a/#/b": "!", "a+": "!", "a/+b": "!", "$share": "!", "$share/": "!", "$share//a": "!", "$share/g": "!", "$share/g/": "!",
		"$share/+/a": "!", "$share/g#/a": "!", strings.Repeat("/", MaxLevels): "!", strings.Repeat("/", MaxLevels-1): "|" + strings.Repeat("/", MaxLevels-1),
	} {
		share, filter, err := Parse(s)
		got := share + "|" + filter
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("Parse(%q) = %s, want %s", s, got, want)
		}
	}
}

// find returns the filters that match, sorted.
func find(tr *Tree[int], name string) (got []string) {
	var f Found[int]
	tr.Match([]byte(name), &f)
	for _, l := range f.Lists {
		for _, s := range l {
			if _, _, live := s.Options(); live {
				got = append(got, fmt.Sprint(s.Owner, " ", s.Filter))
			}
		}
	}
	for _, g := range f.Groups {
		for _, s := range g.Subs() {
			if _, _, live := s.Options(); live {
				got = append(got, fmt.Sprint(s.Owner, " ", g.Share, ":", s.Filter))
			}
		}
	}
	slices.Sort(got)
	return got
}

func FuzzTree(f *testing.F) {
	f.Add("a/b", "a/+|a/b|#|+/b|a/#|$share/g/a/b", uint64(1))
	f.Add("$SYS/b", "+/b|$SYS/#|#", uint64(0))
	f.Add("/", "+/+|/|//|/#", uint64(5))
	f.Fuzz(func(t *testing.T, name, filters string, drop uint64) {
		if CheckName([]byte(name)) != nil {
			return
		}
		type entry struct {
			share string
			sub   *Sub[int]
		}
		var tr Tree[int]
		var want []string
		var drops []entry
		for i, s := range strings.Split(filters, "|") {
			share, filter, err := Parse(s)
			if err != nil {
				continue
			}
			sub := tr.Add(i, share, filter, 1, 2)
			if drop>>(i%64)&1 == 1 {
				drops = append(drops, entry{share, sub})
				continue
			}
			if Match(filter, name) {
				if share != "" {
					share += ":"
				}
				want = append(want, fmt.Sprint(i, " ", share, filter))
			}
		}
		for _, e := range drops {
			tr.Remove(e.share, e.sub)
		}
		slices.Sort(want)
		if got := find(&tr, name); !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", name, got, want)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("#", "a|b/c|$SYS/x")
	f.Add("+/#", "a|b/c|/|//")
	f.Fuzz(func(t *testing.T, filter, names string) {
		if CheckFilter(filter) != nil {
			return
		}
		var ns Names[string]
		var want, got []string
		for i, n := range strings.Split(names, "|") {
			if CheckName([]byte(n)) != nil {
				continue
			}
			if _, had := ns.Set(n, n); had {
				continue
			}
			if i%3 == 2 {
				ns.Delete(n, func(string) bool { return true })
			} else if Match(filter, n) {
				want = append(want, n)
			}
		}
		w := ns.Walk(filter)
		for vs := make([]string, 0, 1+len(names)%3); ; {
			if vs = w.Next(vs[:0]); len(vs) == 0 {
				break
			}
			got = append(got, vs...)
		}
		if any := ns.Any(filter); any != (len(want) > 0) {
			t.Fatalf("%q: any %t, want %q", filter, any, want)
		}
		slices.Sort(want)
		slices.Sort(got)
		want = slices.Compact(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", filter, got, want)
		}
	})
}

// While a walk stands still others set and delete names. What was there all the
// time is found once.
func TestWalkAmongChanges(t *testing.T) {
	var ns Names[string]
	const stay, pass = 1000, 200
	for i := range stay {
		n := fmt.Sprintf("stay/%d/x/%d", i%10, i)
		ns.Set(n, n)
	}
	w := ns.Walk("#")
	seen := map[string]int{}
	for vs, round := make([]string, 0, 7), 0; ; round++ {
		if vs = w.Next(vs[:0]); len(vs) == 0 {
			break
		}
		for _, v := range vs {
			seen[v]++
		}
		for i := range pass {
			n := fmt.Sprintf("pass/%d/%d", round%5, i)
			if round%2 == 0 {
				ns.Set(n, n)
			} else {
				ns.Delete(n, func(string) bool { return true })
			}
			n = fmt.Sprintf("stay/%d/y/%d", i%10, round) // others beside them
			ns.Set(n, n)
			ns.Delete(n, func(string) bool { return true })
		}
	}
	for i := range stay {
		if n := fmt.Sprintf("stay/%d/x/%d", i%10, i); seen[n] != 1 {
			t.Fatalf("%s was found %d times", n, seen[n])
		}
	}
	// One that is left in the middle ends with Close.
	w = ns.Walk("stay/+/#")
	w.Next(make([]string, 0, 1))
	w.Close()
	if vs := w.Next(make([]string, 0, 1)); len(vs) != 0 {
		t.Fatal(vs)
	}
}

func TestTreeIsEmptyAgain(t *testing.T) {
	var tr Tree[int]
	var subs []*Sub[int]
	for i := range 1000 {
		subs = append(subs, tr.Add(i, "", fmt.Sprintf("a/%d/+", i%7), 0, 0), tr.Add(i, "", "same", 0, 0), tr.Add(i, "", fmt.Sprint(i), 0, 0))
	}
	if n := len(find(&tr, "same")); n != 1000 {
		t.Fatal(n)
	}
	for _, s := range subs {
		tr.Remove("", s)
	}
	if tr.Len() != 0 {
		t.Fatal(tr.Len())
	}
	for i := range tr.exact {
		if len(tr.exact[i].leaves) != 0 {
			t.Fatal("a leaf is left")
		}
	}
	for i := range tr.wild {
		if !tr.wild[i].root.empty() {
			t.Fatal("a node is left")
		}
	}
}

func TestTreeConcurrent(t *testing.T) {
	var tr Tree[int]
	tr.Add(-1, "", "t/a", 1, 0)
	tr.Add(-2, "", "t/+", 1, 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				a, b := tr.Add(g, "", "t/a", 0, uint32(i)), tr.Add(g, "s", "t/#", 0, 0)
				got := find(&tr, "t/a")
				if !slices.Contains(got, "-1 t/a") || !slices.Contains(got, "-2 t/+") || !slices.Contains(got, fmt.Sprint(g, " t/a")) {
					t.Error(got)
				}
				tr.Remove("", a)
				tr.Remove("s", b)
			}
		})
	}
	wg.Wait()
}

func BenchmarkMatch(b *testing.B) {
	for _, wild := range []int{0, 1000, 100000} {
		b.Run(fmt.Sprintf("exact=100000/wild=%d", wild), func(b *testing.B) {
			var tr Tree[int]
			for i := range 100000 {
				tr.Add(i, "", fmt.Sprintf("room/%d/temperature", i), 0, 0)
			}
			for i := range wild {
				tr.Add(i, "", fmt.Sprintf("house/%d/+/temperature", i), 0, 0)
			}
			name := []byte("room/777/temperature")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var f Found[int]
				for pb.Next() {
					f.Reset()
					tr.Match(name, &f)
					if len(f.Lists) != 1 {
						panic("lost")
					}
				}
			})
		})
	}
}
