//go:build !linux

package nat

import (
	"errors"
	"time"
)

type air struct {
	Lab   string
	Delay time.Duration
	Rate  int
}

func (air) run() error { return errors.New("the radio is for Linux") }
