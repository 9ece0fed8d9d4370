package conn

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func files(t *testing.T) int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

// When Serve and Close have returned, no goroutine and no file is left.
func TestNothingIsLeft(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		warm := w.start(t, Options{}, nil) // what the process makes once
		warm.dial().Close()
		warm.stop()
		fds, routines := files(t), runtime.NumGoroutine()
		r := w.start(t, Options{}, nil)
		var conns []net.Conn
		for range 20 {
			c := r.dial()
			io.WriteString(c, "x")
			expect(t, c, "x")
			conns = append(conns, c)
		}
		if w.layer == "tls" { // and one in the middle of its handshake
			c := must(net.Dial("tcp", r.addr))
			io.WriteString(c, "\x16\x03\x01")
			conns = append(conns, c)
		}
		done := make(chan struct{})
		go func() { r.stop(); close(done) }()
		for _, c := range conns {
			io.Copy(io.Discard, c)
			c.Close()
		}
		<-done
		for range 1000 { // the test's own clients and HTTP server end a little later
			if files(t) <= fds && runtime.NumGoroutine() <= routines {
				return
			}
			runtime.Gosched()
			runtime.GC()
		}
		buf := make([]byte, 1<<16)
		t.Errorf("%d files more, %d goroutines more\n%s", files(t)-fds, runtime.NumGoroutine()-routines, buf[:runtime.Stack(buf, true)])
	})
}

// counter counts log records.
type counter struct{ n *atomic.Int32 }

func (c counter) Enabled(context.Context, slog.Level) bool { return true }
func (c counter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "conn: cannot accept, trying on" {
		c.n.Add(1)
	}
	return nil
}
func (c counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c counter) WithGroup(string) slog.Handler      { return c }

// Without file descriptors accepting waits, says so once, and goes on.
func TestNoFilesLeft(t *testing.T) {
	for name, loops := range map[string]int{"goroutine": -1, "loop": 1} {
		t.Run(name, func(t *testing.T) {
			var old unix.Rlimit
			unix.Getrlimit(unix.RLIMIT_NOFILE, &old)
			few := old
			few.Cur = uint64(files(t) + 40)
			var said atomic.Int32
			e := New(Config{Loops: loops, Log: slog.New(counter{&said})})
			defer e.Close()
			addr, stop := serveFor(t, e, Options{New: func() Protocol { return &probe{ended: make(chan error, 1)} }})
			defer stop()
			echo := func() net.Conn {
				c := must(net.Dial("tcp", addr))
				c.SetDeadline(time.Now().Add(10 * time.Second))
				io.WriteString(c, "x")
				return c
			}
			first := echo()
			defer first.Close()
			expect(t, first, "x")

			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
				t.Skip(err)
			}
			defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
			var filler []int
			for {
				fd, err := unix.Dup(0)
				if err != nil {
					break
				}
				filler = append(filler, fd)
			}
			unix.Close(filler[0])
			c := echo() // takes the last one, so the server has none
			defer c.Close()
			for said.Load() == 0 {
				runtime.Gosched()
			}
			io.WriteString(first, "y") // others are served meanwhile
			expect(t, first, "y")
			for _, fd := range filler[1:] {
				unix.Close(fd)
			}
			expect(t, c, "x")
			if n := said.Load(); n != 1 {
				t.Errorf("said %d times", n)
			}
		})
	}
}

// More handshakes at once than are allowed wait for their turn.
func TestHandshakesWait(t *testing.T) {
	e := New(Config{Loops: 1, Handshakes: 1, Log: silent})
	defer e.Close()
	addr, stop := serveFor(t, e, Options{TLS: serverTLS(), Handshake: 100 * time.Millisecond, New: func() Protocol { return &probe{ended: make(chan error, 1)} }})
	defer stop()
	slow := must(net.Dial("tcp", addr))
	defer slow.Close()
	io.WriteString(slow, "\x16\x03\x01") // holds the only place until its time is up
	for range 3 {
		for ok := false; !ok; {
			c := must(net.Dial("tcp", addr))
			ok = tlsEcho(c) == nil // if not, its own time was up in the queue
			c.Close()
		}
	}
}

// What the system is told about sockets: small packets go at once, no
// keep-alives beside the protocols' own, and an end for what gets no answer.
func TestSocketOptions(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		got := make(chan [4]int, 1)
		r := w.start(t, Options{UserTimeout: 12 * time.Second}, func() *probe {
			return &probe{wake: func(p *probe) error {
				fd := int(p.c.fd)
				if d, ok := p.c.d.(*gconn); ok {
					rc, _ := d.tcp.SyscallConn()
					rc.Control(func(f uintptr) { fd = int(f) })
				}
				var o [4]int
				o[0], _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
				o[1], _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
				o[2], _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
				p.c.SetUserTimeout(7 * time.Second)
				o[3], _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
				got <- o
				return nil
			}}
		})
		_, p := r.open()
		p.c.Wake()
		if o := <-got; o != [4]int{1, 0, 12000, 7000} {
			t.Errorf("no delay, keep-alive, user timeout, and another: %v", o)
		}
	})
}
