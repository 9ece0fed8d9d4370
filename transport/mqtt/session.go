package mqtt

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// session is what the server knows of a client beyond its connection,
// MQTT 5.0 section 4.1. Its fields belong to the client that owns it, or while
// nobody does to whoever holds the shard's lock, except those that say otherwise.
type session struct {
	// key names it among all: user/client id, in a form that can stand in
	// the names of boxes and records.
	key string
	// client is the connection that messages are pushed to; nil while there
	// is none. Written by the owner, read by everybody.
	client atomic.Pointer[client]
	subs   []subscription
	got    map[uint16]struct{} // QoS 2 identifiers received and not released
	// kept is nil for a session that ends with its connection. Written by the
	// owner, read by everybody; what it points to is the owner's.
	kept atomic.Pointer[kept]

	owner, next *client // guarded by the shard
}

// subscription is one filter of a session.
type subscription struct {
	filter string               // as in SUBSCRIBE
	sub    *topic.Sub[*session] // nil for a filter under im/
	// opts and id are those of a filter under im/, which is not in the tree.
	opts packet.Options
	// saved says that it is on disk as it stands; of a kept session only.
	saved bool
	id    uint32
}

func (sb *subscription) options() (packet.Options, uint32) {
	if sb.sub == nil {
		return sb.opts, sb.id
	}
	o, id, _ := sb.sub.Options()
	return packet.Options(o), id
}

func (sb *subscription) share() string {
	share, _, _ := topic.Parse(sb.filter)
	return share
}

// kept is what a session has that outlives its connection.
type kept struct {
	box    string
	user   string
	expiry time.Duration
	// until is when the session ends; zero while a client is connected or it
	// never does. Guarded by the shard.
	until time.Time
	left  time.Time // when the client left
	will  *will     // waits for its delay; guarded by the shard
	due   time.Time // when will is published

	backlog backlog // of queue

	away  bool // nobody is connected; counted in counters.away
	queue place
	inbox place // of the user's mailbox; where it stands is the device's
}

// place is how far a box was read for a session, kept from one connection to
// the next.
type place struct {
	acked mailbox.Seq
	// sent is the last entry that may have been sent before. Unsure says that
	// the server was ended meanwhile, and that nobody remembers: sent is then
	// the last entry that there was.
	sent   mailbox.Seq
	unsure bool
	// past has the state of entries after acked that were handed out on an
	// earlier connection: begun, released, or acknowledged out of order.
	past map[mailbox.Seq]phase
}

const forever = math.MaxUint32 // session expiry, MQTT 5.0 section 3.1.2.11.2

// deviceName is id in a form that can stand in the names of boxes, records and
// devices: itself, or a hash of it.
func deviceName(id string) string {
	if len(id) > 400 || strings.HasPrefix(id, "#") {
		h := sha256.Sum256([]byte(id))
		return "#" + hex.EncodeToString(h[:16])
	}
	return id
}

// sessions has every session by its key.
type sessions struct {
	takenOver atomic.Uint64

	seed   maphash.Seed
	shards [64]sessionShard
}

type sessionShard struct {
	mu  sync.Mutex
	all map[string]*session
	// left has a channel for who waits until nobody owns a session any more.
	left map[*session]chan struct{}
	_    [40]byte
}

// leftLocked is closed when nobody owns s any more.
func (sh *sessionShard) leftLocked(s *session) <-chan struct{} {
	if sh.left == nil {
		sh.left = map[*session]chan struct{}{}
	}
	if sh.left[s] == nil {
		sh.left[s] = make(chan struct{})
	}
	return sh.left[s]
}

func (t *sessions) init() {
	t.seed = maphash.MakeSeed()
	for i := range t.shards {
		t.shards[i].all = map[string]*session{}
	}
}

func (t *sessions) shard(key string) *sessionShard {
	return &t.shards[maphash.String(t.seed, key)%uint64(len(t.shards))]
}

// has reports whether there is a session called key.
func (t *sessions) has(key string) bool {
	sh := t.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.all[key] != nil
}

