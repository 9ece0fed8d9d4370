package link_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// BenchmarkIdle reports what an idle session costs: in heap and stacks, and in
// what the system says that the process has resident. The clients are bare
// sockets, which cost the process nothing.
func BenchmarkIdle(b *testing.B) {
	h := newHouse(b, link.Config{}, mem.Options{})
	defer h.close()
	engine := conn.New(conn.Config{Log: h.core.Log})
	defer engine.Close()
	defer func() { h.stop(); h.serving.Wait() }()
	h.core.Engine = engine
	addr := h.listen(b, nil)
	token, _, err := h.core.Auth.IssueToken(h.ctx, "alice", "", 1<<40)
	if err != nil {
		b.Fatal(err)
	}
	const n = 5000
	fds := make([]int, 0, n+3)
	defer func() {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}()
	open := func(n int) (heap, resident int) {
		for i := range n {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				b.Skip("not so many sockets: ", err)
			}
			device := fmt.Sprint("d", i)
			if n == 1 {
				device = "first"
			}
			nc.Write(frame.Append(nil, &frame.Hello{Major: 1, Token: token, Device: device, Prefix: "k3f9", Used: new(uint64)}))
			if _, err := nc.Read(make([]byte, 256)); err != nil {
				b.Fatal(err)
			}
			fds = append(fds, bare(b, nc.(*net.TCPConn)))
		}
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse), rss()
	}
	open(1)
	open(1)
	heap0, rss0 := open(1)
	heap1, rss1 := open(n)
	b.ReportMetric(float64(heap1-heap0)/n, "heap-B/session")
	b.ReportMetric(float64(rss1-rss0)/n, "resident-B/session")
	b.ReportMetric(0, "ns/op")
}

// bare makes of a connection a socket that Go knows nothing of.
func bare(b *testing.B, nc *net.TCPConn) (fd int) {
	defer nc.Close()
	raw, err := nc.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd, err = syscall.Dup(int(f)) })
	}
	if err != nil {
		b.Fatal(err)
	}
	return fd
}

// rss is the resident size in bytes, zero where the system does not say.
func rss() int {
	s, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(s))[1])
	return pages * os.Getpagesize()
}
