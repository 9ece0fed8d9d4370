package mqtt

import (
	"context"
	"errors"
	"strings"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// EndUser ends the connections of a user, whose password has changed or whose
// account is gone; the router knows only those that read the mailbox.
func (srv *Server) EndUser(user string) {
	srv.eachOf(user, func(_ *sessionShard, s *session) { s.finish(packet.NotAuthorized) })
}

// eachOf calls do with the sessions of a user, under the lock of their shard.
func (srv *Server) eachOf(user string, do func(*sessionShard, *session)) {
	for i := range srv.sessions.shards {
		sh := &srv.sessions.shards[i]
		sh.mu.Lock()
		for key, s := range sh.all {
			if strings.HasPrefix(key, user) && strings.HasPrefix(key[len(user):], "/") {
				do(sh, s)
			}
		}
		sh.mu.Unlock()
	}
}

// orphan reports whether user had an account and has none any more.
func (srv *Server) orphan(user string) bool {
	return user != "" && user != bridgeUser && !srv.core.Auth.Exists(user)
}

// discard ends a session whose user's account was removed. Its will is not
// published: "The Will Message MUST be published after the Network Connection is
// subsequently closed" [MQTT-3.1.2-8], but nobody says anything in the name of an
// account that is no more. So has mosquitto it when a client is deleted, and so
// have we it for a will that the rules no longer allow.
func (srv *Server) discard(s *session) {
	if k := s.kept.Load(); k != nil {
		k.will = nil
	}
	srv.wipe(s)
}

// Forget is the function Forget behind the end of the user's connections, which
// it waits for: what they still write comes before.
func (srv *Server) Forget(ctx context.Context, user string) error {
	var left []<-chan struct{}
	srv.eachOf(user, func(sh *sessionShard, s *session) {
		if s.owner == nil {
			delete(sh.all, s.key)
			srv.discard(s)
			return
		}
		s.finish(packet.NotAuthorized)
		left = append(left, sh.leftLocked(s))
	})
	for _, l := range left {
		select {
		case <-l:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return Forget(ctx, srv.core.Mail, user)
}

// Forget removes from mail what the door keeps of a user whose account is no
// more: his sessions with all that is theirs. What he published stays, also if
// it is retained: it belongs to the topics. While the door is open use
// Server.Forget.
func Forget(ctx context.Context, mail *mailbox.Mail, user string) error {
	var gone []mailbox.Record
	var boxes []string
	var errs []error
	for _, prefix := range [...]string{
		sessionPrefix, subPrefix, willPrefix, gotPrefix, relPrefix, relMailPrefix, sentPrefix, snWillPrefix,
	} {
		errs = append(errs, mail.Scan(ctx, prefix+user+"/", func(key string, v []byte) bool {
			gone = append(gone, mailbox.Record{Key: key})
			if prefix == sessionPrefix {
				f := openRecord(v)
				_, _ = f.num(), f.num()
				boxes = append(boxes, f.text())
			}
			return true
		}))
	}
	for _, box := range boxes { // before the records, which say what they are called
		errs = append(errs, mail.DropBox(ctx, box))
	}
	if err := errors.Join(errs...); err != nil || len(gone) == 0 {
		return err
	}
	return mail.Put(ctx, gone...)
}
