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
	if step(1000) || step(1000) {
		t.Fatal("gave back too early")
	}
	if !step(1000) {
		t.Fatal("did not give back when it was quiet")
	}
	for range 100 {
		if step(1000) {
			t.Fatal("gave back although nothing had come since")
		}
	}
	step(20 << 20)
	step(1000)
	step(2 << 20)
	if step(1000) || step(1000) || !step(1000) {
		t.Error("a pause of one tick counted as quiet, or three did not")
	}
}
