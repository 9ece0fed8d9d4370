package mqtt

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// connectBench connects n sensors.
func connectBench(b *testing.B, g *gateway, n int) {
	for i := range n {
		m := sn.Message{Type: sn.Connect, Flags: sn.MakeFlags(false, 0, false, false, true, 0), Duration: 600, Name: fmt.Sprintf("n%d", i)}
		g.datagram(sn.Append(nil, m), benchNode(i))
		g.await()
	}
	if len(g.keys) != n {
		b.Fatalf("%d of %d are connected", len(g.keys), n)
	}
}

func benchNode(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
}

// What an idle sensor costs, in bytes.
func BenchmarkSNIdle(b *testing.B) {
	const n = 2000
	for range b.N {
		g := bare(b, sensors(), new(sink))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		connectBench(b, g, n)
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/sensor")
		runtime.KeepAlive(g)
	}
}

// A message of 64 bytes at QoS 0 from one sensor to another, without the
// network.
func BenchmarkSNPublish(b *testing.B) {
	g := bare(b, sensors(), new(sink))
	connectBench(b, g, 2)
	sub := sn.Message{Type: sn.Subscribe, Flags: sn.MakeFlags(false, 0, false, false, false, sn.Short), ID: 1, TopicID: 'a'<<8 | 'b'}
	g.datagram(sn.Append(nil, sub), benchNode(0))
	p := sn.Append(nil, sn.Message{Type: sn.Publish, Flags: sn.MakeFlags(false, 0, false, false, false, sn.Short), TopicID: 'a'<<8 | 'b', Data: make([]byte, 64)})
	b.ReportAllocs()
	for b.Loop() {
		g.datagram(p, benchNode(1))
		g.wake()
	}
	if n := g.srv.Stats().Sent; n == 0 {
		b.Fatal("nothing was sent")
	}
}
