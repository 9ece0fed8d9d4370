package client

import (
	"context"
	"time"
)

// OpenStaged is Open with nothing that is random: the prefix of ids, and how
// long of the bound to wait.
func OpenStaged(ctx context.Context, cfg Config, prefix string, jitter func(time.Duration) time.Duration) (*Client, error) {
	c := newClient(cfg)
	c.prefix, c.r.jitter = prefix, jitter
	return c, c.open(ctx)
}

// ErrPlace is the reason of a connection that does not begin where we are.
var ErrPlace = errPlace
