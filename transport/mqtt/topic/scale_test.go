package topic

import (
	"fmt"
	"runtime"
	"testing"
)

// plant adds n subscriptions as a fleet of devices has them: nine in ten to a
// topic of their own, the others with a wildcard in the middle or at the end.
func plant(tr *Tree[int], n int) {
	for i := range n {
		switch i % 20 {
		case 0:
			tr.Add(i, "", fmt.Sprintf("site/%d/dev/%d/+/state", i%1000, i), 1, 0)
		case 1:
			tr.Add(i, "", fmt.Sprintf("site/%d/dev/%d/#", i%1000, i), 1, 0)
		default:
			tr.Add(i, "", fmt.Sprintf("site/%d/dev/%d/cmd", i%1000, i), 1, 0)
		}
	}
}

// With many subscriptions each name still finds those that match it, and no
// others.
func TestManySubscriptions(t *testing.T) {
	const n = 100_000
	var tr Tree[int]
	plant(&tr, n)
	if tr.Len() != n {
		t.Fatal(tr.Len())
	}
	var f Found[int]
	check := func(name string, want ...int) {
		t.Helper()
		f.Reset()
		tr.Match([]byte(name), &f)
		var got []int
		for _, l := range f.Lists {
			for _, s := range l {
				got = append(got, s.Owner)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for i := 0; i < n; i += 9973 {
		at := fmt.Sprintf("site/%d/dev/%d", i%1000, i)
		switch i % 20 {
		case 0:
			check(at+"/pump/state", i)
			check(at + "/cmd")
		case 1:
			check(at+"/pump/state", i)
			check(at+"/cmd", i)
			check(at, i)
		default:
			check(at+"/cmd", i)
			check(at + "/pump/state")
		}
	}
}

// A match costs the same however many subscriptions there are.
func BenchmarkManySubscriptions(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := heap()
			tr := new(Tree[int])
			plant(tr, n)
			size := float64(heap()-before) / float64(n)
			var names [][]byte
			for i := range 4096 {
				i := i * 7919 % n
				last := "cmd"
				if i%20 == 0 {
					last = "pump/state"
				}
				names = append(names, fmt.Appendf(nil, "site/%d/dev/%d/%s", i%1000, i, last))
			}
			var f Found[int]
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				f.Reset()
				tr.Match(names[i&4095], &f)
				if len(f.Lists) != 1 {
					b.Fatal("lost", string(names[i&4095]))
				}
				i++
			}
			b.ReportMetric(size, "B/subscription")
			runtime.KeepAlive(tr)
		})
	}
}

// BenchmarkManyRetained is subscribing to one topic, to a small part and to
// nothing, among many retained ones.
func BenchmarkManyRetained(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		before := heap()
		names := new(Names[int])
		for i := range n {
			names.Set(fmt.Sprintf("site/%d/dev/%d/state", i/10, i), i)
		}
		size := float64(heap()-before) / float64(n)
		for _, tt := range []struct {
			name, filter string
			want         int
		}{{"one", "site/7/dev/77/state", 1}, {"ten", "site/7/dev/+/state", 10}, {"branch", "site/7/#", 10}, {"none", "site/x/+", 0}} {
			b.Run(fmt.Sprintf("%d/%s", n, tt.name), func(b *testing.B) {
				b.ReportAllocs()
				vs := make([]int, 0, 64)
				for b.Loop() {
					got, w := 0, names.Walk(tt.filter)
					for vs = w.Next(vs[:0]); len(vs) > 0; vs = w.Next(vs[:0]) {
						got += len(vs)
					}
					if got != tt.want {
						b.Fatal(got)
					}
				}
				b.ReportMetric(size, "B/topic")
			})
		}
		runtime.KeepAlive(names)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
