//go:build !386 && !s390x

package carrier

import (
	"net"
	"testing"
)

type under struct{ net.Conn }

func (u under) NetConn() net.Conn { return u.Conn }

// Every packet is seen, an acknowledgement too; where there are none it is said.
func TestPackets(t *testing.T) {
	nc, peer := dialled(t)
	before, ok := Packets(under{nc})
	if !ok {
		t.Fatal("Linux tells")
	}
	peer.Write([]byte{1})
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	peer.Write([]byte{2}) // the first is acknowledged when this has come, if not before
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n, _ := Packets(under{nc}); n < before+3 {
		t.Errorf("%d packets", n-before)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	if _, ok := Packets(ours); ok {
		t.Error("a pipe has no packets")
	}
}
