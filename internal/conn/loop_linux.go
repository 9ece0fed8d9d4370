package conn

import (
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readSize   = 64 << 10  // read from a socket at once
	roundBytes = 512 << 10 // received before what it led to is sent
	maxEvents  = 256
	little     = 8 // connections with work or with events, for which a loop is not woken
)

// loop serves connections on one goroutine. A round is: wait for events; hand
// what was received to the protocols; call those that were woken and whose
// alarm has come; then one write for each connection that has something to
// send. Sockets are level-triggered: one read for each a round, so a busy one
// does not keep others waiting, and what is left makes the next round begin at
// once.
//
// A loop that sleeps while another is awake is not woken for a little work: the
// other does it before it sleeps itself, and so does who has the watch. Who
// serves a loop owns it.
type loop struct {
	own    sync.Mutex // held by who serves the loop: its goroutine unless that sleeps, or who helps
	all    *loops
	index  int // in all
	ep     int // sockets with their descriptor as data, listeners with -1-index
	events [maxEvents]unix.EpollEvent
	buf    []byte // what was read
	plain  []byte // what was decrypted
	now    time.Time
	got    int     // bytes received since the last settling
	few    bool    // events in the last round
	dirty  []*Conn // to be settled
	dead   []*Conn // whose sockets are to be closed
	wheel  wheel
	ports  []*port   // listeners; nil for gone
	paused int       // of them that wait, for file descriptors most likely
	since  time.Time // when the last one of them failed
	over   bool
	spare  []*Conn // queue's other half

	load atomic.Int32 // connections

	state atomic.Int32  // if not awake others do its work or ring
	blind atomic.Bool   // nobody else looks at its sockets
	bell  chan struct{} // ends its doze
	timer *time.Timer   // and so does this
	until time.Time     // when its sleep ends by itself; zero is never

	left  atomic.Bool // there is work that is left to a loop that is awake
	mu    sync.Mutex
	queue []*Conn  // guarded by mu; whose pending is not zero
	jobs  []func() // guarded by mu; to be called on the loop
}

func newLoop(all *loops, index int) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &loop{all: all, index: index, ep: ep, bell: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
		buf: make([]byte, readSize), plain: make([]byte, 16<<10), now: time.Now()}
	l.timer.Stop()
	l.wheel.init(all.cfg.Tick, l.now)
	if err := all.watch.add(l); err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

func (l *loop) free() { unix.Close(l.ep) }

func (l *loop) run() {
	defer l.all.running.Done()
	l.own.Lock()
	defer l.own.Unlock()
	for !l.over {
		n := l.wait()
		l.now = time.Now()
		l.serve(n)
		l.settle()
		if l.paused > 0 && l.now.Sub(l.since) >= acceptPause {
			l.resume()
		}
		l.wheel.advance(l.now.UnixNano())
		l.settle()
	}
	if l.all.awake.Add(-1); l.all.watch.has(l) {
		l.all.watch.handOn(l)
	}
}

// serve takes n events.
func (l *loop) serve(n int) {
	for i := range l.events[:n] {
		ev := &l.events[i]
		switch {
		case ev.Fd >= 0:
			if c := l.all.table.get(ev.Fd); c != nil && c.d == driver(l) {
				l.event(c, ev.Events)
			}
		default:
			l.accept(l.ports[-1-ev.Fd])
		}
		if l.got > roundBytes {
			l.settle()
			l.all.wakeLeft()
		}
	}
}

// wait returns how many events there are. While there is much to do it only
// looks, and lets other goroutines of the process have their turn.
func (l *loop) wait() (n int) {
	w := &l.all.watch
	if l.few {
		l.all.helpLeft(l.now) // before it is looked: somebody waits for it
	}
	switch {
	case !w.has(l):
		n = l.look()
	case l.few: // sleep looks as well
	case w.look() > 0:
		if n = w.round(l); n == 0 {
			return 0 // it was for others
		}
	}
	switch {
	case n > 0:
		runtime.Gosched()
	case l.all.helpLeft(l.now):
		return 0
	default:
		n = l.sleep()
	}
	if l.few = n <= little; l.few {
		return n
	}
	if w.has(l) {
		w.handOn(l)
	}
	l.all.wakeLeft()
	return n
}

