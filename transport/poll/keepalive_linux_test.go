package poll

import (
	"net"
	"syscall"
	"testing"

	"github.com/posthouse-im/posthouse/store/mem"
)

// While a poll is held nothing goes over the network: what the system would
// send to see whether the phone is there wakes it.
func TestHeldPollsAreQuiet(t *testing.T) {
	core, store := newCore(t, mem.Options{})
	h := serve(t, core, store, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &limited{Listener: ln, s: h.srv}
	defer l.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*limitedConn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); on != 0 || err != nil {
			t.Errorf("SO_KEEPALIVE is %d, %v", on, err)
		}
	})
}
