//go:build !386 && !s390x

package carrier

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// tcpInfo is the kernel's account of a TCP connection, struct tcp_info of
// linux/tcp.h, as far as it is of interest: tcpi_segs_out and tcpi_segs_in, in which
// retransmissions and mere acknowledgements count. Package syscall knows only what
// is before them.
type tcpInfo [144]byte

const segsOut, segsIn = 136, 140

func segments(c syscall.Conn) (n uint64, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	raw.Control(func(fd uintptr) {
		var info tcpInfo
		size := uint32(len(info))
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if ok = errno == 0 && size == uint32(len(info)); ok { // else it is older than Linux 4.2
			n = uint64(binary.NativeEndian.Uint32(info[segsOut:])) + uint64(binary.NativeEndian.Uint32(info[segsIn:]))
		}
	})
	return n, ok
}
