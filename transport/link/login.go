package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// defaultDevice is the device of a client that names none.
const defaultDevice = "link"

// login is what came of somebody's credentials.
type login struct {
	who  auth.Who
	s    *router.Session // nil for a fresh token
	err  error
	text string // for the peer, beside the reason

	shows *showing // whom the device has told that it is online, by an older session

	probe bool      // it is for a probe of the network
	found [2]uint64 // what the client found there before: Hello's good and bad
}

// refuse is a reason to close that the login found.
func refuse(code frame.CloseCode, text string) *login { return &login{err: errBye(code), text: text} }

// hello takes the first frame.
func (l *link) hello(raw frame.Raw) error {
	var f frame.Hello
	if err := f.Decode(raw.Payload); err != nil {
		return err
	}
	if f.Major != frame.Major {
		l.close(frame.CloseVersion, fmt.Sprintf("this server speaks %d.%d", frame.Major, frame.Minor))
		return nil
	}
	if raw.Ack != 0 {
		return errors.New("acknowledgement before the welcome")
	}
	if f.Token == "" && !l.c.Secure() {
		l.close(frame.CloseInsecure, "a password is taken over TLS only")
		return nil
	}
	l.prefix = f.Prefix
	l.window = uint32(atMost(f.Window, uint64(l.d.cfg.Window)))
	l.maxFrame = uint32(atMost(f.MaxFrame, uint64(l.d.maxFrame)))
	if f.Caps&frame.CapProbe != 0 || f.Probe != 0 || f.Good != 0 {
		l.learns = &learner{networks: l.networks(f.Network), told: f.Caps&frame.CapProbe != 0}
	}
	l.caps = uint8(f.Caps & (frame.CapDevices | frame.CapDeflate))
	if f.Caps&frame.CapSignals != 0 && f.Probe == 0 {
		l.signals = new(signals)
	}
	l.interval = l.agree(f.Interval, f.Network)
	if f.Probe != 0 {
		l.interval = l.agree(f.Probe, f.Network)
		l.learns.call = int64(f.Call)
	}
	found := [2]uint64{f.Good, f.Bad}
	l.state = verifying
	cred := auth.Credential{User: f.User, Password: f.Password, Token: f.Token, From: l.c.Remote().Addr()}
	if f.Token != "" {
		cred.User, cred.Password = "", ""
	} else {
		cred.Certificate = transport.Certificate(l.c)
	}
	device, after, probe := f.Device, f.After, f.Probe != 0
	var r *login // nil until it is known who it is
	ok := l.d.background(func(ctx context.Context) error {
		r = l.identify(ctx, cred, device)
		if r.probe = probe; !probe && r.err == nil {
			r.found = found
			l.attach(ctx, r, after)
		}
		return nil
	}, func(err error) {
		if err != nil {
			l.d.discard(r)
			r = &login{err: err}
		}
		l.handOver(r)
	})
	if !ok {
		l.close(frame.CloseBusy, "")
		return nil
	}
	l.c.PauseRead(true) // what comes behind the hello waits for the welcome
	return nil
}

// atMost is what the client wishes, or limit if that is less or it has no wish.
func atMost(wish, limit uint64) uint64 {
	if wish == 0 {
		return limit
	}
	return min(wish, limit)
}

// agree says how often the client is to speak, in milliseconds: as it wishes,
// or else as is known of its network.
func (l *link) agree(wish uint64, network string) uint32 {
	d := time.Duration(min(wish, uint64(l.d.cfg.MaxInterval.Milliseconds()))) * time.Millisecond
	if wish == 0 {
		d = keepalive.Default
		if l.d.core.Keepalive != nil {
			names := l.networks(network)
			d = l.d.core.Keepalive.Interval(keepalive.Best(l.d.core.Keepalive, names[:]...))
		}
		if l.c.Datagrams() {
			d = min(d, maxUnlearned)
		}
	}
	d = min(max(d, l.d.cfg.MinInterval), l.d.cfg.MaxInterval)
	return uint32(d.Milliseconds())
}

