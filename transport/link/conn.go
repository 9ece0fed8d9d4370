package link

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// link is one connection: a state machine without I/O. Its fields belong to
// the methods that the engine calls, except where something else is said.
type link struct {
	d *door
	c *conn.Conn
	s *router.Session // nil before the welcome

	out    frame.MsgWriter
	in     *frame.SendReader // nil before the first send
	prefix string            // what the client's ids begin with

	learns  *learner // nil if the client does not
	signals *signals // nil if the client does not; set before the session is attached

	// Sends that are not answered yet, oldest first.
	first, last *post
	inflight    int32

	state    state
	paused   bool // reading waits for answers to go out
	verifies bool // a fresh token is being looked at
	stalled  bool // messages wait for acknowledgements

	interval uint32 // milliseconds, how often the client speaks
	maxFrame uint32 // the longest payload that the client takes
	window   uint32 // bytes of messages that may be unacknowledged
	sent     uint32 // bytes of messages sent; wraps
	freed    uint32 // of these, how many are known to be acknowledged; wraps
	marked   uint32 // sent at mark; wraps
	mark     uint64 // a place sent; when it is acknowledged, so is what was sent before
	acked    uint64 // the place acknowledged
	told     uint64 // the place that Stored told last

	heard   int64 // Unix milliseconds, when bytes came last
	expires int64 // Unix milliseconds, when the token ends; zero is never

	caps  uint8           // agreed
	asked *asked          // nil if the client never asked for its devices
	held  []mailbox.Entry // handed out by the session and not sent yet
	hold  *hold           // nil if the client never was in the background

	login atomic.Pointer[login] // from the goroutine that verifies
	end   atomic.Uint32         // a frame.CloseCode, from the router
	gone  atomic.Bool           // Closed has been called
}

type state uint8

const (
	waiting   state = iota // for Hello
	verifying              // what Hello said
	welcomed
	probing // of the network: no session
	leaving // the server drains: what was sent is still answered
	closed
)

// errBye is why a connection ended that was told a CloseCode.
type errBye frame.CloseCode

func (e errBye) Error() string { return frame.CloseCode(e).String() }

// Open is called first.
func (l *link) Open(c *conn.Conn) error {
	l.c = c
	l.d.stats.opened.Add(1)
	c.SetAlarm(c.Now().Add(l.d.cfg.HelloTime))
	return nil
}

// Data takes whole frames.
func (l *link) Data(p []byte) (n int, err error) {
	l.heard = l.c.Now().UnixMilli()
	for l.state != verifying && l.state != closed {
		limit := l.d.maxFrame
		if l.state == waiting {
			limit = l.d.cfg.MaxHello
			if len(p) > n && p[n] != byte(frame.TypeHello) {
				l.broken(errNoHello)
				break
			}
		}
		raw, k, err := frame.Next(p[n:], limit)
		if err != nil {
			l.broken(err)
			break
		}
		if k == 0 {
			break
		}
		n += k
		if err := l.frame(raw); err != nil {
			l.broken(err)
			break
		}
		if l.inflight >= int32(l.d.cfg.Inflight) {
			l.paused = true
			l.c.PauseRead(true)
			break
		}
	}
	if l.state == closed {
		return len(p), nil
	}
	if l.state == welcomed && (l.stalled || l.hold != nil && len(l.held) > 0) {
		l.deliver()
	}
	return n, nil
}

var errNoHello = errors.New("a connection begins with HELLO")