// claim makes c the owner of the session called key, and returns it. While
// another client owns it nil is returned: that one is told to end, and c is
// woken when it has.
//
//	"If the ClientID represents a Client already connected to the Server, the
//	Server sends a DISCONNECT packet to the existing Client with Reason Code of
//	0x8E (Session taken over) ... and MUST close the Network Connection of the
//	existing Client" [MQTT-3.1.4-3]
func (t *sessions) claim(key string, c *client) *session {
	sh := t.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.all[key]
	if s == nil {
		s = &session{key: key, owner: c}
		sh.all[key] = s
		return s
	}
	switch s.owner {
	case c: // handed over
		return s
	case nil:
		s.owner = c
		return s
	}
	t.takenOver.Add(1)
	if s.next != nil && s.next != c {
		s.next.finish(packet.SessionTakenOver)
	}
	s.next = c
	s.owner.finish(packet.SessionTakenOver)
	return nil
}

// leave ends c's claim, or its wish to have one. It reports whether nobody
// else wants the session; then drop says whether to forget it.
func (t *sessions) leave(key string, c *client, drop bool) (last bool) {
	sh := t.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.all[key]
	if s == nil {
		return true
	}
	if s.next == c {
		s.next = nil
	}
	if s.owner != c {
		return false
	}
	if s.owner, s.next = s.next, nil; s.owner != nil {
		s.owner.c.Wake()
		return false
	}
	if drop {
		delete(sh.all, key)
	}
	if l := sh.left[s]; l != nil {
		close(l)
		delete(sh.left, s)
	}
	return true
}

// finish asks who has the session, and who waits for it, to go. The shard's lock
// is held.
func (s *session) finish(code packet.Code) {
	for _, c := range [...]*client{s.owner, s.next} {
		if c != nil {
			c.finish(code)
		}
	}
}

// adopt makes the session that c has claimed ready for it. Present says that
// it was there before.
//
//	"If the Server accepts a connection with Clean Start set to 1 ... MUST set
//	Session Present to 0" [MQTT-3.2.2-2]
func (srv *Server) adopt(c *client, s *session, w *will, expiry time.Duration) {
	if s.kept.Load() != nil && c.clean {
		srv.wipe(s)
	}
	switch k := s.kept.Load(); {
	case k != nil:
		// "If a new Network Connection to this Session is made before the Will
		// Delay Interval has passed, the Server MUST NOT send the Will
		// Message" [MQTT-3.1.3-9]
		k.will, k.until = nil, time.Time{}
		k.expiry = expiry
		srv.setAway(k, false)
		c.present = true
		srv.write([]mailbox.Record{sessionRecord(s, w, time.Time{})})
	case expiry > 0:
		srv.keep(c, s, w, expiry)
	default:
		c.keepWill(w)
	}
}

// start lets messages come.
func (c *client) start(s *session) {
	c.obey()
	s.client.Store(c)
	if k := s.kept.Load(); k != nil {
		c.open(&c.queue, k.box, queueDevice, &k.queue, queueIDs)
		c.queue.backlog = &k.backlog
	}
	for i := range s.subs {
		if isMail(s.subs[i].filter) {
			c.join()
			break
		}
	}
}

// wipe ends a session's state: "it MUST discard any existing Session"
// [MQTT-3.1.2-4]. The session itself stays, for a new beginning.
func (srv *Server) wipe(s *session) {
	srv.unsubscribeAll(s)
	srv.fireWill(s)
	srv.unkeep(s)
	s.got = nil
}

func (srv *Server) unsubscribeAll(s *session) {
	for i := range s.subs {
		if sub := s.subs[i].sub; sub != nil {
			srv.subs.Remove(s.subs[i].share(), sub)
		}
	}
	var rs []mailbox.Record
	if s.kept.Load() != nil {
		for i := range s.subs {
			rs = append(rs, mailbox.Record{Key: subKey(s.key, s.subs[i].filter)})
		}
	}
	s.subs = nil
	srv.write(rs)
}

// keep makes s outlive its connection by expiry.
func (srv *Server) keep(c *client, s *session, w *will, expiry time.Duration) {
	s.kept.Store(&kept{box: newBox(s.key), user: c.user(), expiry: expiry})
	srv.count.sessions.Add(1)
	srv.write([]mailbox.Record{sessionRecord(s, w, time.Time{})})
}

