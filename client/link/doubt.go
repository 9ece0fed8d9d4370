package link

import (
	"context"
	"net"
	"time"
)

// A beat that is not answered at once may be one that the network has lost, and
// sends again, or the last of a connection that is gone. The longer there is no
// answer the less it is the first. When one is overdue, at first doubt, another
// connection is opened, up to where HELLO would be said: so the session is not
// taken from the one that is in doubt. If that answers the spare one is closed.
// If it does not in twice that time it is dead, and HELLO goes out on the spare
// one at once. There is one at most.
//
//	PING ──────────── doubt ───────────────────── dead
//	                    └ TCP, TLS … ready ─────────┴ HELLO ─ WELCOME

const (
	minDoubt  = 500 * time.Millisecond
	minAnswer = 1500 * time.Millisecond
	maxAnswer = 10 * time.Second
	// soon is when there is to be a WELCOME, if the network is not so far that it
	// cannot be: then minAnswer is shorter.
	soon = 1750 * time.Millisecond
)

// pace is how long the server takes to answer, as in RFC 6298 section 2: the
// round trip, smoothed, and how it varies.
type pace struct {
	known        bool
	srtt, rttvar time.Duration
	late         int  // beats that were not answered, one after another
	deaf         bool // the last connection was not answered, and nothing had come behind its welcome
}

// answered takes note of an answer that took d.
func (p *pace) answered(d time.Duration) {
	if !p.known {
		// "RTTVAR <- R/2" there. Who is wrong there burdens a network that may be
		// congested; here he has opened a connection for nothing.
		p.known, p.srtt, p.rttvar = true, d, d/16
		return
	}
	// "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|
	//  SRTT <- (1 - alpha) * SRTT + alpha * R'", 1/4 and 1/8
	p.rttvar += ((p.srtt - d).Abs() - p.rttvar) / 4
	p.srtt += (d - p.srtt) / 8
}

// doubt is when an answer is overdue: "RTO <- SRTT + max (G, K*RTTVAR)", K = 4.
func (p *pace) doubt() time.Duration { return max(p.srtt+4*p.rttvar, minDoubt) }

// dead is when it will not come any more. "The host MUST set RTO <- RTO * 2",
// section 5.5, when one did not: where each first packet wakes a radio that takes
// long to wake, no beat would ever be answered in time.
func (p *pace) dead() time.Duration {
	return min(max(2*p.doubt(), min(minAnswer, soon-p.srtt))<<min(p.late, 3), maxAnswer)
}

// spare is a connection on which nothing is said yet.
type spare struct {
	stop context.CancelFunc
	made chan struct{} // closed when nc and err are set
	nc   net.Conn
	err  error
}

// doubtLocked opens a spare connection, if there is none.
func (mb *Mailbox) doubtLocked() {
	if mb.spare != nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), connectTime)
	sp := &spare{stop: stop, made: make(chan struct{})}
	mb.spare = sp
	go func() { // ends with its dialling, which stop stops
		sp.nc, sp.err = mb.cfg.Dial(ctx)
		close(sp.made)
	}()
}

// dropLocked closes the spare connection.
func (mb *Mailbox) dropLocked() {
	if sp := mb.spare; sp != nil {
		mb.spare = nil
		sp.drop()
	}
}

// drop closes the connection, or has it not be made.
func (sp *spare) drop() {
	sp.stop()
	go func() { // ends with the dialling, which was stopped
		if <-sp.made; sp.err == nil {
			sp.nc.Close()
		}
	}()
}

// takeSpare returns the spare connection, or nil, to who will use it or drop it.
func (mb *Mailbox) takeSpare() *spare {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	sp := mb.spare
	mb.spare = nil
	return sp
}

// dial makes a connection, or takes the spare one.
func (mb *Mailbox) dial(ctx context.Context) (net.Conn, error) {
	if sp := mb.takeSpare(); sp != nil {
		select {
		case <-sp.made:
			if sp.err == nil {
				return sp.nc, nil
			}
		case <-ctx.Done():
			sp.drop()
			return nil, ctx.Err()
		}
	}
	return mb.cfg.Dial(ctx)
}
