package mqtt

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Records. KEY is a session's, HASH 32 hexadecimal digits; numbers are
// varints, strings have their length in front. The first byte is the version
// of the form, 1.
//
//	mqtt/session/KEY       version, expiry in seconds, when the client left (Unix ms, 0: it has not), box, user,
//	                       and if there is a will: delay in seconds, expiry in seconds and 1 (0: none), message
//	mqtt/sub/KEY/HASH      version, options, identifier, filter
//	mqtt/will/KEY          version, user, will as in a session: of a client that is connected and whose session is not kept
//	mqtt/got/KEY/ID        a QoS 2 identifier received and not released; empty but for the version
//	mqtt/rel/KEY           version, then the seqs of the queue released beyond the cursor
//	mqtt/relmail/KEY       the same for the user's mailbox
//	mqtt/sent/KEY          version, the last seq sent of the queue, and of the mailbox, when the client left
//	mqtt/snwill/KEY        version, then the will that a sensor leaves again if it does not say another, as in a session
//	mqtt/retained/HASH     version, then a message as in a box
const (
	sessionPrefix  = "mqtt/session/"
	subPrefix      = "mqtt/sub/"
	willPrefix     = "mqtt/will/"
	gotPrefix      = "mqtt/got/"
	relPrefix      = "mqtt/rel/"
	relMailPrefix  = "mqtt/relmail/"
	sentPrefix     = "mqtt/sent/"
	snWillPrefix   = "mqtt/snwill/"
	retainedPrefix = "mqtt/retained/"

	form = 1
)

var errForm = errors.New("mqtt: record in a form that this version does not know")

// background is for work that is done to its end although nobody waits.
var background = context.Background()

func hash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:16])
}

func sessionKey(key string) string     { return sessionPrefix + key }
func relKey(key string) string         { return relPrefix + key }
func relMailKey(key string) string     { return relMailPrefix + key }
func sentKey(key string) string        { return sentPrefix + key }
func subKey(key, filter string) string { return subPrefix + key + "/" + hash(filter) }
func snWillKey(key string) string      { return snWillPrefix + key }
func retainedKey(name string) string   { return retainedPrefix + hash(name) }
func gotKey(key string, id uint16) string {
	return gotPrefix + key + "/" + strconv.Itoa(int(id))
}

// newBox names a queue that never was.
func newBox(key string) string { return "mqtt/" + key + "/" + rand.Text()[:10] }

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// fields reads what was appended. After an error it returns zeros.
type fields struct {
	p   []byte
	bad bool
}

func (f *fields) num() uint64 {
	n, l := binary.Uvarint(f.p)
	if l <= 0 {
		f.bad, f.p = true, nil
		return 0
	}
	f.p = f.p[l:]
	return n
}

func (f *fields) bytes() []byte {
	n := f.num()
	if uint64(len(f.p)) < n {
		f.bad, f.p = true, nil
		return nil
	}
	b := f.p[:n:n]
	f.p = f.p[n:]
	return b
}

func (f *fields) text() string { return string(f.bytes()) }

// open checks the form of a record.
func openRecord(v []byte) fields {
	if len(v) == 0 || v[0] != form {
		return fields{bad: true}
	}
	return fields{p: v[1:]}
}

// sessionRecord is the record of a kept session whose client left then, or is
// connected, and has that will.
func sessionRecord(s *session, w *will, left time.Time) mailbox.Record {
	k := s.kept.Load()
	b := binary.AppendUvarint([]byte{form}, uint64(k.expiry/time.Second))
	var ms uint64
	if !left.IsZero() {
		ms = uint64(left.UnixMilli())
	}
	b = binary.AppendUvarint(b, ms)
	b = appendText(b, k.box)
	b = appendText(b, k.user)
	if w != nil {
		b = w.encode(b)
	}
	return mailbox.Record{Key: sessionKey(s.key), Value: b}
}

