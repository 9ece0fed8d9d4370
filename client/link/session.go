package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// session is one connection that has been welcomed. In belongs to the reader;
// what else changes is guarded by the mailbox's mu.
type session struct {
	nc      net.Conn
	welcome frame.Welcome
	buf     []byte // read and not decoded
	in      frame.MsgReader

	out      frame.SendWriter
	acked    uint64 // place acknowledged on this connection
	brought  uint64 // place of the last message on this connection
	told     uint64 // place that Stored told last
	pongs    []*frame.Pong
	interval time.Duration
	wished   time.Duration // guarded by the mailbox's mu; what the server was asked for last

	wrote, read time.Time // when bytes went last, either way
	pinged      time.Time
	waits       bool          // for the answer to that
	check       bool          // whether the server is there, now
	patience    time.Duration // for the answer, if not zero
	broken      error         // what the server may not say
	network     string        // guarded by the mailbox's mu
	key         string        // guarded by the mailbox's mu; what is learned there is kept under it
	quiet       time.Duration // the silence before what was written and not answered yet
	fed         bool          // something came behind the welcome
	greeted     bool          // it was asked when it began
	dead        bool          // no answer came
	moved       bool          // the program says that the network is another
	moving      bool          // to another network, and does not hear on this one
	strayed     bool          // has been on another network than the one that Hello told
	stopMove    func()        // nil before the first
	asked       time.Time     // when the oldest send that is not answered was written

	elsewhere chan struct{} // bell: the network has changed, for follow

	renewed chan uint64   // when a fresh token ends, from the reader to renew
	ended   chan struct{} // closed when nothing more is read

	large []*sending // the writer's: too large for this server
}

// comeBack is a reason to close that says when to come back.
type comeBack struct {
	code  frame.CloseCode
	after time.Duration
}

func (e *comeBack) Error() string { return "closed by the server: " + e.code.String() }

// connect makes a connection and logs in, within limit. A system that gets no
// answer asks again ever more seldom, and would sleep through the moment when
// the network is back: so the first attempts are short.
func (mb *Mailbox) connect(ctx context.Context, limit time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	mb.mu.Lock()
	mb.stopConnect = cancel
	select {
	case <-mb.moved: // from now on a change stops the attempt
	default:
	}
	mb.mu.Unlock()
	if mb.cfg.NetworkName != nil {
		name := mb.cfg.NetworkName()
		mb.mu.Lock()
		mb.net = name
		mb.mu.Unlock()
	}
	hello, err := mb.hello(ctx)
	if err != nil {
		return nil, err
	}
	nc, err := mb.dial(ctx)
	if err != nil {
		return nil, err
	}
	key := learnedAs(hello.Network, nc)
	mb.introduce(hello, key)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	s := &session{nc: nc, network: hello.Network, key: key, elsewhere: make(chan struct{}, 1), renewed: make(chan uint64, 1), ended: make(chan struct{})}
	begin := time.Now()
	err = mb.login(s, hello)
	took := time.Since(begin)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.complain(err)
		nc.Close()
		return nil, mb.abandon(s, err)
	}
	mb.mu.Lock()
	mb.pace.answered(took)
	mb.mu.Unlock()
	return s, nil
}

// abandon lets go of a session that may have been welcomed a moment too late, and
// returns why.
func (mb *Mailbox) abandon(s *session, why error) error {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.live != s {
		return why
	}
	mb.live = nil
	if s.moved {
		return errMoved
	}
	return why
}

func (mb *Mailbox) hello(ctx context.Context) (*frame.Hello, error) {
	h := &frame.Hello{
		Major: frame.Major, Minor: frame.Minor,
		Token: mb.cfg.Token, User: mb.cfg.User, Password: mb.cfg.Password, Device: mb.cfg.Device,
		MaxFrame: uint64(mb.cfg.MaxMessage), Interval: uint64(mb.cfg.Heartbeat.Milliseconds()),
		Window: uint64(mb.cfg.Window), Prefix: mb.prefix, Agent: agent,
	}
	if mb.cfg.Tokens != nil {
		var err error
		if h.Token, err = mb.cfg.Tokens(ctx); err != nil {
			return nil, fmt.Errorf("link: no token: %w", err)
		}
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	h.Network = mb.net
	h.Caps = frame.CapDevices | frame.CapDeflate
	if mb.cfg.OnSignal != nil {
		h.Caps |= frame.CapSignals
	}
	if mb.placed {
		after := mb.acked
		h.After = &after
	}
	return h, nil
}

// login says hello and takes the welcome.
func (mb *Mailbox) login(s *session, hello *frame.Hello) error {
	w, err := mb.greet(s, hello)
	if err != nil {
		return err
	}
	mb.welcomed(s, w)
	return nil
}

// greet says hello and returns the welcome. What came behind it stays in s.buf.
func (mb *Mailbox) greet(s *session, hello *frame.Hello) (*frame.Welcome, error) {
	if _, err := s.nc.Write(frame.Append(nil, hello)); err != nil {
		return nil, err
	}
	for {
		raw, n, err := frame.Next(s.buf, mb.cfg.MaxMessage)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			if err := s.fill(); err != nil {
				return nil, err
			}
			continue
		}
		f, err := frame.Decode(raw)
		if err != nil {
			return nil, err
		}
		s.buf = s.buf[n:]
		switch f := f.(type) {
		case *frame.Welcome:
			return f, nil
		case *frame.Close:
			return nil, mb.closed(f)
		case *frame.Unknown:
		default:
			return nil, fmt.Errorf("%w: the server begins with %v", errProtocol, raw.Type)
		}
	}
}

