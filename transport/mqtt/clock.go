package mqtt

import (
	"container/heap"
	"sync"
	"time"
)

// task is what a clock reminds of.
type task uint8

const (
	taskExpiry task = iota // the session of a client that is away ends
	taskWill               // a delayed will is due
	taskSys                // $SYS is due
)

type alarm struct {
	at   time.Time
	s    *session // nil for taskSys
	task task
}

// clock reminds of sessions that are away, with one timer for all of them. An
// alarm cannot be taken back: whoever hears it looks whether it still counts.
type clock struct {
	fire func(*session, task)

	mu    sync.Mutex
	heap  alarms
	timer *time.Timer
	on    bool
}

type alarms []alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) }
func (a *alarms) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*a = old[:len(old)-1]
	return x
}

func (c *clock) set(s *session, t task, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	heap.Push(&c.heap, alarm{at, s, t})
	if c.on && c.heap[0].at.Equal(at) {
		c.armLocked()
	}
}

func (c *clock) armLocked() {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.on && len(c.heap) > 0 {
		c.timer = time.AfterFunc(time.Until(c.heap[0].at), c.ring)
	}
}

func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
	c.armLocked()
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
	c.armLocked()
}

func (c *clock) ring() {
	var due []alarm
	c.mu.Lock()
	for now := time.Now(); c.on && len(c.heap) > 0 && !c.heap[0].at.After(now); {
		due = append(due, heap.Pop(&c.heap).(alarm))
	}
	c.armLocked()
	c.mu.Unlock()
	for _, a := range due {
		c.fire(a.s, a.task)
	}
}