func (l *link) frame(raw frame.Raw) error {
	l.trace("C", raw)
	if l.state == waiting {
		return l.hello(raw)
	}
	if l.state == probing && (raw.Ack != 0 || raw.Type != frame.TypePing && raw.Type != frame.TypePong && raw.Type != frame.TypeClose) {
		return errors.New("a probe only pings")
	}
	if raw.Ack != 0 {
		if err := l.ack(raw.Ack); err != nil {
			return err
		}
	}
	switch raw.Type {
	case frame.TypeSend:
		return l.send(raw)
	case frame.TypeAck:
		var f frame.Ack
		if err := f.Decode(raw.Payload); err != nil {
			return err
		}
		return l.ack(f.Step)
	case frame.TypePing:
		var f frame.Ping
		if err := f.Decode(raw.Payload); err != nil {
			return err
		}
		l.d.stats.heartbeats.Add(1)
		l.c.Meter().Beat()
		l.write(&frame.Pong{Payload: f.Payload})
	case frame.TypeSet:
		return l.set(raw)
	case frame.TypeSignal:
		if l.signals != nil {
			return l.signal(raw)
		}
	case frame.TypeDevices:
		if l.caps&frame.CapDevices != 0 {
			return l.devices(raw)
		}
	case frame.TypeClose:
		l.quit(errBye(frame.CloseDone))
	case frame.TypeHello:
		return errors.New("second HELLO")
	}
	return nil // "unknown types are skipped", and so is what only we may say
}

// Wake sees what has become of what was given to others.
func (l *link) Wake() error {
	if r := l.login.Swap(nil); r != nil {
		l.verified(r)
	}
	if l.first != nil {
		l.answer()
	}
	if code := frame.CloseCode(l.end.Load()); code != 0 && l.state == welcomed {
		l.close(code, "")
	}
	switch l.state {
	case welcomed:
		if l.signals != nil {
			l.tellSignals()
		}
		if l.asked != nil {
			l.listDevices()
		}
		l.deliver()
	case leaving:
		l.leave()
	}
	return nil
}

// client is the connection as the router sees it. Its methods are called from
// any goroutine.
type client struct{ l *link }

func (c client) Wake() { c.l.c.Wake() }

func (c client) End(why router.Reason) {
	code := frame.CloseInternal
	switch why {
	case router.Replaced:
		code = frame.CloseReplaced
	case router.Draining:
		code = frame.CloseDraining
	case router.Expired:
		code = frame.CloseExpired
	case router.Removed:
		code = frame.CloseRemoved
	}
	c.l.end.CompareAndSwap(0, uint32(code))
	c.l.c.Wake()
}

// Alarm: the client has been silent, or its token ends.
func (l *link) Alarm() error {
	now := l.c.Now().UnixMilli()
	switch l.state {
	case waiting: // how long a login may take is for auth to say
		l.close(frame.CloseTimeout, "")
	case probing:
		if call := l.learns.call; call != 0 && now >= call {
			l.learns.call = 0
			l.write(&frame.Ping{})
		}
		if now >= l.heard+l.patience() {
			l.close(frame.CloseIdle, "")
		} else {
			l.arm()
		}
	case welcomed:
		if l.paused { // it is we who do not listen
			l.heard = now
		}
		switch {
		case l.expires != 0 && now >= l.expires:
			l.close(frame.CloseExpired, "")
		case now >= l.heard+l.patience():
			l.close(frame.CloseIdle, "")
		default:
			if l.hold != nil && l.hold.until != 0 {
				l.deliver()
			}
			l.arm()
		}
	}
	return nil
}

// patience is how long the client may be silent, in milliseconds.
func (l *link) patience() int64 {
	if l.state == probing { // it says exactly how long it is silent
		return int64(l.interval) + l.d.cfg.Margin.Milliseconds()
	}
	p := keepalive.Patience(time.Duration(l.interval)*time.Millisecond) + l.d.cfg.Margin
	return p.Milliseconds()
}

// arm sets the alarm. It is not set anew for every frame: when it rings,
// Alarm looks how long the silence has been.
func (l *link) arm() {
	at := l.heard + l.patience()
	if l.expires != 0 {
		at = min(at, l.expires)
	}
	if l.learns != nil && l.learns.call != 0 {
		at = min(at, l.learns.call)
	}
	if l.hold != nil && l.hold.until != 0 {
		at = min(at, l.hold.until)
	}
	l.c.SetAlarm(time.UnixMilli(at))
}

