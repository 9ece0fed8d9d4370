package poll

import (
	"net/http"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// presence is GET /v1/presence.
func (s *Server) presence(w http.ResponseWriter, r *http.Request) error {
	user, err := s.whose(r, auth.RoleApp, auth.RoleAdmin)
	if err != nil {
		return err
	}
	list := wire.PresenceList{User: user, Sessions: []wire.Presence{}}
	for _, p := range s.core.Router.Presence(user) {
		list.Sessions = append(list.Sessions, wire.Presence{Device: p.Device, Door: p.Door.String(), Since: p.Since})
	}
	return sendJSON(w, list)
}
