package cost

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// walk is the energy of a trace of packets, by the letter of the radio's state
// machine, millisecond by millisecond.
func walk(r *radio, packets []time.Duration) (joules float64) {
	awake := false // at the packet before
	var last time.Duration
	for _, at := range packets {
		if awake {
			e, slept := r.spent(at - last)
			joules += e
			awake = !slept
		}
		if !awake {
			joules += r.promotion
		}
		awake, last = true, at
	}
	e, _ := r.spent(time.Hour)
	return joules + e
}

func counted(packets []time.Duration) Counts {
	var m Meter
	begin := time.Unix(1_700_000_000, 0)
	for i, at := range packets {
		if i%2 == 0 {
			m.Up(0, begin.Add(at), 10*time.Second)
		} else {
			m.Down(0, begin.Add(at), 10*time.Second)
		}
	}
	return m.Take(begin)
}

// What is added packet by packet is what a walk over the whole trace finds.
func TestEnergyOfTraces(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var packets []time.Duration
		at := time.Duration(0)
		for range 1 + rnd.IntN(50) {
			at += time.Duration(rnd.ExpFloat64()*float64(rnd.IntN(20_000))) * time.Millisecond
			packets = append(packets, at)
		}
		c := counted(packets)
		for _, p := range Profiles() {
			want := walk(&radios[p], packets)
			if got := c.Joules(p); math.Abs(got-want) > 0.001+float64(len(packets))/unitsPerJoule {
				t.Fatalf("seed %d, %v: %.4f J, a walk finds %.4f J", seed, p, got, want)
			}
		}
	}
}

// An exchange alone, and one every so often for an hour.
func TestEnergyOfBeats(t *testing.T) {
	for _, row := range []struct {
		p     Profile
		every time.Duration // 0: one
		want  float64
	}{
		{LTE, 0, 11.4}, {UMTS, 0, 9.5}, {WiFi, 0, 0.10},
		{LTE, 30 * time.Second, 1370}, {LTE, time.Minute, 684}, {LTE, 5 * time.Minute, 137}, {LTE, 28 * time.Minute, 24},
	} {
		var m Meter
		at := time.Unix(1_700_000_000, 0)
		n := 1
		if row.every > 0 {
			n = int(math.Round(float64(time.Hour) / float64(row.every)))
		}
		for range n {
			m.Up(0, at, 0)
			m.Down(0, at.Add(time.Millisecond/2), 0)
			at = at.Add(row.every)
		}
		c := m.Take(at)
		if got := c.Joules(row.p); math.Abs(got-row.want) > 0.06*row.want {
			t.Errorf("%v every %v: %.2f J, want %v", row.p, row.every, got, row.want)
		}
	}
}

func TestMeter(t *testing.T) {
	var m Meter
	at := time.Unix(1_700_000_000, 0)
	const quiet = 10 * time.Second
	if !m.Up(300, at, quiet) {
		t.Error("the first packet wakes nobody")
	}
	m.Login(at)
	m.Down(200, at.Add(time.Second), quiet)
	if m.Up(2, at.Add(5*time.Second), quiet) {
		t.Error("woken while awake")
	}
	if !m.Down(2, at.Add(15*time.Second), quiet) {
		t.Error("not woken after ten seconds")
	}
	m.Beat()
	c := m.Take(at.Add(20 * time.Second))
	want := Counts{BytesUp: 302, BytesDown: 202, PacketsUp: 2, PacketsDown: 2, Wakeups: 2, Heartbeats: 1, Connects: 1, Connected: 20_000, Radio: c.Radio}
	if c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
	if m.Moved() {
		t.Error("moved after it was taken")
	}
	again := m.Take(at.Add(30 * time.Second))
	if again != (Counts{Connected: 10_000}) {
		t.Errorf("%+v", again)
	}
	c.Add(&again)
	if c.Connected != 30_000 || c.BytesUp != 302 {
		t.Errorf("%+v", c)
	}
}

// A clock that is set back is no silence of weeks, and no time that somebody was
// connected.
func TestClockSetBack(t *testing.T) {
	var m Meter
	at := time.Unix(1_700_000_000, 0)
	m.Login(at)
	m.Up(1, at, Quiet)
	at = at.Add(-time.Minute)
	if m.Up(1, at, Quiet) {
		t.Error("woken by the clock")
	}
	if c := m.Take(at); c.Wakeups != 1 || c.Connected != 0 || c.Joules(LTE) > 12 {
		t.Errorf("%+v, %.1f J", c, c.Joules(LTE))
	}
	m.Up(1, at.Add(time.Minute), Quiet)
	if c := m.Take(at.Add(time.Minute)); c.Wakeups != 1 || c.Connected != 60_000 {
		t.Errorf("after that: %+v", c)
	}
}

// A packet that comes at the same moment as another costs only its bytes.
func TestBytesCost(t *testing.T) {
	c := Counts{BytesUp: 1 << 20, BytesDown: 1 << 20}
	if up := c.Joules(LTE); math.Abs(up-(3.677+0.436)) > 0.01 {
		t.Errorf("%.3f J", up)
	}
	if c.Joules(WiFi) != 0 {
		t.Error("wifi")
	}
}

func BenchmarkMeter(b *testing.B) {
	var m Meter
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(time.Millisecond)
		m.Up(100, at, 10*time.Second)
	}
}

func ExampleCounts_Joules() {
	var m Meter
	at := time.Unix(0, 0)
	for range 60 { // a heartbeat each minute, for an hour
		m.Up(2, at, 10*time.Second)
		m.Down(2, at, 10*time.Second)
		at = at.Add(time.Minute)
	}
	c := m.Take(at)
	for _, p := range Profiles() {
		fmt.Printf("%v %.0f J\n", p, c.Joules(p))
	}
	// Output:
	// lte 682 J
	// 3g 570 J
	// wifi 6 J
}
