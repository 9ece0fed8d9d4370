package carrier

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A SYN that was lost costs half a second, and not one or three; who answers
// soon is asked once; and what is not needed is not left open.
func TestTwice(t *testing.T) {
	const ms = time.Millisecond
	refused := errors.New("refused")
	type try struct {
		takes time.Duration
		err   error
	}
	for _, c := range []struct {
		name  string
		tries []try
		after time.Duration
		dials int64
		err   error
	}{
		{"soon", []try{{takes: 100 * ms}}, 100 * ms, 1, nil},
		{"refused", []try{{100 * ms, refused}}, 100 * ms, 1, refused},
		{"the first is lost", []try{{takes: time.Hour}, {takes: 100 * ms}}, 600 * ms, 2, nil},
		{"far away", []try{{takes: 700 * ms}, {takes: 700 * ms}}, 700 * ms, 2, nil},
		{"both at once", []try{{takes: 700 * ms}, {takes: 200 * ms}}, 700 * ms, 2, nil},
		{"the second is refused", []try{{takes: time.Second}, {100 * ms, refused}}, time.Second, 2, nil},
		{"both are", []try{{time.Second, refused}, {100 * ms, refused}}, time.Second, 2, refused},
		{"nobody there", []try{{takes: time.Hour}, {takes: time.Hour}}, 4 * time.Second, 2, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
				defer stop()
				var dials, open atomic.Int64
				begin := time.Now()
				nc, err := twice(ctx, func(ctx context.Context) (net.Conn, error) {
					try := c.tries[dials.Add(1)-1]
					select {
					case <-time.After(try.takes):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if try.err != nil {
						return nil, try.err
					}
					open.Add(1)
					return &counted{open: &open}, nil
				})
				if took := time.Since(begin); took != c.after || dials.Load() != c.dials || err != c.err {
					t.Errorf("%d dials, %v after %v", dials.Load(), err, took)
				}
				if err == nil {
					nc.Close()
				}
				if n := open.Load(); n != 0 {
					t.Errorf("%d open", n)
				}
			})
		})
	}
}

// counted is a connection that is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
}

func (c *counted) Close() error {
	c.open.Add(-1)
	return nil
}
