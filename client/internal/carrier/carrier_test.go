//go:build unix

package carrier

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
)

// dialled returns both ends of a connection that Dial has made.
func dialled(t *testing.T) (nc, peer net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if nc, err = Dial(t.Context(), "tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if peer, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return nc, peer
}

// No packet goes out that no protocol of ours has sent.
func TestNoKeepAlives(t *testing.T) {
	nc, _ := dialled(t)
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); on != 0 || err != nil {
			t.Errorf("SO_KEEPALIVE is %d, %v", on, err)
		}
	})
}

func TestSessionsLeavesTheProgramsConfigurationAlone(t *testing.T) {
	if Sessions(nil).ClientSessionCache == nil {
		t.Error("no place for sessions")
	}
	mine := &tls.Config{ServerName: "example.org"}
	if got := Sessions(mine); got.ClientSessionCache == nil || got.ServerName != "example.org" || mine.ClientSessionCache != nil {
		t.Errorf("%+v of %+v", got, mine)
	}
	mine.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if Sessions(mine) != mine {
		t.Error("it has a place of its own")
	}
}
