package conn

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loops are the event loops of an engine.
type loops struct {
	cfg     Config
	list    []*loop
	table   table
	running sync.WaitGroup
	nextUp  atomic.Uint32
	shakes  shakes
	awake   atomic.Int32 // loops
	left    atomic.Int32 // loops whose left is set
	watch   watch
}

func startLoops(cfg Config) (*loops, error) {
	ls := &loops{cfg: cfg}
	ls.shakes.max = cfg.Handshakes
	if err := ls.watch.init(ls); err != nil {
		return nil, err
	}
	for i := range cfg.Loops {
		l, err := newLoop(ls, i)
		if err != nil {
			ls.free()
			return nil, err
		}
		ls.list = append(ls.list, l)
	}
	ls.awake.Store(int32(len(ls.list)))
	for _, l := range ls.list {
		ls.running.Add(1)
		go l.run() // until stop
	}
	return ls, nil
}

func (ls *loops) stop() {
	for _, l := range ls.list {
		l.do(func() { l.over = true })
	}
	ls.running.Wait()
	ls.free()
	ls.shakes.all.Wait()
}

func (ls *loops) free() {
	for _, l := range ls.list {
		l.free()
	}
	ls.watch.file.Close()
}

// leave leaves the work of l, which sleeps, to a loop that is awake. It reports
// false if there is none.
func (ls *loops) leave(l *loop) bool {
	if ls.awake.Load() == 0 {
		return false
	}
	if l.left.CompareAndSwap(false, true) {
		ls.left.Add(1)
	}
	return ls.awake.Load() > 0 // and so looks at left before it sleeps
}

// taken calls f for the loops that have work that was left.
func (ls *loops) taken(f func(*loop)) bool {
	if ls.left.Load() == 0 {
		return false
	}
	for _, l := range ls.list {
		if l.left.CompareAndSwap(true, false) {
			ls.left.Add(-1)
			f(l)
		}
	}
	return true
}

// helpLeft does what was left to do.
func (ls *loops) helpLeft(now time.Time) bool {
	return ls.taken(func(l *loop) { l.help(now, false) })
}

// wakeLeft is for a loop that has enough to do.
func (ls *loops) wakeLeft() { ls.taken((*loop).ring) }

func (ls *loops) drain(g *group) {
	ls.table.each(func(c *Conn) {
		if c.g == g {
			c.signal(bitBye)
		}
	})
}

// few is how many connections share the first loop before others are used.
const few = 4

// place is the loop for a new connection: one after the other, but a loop that
// has fewer first. A handful share one loop: they need no second, and what one
// client does right after another is then seen in that order.
func (ls *loops) place() *loop {
	if first := ls.list[0]; first.load.Load() < few {
		first.load.Add(1)
		return first
	}
	best := ls.list[int(ls.nextUp.Add(1))%len(ls.list)]
	for _, l := range ls.list {
		if l.load.Load()+16 < best.load.Load() {
			best = l
		}
	}
	best.load.Add(1)
	return best
}

// port is a listener on a loop.
type port struct {
	g      *group
	fd     int
	index  int
	paused bool
	told   bool
}

// accept has a loop accept from ln until ctx is cancelled.
func (ls *loops) accept(ctx context.Context, ln *net.TCPListener, g *group) error {
	fd, err := dup(ln)
	if err != nil {
		return err
	}
	l := ls.list[int(ls.nextUp.Add(1))%len(ls.list)]
	p := &port{g: g, fd: fd}
	done := make(chan error, 1)
	l.do(func() {
		p.index = len(l.ports)
		l.ports = append(l.ports, p)
		done <- unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(-1 - p.index)})
	})
	if err = <-done; err == nil {
		<-ctx.Done()
	}
	l.do(func() {
		unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, fd, nil)
		unix.Close(fd)
		if p.paused {
			l.paused--
		}
		l.ports[p.index] = nil
		for n := len(l.ports); n > 0 && l.ports[n-1] == nil; n-- {
			l.ports = l.ports[:n-1]
		}
		done <- nil
	})
	<-done
	return err
}

