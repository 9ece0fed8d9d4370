package poll

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// presence is GET /v1/presence.
func (s *Server) presence(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	user := who.User
	if asked := r.URL.Query().Get("user"); asked != "" {
		a, err := address.Parse(asked, s.core.Router.Domain())
		if err != nil || a.User == "" || a.Device != "" {
			return wire.NewProblem(wire.BadQuery, "user", "not the address of a user")
		}
		user = a.Bare()
	}
	switch {
	case user == who.User:
	case who.Role != auth.RoleApp && who.Role != auth.RoleAdmin:
		return wire.NewProblem(wire.Forbidden, "user", "only back ends and administrators may see others")
	case !s.core.Auth.Exists(user):
		return wire.NewProblem(wire.NoRecipient, "user", "")
	}
	list := wire.PresenceList{User: user, Sessions: []wire.Presence{}}
	for _, p := range s.core.Router.Presence(user) {
		list.Sessions = append(list.Sessions, wire.Presence{Device: p.Device, Door: p.Door.String(), Since: p.Since})
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, append(body, '\n'))
	return nil
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