// maxUnlearned is the longest interval advised over UDP to a client that does
// not learn: "a NAT UDP mapping timer MUST NOT expire in less than two minutes"
// (RFC 4787 REQ-5), and many expire after 30 s all the same.
const maxUnlearned = 25 * time.Second

// networks names the client's network for keepalive: as the client does, and by
// its address, which is all that other doors know. A NAT has other patience with
// UDP than with TCP, so over UDP it is another one.
func (l *link) networks(declared string) (names [2]keepalive.Network) {
	for i, words := range []string{declared, ""} {
		names[i] = l.d.core.Network(words, l.c.Remote().Addr())
		if names[i] != "" && l.c.Datagrams() {
			names[i] += "-udp"
		}
	}
	return names
}

// identify verifies who it is, and which device. It runs on a goroutine of
// auth's.
func (l *link) identify(ctx context.Context, cred auth.Credential, device string) *login {
	who, err := l.d.core.Auth.Verify(ctx, cred)
	if err != nil {
		return &login{err: err}
	}
	switch {
	case who.Device == "" && device == "":
		who.Device = defaultDevice
	case who.Device == "":
		who.Device = device
	case device != "" && device != who.Device:
		return refuse(frame.CloseDenied, "the token is for another device")
	}
	full, err := address.Parse(who.User+"/"+who.Device, l.d.core.Router.Domain())
	if err != nil || full.Device == "" {
		return refuse(frame.CloseProtocol, "not a name for a device")
	}
	who.Device = full.Device
	return &login{who: who}
}

// attach makes the session of who was identified.
func (l *link) attach(ctx context.Context, r *login, after *uint64) {
	if l.signals != nil {
		r.shows = l.d.shown.join(r.who, false) // before the older session is ended
	}
	if r.s, r.err = l.session(ctx, r.who, after); r.err != nil {
		l.d.discard(r)
	}
}

// session makes the router's session, behind the device's cursor or after a
// place that the client names.
func (l *link) session(ctx context.Context, who auth.Who, after *uint64) (*router.Session, error) {
	if after == nil {
		return l.d.core.Router.Attach(ctx, router.Link, who, client{l})
	}
	if err := l.d.core.Router.Admit(ctx, who.User, who.Device); err != nil {
		return nil, err
	}
	// A place beyond the end would make the client deaf until the box has
	// grown to it. It can come from a server that lost its last seconds.
	info, err := l.d.core.Mail.Info(ctx, who.User)
	if err != nil {
		return nil, err
	}
	at := min(mailbox.Seq(*after), info.Last)
	l.d.core.Mail.MoveCursor(who.User, who.Device, at) // the client has all up to there
	return l.d.core.Router.AttachAt(router.Link, who, client{l}, at), nil
}

// handOver gives r to the connection, if there still is one.
func (l *link) handOver(r *login) {
	l.login.Store(r)
	if l.gone.Load() {
		l.d.discard(l.login.Swap(nil))
		return
	}
	l.c.Wake()
}

// discard lets go of what nobody took from handOver. R may be nil.
func (d *door) discard(r *login) {
	if r != nil && r.s != nil {
		r.s.Close()
	}
	if r != nil && r.shows != nil {
		d.hide(r.who, r.shows)
	}
}

