package link

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Device is one reader of the mailbox.
type Device struct {
	Name string
	// Way is how it is connected: link, poll, xmpp or mqtt; empty if it is not.
	Way string
	// Seen is when it last connected or acknowledged.
	Seen time.Time
	// Behind is how many places it has not acknowledged, at most so many messages.
	Behind uint64
}

// ErrOffline is what needs a connection returns while there is none, or when
// it breaks before the answer.
var ErrOffline = errors.New("link: there is no connection")

// Devices lists the devices of the account, the one seen last first, this one
// too.
func (mb *Mailbox) Devices(ctx context.Context) ([]Device, error) { return mb.ask(ctx, "") }

// Forget removes a device of the account, and lists those that are left. The
// server ends its connection and forgets its place: if it comes back, it
// begins at the oldest message kept. It can come back as long as its password
// or token is good.
func (mb *Mailbox) Forget(ctx context.Context, device string) ([]Device, error) {
	if device == "" {
		return nil, errors.New("link: forget which device?")
	}
	return mb.ask(ctx, device)
}

// ask is a question for devices.
type ask struct {
	forget  string
	written bool
	answer  chan []Device // gets one; or is closed if none will come
}

func (mb *Mailbox) ask(ctx context.Context, forget string) ([]Device, error) {
	a := &ask{forget: forget, answer: make(chan []Device, 1)}
	mb.mu.Lock()
	err := mb.errLocked()
	switch {
	case err != nil:
	case mb.live == nil:
		err = ErrOffline
	case mb.live.welcome.Caps&frame.CapDevices == 0:
		err = errors.ErrUnsupported
	default:
		mb.asks = append(mb.asks, a)
		ring(mb.work)
	}
	mb.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case ds, ok := <-a.answer:
		if !ok {
			return nil, ErrOffline
		}
		return ds, nil
	case <-ctx.Done():
		mb.mu.Lock()
		defer mb.mu.Unlock()
		mb.asks = slices.DeleteFunc(mb.asks, func(b *ask) bool { return a == b && !a.written })
		return nil, ctx.Err()
	}
}

// asksLocked appends the next question: one at a time may be unanswered.
func (mb *Mailbox) asksLocked(b []byte, s *session) []byte {
	if len(mb.asks) == 0 || mb.asks[0].written {
		return b
	}
	mb.asks[0].written = true
	return frame.AppendAck(b, &frame.Devices{Forget: mb.asks[0].forget}, s.ackLocked(mb))
}

func (mb *Mailbox) listed(f *frame.DeviceList) error {
	ds := make([]Device, len(f.Devices))
	for i, d := range f.Devices {
		ds[i] = Device{d.Name, d.Way.String(), time.UnixMilli(int64(d.Seen)).UTC(), d.Behind}
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if len(mb.asks) == 0 || !mb.asks[0].written {
		return errAnswer
	}
	mb.asks[0].answer <- ds
	mb.asks = mb.asks[1:]
	ring(mb.work)
	return nil
}

// unaskLocked ends all questions: the connection is gone.
func (mb *Mailbox) unaskLocked() {
	for _, a := range mb.asks {
		close(a.answer)
	}
	mb.asks = nil
}