// unkeep makes s end with its connection. Its queue is dropped.
func (srv *Server) unkeep(s *session) {
	k := s.kept.Load()
	if k == nil {
		return
	}
	s.kept.Store(nil)
	srv.setAway(k, false)
	srv.count.sessions.Add(-1)
	rs := []mailbox.Record{{Key: sessionKey(s.key)}, {Key: relKey(s.key)}, {Key: relMailKey(s.key)}, {Key: sentKey(s.key)}, {Key: snWillKey(s.key)}}
	for i := range s.subs {
		rs = append(rs, mailbox.Record{Key: subKey(s.key, s.subs[i].filter)})
	}
	for id := range s.got {
		rs = append(rs, mailbox.Record{Key: gotKey(s.key, id)})
	}
	srv.write(rs)
	srv.dropBox(k.box)
}

// away is called when the owner's connection has ended and nobody took over.
func (srv *Server) away(s *session, w *will, now time.Time) {
	k := s.kept.Load()
	sh := srv.sessions.shard(s.key)
	sh.mu.Lock()
	srv.setAway(k, true)
	k.until = time.Time{}
	if k.expiry < forever*time.Second {
		k.until = now.Add(k.expiry)
		srv.clock.set(s, taskExpiry, k.until)
	}
	if k.will = w; w != nil {
		k.due = now.Add(min(w.delay, k.expiry))
		srv.clock.set(s, taskWill, k.due)
	}
	k.left = now
	rs := []mailbox.Record{sessionRecord(s, w, now), sentRecord(s)}
	sh.mu.Unlock()
	srv.write(rs)
}

func (srv *Server) setAway(k *kept, away bool) {
	if k.away == away {
		return
	}
	if k.away = away; away {
		srv.count.away.Add(1)
	} else {
		srv.count.away.Add(-1)
	}
}

// due hears the clock.
func (srv *Server) due(s *session, t task) {
	if t == taskSys {
		srv.publishSys()
		srv.clock.set(nil, taskSys, time.Now().Add(srv.cfg.SysInterval))
		return
	}
	now := time.Now()
	sh := srv.sessions.shard(s.key)
	sh.mu.Lock()
	k := s.kept.Load()
	if s.owner != nil || k == nil || sh.all[s.key] != s {
		sh.mu.Unlock()
		return
	}
	var w *will
	if k.will != nil && !k.due.After(now) {
		w, k.will = k.will, nil
		srv.write([]mailbox.Record{sessionRecord(s, nil, k.left)})
	}
	if over := !k.until.IsZero() && !k.until.After(now); over {
		// "The Session ... MUST be deleted when it expires" MQTT 5.0 section
		// 4.1. Under the lock, so that a new session of the same name writes
		// its records later.
		delete(sh.all, s.key)
		srv.count.expired.Add(1)
		if w == nil {
			w, k.will = k.will, nil
		}
		srv.wipe(s)
	}
	sh.mu.Unlock()
	if w != nil {
		srv.publishWill(w)
	}
}

// fireWill publishes a will that waits for its delay, since the session ends.
func (srv *Server) fireWill(s *session) {
	if k := s.kept.Load(); k != nil && k.will != nil {
		w := k.will
		k.will = nil
		srv.publishWill(w)
	}
}

// dropBox removes a queue, later and on another goroutine.
func (srv *Server) dropBox(box string) {
	srv.background(func() {
		if err := srv.core.Mail.DropBox(background, box); err != nil {
			srv.log.Warn("mqtt: cannot drop a queue", "box", box, "err", err)
		}
	})
}

// Meters yields the meters of the connected clients of user, or of all of them
// if that is empty. It is a [ledger.Source].
func (srv *Server) Meters(user string, yield func(user, device, way string, m *cost.Meter)) {
	for i := range srv.sessions.shards {
		sh := &srv.sessions.shards[i]
		sh.mu.Lock()
		for key, s := range sh.all {
			c := s.client.Load()
			if c == nil || user != "" && (!strings.HasPrefix(key, user) || int(c.users) != len(user)) {
				continue
			}
			if n := int(c.users); n > 0 {
				yield(key[:n], key[n+1:], router.MQTT.String(), c.c.Meter())
			}
		}
		sh.mu.Unlock()
	}
}

// queueDevice is the one reader of a session's queue.
const queueDevice = "session"

// open begins to read a queue at p.
func (c *client) open(st **stream, box, device string, p *place, ids idRange) {
	s := &stream{c: c, ids: ids, place: p, plain: true, record: relKey(c.s.key)}
	*st = s
	s.sess = c.srv.core.Router.Follow(router.MQTT, box, device, (*bell)(c), p.acked)
}
