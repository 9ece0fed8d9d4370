package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A burst of logins leaves garbage behind that Go's collector keeps in
// reserve for the next one: as much again as is in use, for minutes. On a
// server whose connections mostly idle that is half of its memory. So when
// things have gone quiet the reserve is given back to the system, once.
const (
	quietTick  = 2 * time.Second
	quietTicks = 3        // so many in a row
	quietRate  = 1 << 20  // with fewer bytes allocated in each than this
	quietWorth = 16 << 20 // if this much was allocated since the last time
)

// calm decides when things are quiet.
type calm struct {
	last, given uint64 // bytes ever allocated: at the last tick, and when memory was last given back
	ticks       int
}

// tick is told the bytes ever allocated and says whether to give back.
func (c *calm) tick(allocated uint64) bool {
	quiet := allocated-c.last < quietRate
	c.last = allocated
	if c.ticks++; !quiet {
		c.ticks = 0
	}
	if c.ticks < quietTicks || allocated-c.given < quietWorth {
		return false
	}
	c.given = allocated
	return true
}

// giveBack gives memory back when it is quiet, until ctx ends.
func giveBack(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	ticker := time.NewTicker(quietTick)
	defer ticker.Stop()
	var c calm
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(sample)
		if c.tick(sample[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
