package link

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// asked is what a connection has whose client has asked for its devices.
type asked struct {
	busy   bool
	answer atomic.Pointer[answer] // from the goroutine that reads the disk
}

type answer struct {
	devices []router.Device
	err     error
}

// maxDevices is how many devices are listed: those seen last.
const maxDevices = 1000

// devices takes a question for the user's devices.
func (l *link) devices(raw frame.Raw) error {
	var f frame.Devices
	if err := f.Decode(raw.Payload); err != nil {
		return err
	}
	if l.asked == nil {
		l.asked = new(asked)
	}
	a, user := l.asked, l.s.Who().User
	if a.busy {
		return errors.New("DEVICES before the last one was answered")
	}
	a.busy = true
	var ds []router.Device
	ok := l.d.background(func(ctx context.Context) (err error) {
		r := l.d.core.Router
		if f.Forget != "" {
			r.Forget(user, f.Forget)
		}
		ds, err = r.Devices(ctx, user)
		return err
	}, func(err error) {
		a.answer.Store(&answer{ds, err})
		l.c.Wake()
	})
	if !ok {
		l.close(frame.CloseBusy, "")
	}
	return nil
}

var ways = [...]frame.Way{router.Poll: frame.WayPoll, router.XMPP: frame.WayXMPP, router.MQTT: frame.WayMQTT, router.Link: frame.WayLink}

// listDevices answers, if the disk has been read.
func (l *link) listDevices() {
	r := l.asked.answer.Swap(nil)
	if r == nil {
		return
	}
	l.asked.busy = false
	if r.err != nil {
		l.d.core.Log.Error("link: cannot list devices", "user", l.s.Who().User, "err", r.err)
		l.close(frame.CloseInternal, "")
		return
	}
	f, room := new(frame.DeviceList), int(l.maxFrame)
	for _, d := range r.devices {
		e := frame.Device{Name: d.Name, Seen: uint64(max(d.Seen.UnixMilli(), 0)), Behind: d.Behind}
		if d.Online {
			e.Way = ways[d.Door]
		}
		if room -= e.Size(); room < 0 || len(f.Devices) == maxDevices {
			break
		}
		f.Devices = append(f.Devices, e)
	}
	l.write(f)
}