// sleep waits until there is something to do, and returns how many events there
// are.
func (l *loop) sleep() int {
	w := &l.all.watch
	state, at := int32(dozing), l.wakeAt()
	if w.take(l) {
		if state = watching; at != w.until {
			w.until = at
			w.file.SetReadDeadline(at)
		}
	}
	l.until = at
	l.state.Store(state)
	l.all.awake.Add(-1)
	w.see(l)
	var err error
	// From here on nobody counts on this loop. What came before has to be done first.
	if !l.waiting() && l.all.left.Load() == 0 {
		switch {
		case state == watching:
			l.own.Unlock()
			w.looks = 0
			err = w.raw.Read(w.check) // an error is that of the deadline: it is time, or someone has rung
			l.own.Lock()
		case !w.free():
			l.own.Unlock()
			l.doze(at)
			l.own.Lock()
		}
	}
	l.all.awake.Add(1)
	if rung := !l.state.CompareAndSwap(state, awake); state == watching && (rung || err != nil) {
		w.until = past
	}
	l.now = time.Now()
	if state == watching {
		if w.looks == 1 {
			runtime.Gosched() // it has not slept
		}
		return w.round(l)
	}
	return 0
}

// doze waits for the bell, or until at.
func (l *loop) doze(at time.Time) {
	if at.IsZero() {
		<-l.bell
		return
	}
	l.timer.Reset(time.Until(at))
	select {
	case <-l.bell:
		l.timer.Stop()
	case <-l.timer.C:
	}
}

// waiting reports whether others have given the loop something to do.
func (l *loop) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) > 0 || len(l.jobs) > 0
}

// look asks for events without waiting. It does not tell the scheduler about
// the system call, which takes less time than that.
func (l *loop) look() int {
	n, _ := epollNow(l.ep, l.events[:])
	return n
}

// help does what is left to do for l, in place of its goroutine, which sleeps,
// and with its sockets if there are events. If there is much it is woken.
func (l *loop) help(now time.Time, events bool) {
	if !l.own.TryLock() {
		l.ring() // it is about to sleep, or to look itself
		return
	}
	l.now = now
	n := 0
	if events {
		n = l.look()
	}
	if n > little {
		l.own.Unlock()
		l.ring()
		return
	}
	l.serve(n)
	l.mu.Lock()
	q := l.queue
	l.queue = l.spare[:0]
	l.mu.Unlock()
	l.work(q)
	l.got = 0
	at := l.wakeAt()
	sooner := !at.IsZero() && (l.until.IsZero() || at.Before(l.until))
	l.own.Unlock()
	if sooner || l.waiting() {
		l.ring()
	}
}

// past is a deadline that ends a sleep.
var past = time.Unix(1, 0)

// wakeAt is when the loop has something to do by itself; zero is never.
func (l *loop) wakeAt() time.Time {
	at := l.wheel.next()
	if again := l.since.Add(acceptPause); l.paused > 0 && (at.IsZero() || again.Before(at)) {
		at = again
	}
	return at
}

// event is what epoll has to say of c.
func (l *loop) event(c *Conn, ev uint32) {
	if c.phase == phaseNew {
		return // an event of the descriptor's former owner
	}
	if ev&unix.EPOLLOUT != 0 && c.flags&flagOut != 0 {
		c.flags &^= flagOut
		l.interest(c)
		l.touch(c)
	}
	if ev&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	if c.flags&flagQuiet != 0 && ev&unix.EPOLLIN == 0 {
		// Nothing is read, but the connection is over in both directions.
		err := error(unix.ECONNRESET)
		if n, e := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); e == nil && n != 0 {
			err = unix.Errno(n)
		}
		c.ended(err)
		c.flags |= flagAbort
		return
	}
	if c.flags&flagQuiet == 0 {
		l.read(c)
	}
}

