package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A Process is a server under measurement, seen from outside through /proc.
// The zero value is a server about which nothing is known.
type Process int

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// CPU is how much processor time the process has used, user and system.
func (p Process) CPU() (time.Duration, error) {
	if p == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, fmt.Errorf("bench: processor time of the server: %w", err)
	}
	// The name, in parentheses, may hold anything; the fields count from behind it.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("bench: /proc/%d/stat is too short", p)
	}
	user, err1 := strconv.ParseInt(string(f[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(f[12]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("bench: /proc/%d/stat does not read as expected", p)
	}
	return time.Duration(user+system) * tick, nil
}

// Resident is how many bytes of the process are in memory.
func (p Process) Resident() (int64, error) {
	if p == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p))
	if err != nil {
		return 0, fmt.Errorf("bench: memory of the server: %w", err)
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0, fmt.Errorf("bench: /proc/%d/statm is too short", p)
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("bench: /proc/%d/statm: %w", p, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
