package client

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	for tries, bound := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 20 * time.Second, 20 * time.Second} {
		var longest time.Duration
		for range 1000 {
			longest = max(longest, Backoff(tries))
		}
		if longest >= bound || longest < bound*8/10 {
			t.Errorf("after %d tries up to %v, want nearly %v", tries, longest, bound)
		}
	}
	if d := Backoff(1 << 30); d < 0 || d >= maxBackoff {
		t.Errorf("after many tries %v", d)
	}
	if d := Backoff(-1); d < 0 || d >= minBackoff {
		t.Errorf("before any %v", d)
	}
}
