package nat

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// air is the radio of a lab: the link between client 1 and the NAT, in user
// space, with a delay and a rate. Packets keep their order and none is lost,
// unless more than queue wait.
type air struct {
	Lab   string
	Delay time.Duration // one way
	Rate  int           // bits per second each way; zero is any
}

// queue is how long a packet may wait for its turn.
const queue = 2 * time.Second

// run is the radio until its standard input ends.
func (a air) run() error {
	phone, err := tun(a.Lab+"-cli1", "eth0")
	if err != nil {
		return err
	}
	mast, err := tun(a.Lab+"-nat", "lan1")
	if err != nil {
		return err
	}
	go a.carry(phone, mast) // both end with the process
	go a.carry(mast, phone)
	fmt.Println(`{"What":"open"}`)
	os.Stdin.Read(make([]byte, 1))
	return nil
}

// packet is one on its way.
type packet struct {
	b   []byte
	due time.Time
}

func (a air) carry(from, to *os.File) {
	way := make(chan packet, 1<<12)
	go func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			to.Write(p.b) // an interface that is down loses it
		}
	}()
	var free time.Time // when the last bit of what was taken has been sent
	for b := make([]byte, 1<<16); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > queue {
			continue
		}
		if a.Rate > 0 {
			free = free.Add(time.Duration(n*8) * time.Second / time.Duration(a.Rate))
		}
		way <- packet{append([]byte(nil), b[:n]...), free.Add(a.Delay)}
	}
}

// tun opens a TUN device in a namespace. It leaves nothing of the process
// there.
func tun(namespace, device string) (f *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var ns *os.File
		if ns, err = os.Open("/run/netns/" + namespace); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		// The thread that opens it decides which namespace it is of.
		var fd int
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return
		}
		var req *unix.Ifreq
		if req, err = unix.NewIfreq(device); err != nil {
			return
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err == nil {
			f = os.NewFile(uintptr(fd), device)
		}
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", device, namespace, err)
	}
	return f, nil
}
