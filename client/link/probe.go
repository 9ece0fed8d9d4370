package link

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/posthouse-im/posthouse/client/internal/carrier"
	"github.com/posthouse-im/posthouse/keepalive/learn"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// probes looks for longer silences beside the live connection.
func (mb *Mailbox) probes(ctx context.Context) {
	for tries := 0; ; {
		select {
		case <-mb.nudge: // it is looked now
		default:
		}
		wait := time.Hour // and then see whether what is known has grown old
		if p := mb.next(ctx); p != nil {
			o := mb.probe(p)
			p.stop()
			mb.mu.Lock()
			mb.stopProbe = nil
			there := mb.net == p.network
			mb.mu.Unlock()
			if there {
				mb.judge(p.key, p.silence, o)
			}
			if wait, tries = 0, tries+1; o != learn.Unrelated {
				tries = 0
			}
			if tries > 0 {
				wait = min(2*time.Second<<min(tries, 11), time.Hour)
			}
		}
		if wait == 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-time.After(wait):
		case <-mb.nudge:
		case <-ctx.Done():
			return
		}
	}
}

// probe is one silence that is tried.
type probe struct {
	ctx          context.Context // ends when it is given up
	stop         context.CancelFunc
	live         *session // the connection beside which it is tried
	network, key string   // where, and what is learned there is kept under key
	silence      time.Duration
}

// next is what is to be tried now; nil is nothing.
func (mb *Mailbox) next(ctx context.Context) *probe {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	s := mb.live
	if s == nil || mb.background || s.moving || s.network != mb.net || s.welcome.Caps&frame.CapProbe == 0 {
		return nil
	}
	l := mb.nets[s.key]
	if l == nil {
		return nil
	}
	l.Stale(time.Now())
	silence, ok := l.Probe()
	if !ok {
		return nil
	}
	mb.counts.Probes++
	p := &probe{live: s, network: s.network, key: s.key, silence: silence.Truncate(time.Millisecond)}
	p.ctx, p.stop = context.WithCancel(ctx)
	mb.stopProbe = p.stop
	return p
}

// probe is silent on a connection of its own and then asks whether it still
// works. A failure counts only if a fresh connection works at once, and if the
// live one, which is never silent for long, has lived all the while and lives
// still: else something has happened to all of them, and it was not the silence.
func (mb *Mailbox) probe(p *probe) learn.Outcome {
	o := mb.silent(p.ctx, p.silence)
	if o == learn.Survived || o == learn.Unrelated {
		return o
	}
	check, stop := context.WithTimeout(p.ctx, freshTime)
	defer stop()
	nc, err := mb.dialProbe(check, time.Second)
	if err != nil {
		return learn.Unrelated
	}
	nc.Close()
	asked := mb.question(p.live)
	select {
	case <-time.After(lingerTime):
	case <-p.ctx.Done():
	}
	if !mb.livesSince(p.live, asked) {
		return learn.Unrelated
	}
	return o
}

// question asks the server on s whether it is there, and returns when.
func (mb *Mailbox) question(s *session) time.Time {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	s.check = !s.waits
	ring(mb.work)
	return time.Now()
}

// livesSince reports whether s is the live connection still, and has brought
// something since then.
func (mb *Mailbox) livesSince(s *session, then time.Time) bool {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.live == s && !s.read.Before(then)
}

// lingerTime is how long the server may take to see that a probe has failed:
// it gives it five seconds more than its silence. An account may not have many
// probes at once.
const lingerTime = 5 * time.Second

// freshTime is how long a fresh connection may take, to show that the network
// is there.
const freshTime = 5 * time.Second

func (mb *Mailbox) silent(ctx context.Context, silence time.Duration) learn.Outcome {
	open, stop := context.WithTimeout(ctx, connectTime)
	nc, err := mb.dialProbe(open, silence)
	stop()
	if err != nil {
		return learn.Unrelated
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	var b [64]byte
	mb.mu.Lock()
	answer := min(2*mb.answerLocked(), maxAnswer)
	quiet := min(mb.pace.doubt(), silence/2)
	mb.mu.Unlock()
	call, began := datagrams(nc), time.Now()
	since, packets, ok := hush(ctx, nc, quiet)
	if !ok || call && since.Sub(began) > unheard {
		return learn.Unrelated
	}
	if nc.SetReadDeadline(since.Add(silence)); call {
		nc.SetReadDeadline(began.Add(silence - unheard)) // and soon after that the server speaks
	}
	if _, err := nc.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		return learn.Unrelated // it ended, or the server had something else to say
	}
	if now, _ := carrier.Packets(nc); now != packets {
		return learn.Unrelated
	}
	nc.SetDeadline(time.Now().Add(answer))
	if call {
		switch n, err := nc.Read(b[:]); {
		case n > 0 && frame.Type(b[0]) == frame.TypePing:
			return learn.Survived
		case n == 0 && errors.Is(err, os.ErrDeadlineExceeded):
			return learn.Silent
		}
		return learn.Unrelated
	}
	if _, err := nc.Write(frame.Append(nil, &frame.Ping{})); err != nil {
		return failure(err)
	}
	n, err := nc.Read(b[:])
	switch {
	case n > 0 && frame.Type(b[0]) == frame.TypePong:
		return learn.Survived
	case n > 0 || ctx.Err() != nil:
		return learn.Unrelated
	}
	return failure(err)
}

// A silence is one if no packet breaks it. The last one may have been lost, or its
// acknowledgement, and is sent again a moment later: then the NAT's mapping is
// younger than the silence looks, and it would be found to bear more than it does.

const (
	// unheard is by how much a silence may be shorter than it looks.
	unheard = 100 * time.Millisecond
	// glance is how often it is looked whether a packet has passed.
	glance = 25 * time.Millisecond
	// hushTime is how long it may take until none passes: the server waits for a
	// probe five seconds more than its silence.
	hushTime = 3 * time.Second
)

// hush waits until nothing has passed over nc for so long. It returns since when,
// and how many packets there had been; ok is false if there is no end of them.
// Where nobody tells of packets it is silent at once.
func hush(ctx context.Context, nc net.Conn, quiet time.Duration) (since time.Time, packets uint64, ok bool) {
	begin := time.Now()
	since = begin
	packets, told := carrier.Packets(nc)
	for told && time.Since(since) < quiet {
		select {
		case <-time.After(glance):
		case <-ctx.Done():
			return since, packets, false
		}
		if n, _ := carrier.Packets(nc); n != packets {
			since, packets = time.Now(), n
		}
		if since.Sub(begin) > hushTime {
			return since, packets, false
		}
	}
	return since, packets, true
}

// failure is what an error after a silence means.
func failure(err error) learn.Outcome {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return learn.Silent
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe):
		return learn.Reset
	}
	return learn.Unrelated
}

// dialProbe makes a connection that will be silent.
func (mb *Mailbox) dialProbe(ctx context.Context, silence time.Duration) (net.Conn, error) {
	h, err := mb.hello(ctx)
	if err != nil {
		return nil, err
	}
	h.After, h.Prefix, h.Window, h.MaxFrame, h.Caps = nil, "", 0, 0, frame.CapProbe
	h.Probe = uint64(silence.Milliseconds())
	nc, err := mb.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if datagrams(nc) {
		h.Call = 1
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	s := &session{nc: nc}
	w, err := mb.greet(s, h)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && w.Interval < h.Probe {
		err = errors.New("link: the server takes no such probe")
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}
