//go:build !linux

package conn

import (
	"context"
	"errors"
	"net"
	"time"
)

// loops are for Linux only.
type loops struct{}

var errNoLoops = errors.New("conn: no event loops on this system")

func startLoops(Config) (*loops, error)                               { return nil, nil }
func (*loops) accept(context.Context, *net.TCPListener, *group) error { return errNoLoops }
func (*loops) drain(*group)                                           {}
func (*loops) stop()                                                  {}
func (*loops) adopt(socket, *group, *upgraded) error                  { return errNoLoops }

func setUserTimeout(*net.TCPConn, time.Duration) {}

// tune has the protocols' own keep-alives do that work.
func tune(tc *net.TCPConn, _ Options) { tc.SetKeepAlive(false) }