func (l *loop) read(c *Conn) {
	n, err := readNow(int(c.fd), l.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		c.ended(err)
		return
	case n == 0:
		c.ended(io.EOF)
		l.interest(c)
		return
	}
	l.got += n
	c.movedIn(n)
	p := l.buf[:n]
	if c.flags&flagClosing != 0 {
		return // lingering: what still comes is of no interest
	}
	switch c.phase {
	case phaseProxy:
		if rest, ok := c.preface(p); ok {
			l.hello(c)
			l.further(c, rest)
		}
	default:
		l.further(c, p)
	}
}

// further takes bytes that come after the PROXY header, if there is one.
func (l *loop) further(c *Conn, p []byte) {
	if len(p) == 0 {
		return
	}
	switch c.phase {
	case phaseHello:
		c.phase = phaseHandshake
		l.shake(c, c.g.o.TLS, p)
	case phaseHandshake:
		if !c.x.pipe.(*pipe).feed(p) {
			c.abort(ErrHandshake)
		}
	case phaseOpen:
		if c.x != nil && c.x.crypt != nil {
			l.decrypt(c, p)
		} else {
			c.received(p)
		}
	}
}

// settle calls whom others have woken, and ends the round of each connection
// that has something to send or to end.
func (l *loop) settle() {
	l.got = 0
	l.mu.Lock()
	q, jobs := l.queue, l.jobs
	l.queue, l.jobs = l.spare[:0], nil
	l.mu.Unlock()
	for _, job := range jobs {
		job()
	}
	l.work(q)
}

// work calls those of q, which was the queue, and ends the round of each
// connection that is dirty.
func (l *loop) work(q []*Conn) {
	for i, c := range q {
		q[i] = nil
		l.woken(c)
	}
	l.spare = q
	if cap(q) > 4096 && len(q) < cap(q)/8 {
		l.spare = nil // after a burst
	}
	for i := 0; i < len(l.dirty); i++ {
		l.finish(l.dirty[i])
		l.dirty[i] = nil
	}
	if cap(l.dirty) > 4096 && len(l.dirty) < cap(l.dirty)/8 {
		l.dirty = nil
	}
	l.dirty = l.dirty[:0]
	if len(l.dead) > 0 {
		l.bury()
	}
}

// woken does what c.pending asks for.
func (l *loop) woken(c *Conn) {
	bits := c.pending.Swap(0)
	if bits&bitShaken != 0 {
		l.shaken(c)
	}
	if c.phase == phaseOver {
		return
	}
	if bits&bitStart != 0 {
		l.begin(c)
	}
	if bits&bitWrite != 0 {
		if p, ok := c.x.pipe.(*pipe); ok {
			p.collect()
			l.touch(c)
		}
	}
	c.wake(bits)
}

// finish is the end of c's round.
func (l *loop) finish(c *Conn) {
	if c.phase == phaseOver {
		return
	}
	for {
		c.finish()
		if c.flags&(flagAbort|flagOut) == 0 {
			l.write(c)
		}
		c.sent()
		if c.flags&flagClosing == 0 || c.proto == nil {
			break
		}
	}
	c.flags &^= flagDirty
	switch {
	case c.flags&flagClosing == 0:
	case c.flags&flagAbort != 0:
		l.kill(c)
	case c.Unsent() == 0:
		l.shut(c)
	}
}

// write sends what there is. What the socket does not take stays, until epoll
// says that there is space.
func (l *loop) write(c *Conn) {
	for {
		from := &c.out
		if c.x != nil {
			switch {
			case c.x.wire != nil:
				from = &c.x.wire
			case c.phase == phaseHandshake:
				return
			}
		}
		b := *from
		if b.size() == 0 {
			b.free()
			*from = nil
			if from == &c.out {
				return
			}
			continue
		}
		n, err := writeNow(int(c.fd), b.bytes())
		if err == unix.EINTR {
			continue
		}
		if err != nil && err != unix.EAGAIN {
			c.ended(err)
			return
		}
		if n > 0 {
			c.movedOut(n)
			b.off += n
		}
		if b.size() > 0 {
			c.flags |= flagOut
			l.interest(c)
			return
		}
	}
}

