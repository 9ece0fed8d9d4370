package client

import (
	"math/rand/v2"
	"time"
)

// The bounds of Backoff.
const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 20 * time.Second
)

// Backoff is how long to wait before the next attempt to connect, after tries
// that failed: anything up to a bound that doubles from half a second to
// twenty ("full jitter"), so that many clients do not come back together.
func Backoff(tries int) time.Duration { return rand.N(bound(tries, maxBackoff)) }

func bound(tries int, most time.Duration) time.Duration {
	return min(minBackoff<<min(max(tries, 0), 10), most)
}