// Goodbye: the server drains. What the client has sent is answered first.
func (l *link) Goodbye() {
	if l.state == welcomed {
		l.state = leaving
		l.c.PauseRead(true)
		l.leave()
		return
	}
	l.close(frame.CloseDraining, "")
}

func (l *link) leave() {
	if l.first == nil {
		l.close(frame.CloseDraining, "")
	}
}

// broken ends the connection of a peer that broke the protocol.
func (l *link) broken(err error) {
	code := frame.CloseProtocol
	var bye errBye
	switch {
	case errors.As(err, &bye):
		code = frame.CloseCode(bye)
	case errors.Is(err, frame.ErrTooLong):
		code = frame.CloseTooLong
	}
	l.d.stats.broken.Add(1)
	text := err.Error()
	if bye != 0 {
		text = "" // the code says it all
	}
	l.close(code, text)
}

// close says why and when to come back, and closes.
func (l *link) close(code frame.CloseCode, text string) {
	if l.state == closed {
		return
	}
	l.write(&frame.Close{Code: code, Text: text, Back: l.back(code)})
	l.quit(errBye(code))
}

// back is when the client may come back; nil if it should not.
func (l *link) back(code frame.CloseCode) *uint64 {
	var d time.Duration
	switch code {
	case frame.CloseDraining:
		d = l.spread()
	case frame.CloseBusy, frame.CloseInternal:
		d = 5 * time.Second
	case frame.CloseIdle, frame.CloseExpired, frame.CloseTimeout:
	default:
		return nil
	}
	ms := uint64(d.Milliseconds())
	return &ms
}

// spread gives each device its own time to come back after a restart, the
// same each time.
func (l *link) spread() time.Duration {
	if l.s == nil {
		return l.d.cfg.Spread / 2
	}
	h := fnv.New64a()
	h.Write([]byte(l.s.Who().User + "/" + l.s.Who().Device))
	return time.Duration(h.Sum64() % uint64(l.d.cfg.Spread))
}

func (l *link) quit(why error) {
	l.state = closed
	l.c.SetAlarm(time.Time{})
	l.c.Close(why)
}

// Meter counts what the device costs. It may be called from any goroutine.
func (c client) Meter() *cost.Meter { return c.l.c.Meter() }

// Closed is called last.
func (l *link) Closed(why error) {
	l.state = closed
	l.gone.Store(true)
	l.d.discard(l.login.Swap(nil))
	if l.learns != nil && l.learns.prober.User != "" {
		who := l.learns.prober
		l.learns = nil
		l.d.probes.leave(who.User)
		l.d.core.Costs.Book(who.User, who.Device, router.Link.String(), l.c.Meter())
	}
	if l.s == nil {
		return
	}
	l.s.Close()
	l.d.stats.sessions.Add(-1)
	who := l.s.Who()
	l.d.core.Costs.Book(who.User, who.Device, router.Link.String(), l.c.Meter())
	if l.signals != nil {
		l.hideAll()
	}
	l.d.core.Log.Info("session ended", "door", "link", "user", who.User, "device", who.Device, "reason", why)
	l.held, l.first, l.last = nil, nil, nil
}

func (l *link) write(f frame.Frame) {
	l.c.SetOut(frame.Append(l.c.Out(), f))
	l.traceFrame("S", f, 0)
}

// Frames are logged at levelTrace, what is in them one level deeper.
const (
	levelTrace = slog.LevelDebug - 4
	levelBody  = slog.LevelDebug - 8
)

func (l *link) trace(dir string, raw frame.Raw) {
	if !l.d.traces {
		return
	}
	if f, err := frame.Decode(raw); err == nil {
		l.traceFrame(dir, f, raw.Ack)
	}
}

func (l *link) traceFrame(dir string, f frame.Frame, ack uint64) {
	if !l.d.traces {
		return
	}
	text := frame.Text(f, ack)
	if !l.d.bodies {
		text = frame.Head(f, ack)
	}
	l.d.core.Log.Log(context.Background(), levelTrace, "link: "+dir+": "+text, "peer", l.c.Remote())
}