// shut is called when all has been sent: the peer is told, and then closes
// first. A close with unread input would have the system send a reset, which
// may overtake what was written.
func (l *loop) shut(c *Conn) {
	if c.flags&flagEOF != 0 || c.phase != phaseOpen {
		l.kill(c)
		return
	}
	if c.flags&flagShut != 0 {
		return
	}
	c.flags |= flagShut
	if c.x.crypt != nil {
		c.x.crypt.CloseWrite()
		l.write(c)
	}
	if unix.Shutdown(int(c.fd), unix.SHUT_WR) != nil {
		l.kill(c)
		return
	}
	l.interest(c)
}

// kill ends c. Its socket is closed at the end of the round, so that no event
// of this round can be taken for one of a new connection with the same number.
func (l *loop) kill(c *Conn) {
	if c.Unsent() > 0 {
		// What the system still holds is of no use either.
		unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	c.phase = phaseOver
	l.wheel.remove(c)
	l.all.table.set(c.fd, nil)
	l.dead = append(l.dead, c)
}

func (l *loop) bury() {
	for i, c := range l.dead {
		l.dead[i] = nil
		unix.Close(int(c.fd))
		c.g.uncount(c)
		l.load.Add(-1)
		c.out.free()
		c.out = nil
		if c.x != nil {
			c.x.wire.free()
			c.x.wire = nil
			if p, ok := c.x.pipe.(*pipe); ok && !p.live {
				p.fail(c.x.why)
				continue // leaves when the handshake's goroutine has ended
			}
		}
		c.g.leave()
	}
	l.dead = l.dead[:0]
}

// The driver's side of loop.

func (l *loop) post(c *Conn) {
	l.mu.Lock()
	l.queue = append(l.queue, c)
	little := len(l.queue) <= little
	l.mu.Unlock()
	if little && l.state.Load() != awake && l.all.leave(l) {
		return
	}
	l.ring()
}

// do has job called on the loop.
func (l *loop) do(job func()) {
	l.mu.Lock()
	l.jobs = append(l.jobs, job)
	l.mu.Unlock()
	l.ring()
}

// ring ends the loop's sleep. Others that ring before it is awake do nothing.
func (l *loop) ring() {
	state := l.state.Load()
	if state == awake || !l.state.CompareAndSwap(state, awake) {
		return
	}
	if state == watching {
		l.all.watch.file.SetReadDeadline(past)
		return
	}
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

func (l *loop) touch(c *Conn) {
	if c.flags&flagDirty == 0 {
		c.flags |= flagDirty
		l.dirty = append(l.dirty, c)
	}
}

func (l *loop) clock() time.Time { return l.now }
func (l *loop) rearm(c *Conn)    { l.wheel.set(c) }
func (l *loop) inFlight() int    { return 0 }

// interest tells epoll what c waits for.
func (l *loop) interest(c *Conn) {
	if c.phase == phaseOver {
		return
	}
	var ev uint32
	c.flags |= flagQuiet
	if c.flags&flagEOF == 0 && (c.flags&flagPaused == 0 || c.flags&flagClosing != 0) {
		ev |= unix.EPOLLIN
		c.flags &^= flagQuiet
	}
	if c.flags&flagOut != 0 {
		ev |= unix.EPOLLOUT
	}
	unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, int(c.fd), &unix.EpollEvent{Events: ev, Fd: c.fd})
}

func (l *loop) ends(c *Conn) ends {
	e := ends{remote: netip.AddrPortFrom(c.source.addr(), c.port)}
	if sa, err := unix.Getsockname(int(c.fd)); err == nil && c.phase != phaseOver {
		a, port := fromSockaddr(sa)
		e.local = netip.AddrPortFrom(a.addr(), port)
	}
	return e
}

func (l *loop) userTimeout(c *Conn, d time.Duration) {
	if c.phase != phaseOver {
		unix.SetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}
}

func fromSockaddr(sa unix.Sockaddr) (s source, port uint16) {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr).As16(), uint16(a.Port)
	case *unix.SockaddrInet6:
		return a.Addr, uint16(a.Port)
	}
	return s, 0
}
