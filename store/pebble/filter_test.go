package pebble

import (
	"fmt"
	"testing"
)

// TestFilter: what was added is never denied, what was not is rarely taken for
// old, also by a chain of several parts.
func TestFilter(t *testing.T) {
	f := new(filter)
	id := func(i int) uint64 { return hashID(fmt.Appendf(nil, "ialice@example.org\x00%d", i)) }
	const n = 5 * filterLeast
	for i := range n {
		f.add(id(i))
		if !f.may(id(i)) {
			t.Fatalf("%d is denied at once", i)
		}
	}
	wrong := 0
	for i := range n {
		if !f.may(id(i)) {
			t.Fatalf("%d is denied", i)
		}
		if f.may(id(n + i)) {
			wrong++
		}
	}
	if len(f.parts) != 3 || wrong > n/50 {
		t.Errorf("%d parts, %d of %d taken wrongly", len(f.parts), wrong, n)
	}
	t.Logf("%d of %d taken wrongly, %d bytes", wrong, n, f.bytes)
}

// TestFilterIsBounded: it grows up to its budget and not beyond.
func TestFilterIsBounded(t *testing.T) {
	f := new(filter)
	for range 20 {
		f.add(1)
		if f.full() {
			t.Fatal("full with room for more")
		}
		f.parts[len(f.parts)-1].room = 0
		if f.full() {
			break
		}
	}
	f.add(2)
	if !f.full() || f.bytes > filterBudget || f.bytes < filterBudget/2 {
		t.Errorf("full %v, %d bytes in %d parts", f.full(), f.bytes, len(f.parts))
	}
}
