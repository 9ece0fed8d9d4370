package link

import (
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Signal is a word of the moment: that somebody is typing, is online, has
// gone. It comes to who is connected when it is said, or not at all.
type Signal struct {
	From   string // the sender's address
	Device string // and device
	// Kind is composing, paused, active, inactive or gone for what he does in
	// the conversation; online, offline or ask for presence; or the
	// application's own.
	Kind string
	Body []byte
}

// maxSignals is how many signals may wait to be written.
const maxSignals = 32

// Signal says a word of the moment to a user, or to one of his devices
// ("bob/phone"). It does not wait, and it is not repeated: without a
// connection it is lost. False says that it is lost already. Kind has at most
// 64 bytes and body at most 1024. The server takes five in a second.
func (mb *Mailbox) Signal(to, kind string, body []byte) bool {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.signalLocked(to, kind, body)
}

func (mb *Mailbox) signalLocked(to, kind string, body []byte) bool {
	s := mb.live
	if s == nil || s.welcome.Caps&frame.CapSignals == 0 || mb.leaving || len(mb.signals) >= maxSignals ||
		kind == "" || len(kind) > frame.MaxKind || len(body) > frame.MaxSignal {
		return false
	}
	mb.signals = append(mb.signals, signal{to, kind, append([]byte(nil), body...)})
	ring(mb.work)
	return true
}

type signal struct {
	to, kind string
	body     []byte
}

// Show tells a user that this device is online, now and after each reconnect;
// when it is gone the server tells him that.
func (mb *Mailbox) Show(to string) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if !mb.shows[to] {
		if mb.shows == nil {
			mb.shows = map[string]bool{}
		}
		mb.shows[to] = true
	}
	mb.signalLocked(to, frame.Online, nil)
}

// Hide tells a user that this device is offline, and no more than that.
func (mb *Mailbox) Hide(to string) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	delete(mb.shows, to)
	mb.signalLocked(to, frame.Offline, nil)
}

// Online reports whether a user has said that he is online on any device,
// since this mailbox was connected.
func (mb *Mailbox) Online(address string) bool {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return len(mb.online[address]) > 0
}

// signalsLocked appends the signals that wait.
func (mb *Mailbox) signalsLocked(b []byte, s *session) []byte {
	for _, g := range mb.signals {
		f := frame.Signal{To: s.out.To(g.to), Kind: g.kind, Body: g.body}
		b = frame.AppendAck(b, &f, s.ackLocked(mb))
	}
	mb.signals = nil
	return b
}

// presentLocked begins with presence anew on a session that was welcomed: what
// was heard on the last one may be over.
func (mb *Mailbox) presentLocked() {
	mb.online, mb.signals = nil, nil
	for to := range mb.shows {
		mb.signalLocked(to, frame.Online, nil)
	}
}

// signalled takes a signal from the server.
func (mb *Mailbox) signalled(s *session, f *frame.Signalled) error {
	from, device, err := s.in.Signal(f)
	if err != nil {
		return err
	}
	mb.mu.Lock()
	switch f.Kind {
	case frame.Online:
		if mb.online == nil {
			mb.online = map[string]map[string]bool{}
		}
		if mb.online[from] == nil {
			mb.online[from] = map[string]bool{}
		}
		mb.online[from][device] = true
	case frame.Offline:
		if delete(mb.online[from], device); len(mb.online[from]) == 0 {
			delete(mb.online, from)
		}
	}
	mb.mu.Unlock()
	if f.Kind == frame.Ask && mb.cfg.ShowTo != nil && mb.cfg.ShowTo(from) {
		mb.Show(from)
	}
	if mb.cfg.OnSignal != nil {
		mb.cfg.OnSignal(Signal{from, device, f.Kind, append([]byte(nil), f.Body...)})
	}
	return nil
}
