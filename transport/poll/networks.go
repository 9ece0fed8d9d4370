package poll

import (
	"net/http"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// networks is GET /v1/networks.
func (s *Server) networks(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	if who.Role != auth.RoleAdmin {
		return wire.NewProblem(wire.Forbidden, "", "only administrators may see the networks")
	}
	list := wire.NetworkList{Networks: []wire.Network{}}
	// An advisor that does not learn knows none.
	if t, ok := s.core.Keepalive.(interface{ Networks() []keepalive.Known }); ok {
		for _, k := range t.Networks() {
			list.Networks = append(list.Networks, wire.Network{
				Network: string(k.Network), Good: k.Good.Seconds(), Bad: k.Bad.Seconds(),
				Interval: s.core.Keepalive.Interval(k.Network).Seconds(), Reports: k.Reports, At: k.At,
			})
		}
	}
	return sendJSON(w, list)
}
