package bench

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// stampSize is how many bytes of a payload hold the time it was sent.
const stampSize = 8

// lane is one sender with its receivers. The sender's and each receiver's
// goroutine meet in the counters.
type lane struct {
	r         *run
	name      string
	sender    Conn
	receivers []Conn
	fan       int64 // receivers of each message
	counted   bool  // a message counts when it arrives, not when it is acknowledged

	sent    atomic.Int64  // by the sender
	arrived atomic.Int64  // at all receivers
	acked   atomic.Int64  // to the sender
	room    chan struct{} // rung when arrived or acked has moved
}

func (l *lane) ring() {
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// ahead is how many messages have been sent that are not yet over.
func (l *lane) ahead() int64 {
	sent, over := l.sent.Load(), int64(1)<<62
	if l.counted {
		over = l.arrived.Load() / l.fan
	}
	if l.r.p.Acked(&l.r.Options) {
		over = min(over, l.acked.Load())
	}
	return sent - over
}

// pace is the time between two messages of a lane; zero is as fast as it goes.
func (r *run) pace() time.Duration {
	if r.Scenario != "rate" {
		return 0
	}
	return time.Second * time.Duration(r.Pairs) / time.Duration(r.Rate)
}

// phase is when lane i begins: the messages of all lanes are evenly spread.
// Sent at once each time, what is measured would be how a burst is worked off.
func (r *run) phase(i int) time.Duration {
	return r.pace() * time.Duration(i) / time.Duration(r.Pairs)
}

func (l *lane) send(ctx context.Context, start time.Time) error {
	payload := make([]byte, l.r.Size)
	for i := range payload {
		payload[i] = 'x'
	}
	pace := l.r.pace()
	for n := int64(0); ctx.Err() == nil; {
		can := int64(l.r.Window) - l.ahead()
		if pace > 0 {
			can = int64(time.Since(start)/pace) - n
		}
		if can <= 0 {
			if err := l.sender.Flush(); err != nil {
				return over(ctx, err)
			}
			if pace > 0 {
				time.Sleep(time.Until(start.Add(pace * time.Duration(n+1))))
				continue
			}
			select {
			case <-l.room:
			case <-ctx.Done():
			}
			continue
		}
		for range can {
			at := time.Now()
			binary.BigEndian.PutUint64(payload, uint64(at.UnixNano()))
			if err := l.sender.Send(l.name, payload); err != nil {
				return over(ctx, err)
			}
			n++
			l.sent.Store(n)
		}
	}
	return nil
}

// receive counts what arrives at one receiver.
func (l *lane) receive(ctx context.Context, c Conn) error {
	var delays []time.Duration
	timed := l.r.Scenario == "rate"
	n := int64(0)
	got := func(payload []byte) {
		n++
		if timed && len(payload) >= stampSize {
			delays = append(delays, time.Duration(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(payload))))
		}
	}
	for {
		if err := c.Receive(got, func(int) {}); err != nil {
			l.r.mu.Lock()
			l.r.delays = append(l.r.delays, delays...)
			l.r.mu.Unlock()
			return over(ctx, err)
		}
		if n > 0 {
			l.arrived.Add(n)
			l.r.delivered.Add(n)
			n = 0
			l.ring()
		}
	}
}

// listen reads the sender's acknowledgements.
func (l *lane) listen(ctx context.Context) error {
	n := 0
	for {
		if err := l.sender.Receive(func([]byte) {}, func(k int) { n += k }); err != nil {
			return over(ctx, err)
		}
		if n > 0 {
			l.acked.Add(int64(n))
			if !l.counted {
				l.r.delivered.Add(int64(n))
			}
			n = 0
			l.ring()
		}
	}
}

// over returns nil for the error of a connection that was closed since the
// measurement is over.
func over(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
