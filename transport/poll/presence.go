package poll

import (
	"net/http"
	"strings"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// presence is GET /v1/presence.
func (s *Server) presence(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	user, err := s.whose(r, who, auth.RoleApp, auth.RoleAdmin)
	if err != nil {
		return err
	}
	list := wire.PresenceList{User: user, Sessions: []wire.Presence{}}
	for _, p := range s.core.Router.Presence(user) {
		list.Sessions = append(list.Sessions, wire.Presence{Device: p.Device, Door: p.Door.String(), Since: p.Since})
	}
	return sendJSON(w, list)
}

// document is GET /v1/openapi.json.
func (s *Server) document() func(http.ResponseWriter, *http.Request) error {
	doc, err := s.api.OpenAPI().MarshalJSON()
	if err != nil {
		panic(err) // it is made of our own constants
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		ct := "application/openapi+json;version=3.1"
		if !strings.Contains(r.Header.Get("Accept"), "application/openapi+json") {
			ct = "application/json"
		}
		w.Header().Set("Content-Type", ct)
		w.Header().Set("Cache-Control", "no-cache")
		write(w, http.StatusOK, doc)
		return nil
	}
}
