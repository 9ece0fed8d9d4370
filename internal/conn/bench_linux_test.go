package conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The peers of benchmarks are another process, so that what is measured of
// this one is the server's. It is the test binary again, told so by this.
const peerEnv = "CONN_BENCH_PEER"

func TestMain(m *testing.M) {
	if what := strings.Fields(os.Getenv(peerEnv)); len(what) > 0 {
		n := func(i int) int { return must(strconv.Atoi(what[i])) }
		switch what[0] {
		case "relay":
			relayPeer(what[1], n(2), n(3), n(4))
		case "fan":
			fanPeer(what[1], n(2), n(3), n(4))
		case "idle":
			idlePeer(what[1], n(2), what[3] == "tls")
		}
		return
	}
	os.Exit(m.Run())
}

func peer(b testing.TB, what string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerEnv+"="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

const message = 64

// relays is a protocol that sends each message of a connection to its partner:
// the one whose number, said first, is the same but for the lowest bit.
type relays struct {
	c     *Conn
	to    *Conn
	table *sync.Map
	known bool
	all   *[]*Conn // of a broadcast: who receives
}

func (r *relays) Open(c *Conn) error { r.c = c; return nil }
func (r *relays) Data(p []byte) (n int, err error) {
	if !r.known {
		if len(p) < 2 {
			return 0, nil
		}
		id := binary.BigEndian.Uint16(p)
		n, r.known = 2, true
		r.table.Store(id, r.c)
		r.c.Write([]byte{1})
		if r.all != nil && id > 0 {
			*r.all = append(*r.all, r.c)
		}
	}
	for len(p)-n >= message {
		if r.to == nil && r.all == nil {
			to, ok := r.table.Load(binary.BigEndian.Uint16(p[n:]))
			if !ok {
				return n, io.ErrUnexpectedEOF
			}
			r.to = to.(*Conn)
		}
		if r.all != nil {
			for _, c := range *r.all {
				c.Send(p[n : n+message])
			}
		} else {
			r.to.Send(p[n : n+message])
		}
		n += message
	}
	return n, nil
}
func (r *relays) Wake() error  { return nil }
func (r *relays) Alarm() error { return nil }
func (r *relays) Goodbye()     { r.c.Close(nil) }
func (r *relays) Closed(error) {}

// cpu is what this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRelay passes messages of 64 bytes between 50 pairs, by Send, each
// with a window of so many in flight.
func BenchmarkRelay(b *testing.B) {
	for _, window := range []int{512, 32} {
		for _, loops := range []int{1, 2, -1} {
			name := fmt.Sprintf("window=%d/loops=%d", window, loops)
			if loops < 0 {
				name = fmt.Sprintf("window=%d/goroutines", window)
			}
			b.Run(name, func(b *testing.B) { benchRelay(b, loops, 50, window) })
		}
	}
}

func benchRelay(b *testing.B, loops, pairs, window int) {
	e := New(Config{Loops: loops, Log: silent})
	defer e.Close()
	var table sync.Map
	addr, stop := serveFor(b, e, Options{New: func() Protocol { return &relays{table: &table} }})
	defer stop()
	cmd := peer(b, fmt.Sprintf("relay %s %d %d %d", addr, pairs, window, max(b.N/pairs, 1)))
	out := must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	in := bufio.NewReader(out)
	in.ReadString('\n') // all are connected
	b.ResetTimer()
	before := cpu()
	in.ReadString('\n') // all has arrived
	b.StopTimer()
	used := cpu() - before
	n := float64(max(b.N/pairs, 1) * pairs)
	b.ReportMetric(n/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(used.Nanoseconds())/1000/n, "µs-cpu/msg")
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFanout sends each message of 64 bytes to 1000 receivers. An
// operation is one delivery.
func BenchmarkFanout(b *testing.B) {
	const receivers = 1000
	for _, loops := range []int{1, 2} {
		b.Run(fmt.Sprintf("loops=%d", loops), func(b *testing.B) {
			e := New(Config{Loops: loops, Log: silent})
			defer e.Close()
			var table sync.Map
			var mu sync.Mutex
			var all []*Conn
			addr, stop := serveFor(b, e, Options{New: func() Protocol { return &fan{relays{table: &table, all: &all}, &mu} }})
			defer stop()
			each := max(b.N/receivers, 1)
			cmd := peer(b, fmt.Sprintf("fan %s %d 64 %d", addr, receivers, each))
			out := must(cmd.StdoutPipe())
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			in := bufio.NewReader(out)
			in.ReadString('\n')
			b.ResetTimer()
			before := cpu()
			in.ReadString('\n')
			b.StopTimer()
			n := float64(each * receivers)
			b.ReportMetric(n/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/n, "µs-cpu/msg")
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// fan is relays whose list of receivers is shared by loops while it grows.
type fan struct {
	relays
	mu *sync.Mutex
}

func (f *fan) Data(p []byte) (int, error) {
	if !f.known {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	return f.relays.Data(p)
}

func fanPeer(addr string, receivers, window, each int) {
	from := relayDial(addr, 0)
	to := make([]int, receivers)
	for i := range to {
		to[i] = relayDial(addr, i+1)
	}
	fmt.Println("connected")
	in, out := make([]byte, readSize), make([]byte, window*message)
	for sent, got := 0, 0; got < each*message*receivers; {
		if n := min(window*message-(sent-got/receivers), each*message-sent) / message * message; n > 0 {
			n, _ = writeNow(from, out[:n])
			sent += n
		}
		for _, fd := range to {
			if n, _ := readNow(fd, in); n > 0 {
				got += n
			}
		}
	}
	fmt.Println("done")
}

// relayDial opens a connection that says its number and is known then.
func relayDial(addr string, id int) int {
	c := must(net.Dial("tcp", addr)).(*net.TCPConn)
	c.Write(binary.BigEndian.AppendUint16(nil, uint16(id)))
	io.ReadFull(c, make([]byte, 1))
	return must(dup(c))
}

func serveFor(b testing.TB, e *Engine, o Options) (addr string, stop func()) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	o.Linger = 100 * time.Millisecond
	go func() {
		if err := e.Serve(ctx, ln, o); err != nil {
			b.Error(err)
		}
		close(done)
	}()
	return ln.Addr().String(), func() { cancel(); <-done }
}

// relayPeer is the client's side: one thread, no poller.
func relayPeer(addr string, pairs, window, each int) {
	type pair struct{ from, to, sent, got int }
	var all []*pair
	for i := range pairs {
		all = append(all, &pair{from: relayDial(addr, 2*i), to: relayDial(addr, 2*i+1)})
	}
	fmt.Println("connected")
	in := make([]byte, readSize)
	out := make([]byte, window*message)
	for left := pairs; left > 0; {
		moved := 0
		for i, p := range all {
			if p.got == each*message {
				continue
			}
			if n := min(window*message-(p.sent-p.got), each*message-p.sent) / message * message; n > 0 {
				for at := 0; at < n; at += message {
					binary.BigEndian.PutUint16(out[at:], uint16(2*i+1))
				}
				n, _ = writeNow(p.from, out[:n])
				p.sent += n
				for n%message != 0 { // never, with such windows, but then all would be lost
					k, _ := writeNow(p.from, out[n%message:message])
					p.sent += k
					n += k
				}
				moved += n
			}
			if n, _ := readNow(p.to, in); n > 0 {
				moved += n
				if p.got += n; p.got == each*message {
					left--
				}
			}
		}
		if moved == 0 {
			runtime.Gosched()
		}
	}
	fmt.Println("done")
}

// BenchmarkIdle says what an idle connection costs in resident memory. It is
// one measurement, whatever b.N.
func BenchmarkIdle(b *testing.B) {
	for _, layer := range []string{"tcp", "tls"} {
		b.Run(layer, func(b *testing.B) {
			const n = 15000
			var lim unix.Rlimit
			if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); lim.Cur < n+200 {
				b.Skipf("the limit on open files is %d", lim.Cur)
			}
			b.ReportMetric(residentPerConn(b, n, layer == "tls"), "B/conn")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func residentPerConn(b *testing.B, n int, secure bool) float64 {
	e := New(Config{Log: silent})
	defer e.Close()
	o := Options{New: func() Protocol { return new(idler) }}
	if secure {
		o.TLS = serverTLS()
	}
	addr, stop := serveFor(b, e, o)
	defer stop()
	before := resident()
	cmd := peer(b, fmt.Sprintf("idle %s %d %v", addr, n, map[bool]string{true: "tls", false: "tcp"}[secure]))
	out := must(cmd.StdoutPipe())
	hold := must(cmd.StdinPipe())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	grown := resident() - before
	hold.Close()
	cmd.Wait()
	return float64(grown) / float64(n)
}

// idler echoes, and has an alarm like any protocol with a keep-alive. It is as
// small as can be: what is measured is ours.
type idler struct{ c *Conn }

func (p *idler) Open(c *Conn) error { p.c = c; return nil }
func (p *idler) Data(b []byte) (int, error) {
	p.c.Write(b)
	p.c.SetAlarm(p.c.Now().Add(5 * time.Minute))
	return len(b), nil
}
func (p *idler) Wake() error  { return nil }
func (p *idler) Alarm() error { return nil }
func (p *idler) Goodbye()     { p.c.Close(nil) }
func (p *idler) Closed(error) {}

func resident() int {
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	f := strings.Fields(string(must(os.ReadFile("/proc/self/statm"))))
	return must(strconv.Atoi(f[1])) * os.Getpagesize()
}

func idlePeer(addr string, n int, secure bool) {
	dial := func() net.Conn {
		if secure {
			return must(tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: nil}))
		}
		return must(net.Dial("tcp", addr))
	}
	for range n {
		c := dial()
		for range 4 {
			c.Write([]byte("hello hello hello hello"))
			io.ReadFull(c, make([]byte, 23))
		}
		if tc, ok := c.(*tls.Conn); ok {
			dup(tc.NetConn().(*net.TCPConn))
			tc.NetConn().Close() // our side need not keep its state
		} else {
			dup(c.(*net.TCPConn))
			c.Close()
		}
	}
	fmt.Println("connected")
	io.ReadAll(os.Stdin)
}

// BenchmarkWake is the way of a result from a goroutine to a loop that sleeps,
// and back.
func BenchmarkWake(b *testing.B) {
	w := way{"loop", 2, "tcp"}
	back := make(chan struct{})
	r := w.start(&testing.T{}, Options{}, func() *probe {
		return &probe{wake: func(*probe) error { back <- struct{}{}; return nil }}
	})
	c := r.dial()
	defer r.stop()
	defer c.Close()
	p := <-r.probes
	before := cpu()
	b.ResetTimer()
	for range b.N {
		p.c.Wake()
		<-back
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/float64(b.N), "µs-cpu/op")
}
