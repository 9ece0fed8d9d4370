package xmpp

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// resource is a bound stream (RFC 6120, section 7): what others see of it, and
// what of it outlives its connection (XEP-0198).
type resource struct {
	s    *Server
	who  auth.Who
	bare string // of the user, once authenticated
	jid  string // the full address, once bound
	c    atomic.Pointer[conn.Conn]

	// These belong to the loop of the connection that has the stream.

	carbons   bool // XEP-0280 is on
	available bool // sent initial presence
	wants     bool // with a priority that is not negative: wants messages
	sess      *router.Session
	since     time.Time // when the session began
	posts     []posted  // in order, those not yet acknowledged to the client
	sm        *sm       // XEP-0198, if enabled
	previd    string    // names the stream for a resumption
	// at is how far the device had acknowledged when the stream was lost.
	at mailbox.Seq

	mu       sync.Mutex
	gone     bool     // the stream is over
	queue    [][]byte // stanzas from others, without xmlns on their first tag
	queued   int      // bytes in queue
	rostered bool     // asked for the roster: wants pushes
	current  presence // what the client said of itself
	taker    *client  // wants to resume this stream
}

// Wake wakes the connection that has the stream.
func (r *resource) Wake() {
	if c := r.c.Load(); c != nil {
		c.Wake()
	}
}

// pass gives r a stanza from any goroutine. It is dropped, and counted, if too
// much waits already.
func (r *resource) pass(p []byte) bool {
	r.mu.Lock()
	ok := !r.gone && r.queued+len(p) <= r.s.cfg.MaxQueue
	if ok {
		r.queue = append(r.queue, p)
		r.queued += len(p)
	}
	r.mu.Unlock()
	if !ok {
		r.s.stats.dropped.Add(1)
		return false
	}
	r.Wake()
	return true
}

// take empties the queue.
func (r *resource) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queue
	r.queue, r.queued = nil, 0
	return q
}

func (r *resource) wantsRoster() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rostered
}

// passResult answers an <iq/> from a worker. Inner must be checked XML.
func (r *resource) passResult(from, id, inner string) {
	b := append([]byte(nil), "<iq type='result'"...)
	if from != "" {
		b = stream.AppendAttr(b, "from", from)
	}
	b = stream.AppendAttr(b, "to", r.jid)
	b = stream.AppendAttr(b, "id", id)
	b = append(b, '>')
	r.pass(append(append(b, inner...), "</iq>"...))
}

// passError refuses an <iq/> or <presence/> from a worker.
func (r *resource) passError(name, from, id string, f fault) {
	b := append(append([]byte(nil), '<'), name...)
	b = append(b, " type='error'"...)
	if from != "" {
		b = stream.AppendAttr(b, "from", from)
	}
	b = stream.AppendAttr(b, "to", r.jid)
	b = stream.AppendAttr(b, "id", id)
	b = f.append(append(b, '>'))
	b = append(append(b, "</"...), name...)
	r.pass(append(b, '>'))
}

// detach ends the session of the stream's connection c, and charges the device
// with what c has cost.
func (r *resource) detach(c *conn.Conn) {
	r.at = r.sess.Acked()
	r.sess.Close()
	r.s.core.Costs.Book(r.bare, r.who.Device, router.XMPP.String(), c.Meter())
}

// leave takes the stream out of everybody's sight. Call it when no connection
// has the stream any more.
func (r *resource) leave() {
	r.mu.Lock()
	taker := r.taker
	r.gone, r.taker = true, nil
	r.queue, r.queued = nil, 0
	r.mu.Unlock()
	r.s.lost.remove(r.previd)
	if taker != nil {
		taker.later(func(y *client) { y.proceed(atBind); y.notResumed() })
	}
	if r.jid != "" {
		r.s.part(r)
		if o := r.s.stream(r.bare, r.who.Device); o == nil || !o.isAvailable() {
			r.unavailable() // else another stream has the address
		}
	}
}
