package mqtt

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/mailbox"
)

// backlog is how much waits in the queue of a kept session. Publishers add to
// it, the session's client takes from it.
type backlog struct {
	messages, bytes atomic.Int64
	// left is what an earlier run of the server left behind, as long as its
	// bytes are not known; then nil.
	left atomic.Pointer[leftover]
}

// leftover is the entries of a queue behind after, up to last. How many there
// are follows from that; how long they are is read when somebody adds to them,
// and not before, for there may be many queues that nobody does.
type leftover struct {
	after, last mailbox.Seq
	weighing    atomic.Bool // somebody does

	mu     sync.Mutex
	passed int64 // bytes of those that were acknowledged meanwhile; guarded by mu
}

// full reports whether nothing more may be queued. What is on its way from
// several publishers at once may go beyond the limits by a message each, and so
// may what comes while the queue is being weighed.
func (b *backlog) full(cfg *Config) bool {
	return b.messages.Load() >= int64(cfg.MaxKeptMessages) || b.bytes.Load() >= int64(cfg.MaxKeptBytes)
}

func (b *backlog) add(messages, bytes int) {
	b.messages.Add(int64(messages))
	b.bytes.Add(int64(bytes))
}

// done takes off what the client has acknowledged.
func (b *backlog) done(fls []flight) {
	l := b.left.Load()
	var bytes, passed int64
	for i := range fls {
		if l != nil && fls[i].seq <= l.last {
			passed += int64(fls[i].size)
		} else {
			bytes += int64(fls[i].size)
		}
	}
	take(&b.messages, int64(len(fls)))
	if passed > 0 {
		l.mu.Lock()
		if b.left.Load() == l {
			l.passed += passed
		} else {
			bytes += passed // they have been weighed
		}
		l.mu.Unlock()
	}
	take(&b.bytes, bytes)
}

// gone takes off messages that retention has removed.
func (b *backlog) gone(messages int) { take(&b.messages, int64(messages)) }

// take subtracts n, but not below zero.
func take(v *atomic.Int64, n int64) {
	for {
		old := v.Load()
		if v.CompareAndSwap(old, max(old-n, 0)) {
			return
		}
	}
}

// empty is called when the client has everything. It makes up for posts that
// failed. A message that is just being posted is then not counted.
func (b *backlog) empty() {
	if l := b.left.Load(); l != nil {
		l.mu.Lock()
		b.left.Store(nil)
		l.mu.Unlock()
	}
	b.messages.Store(0)
	b.bytes.Store(0)
}

// found counts what an earlier run of the server left behind.
func (b *backlog) found(info mailbox.BoxInfo, acked mailbox.Seq) {
	if after := max(acked, info.First-1); info.Last > after && info.First > 0 {
		b.messages.Store(int64(info.Last - after))
		b.left.Store(&leftover{after: after, last: info.Last})
	}
}

// weighed says how many bytes l has.
func (b *backlog) weighed(l *leftover, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.left.Load() == l {
		b.bytes.Add(max(bytes-l.passed, 0))
		b.left.Store(nil) // last, so that who sees it sees the bytes
	}
}

// scales weighs what earlier runs left behind, one queue after the other.
type scales struct {
	mu    sync.Mutex
	queue []*kept // guarded by mu
	busy  bool    // somebody weighs; guarded by mu
	stop  atomic.Bool
}

// queued counts a message that is posted to the queue of k.
func (srv *Server) queued(k *kept, bytes int) {
	k.backlog.add(1, bytes)
	l := k.backlog.left.Load()
	if l == nil || l.weighing.Swap(true) {
		return
	}
	sc := &srv.scales
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.queue = append(sc.queue, k); !sc.busy {
		sc.busy = true
		srv.background(srv.weigh) // ends when nothing is left to be weighed
	}
}

func (srv *Server) weigh() {
	sc := &srv.scales
	for {
		sc.mu.Lock()
		if sc.busy = len(sc.queue) > 0; !sc.busy {
			sc.queue = nil
			sc.mu.Unlock()
			return
		}
		k := sc.queue[0]
		sc.queue = sc.queue[1:]
		sc.mu.Unlock()
		l := k.backlog.left.Load()
		if l == nil {
			continue
		}
		bytes, err := srv.bytesOf(k.box, l)
		if err != nil {
			srv.log.Warn("mqtt: cannot count what waits in a queue", "box", k.box, "err", err)
			l.weighing.Store(false)
			continue
		}
		k.backlog.weighed(l, bytes)
	}
}

var errStopping = errors.New("mqtt: the server stops")

// bytesOf reads how long the entries of l are.
func (srv *Server) bytesOf(box string, l *leftover) (bytes int64, err error) {
	var buf []mailbox.Entry
	for after := l.after; after < l.last; {
		if srv.scales.stop.Load() {
			return 0, errStopping
		}
		entries, end, err := srv.core.Mail.Read(background, buf[:0], box, after, 256, 1<<20)
		var trimmed *mailbox.TrimmedError
		switch {
		case errors.As(err, &trimmed):
			after = trimmed.First - 1
			continue
		case err != nil:
			return 0, err
		case end == after:
			return bytes, nil
		}
		for i := range entries {
			if entries[i].Seq <= l.last {
				bytes += int64(len(entries[i].Body))
			}
		}
		buf, after = entries, end
	}
	return bytes, nil
}
