package xmpp

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Forget removes from mail what the door keeps of a user who is no more: his
// roster, his vCard and his private elements. He stays in the rosters of others,
// where he put himself by their leave. While the door is open use Server.Forget.
func Forget(ctx context.Context, mail *mailbox.Mail, user string) error {
	gone := []mailbox.Record{{Key: rosterKey(user)}, {Key: vcardKey(user)}}
	err := mail.Scan(ctx, privatePrefix(user), func(key string, _ []byte) bool {
		gone = append(gone, mailbox.Record{Key: key})
		return true
	})
	return errors.Join(err, mail.Put(ctx, gone...))
}

// Forget is Forget behind what the door still had to do for the user.
func (s *Server) Forget(ctx context.Context, user string) error {
	done := make(chan error, 1)
	if !s.work.do(user, func() { done <- Forget(ctx, s.core.Mail, user) }) {
		return errBusy
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
