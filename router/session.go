package router

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Session is one device's live connection as the core sees it.
//
// Next, Ack and Close belong to the connection that attached it, one at a
// time; the router calls only the client's Wake and End.
type Session struct {
	r      *Router
	client Client
	peer   *Session // the next session that follows the same box; guarded by the shard
	who    auth.Who
	since  int64 // Unix milliseconds
	door   Door
	closed bool
	// forgotten is set by Forget.
	forgotten atomic.Bool
	// uncounted says that Close has nothing to take from the door's count.
	uncounted bool

	read   mailbox.Seq // how far the box was read for this session
	handed mailbox.Seq // the last entry that Next returned or said to be gone, at first the cursor
	due    mailbox.Seq // the last entry that the device has to acknowledge
	acked  mailbox.Seq // how far the cursor was moved

	far *far // what is being read from the disk; nil while the tail suffices
	// rung is set by ring: there was news since the last read from the disk
	// was ordered, which that read may not have seen.
	rung atomic.Bool
}

// far is a read behind the tail, under way or finished.
type far struct {
	mu      sync.Mutex
	done    bool
	entries []mailbox.Entry
	end     mailbox.Seq
	err     error
}

const (
	farMax   = 256     // entries read at once from the disk
	farBytes = 1 << 20 // or as many bytes
)

// Batch is at how many bytes of messages Next ends a batch, though it always
// hands out one: so that a connection can look in between whether its peer
// keeps up.
const Batch = 128 << 10

// Attach makes a session for who, a user with a device. It starts at the
// device's cursor; a device never seen starts at the oldest entry kept. An
// older session of the same device is ended with Replaced. A new device needs
// room: see [Router.Admit].
//
// The client is woken at once: what waited while the device was away is
// delivered by the same path as what comes later. Attach may read the disk.
func (r *Router) Attach(ctx context.Context, door Door, who auth.Who, c Client) (*Session, error) {
	cur, ok, err := r.mail.Cursor(ctx, who.User, who.Device)
	if err != nil {
		return nil, err
	}
	if !ok {
		if err := r.admit(ctx, who.User, who.Device); err != nil {
			return nil, err
		}
		info, err := r.mail.Info(ctx, who.User)
		if err != nil {
			return nil, err
		}
		if info.First > 0 {
			cur.Seq = info.First - 1
		}
	}
	return r.AttachAt(door, who, c, cur.Seq), nil
}

// AttachAt is Attach for a reader who says himself where he stands: it begins
// with the first entry after at. It does not block and does not move the cursor.
// Who moves that, now or later, calls Admit first.
func (r *Router) AttachAt(door Door, who auth.Who, c Client, at mailbox.Seq) *Session {
	s := r.attach(door, who, c, at)
	r.live[door].Add(1)
	if !r.accounts.Exists(who.User) {
		// Removed between the login and here, where EndUser did not see it.
		c.End(Removed)
	}
	return s
}

// Follow is AttachAt for a box that is no user's, such as the queue of an MQTT
// session. It is not counted among the sessions of the door.
func (r *Router) Follow(door Door, box, device string, c Client, at mailbox.Seq) *Session {
	s := r.attach(door, auth.Who{User: box, Device: device}, c, at)
	s.uncounted = true
	return s
}

func (r *Router) attach(door Door, who auth.Who, c Client, at mailbox.Seq) *Session {
	s := &Session{r: r, client: c, who: who, door: door, since: time.Now().UnixMilli(), read: at, handed: at, due: at, acked: at}
	sh := r.shard(who.User)
	sh.mu.Lock()
	head := sh.live[who.User]
	for o := head; o != nil; o = o.peer {
		if o.who.Device == who.Device {
			o.client.End(Replaced)
		}
	}
	s.peer = head
	sh.live[who.User] = s
	sh.mu.Unlock()
	c.Wake() // after the session is in the table, so nothing falls between
	return s
}

// Who is whose session it is.
func (s *Session) Who() auth.Who { return s.who }

// Door is the door it came in by.
func (s *Session) Door() Door { return s.door }

// Behind reports whether Next waits for a read from the disk. When Next has
// returned nothing and Behind is false, the box has nothing more at present.
func (s *Session) Behind() bool { return s.far != nil }

// Acked is how far the device has acknowledged.
func (s *Session) Acked() mailbox.Seq { return s.acked }

// Unacked says that the device has acknowledged no further than to, although
// the session begins later: a reader who reads on and acknowledges apart. Call
// it after AttachAt, before Next.
func (s *Session) Unacked(to mailbox.Seq) { s.acked = min(s.acked, to) }

// Handed is the last entry that Next returned or said to be gone, or where the
// session began.
func (s *Session) Handed() mailbox.Seq { return s.handed }

