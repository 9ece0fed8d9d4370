package conn

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These system calls do not block, so the scheduler is not told of them: that
// would cost as much again.

func readNow(fd int, p []byte) (int, error) {
	n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func writeNow(fd int, p []byte) (int, error) {
	n, _, e := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func epollNow(ep int, events []unix.EpollEvent) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// table finds a connection by its file descriptor, for all loops. A slot is
// written by the loop that owns the descriptor.
type table struct {
	parts [4096]atomic.Pointer[[4096]atomic.Pointer[Conn]]
}

func (t *table) get(fd int32) *Conn {
	if part := t.parts[fd>>12].Load(); part != nil {
		return part[fd&4095].Load()
	}
	return nil
}

// set reports false for a descriptor beyond what there can be.
func (t *table) set(fd int32, c *Conn) bool {
	if int(fd>>12) >= len(t.parts) {
		return false
	}
	p := &t.parts[fd>>12]
	if p.Load() == nil {
		p.CompareAndSwap(nil, new([4096]atomic.Pointer[Conn]))
	}
	p.Load()[fd&4095].Store(c)
	return true
}

func (t *table) each(f func(*Conn)) {
	for i := range t.parts {
		if part := t.parts[i].Load(); part != nil {
			for j := range part {
				if c := part[j].Load(); c != nil {
					f(c)
				}
			}
		}
	}
}