func (mb *Mailbox) welcomed(s *session, w *frame.Welcome) {
	now := time.Now()
	s.welcome = *w
	s.in = frame.MsgReader{Place: w.Cursor, Time: int64(w.Time)}
	s.out = frame.SendWriter{Prefix: mb.prefix, Peers: w.Peers}
	s.acked, s.brought = w.Cursor, w.Cursor
	s.interval = max(time.Duration(w.Interval)*time.Millisecond, time.Second)
	s.wished = s.interval
	s.read, s.wrote = now, now
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.address, mb.after = w.Address, w.Cursor
	mb.written = 0
	mb.sets = nil
	if mb.placed && w.Cursor < mb.acked {
		mb.cfg.Log.Warn("link: the server has gone back", "to", w.Cursor, "from", mb.acked)
		mb.got, mb.acked = w.Cursor, w.Cursor
	}
	if !mb.placed {
		mb.placed, mb.got, mb.acked = true, w.Cursor, w.Cursor
	}
	mb.startLocked(s)
	mb.presentLocked()
	ring(mb.work)
}

// closed turns the server's reason into an error: *Closed if it does not want
// us back.
func (mb *Mailbox) closed(f *frame.Close) error {
	fresh := f.Code == frame.CloseExpired && mb.cfg.Tokens != nil // a token can be brought
	if !fresh && (f.Back == nil || f.Code == frame.CloseExpired) {
		return &Closed{Code: f.Code.String(), Text: f.Text}
	}
	var back uint64
	if f.Back != nil {
		back = *f.Back
	}
	return &comeBack{f.Code, time.Duration(back) * time.Millisecond}
}

// fill reads what there is.
func (s *session) fill() error {
	if cap(s.buf)-len(s.buf) < 4096 {
		b := make([]byte, len(s.buf), 2*len(s.buf)+32<<10)
		copy(b, s.buf)
		s.buf = b
	}
	n, err := s.nc.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// serve runs the session to its end. When it returns the connection is closed
// and nothing that it started is left.
func (mb *Mailbox) serve(ctx context.Context, s *session) error {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { mb.write(ctx, s) }) // ends with ctx, and closes the connection
	if mb.cfg.Tokens != nil && s.welcome.Expires != 0 {
		others.Go(func() { mb.renew(ctx, s) }) // ends with ctx
	}
	if m, ok := s.nc.(Mover); ok {
		others.Go(func() { mb.follow(ctx, s, m) }) // ends with ctx
	}
	err := mb.reads(s)
	s.broken = err
	close(s.ended)
	cancel()
	others.Wait()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.live = nil
	mb.unaskLocked()
	if !s.dead || s.moved {
		mb.dropLocked() // nobody knows when it is wanted
	}
	if s.moved {
		return errMoved
	}
	if s.dead && s.greeted && !s.fed {
		return errDeaf
	}
	if s.dead {
		return errDead
	}
	return err
}

// reads is the reader.
func (mb *Mailbox) reads(s *session) error {
	for {
		raw, n, err := frame.Next(s.buf, max(mb.cfg.MaxMessage, 64<<10))
		if err != nil {
			return err
		}
		if n == 0 {
			if err := s.fill(); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF // a server that means it says CLOSE
				}
				return err
			}
			mb.heard(s)
			continue
		}
		if err := mb.handle(s, raw); err != nil {
			return err
		}
		s.buf = s.buf[n:]
	}
}

func (mb *Mailbox) handle(s *session, raw frame.Raw) error {
	f, err := frame.Decode(raw)
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *frame.Msg:
		return mb.message(s, f)
	case *frame.Stored:
		return mb.stored(s, f)
	case *frame.Refused:
		return mb.refused(s, f)
	case *frame.Trimmed:
		after := s.in.Place
		s.in.Place += f.Step
		mb.mu.Lock()
		s.brought = s.in.Place
		mb.mu.Unlock()
		mb.gap(after, s.in.Place+1)
	case *frame.DeviceList:
		return mb.listed(f)
	case *frame.Signalled:
		return mb.signalled(s, f)
	case *frame.Ping:
		mb.mu.Lock()
		s.pongs = append(s.pongs, &frame.Pong{Payload: append([]byte(nil), f.Payload...)})
		mb.mu.Unlock()
		ring(mb.work)
	case *frame.Set:
		if f.Interval != 0 {
			mb.mu.Lock()
			s.interval = max(time.Duration(f.Interval)*time.Millisecond, time.Second)
			mb.mu.Unlock()
		}
		if f.Expires != 0 {
			select {
			case s.renewed <- f.Expires:
			default: // nobody asked
			}
		}
	case *frame.Close:
		return mb.closed(f)
	}
	return nil
}