// dup returns a descriptor of our own for s's socket. It does not go through
// os.File, which would register it with the runtime's poller.
func dup(s syscall.Conn) (fd int, err error) {
	rc, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	var err2 error
	err = rc.Control(func(f uintptr) { fd, err2 = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, err2)
}

// accept takes what has come in at p.
func (l *loop) accept(p *port) {
	if p == nil {
		return
	}
	for range maxEvents {
		fd, sa, err := unix.Accept4(p.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			p.told = false
			// Not once on the listener, from which sockets inherit: those that
			// came before Serve would go without.
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(p.g.o.UserTimeout.Milliseconds()))
			s, port := fromSockaddr(sa)
			c := &Conn{source: s, port: port}
			l.all.admit(c, p.g, fd, l)
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			// No file descriptor or no memory: others may end meanwhile. The
			// listener stays readable, so epoll must not tell us.
			if !p.told {
				p.told = true
				p.g.log.Error("conn: cannot accept, trying on", "err", err)
			}
			p.paused = true
			l.paused++
			l.since = l.now
			unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, p.fd, &unix.EpollEvent{Fd: int32(-1 - p.index)})
			return
		}
	}
}

// resume accepts again where it failed.
func (l *loop) resume() {
	for _, p := range l.ports {
		if p != nil && p.paused {
			p.paused = false
			l.paused--
			unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, p.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(-1 - p.index)})
		}
	}
}

// admit makes a connection of the socket fd. On is the loop that runs, if any.
func (ls *loops) admit(c *Conn, g *group, fd int, on *loop) bool {
	if !g.enter() {
		unix.Close(fd)
		return false
	}
	l := ls.place()
	c.g, c.d, c.proto, c.fd, c.slot = g, l, g.o.New(), int32(fd), -1
	c.pending.Store(bitStart)
	if !ls.table.set(c.fd, c) {
		unix.Close(fd)
		l.load.Add(-1)
		g.leave()
		return false
	}
	g.mu.Lock()
	late := g.draining // perhaps too late for drain to have seen it
	g.mu.Unlock()
	if late {
		c.pending.Or(bitBye)
	}
	if l == on {
		l.woken(c)
	} else {
		l.post(c)
	}
	return true
}

// adopt takes a connection over that the net package has made, and its TLS.
func (ls *loops) adopt(sock socket, g *group, up *upgraded) error {
	fd, err := dup(sock.tcp)
	if err != nil {
		return err
	}
	tune(sock.tcp, g.o)
	c := &Conn{framed: true, x: &extra{ws: new(wsock)}}
	if sa, err := unix.Getpeername(fd); err == nil {
		c.source, c.port = fromSockaddr(sa)
	}
	addTo(&c.in, up.rest)
	if sock.crypt == nil {
		addTo(&c.x.wire, up.reply)
	} else {
		p := &pipe{c: c, tc: sock.crypt, live: true}
		c.x.crypt, c.x.pipe = sock.crypt, p
		var rw io.ReadWriter = p
		sock.seam.other.Store(&rw)
		c.encrypt(up.reply)
	}
	ls.admit(c, g, fd, nil)
	return nil
}

// tune has the protocols' own keep-alives do that work, and the system end
// connections that do not get through.
func tune(tc *net.TCPConn, o Options) {
	tc.SetKeepAlive(false)
	setUserTimeout(tc, o.UserTimeout)
}

func setUserTimeout(tc *net.TCPConn, d time.Duration) {
	if rc, err := tc.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}

// begin takes the first step of a connection, on its loop.
func (l *loop) begin(c *Conn) {
	err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, int(c.fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.fd})
	switch {
	case err != nil:
		c.abort(err)
	case !c.framed && c.g.trusted(c.source.addr()):
		c.phase = phaseProxy
		l.limit(c)
	case !c.g.count(c):
		c.abort(ErrSource)
	default:
		l.hello(c)
	}
}

// limit starts the time that handshakes may take.
func (l *loop) limit(c *Conn) {
	c.more().deadline = l.now.Add(c.g.o.Handshake).UnixNano()
	l.rearm(c)
}

// hello begins TLS if there is to be any.
func (l *loop) hello(c *Conn) {
	if c.g.o.TLS != nil && !c.framed {
		c.phase = phaseHello // no goroutine before the peer says something
		l.limit(c)
		return
	}
	rest := c.in
	c.in = nil
	c.open()
	if rest != nil {
		c.received(rest.bytes())
		rest.free()
	}
	if c.encrypts() {
		l.decrypt(c, nil) // TLS may have read further than HTTP
	}
	l.touch(c)
}
