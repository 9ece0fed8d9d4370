package inbox

import (
	"fmt"
	"slices"
)

// Acknowledge moves acked to seq, if that is further, and reports whether it
// is. Nobody acknowledges more than he has got.
func Acknowledge(acked *uint64, got, seq uint64) (moved bool, err error) {
	if seq > got {
		return false, fmt.Errorf("client: acknowledgement of %d, received up to %d", seq, got)
	}
	if seq <= *acked {
		return false, nil
	}
	*acked = seq
	return true, nil
}

// Withdraw takes one that is no longer wanted out of a queue, unless it is
// among the first ones, which have been written: the server may store it.
func Withdraw[T comparable](queue []T, written int, one T) []T {
	if i := slices.Index(queue[written:], one); i >= 0 {
		i += written
		return append(queue[:i:i], queue[i+1:]...)
	}
	return queue
}
