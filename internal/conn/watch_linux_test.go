package conn

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
)

// parted opens so many connections for each of the loops of r.
func parted(r *rig, loops, n int) (conns [][]net.Conn, probes [][]*probe) {
	index := map[driver]int{}
	conns, probes = make([][]net.Conn, loops), make([][]*probe, loops)
	for done := 0; done < loops; {
		c, p := r.open()
		i, known := index[p.c.d]
		if !known {
			i = len(index)
			index[p.c.d] = i
		}
		if conns[i], probes[i] = append(conns[i], c), append(probes[i], p); len(conns[i]) == n {
			done++
		}
	}
	return conns, probes
}

// Who comes alone is served, whichever loop he is on, and whichever has the watch.
func TestWatchOverAll(t *testing.T) {
	for _, loops := range []int{1, 2, 4} {
		w := way{"loop", loops, "tcp"}
		r := w.start(t, Options{}, nil)
		conns, _ := parted(r, loops, 3)
		for i := range 200 {
			c := conns[i%loops][i%3]
			io.WriteString(c, "x")
			expect(t, c, "x")
		}
		for _, all := range conns {
			for _, c := range all {
				c.Close()
			}
		}
		r.stop()
	}
}

// stalled is a server one of whose loops, that of the first connections and
// probe, stands still in the middle of a round in which each of them has said
// something. Release has it go on.
func stalled(t *testing.T, loops int) (conns [][]net.Conn, first *probe, release func()) {
	w := way{"loop", loops, "tcp"}
	block, entered := make(chan struct{}), make(chan struct{}, 100)
	r := w.start(t, Options{}, func() *probe {
		return &probe{data: func(p *probe, b []byte) (int, error) {
			if b[0] == '!' {
				entered <- struct{}{}
				<-block
			}
			p.c.Write(b)
			return len(b), nil
		}}
	})
	release = sync.OnceFunc(func() { close(block) })
	t.Cleanup(release)
	conns, probes := parted(r, loops, 2*little+1)
	io.WriteString(conns[0][0], "!")
	<-entered
	for _, c := range conns[0][1:] { // while it is kept from looking
		io.WriteString(c, "!")
	}
	block <- struct{}{}
	<-entered // one of them: and all that came with it is a round
	return conns, probes[0][0], release
}

// A loop that has much to do hands the watch on, and the sockets of another that
// dozes are served while it is busy.
func TestWatchIsHandedOn(t *testing.T) {
	conns, _, release := stalled(t, 3)
	for range 100 {
		for _, others := range conns[1:] {
			for _, c := range []net.Conn{others[0], others[1]} {
				io.WriteString(c, "x")
				expect(t, c, "x")
			}
		}
	}
	release()
	for _, c := range conns[0] {
		expect(t, c, "!")
	}
}

// Whose loop is busy is left to it: others that have the watch do not look there
// again and again.
func TestWatchLooksAway(t *testing.T) {
	conns, first, release := stalled(t, 2)
	busy := first.c.d.(*loop)
	io.WriteString(conns[0][0], "x") // one more for it
	for !busy.blind.Load() {
		runtime.Gosched()
	}
	release()
	for i, c := range conns[0] {
		if i == 0 {
			expect(t, c, "!x")
		} else {
			expect(t, c, "!")
		}
	}
	// And when it sleeps it is watched again.
	for i := range 100 {
		c := conns[i%2][0]
		io.WriteString(c, "x")
		expect(t, c, "x")
	}
}
