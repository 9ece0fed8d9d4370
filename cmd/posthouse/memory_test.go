package main

import "testing"

func TestCalm(t *testing.T) {
	var c calm
	at := uint64(0)
	step := func(bytes uint64) bool { at += bytes; return c.tick(at) }
	for range 10 {
		if step(10 << 20) {
			t.Fatal("gave back in the middle of a burst")
		}
	}
	quiet := func() (ticks int) {
		for ticks = 1; !step(1000); ticks++ {
			if ticks == 10 {
				t.Fatal("did not give back when it was quiet")
			}
		}
		return ticks
	}
	if n := quiet(); n != quietTicks {
		t.Errorf("gave back after %d quiet ticks, want %d", n, quietTicks)
	}
	for range 100 {
		if step(1000) {
			t.Fatal("gave back although nothing had come since")
		}
	}
	step(20 << 20)
	step(1000)
	step(2 << 20)
	if n := quiet(); n != quietTicks {
		t.Errorf("gave back %d ticks after a pause of one, want %d", n, quietTicks)
	}
}