// verified goes on with what handOver brought.
func (l *link) verified(r *login) {
	if r.s == nil && l.verifies {
		l.renewed(r)
		return
	}
	if l.state != verifying {
		l.d.discard(r)
		return
	}
	if r.err != nil {
		l.denied(r)
		return
	}
	if r.probe {
		l.probed(r.who)
		return
	}
	l.s = r.s
	now := l.c.Now()
	l.d.stats.welcomed.Add(1)
	l.d.stats.sessions.Add(1)
	l.c.Meter().Login(now)
	l.d.core.Log.Info("session began", "door", "link", "user", r.who.User, "device", r.who.Device, "from", l.c.Remote().Addr())
	cursor := uint64(r.s.Acked())
	l.out = frame.MsgWriter{Place: cursor, Time: now.UnixMilli()}
	l.acked, l.mark = cursor, cursor
	l.heard = now.UnixMilli()
	l.state = welcomed
	w := &frame.Welcome{
		Major: frame.Major, Minor: frame.Minor,
		Address: r.who.User, Device: r.who.Device, Cursor: cursor, Time: uint64(now.UnixMilli()),
		Interval: uint64(l.interval), MaxFrame: uint64(l.d.maxFrame), Window: uint64(l.window),
		Inflight: uint64(l.d.cfg.Inflight), Peers: uint64(l.d.cfg.Peers),
	}
	w.Expires, w.Caps = l.endsWith(r.who), uint64(l.caps)
	if l.learns != nil && l.learns.told {
		w.Caps |= frame.CapProbe
		w.Good, w.Bad = l.prior()
	}
	if l.signals != nil {
		w.Caps |= frame.CapSignals
		l.signals.wants.Store(true)
		l.signals.shows = r.shows
	}
	l.learn(r.found[0], r.found[1])
	l.c.SetUserTimeout(userTimeout(millis(uint64(l.interval))))
	l.write(w)
	l.arm()
	l.c.PauseRead(false)
}

// endsWith takes note of when who's token ends.
func (l *link) endsWith(who auth.Who) uint64 {
	l.expires = 0
	if !who.Expires.IsZero() {
		l.expires = max(who.Expires.UnixMilli(), 1)
	}
	return uint64(l.expires)
}

// denied tells the peer why it may not come in, and no more than it may know.
func (l *link) denied(r *login) {
	l.d.stats.denied.Add(1)
	var bye errBye
	switch {
	case errors.As(r.err, &bye):
		l.close(frame.CloseCode(bye), r.text)
	case errors.Is(r.err, auth.ErrDenied):
		l.close(frame.CloseDenied, "")
	case errors.Is(r.err, auth.ErrExpired):
		l.close(frame.CloseExpired, "")
	case errors.Is(r.err, auth.ErrBusy):
		l.close(frame.CloseBusy, "")
	case errors.Is(r.err, router.ErrDevices):
		l.close(frame.CloseBusy, "too many devices")
	default:
		l.d.core.Log.Error("link: login failed", "peer", l.c.Remote(), "err", r.err)
		l.close(frame.CloseInternal, "")
	}
}

// set changes what was agreed.
func (l *link) set(raw frame.Raw) error {
	var f frame.Set
	if err := f.Decode(raw.Payload); err != nil {
		return err
	}
	var answer frame.Set
	if f.Interval != 0 {
		l.interval = l.agree(f.Interval, "")
		answer.Interval = uint64(l.interval)
		l.c.SetUserTimeout(userTimeout(millis(uint64(l.interval))))
		l.arm()
	}
	if f.Window != 0 {
		l.window = uint32(atMost(f.Window, uint64(l.d.cfg.Window)))
		answer.Window = uint64(l.window)
		l.stalled = true // perhaps no more
	}
	l.learn(f.Good, f.Bad)
	l.setHold(&f, &answer)
	if f.Interval != 0 || f.Window != 0 || f.Hold != nil {
		l.write(&answer)
	}
	if f.Token == "" {
		return nil
	}
	if l.verifies {
		return errors.New("a token while the last one is being looked at")
	}
	l.verifies = true
	cred := auth.Credential{Token: f.Token, From: l.c.Remote().Addr()}
	var who auth.Who
	ok := l.d.background(func(ctx context.Context) (err error) {
		who, err = l.d.core.Auth.Verify(ctx, cred)
		return err
	}, func(err error) { l.handOver(&login{who: who, err: err}) })
	if !ok {
		l.close(frame.CloseBusy, "")
	}
	return nil
}

// renewed takes note of a fresh token.
func (l *link) renewed(r *login) {
	l.verifies = false
	if l.state != welcomed {
		return
	}
	me := l.s.Who()
	switch {
	case r.err != nil:
		l.denied(r)
	case r.who.User != me.User || r.who.Device != "" && r.who.Device != me.Device:
		l.denied(refuse(frame.CloseDenied, "the token is for somebody else"))
	default:
		l.write(&frame.Set{Expires: l.endsWith(r.who)})
		l.arm()
	}
}