func (mb *Mailbox) message(s *session, f *frame.Msg) error {
	m, err := s.in.Read(f)
	if err != nil {
		return err
	}
	body := append([]byte(nil), m.Body...)
	if m.Deflated != 0 {
		if body, err = frame.Inflate(m.Body, m.Deflated); err != nil {
			return err
		}
	}
	mb.gap(0, m.Prev+1) // told before the message
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if s.brought = m.Seq; mb.acked > s.acked {
		ring(mb.work)
	}
	if m.Seq <= mb.got {
		return nil // had it before the connection broke
	}
	mb.got = m.Seq
	to := m.To
	if to == "" {
		to = s.welcome.Address
	}
	var attrs []client.Attr
	for _, a := range m.Attrs {
		attrs = append(attrs, client.Attr(a))
	}
	msg := client.Message{
		Seq: m.Seq, Prev: m.Prev, ID: m.ID, From: m.From, To: to, Device: m.Device, Time: time.UnixMilli(m.Time).UTC(),
		Type: m.Media, Body: body, Left: int(m.Left), Urgency: m.Urgency.String(), Attrs: attrs,
	}
	if m.Expires != 0 {
		msg.Expires = time.UnixMilli(m.Expires).UTC()
	}
	mb.inbox.Put(msg)
	return nil
}

// gap tells the program that what lies behind after and before before will not
// come, as far as it has not had it.
func (mb *Mailbox) gap(after, before uint64) {
	mb.mu.Lock()
	after = max(after, mb.got)
	if mb.got < before-1 {
		mb.got = before - 1
	}
	mb.mu.Unlock()
	if after+1 >= before {
		return
	}
	mb.cfg.Log.Warn("link: messages are missing", "after", after, "before", before)
	if mb.cfg.OnGap != nil {
		mb.cfg.OnGap(after, before)
	}
}

var (
	// errProtocol is of what is well-formed and may not be said.
	errProtocol = errors.New("link")
	errAnswer   = fmt.Errorf("%w: the server answers what was not sent", errProtocol)
)

// complain tells the server what it may not say, if that is why it ends.
func (s *session) complain(err error) {
	f := &frame.Close{Code: frame.CloseProtocol}
	switch {
	case errors.Is(err, frame.ErrTooLong):
		f.Code = frame.CloseTooLong
	case errors.Is(err, frame.ErrMalformed), errors.Is(err, errProtocol):
	default:
		return
	}
	f.Text = err.Error()
	s.nc.SetWriteDeadline(time.Now().Add(minAnswer))
	s.nc.Write(frame.Append(nil, f)) // whether it hears that or not
}

func (mb *Mailbox) stored(s *session, f *frame.Stored) error {
	for _, r := range f.Runs {
		seq := s.told + uint64(r.Step)
		s.told = seq + r.Count - 1
		for range r.Count {
			if !mb.answer(s, client.Receipt{Seq: seq, Duplicate: r.Duplicate}, nil) {
				return errAnswer
			}
			seq++
		}
	}
	return nil
}

func (mb *Mailbox) refused(s *session, f *frame.Refused) error {
	if !mb.answer(s, client.Receipt{}, &client.Refused{Code: f.Code.String(), Text: f.Text}) {
		return errAnswer
	}
	return nil
}

// answer completes the oldest send that was written.
func (mb *Mailbox) answer(s *session, r client.Receipt, err error) bool {
	mb.mu.Lock()
	if mb.written == 0 {
		mb.mu.Unlock()
		return false
	}
	d := mb.queue[0]
	mb.queue[0] = nil
	mb.queue = mb.queue[1:]
	mb.written--
	if s.asked = (time.Time{}); mb.written > 0 {
		s.asked = time.Now() // it answers: the next one is given its time
	}
	if len(mb.queue) > mb.written {
		ring(mb.work) // there may be room for more
	}
	mb.mu.Unlock()
	r.ID = d.ID
	d.done(r, err)
	return true
}

// renew brings the server a fresh token each time that the last one has used
// up four fifths of its time.
func (mb *Mailbox) renew(ctx context.Context, s *session) {
	expires := s.welcome.Expires
	for {
		left := time.Until(time.UnixMilli(int64(expires)))
		select {
		case <-time.After(left * 4 / 5):
		case <-ctx.Done():
			return
		}
		token, err := mb.cfg.Tokens(ctx)
		if err != nil {
			// The server will say when the old one has ended, and then
			// connect asks again.
			mb.cfg.Log.Warn("link: no fresh token", "err", err)
			return
		}
		mb.mu.Lock()
		mb.sets = append(mb.sets, &frame.Set{Token: token})
		mb.mu.Unlock()
		ring(mb.work)
		select {
		case expires = <-s.renewed:
		case <-ctx.Done():
			return
		}
	}
}