// Next appends to buf up to max entries not yet handed out on this session, in
// order, and no more once they have [Batch] bytes. It never waits: what is not
// in memory is read behind its back, and the client is woken when it is there.
// When Next returns nothing there is nothing yet, and a Wake will come; until
// then there may be more.
//
// Entries that this device sent itself are passed over. Prev is the entry
// before as this device sees it: what it was handed last, or where it began.
//
// A *mailbox.TrimmedError says that entries are gone; the reader must be told.
// The session then goes on behind the hole, and Prev of the next entry shows it.
// The cursor goes over the hole with what lies before, unless [Session.Owe] is
// called: so who has nothing else to acknowledge is not told at each login.
func (s *Session) Next(buf []mailbox.Entry, max int) ([]mailbox.Entry, error) {
	s.settle() // over a hole that the reader has been told of
	start := len(buf)
	for len(buf) == start {
		from := len(buf)
		var err error
		if s.far != nil {
			buf, err = s.takeFar(buf, max)
		} else {
			var ok bool
			if buf, ok = s.r.mail.Tail(buf, s.who.User, s.read, max); !ok {
				s.far = new(far)
				s.rung.Store(false)
				s.r.behind.put(s)
				return buf[:start], nil
			}
			n := from + few(buf[from:])
			clear(buf[n:])
			buf = buf[:n]
		}
		if err != nil {
			return buf[:start], err
		}
		got := buf[from:]
		if len(got) == 0 {
			return buf, nil
		}
		s.read = got[len(got)-1].Seq
		buf = s.keep(buf, from)
		s.settle()
	}
	s.r.handed[s.door].Add(uint64(len(buf) - start))
	return buf, nil
}

// few is how many of es make a batch.
func few(es []mailbox.Entry) (n int) {
	for size := 0; n < len(es) && size < Batch; n++ {
		size += es[n].Size()
	}
	return n
}

// keep drops from buf[from:] what the device sent itself, and says of each
// other entry what the device had before it.
func (s *Session) keep(buf []mailbox.Entry, from int) []mailbox.Entry {
	out := buf[:from]
	now := time.Now()
	for _, e := range buf[from:] {
		own := e.Device == s.who.Device && e.From == s.who.User && e.To != s.who.User
		if own || e.Expired(now) {
			continue
		}
		e.Prev = s.handed
		s.handed, s.due = e.Seq, e.Seq
		out = append(out, e)
	}
	return out
}

// settle moves the cursor over what was passed over, once all before is acknowledged.
func (s *Session) settle() {
	if s.acked >= s.due && s.read > s.acked {
		s.move(s.read)
	}
}

// Owe says that the reader will acknowledge the hole that Next has just reported
// like an entry, as the last place in it. Call it before Next.
func (s *Session) Owe() { s.due = s.handed }

func (s *Session) move(to mailbox.Seq) {
	s.acked = to
	s.r.mail.MoveCursor(s.who.User, s.who.Device, to)
}

// Ack records that the device has everything up to seq. What lies beyond the
// last entry handed out cannot have been received: Ack then returns false and
// goes no further than that.
func (s *Session) Ack(seq mailbox.Seq) bool {
	ok := seq <= s.read
	if !ok {
		seq = s.handed
	}
	if seq >= s.due {
		seq = s.read
	}
	if seq > s.acked {
		s.move(seq)
	}
	return ok
}

// Close detaches the session. It does not touch the connection. Closing twice
// does nothing.
func (s *Session) Close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.forgotten.Load() {
		s.r.mail.DropCursor(s.who.User, s.who.Device)
	}
	if !s.uncounted {
		s.r.live[s.door].Add(-1)
	}
	sh := s.r.shard(s.who.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	head := sh.live[s.who.User]
	switch {
	case head != s:
		for o := head; o != nil; o = o.peer {
			if o.peer == s {
				o.peer = s.peer
				return
			}
		}
	case s.peer != nil:
		sh.live[s.who.User] = s.peer
	default:
		delete(sh.live, s.who.User)
	}
}

// takeFar takes what was read from the disk, if it is there.
func (s *Session) takeFar(buf []mailbox.Entry, max int) ([]mailbox.Entry, error) {
	f := s.far
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		return buf, nil
	}
	if f.err != nil {
		s.far = nil
		var trimmed *mailbox.TrimmedError
		if errors.As(f.err, &trimmed) {
			s.read = trimmed.First - 1
			s.handed = s.read // so Prev shows the hole to a reader who missed the word
			s.client.Wake()
		}
		return buf, f.err
	}
	n := few(f.entries[:min(max, len(f.entries))])
	buf = append(buf, f.entries[:n]...)
	if f.entries = f.entries[n:]; len(f.entries) == 0 {
		s.far = nil
		if s.rung.Load() {
			s.client.Wake() // the wake for that was spent while the read was under way
		}
		if n == 0 && f.end > s.read { // everything up to there had expired
			s.read = f.end
			s.settle()
			s.client.Wake()
		}
	}
	return buf, nil
}

// backlog is the queue of sessions that wait for the disk. It is not a channel,
// since who joins it may be an event loop and must not wait.
type backlog struct {
	mu    sync.Mutex
	some  sync.Cond // on mu: queue is not empty, or over
	queue []*Session
	over  bool
}

func (b *backlog) put(s *Session) {
	b.mu.Lock()
	b.queue = append(b.queue, s)
	b.mu.Unlock()
	b.some.Signal()
}

func (b *backlog) take() (s *Session, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.over {
		b.some.Wait()
	}
	if b.over {
		return nil, false
	}
	s = b.queue[0]
	b.queue[0] = nil
	if b.queue = b.queue[1:]; len(b.queue) == 0 {
		b.queue = nil // after a burst
	}
	return s, true
}

func (b *backlog) end() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	b.some.Broadcast()
}

// reader reads the disk for sessions that are behind the tail, until the
// backlog is over.
func (r *Router) reader(ctx context.Context) {
	for {
		s, ok := r.behind.take()
		if !ok {
			return
		}
		// s.far and s.read are ours until done is set: Next does nothing before.
		f := s.far
		es, end, err := r.mail.Read(ctx, nil, s.who.User, s.read, farMax, farBytes)
		f.mu.Lock()
		f.entries, f.end, f.err, f.done = es, end, err, true
		f.mu.Unlock()
		s.client.Wake()
	}
}
