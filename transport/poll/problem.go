package poll

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// problem turns an error into the words of this door. Field is what it is
// about where the error itself does not know.
func (s *Server) problem(err error, field string) *wire.Problem {
	var p *wire.Problem
	if errors.As(err, &p) {
		return p
	}
	if p := authProblem(err); p != nil {
		return p
	}
	switch {
	case errors.Is(err, router.ErrRemote):
		return wire.NewProblem(wire.RemoteDomain, field, "this server does not send to other domains")
	case errors.Is(err, router.ErrNoRecipient):
		return wire.NewProblem(wire.NoRecipient, field, "")
	case errors.Is(err, router.ErrNoSender):
		return wire.NewProblem(wire.NotAuthorized, "Authorization", "the account was removed")
	case errors.Is(err, router.ErrDevices):
		return wire.NewProblem(wire.TooMany, "device", "the account has "+strconv.Itoa(s.core.Mail.Limits().Devices)+" devices, and all are connected")
	case errors.Is(err, address.ErrInvalid):
		return wire.NewProblem(wire.BadRecipient, field, err.Error())
	case errors.Is(err, mailbox.ErrConflict):
		return wire.NewProblem(wire.Conflict, field, "use another id, or send the same message again")
	case errors.Is(err, mailbox.ErrTooLarge):
		return wire.NewProblem(wire.TooLarge, field, err.Error())
	case errors.Is(err, mailbox.ErrInvalid):
		return wire.NewProblem(wire.BadField, field, err.Error())
	case errors.Is(err, mailbox.ErrUnavailable):
		return wire.NewProblem(wire.Unavailable, "", "try again with the same id: it may have been stored all the same")
	case errors.Is(err, mailbox.ErrClosed):
		return wire.NewProblem(wire.Draining, "", "")
	}
	if !errors.Is(err, context.Canceled) {
		s.log.Error("poll: request failed", "err", err)
	}
	return wire.NewProblem(wire.Internal, "", "")
}

// refuse answers with a problem document.
func refuse(w http.ResponseWriter, p *wire.Problem) {
	h := w.Header()
	h.Set("Content-Type", wire.ProblemType)
	h.Set("Cache-Control", "no-store")
	h.Del("ETag")
	if p.Status == http.StatusUnauthorized {
		challenge(h, p.Kind())
	}
	if after := p.Kind().Info().Retry; after > 0 {
		h.Set("Retry-After", strconv.Itoa(after))
	}
	write(w, p.Status, append(wire.AppendProblem(nil, p), '\n'))
}

// write sends a whole answer.
func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error means that the peer has gone
}

// checkName refuses what may not be the name of anything.
func checkName(field, v string) error {
	if len(v) > mailbox.MaxName {
		return wire.NewProblem(wire.BadField, field, strconv.Itoa(len(v))+" bytes, at most "+strconv.Itoa(mailbox.MaxName))
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] == 0x7f {
			return wire.NewProblem(wire.BadField, field, "holds a control character")
		}
	}
	return nil
}
