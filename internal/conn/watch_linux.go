package conn

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Of the loops that sleep one watches the sockets of all, in an epoll instance of
// their epoll instances, and does what little there is to do: so a message that
// comes alone wakes one thread, wherever its sender and its receiver are. The
// others doze: they wait for nothing but their next alarm, or to be rung for.
//
// The watch goes from hand to hand. A loop that falls asleep takes it if nobody
// has it. Who has much to do hands it on to one that dozes, and then it is free
// only while all are awake.

// States of a loop.
const (
	awake    = iota
	dozing   // waits for its bell
	watching // waits for the sockets of all
)

type watch struct {
	loops  *loops
	holder atomic.Int32 // index of the loop that has it, +1; zero is free

	// The holder's.
	ep     int             // of the loops' own, with their index as data
	file   *os.File        // ep, in the runtime's poller
	raw    syscall.RawConn // ep
	until  time.Time       // deadline of file as it was set last
	events []unix.EpollEvent
	found  int                // events
	looks  int                // in this sleep
	check  func(uintptr) bool // looks; made once
}

func (w *watch) init(ls *loops) (err error) {
	w.loops = ls
	w.events = make([]unix.EpollEvent, ls.cfg.Loops)
	w.check = func(uintptr) bool { w.looks++; return w.look() > 0 }
	if w.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := unix.SetNonblock(w.ep, true); err != nil { // or os.File will not wait by the poller
		unix.Close(w.ep)
		return err
	}
	w.file = os.NewFile(uintptr(w.ep), "epoll")
	if w.raw, err = w.file.SyscallConn(); err == nil {
		err = w.file.SetReadDeadline(time.Time{}) // says whether the poller has it
	}
	if err != nil {
		w.file.Close()
	}
	return err
}

func (w *watch) add(l *loop) error {
	return unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, l.ep, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.index)})
}

// look asks which loops have events. The holder calls it.
func (w *watch) look() int {
	w.found, _ = epollNow(w.ep, w.events)
	return w.found
}

func (w *watch) has(l *loop) bool { return w.holder.Load() == int32(l.index)+1 }
func (w *watch) free() bool       { return w.holder.Load() == 0 }

// take reports whether l, which falls asleep, has the watch.
func (w *watch) take(l *loop) bool {
	return w.has(l) || w.holder.CompareAndSwap(0, int32(l.index)+1)
}

// handOn is called by a loop that has the watch and no time for it.
func (w *watch) handOn(l *loop) {
	for {
		if m := w.dozer(); m != nil {
			w.holder.Store(int32(m.index) + 1)
			m.ring()
			return
		}
		w.holder.Store(0)
		// One may have fallen asleep meanwhile that relied on this one.
		if w.dozer() == nil || !w.holder.CompareAndSwap(0, int32(l.index)+1) {
			return
		}
	}
}

// dozer is a loop that dozes, or nil.
func (w *watch) dozer() *loop {
	for _, m := range w.loops.list {
		if m.state.Load() == dozing {
			return m
		}
	}
	return nil
}

// round does what little there is to do for others, and returns how many events
// there are for l, which has the watch and has looked.
func (w *watch) round(l *loop) (n int) {
	for i := range w.events[:w.found] {
		m := w.loops.list[w.events[i].Fd]
		switch {
		case m == l:
			n = l.look()
		case m.state.Load() == awake:
			w.blind(m)
		default:
			m.help(l.now, true)
		}
	}
	w.found = 0
	return n
}

// blind leaves the sockets of m, which is awake, to m. They are watched again
// when it falls asleep.
func (w *watch) blind(m *loop) {
	w.heed(m, 0)
	m.blind.Store(true)
	if m.state.Load() != awake {
		w.see(m)
	}
}

func (w *watch) see(m *loop) {
	if m.blind.Load() && m.blind.CompareAndSwap(true, false) {
		w.heed(m, unix.EPOLLIN)
	}
}

func (w *watch) heed(m *loop, events uint32) {
	unix.EpollCtl(w.ep, unix.EPOLL_CTL_MOD, m.ep, &unix.EpollEvent{Events: events, Fd: int32(m.index)})
}