func subRecord(s *session, sb *subscription) mailbox.Record {
	o, id := sb.options()
	b := binary.AppendUvarint([]byte{form, byte(o)}, uint64(id))
	b = appendText(b, sb.filter)
	return mailbox.Record{Key: subKey(s.key, sb.filter), Value: b}
}

// saved takes note of subscriptions that are on disk now.
func (c *client) saved(records []mailbox.Record) {
	for _, r := range records {
		if !strings.HasPrefix(r.Key, subPrefix) || len(r.Value) < 2 {
			continue
		}
		f := fields{p: r.Value[2:]}
		f.num()
		if i := c.find(f.text()); i >= 0 {
			sb := &c.s.subs[i]
			sb.saved = bytes.Equal(r.Value, subRecord(c.s, sb).Value) // it may be another one meanwhile
		}
	}
}

// sentRecord says how far the boxes had been sent when the client left; it
// counts only beside a session record that says when.
func sentRecord(s *session) mailbox.Record {
	k := s.kept.Load()
	b := binary.AppendUvarint([]byte{form}, uint64(k.queue.sent))
	b = binary.AppendUvarint(b, uint64(k.inbox.sent))
	return mailbox.Record{Key: sentKey(s.key), Value: b}
}

// write makes records durable, without waiting.
func (srv *Server) write(rs []mailbox.Record) {
	if len(rs) > 0 {
		srv.core.Mail.Post(&mailbox.Post{Records: rs})
	}
}

// load reads the sessions and retained messages that were kept. It blocks.
func (srv *Server) load(ctx context.Context) error {
	if err := srv.loadSessions(ctx); err != nil {
		return fmt.Errorf("mqtt: read sessions: %w", err)
	}
	err := srv.scan(ctx, retainedPrefix, func(_ string, f *fields) bool {
		m, ok := decodeMessage(f.p)
		if ok {
			srv.setRetained(m)
			if !m.expires.IsZero() && !time.Now().Before(m.expires) {
				srv.expireRetained(m)
			}
		}
		return ok
	})
	if err != nil {
		return fmt.Errorf("mqtt: read retained messages: %w", err)
	}
	if err := srv.loadWills(ctx); err != nil {
		return fmt.Errorf("mqtt: read wills: %w", err)
	}
	return nil
}

// scan reads every record whose key begins with prefix. Take gets the rest of
// the key.
func (srv *Server) scan(ctx context.Context, prefix string, take func(key string, f *fields) bool) error {
	var bad error
	err := srv.core.Mail.Scan(ctx, prefix, func(key string, v []byte) bool {
		f := openRecord(append([]byte(nil), v...))
		if f.bad || !take(strings.TrimPrefix(key, prefix), &f) || f.bad {
			bad = fmt.Errorf("%w: %s", errForm, key)
			return false
		}
		return true
	})
	return errors.Join(err, bad)
}

func (srv *Server) loadSessions(ctx context.Context) error {
	all := map[string]*session{}
	left := map[*session]time.Time{}
	err := srv.scan(ctx, sessionPrefix, func(key string, f *fields) bool {
		s := &session{key: key}
		k := &kept{expiry: time.Duration(f.num()) * time.Second}
		ms := f.num()
		k.box, k.user = f.text(), f.text()
		if len(f.p) > 0 && !f.bad {
			var ok bool
			if k.will, ok = decodeWill(f, k.user); !ok {
				return false
			}
		}
		s.kept.Store(k)
		all[key] = s
		if ms != 0 {
			left[s] = time.UnixMilli(int64(ms))
		}
		return true
	})
	if err != nil {
		return err
	}
	// owner finds whose record it is; what belongs to no session is left over
	// from one that ended.
	owner := func(key string) (*session, string) {
		i := strings.LastIndexByte(key, '/')
		return all[key[:max(i, 0)]], key[i+1:]
	}
	err = srv.scan(ctx, subPrefix, func(key string, f *fields) bool {
		if len(f.p) == 0 {
			return false
		}
		o := packet.Options(f.p[0])
		f.p = f.p[1:]
		id, filter := uint32(f.num()), f.text()
		if s, _ := owner(key); s != nil && !f.bad {
			sb := subscription{filter: filter, opts: o, saved: true, id: id}
			if !isMail(filter) {
				share, bare, err := topic.Parse(filter)
				if err != nil {
					return false
				}
				sb.sub = srv.subs.Add(s, share, bare, byte(o), id)
			}
			s.subs = append(s.subs, sb)
		}
		return true
	})
	if err != nil {
		return err
	}
	err = srv.scan(ctx, gotPrefix, func(key string, f *fields) bool {
		s, id := owner(key)
		if n, err := strconv.ParseUint(id, 10, 16); s != nil && err == nil {
			if s.got == nil {
				s.got = map[uint16]struct{}{}
			}
			s.got[uint16(n)] = struct{}{}
		}
		return true
	})
	if err != nil {
		return err
	}
	for key, s := range all {
		if err := srv.loadPlace(ctx, s, !left[s].IsZero()); err != nil {
			return err
		}
		srv.count.sessions.Add(1)
		srv.setAway(s.kept.Load(), true)
		if srv.orphan(s.kept.Load().user) { // its account was removed while nobody listened
			srv.discard(s)
			continue
		}
		srv.sessions.shard(key).all[key] = s
		srv.resumeAbsence(s, left[s])
	}
	return nil
}

