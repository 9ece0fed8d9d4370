package poll

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// whose says whom a request about a user is about: the one who has logged in, or
// whom the query names if he may ask for that one.
func (s *Server) whose(r *http.Request, allowed ...auth.Role) (string, error) {
	who, err := s.login(r)
	if err != nil {
		return "", err
	}
	asked := r.URL.Query().Get("user")
	if asked == "" {
		return who.User, nil
	}
	a, err := address.Parse(asked, s.core.Router.Domain())
	switch {
	case err != nil || a.User == "" || a.Device != "":
		return "", wire.NewProblem(wire.BadQuery, "user", "not the address of a user")
	case a.Bare() == who.User:
	case !slices.Contains(allowed, who.Role):
		return "", wire.NewProblem(wire.Forbidden, "user", "the account's role may not see or change others")
	case !s.core.Auth.Exists(a.Bare()):
		return "", wire.NewProblem(wire.NoRecipient, "user", "")
	}
	return a.Bare(), nil
}

// sendJSON writes v as JSON that nobody keeps.
func sendJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, append(body, '\n'))
	return nil
}

// devices is GET /v1/devices.
func (s *Server) devices(w http.ResponseWriter, r *http.Request) error {
	user, err := s.whose(r, auth.RoleApp, auth.RoleAdmin)
	if err != nil {
		return err
	}
	ds, err := s.core.Router.Devices(r.Context(), user)
	if err != nil {
		return err
	}
	list := wire.DeviceList{User: user, Devices: make([]wire.Device, len(ds))}
	for i, d := range ds {
		list.Devices[i] = wire.Device{Device: d.Name, Online: d.Online, Seen: d.Seen, Behind: d.Behind}
		if d.Online {
			list.Devices[i].Door = d.Door.String()
		}
	}
	return sendJSON(w, list)
}

// forget is DELETE /v1/devices/{device}.
func (s *Server) forget(w http.ResponseWriter, r *http.Request) error {
	user, err := s.whose(r, auth.RoleAdmin)
	if err != nil {
		return err
	}
	name, known, err := s.knownDevice(r, user)
	if err != nil {
		return err
	}
	if !known {
		return wire.NewProblem(wire.NotFound, "device", clip(name))
	}
	s.core.Router.Forget(user, name)
	if err := s.core.Costs.Forget(r.Context(), user, name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// knownDevice is the device that the path names, and whether the mailbox knows
// it.
func (s *Server) knownDevice(r *http.Request, user string) (name string, known bool, err error) {
	name = r.PathValue("device")
	ds, err := s.core.Router.Devices(r.Context(), user)
	return name, slices.ContainsFunc(ds, func(d router.Device) bool { return d.Name == name }), err
}

// cost is GET /v1/devices/{device}/cost.
func (s *Server) cost(w http.ResponseWriter, r *http.Request) error {
	user, err := s.whose(r, auth.RoleApp, auth.RoleAdmin)
	if err != nil {
		return err
	}
	name, known, err := s.knownDevice(r, user)
	if err != nil {
		return err
	}
	a, err := s.core.Costs.Account(r.Context(), user, name)
	if err != nil {
		return err
	}
	if a.Since.IsZero() && !known {
		return wire.NewProblem(wire.NotFound, "device", clip(name))
	}
	total := a.Total()
	c := wire.DeviceCost{User: user, Device: name, Since: a.Since, Total: costOf(&total), Ways: map[string]wire.Cost{}, Days: []wire.Day{}}
	for way, n := range a.Ways {
		c.Ways[way] = costOf(n)
	}
	for _, d := range a.Days {
		c.Days = append(c.Days, wire.Day{Date: d.Date, Cost: costOf(&d.Counts)})
	}
	return sendJSON(w, c)
}

// costOf is how the API shows c.
func costOf(c *cost.Counts) wire.Cost {
	o := wire.Cost{
		BytesUp: c.BytesUp, BytesDown: c.BytesDown, PacketsUp: c.PacketsUp, PacketsDown: c.PacketsDown,
		Wakeups: c.Wakeups, Heartbeats: c.Heartbeats, Connects: c.Connects, Connected: float64(c.Connected) / 1000,
		Joules: map[string]float64{},
	}
	for _, p := range cost.Profiles() {
		o.Joules[p.String()] = float64(int64(c.Joules(p)*1000+0.5)) / 1000
	}
	return o
}
