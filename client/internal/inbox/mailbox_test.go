package inbox

import (
	"slices"
	"testing"
)

func TestAcknowledge(t *testing.T) {
	acked := uint64(3)
	for _, c := range []struct {
		seq   uint64
		moved bool
		fails bool
		acked uint64
	}{{2, false, false, 3}, {3, false, false, 3}, {5, true, false, 5}, {8, false, true, 5}, {7, true, false, 7}} {
		moved, err := Acknowledge(&acked, 7, c.seq)
		if moved != c.moved || (err != nil) != c.fails || acked != c.acked {
			t.Errorf("%d: %v, %v, at %d", c.seq, moved, err, acked)
		}
	}
}

func TestWithdraw(t *testing.T) {
	for _, c := range []struct {
		written, one int
		want         []int
	}{{0, 1, []int{2, 3}}, {1, 1, []int{1, 2, 3}}, {1, 3, []int{1, 2}}, {3, 3, []int{1, 2, 3}}, {0, 9, []int{1, 2, 3}}} {
		queue := []int{1, 2, 3}
		if got := Withdraw(queue, c.written, c.one); !slices.Equal(got, c.want) || !slices.Equal(queue, []int{1, 2, 3}) {
			t.Errorf("%+v: %v, of %v", c, got, queue)
		}
	}
}