// resumeAbsence lets the absence of a client go on that left then; if that is
// zero it was connected when the server ended, and leaves now.
func (srv *Server) resumeAbsence(s *session, left time.Time) {
	k := s.kept.Load()
	if left.IsZero() {
		left = time.Now()
	}
	k.left = left
	if k.will != nil {
		k.due = left.Add(min(k.will.delay, k.expiry))
		srv.clock.set(s, taskWill, k.due)
	}
	if k.expiry < forever*time.Second {
		k.until = left.Add(k.expiry)
		srv.clock.set(s, taskExpiry, k.until)
	}
}

// loadPlace reads how far a session's queue was acknowledged and released, and
// how far it was sent if the client had left.
func (srv *Server) loadPlace(ctx context.Context, s *session, away bool) error {
	q := &s.kept.Load().queue
	cur, _, err := srv.core.Mail.Cursor(ctx, s.kept.Load().box, queueDevice)
	if err != nil {
		return err
	}
	q.acked = cur.Seq
	info, err := srv.core.Mail.Info(ctx, s.kept.Load().box)
	if err != nil {
		return err
	}
	s.kept.Load().backlog.found(info, cur.Seq)
	v, err := srv.core.Mail.Get(ctx, sentKey(s.key))
	if err != nil {
		return err
	}
	if f := openRecord(v); away && !f.bad {
		q.sent, s.kept.Load().inbox.sent = mailbox.Seq(f.num()), mailbox.Seq(f.num())
	} else {
		// Nobody remembers what was sent before; the first window may have been.
		q.sent = min(cur.Seq+mailbox.Seq(srv.cfg.MaxInflight), info.Last)
		mail, err := srv.core.Mail.Info(ctx, s.kept.Load().user)
		if err != nil {
			return err
		}
		s.kept.Load().inbox.sent, s.kept.Load().inbox.unsure = mail.Last, true
	}
	if q.past, err = srv.loadReleased(ctx, relKey(s.key)); err != nil {
		return err
	}
	s.kept.Load().inbox.past, err = srv.loadReleased(ctx, relMailKey(s.key))
	return err
}

// loadReleased reads which seqs were released. Those that the cursor has passed
// do no harm.
func (srv *Server) loadReleased(ctx context.Context, key string) (past map[mailbox.Seq]phase, err error) {
	v, err := srv.core.Mail.Get(ctx, key)
	if err != nil || v == nil {
		return nil, err
	}
	f := openRecord(v)
	for !f.bad && len(f.p) > 0 {
		if past == nil {
			past = map[mailbox.Seq]phase{}
		}
		past[mailbox.Seq(f.num())] = released
	}
	if f.bad {
		return nil, fmt.Errorf("%w: %s", errForm, key)
	}
	return past, nil
}
