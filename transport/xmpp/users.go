package xmpp

import (
	"context"
	"slices"
)

// user is what the door has in memory of somebody with a bound stream.
// Server.mu guards it; a roster is never changed, only replaced.
type user struct {
	streams []*resource
	roster  *roster
}

// join makes r known to the others.
func (s *Server) join(r *resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[r.bare]
	if u == nil {
		u = &user{}
		s.users[r.bare] = u
	}
	u.streams = append(u.streams, r)
}

// part is the opposite of join.
func (s *Server) part(r *resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[r.bare]
	if u == nil {
		return
	}
	if i := slices.Index(u.streams, r); i >= 0 {
		u.streams = slices.Delete(u.streams, i, i+1)
	}
	if len(u.streams) == 0 {
		delete(s.users, r.bare)
	}
}

// each calls f for every bound stream of a user. It holds no lock meanwhile.
func (s *Server) each(bare string, f func(*resource)) {
	for _, x := range s.streams(bare) {
		f(x)
	}
}

func (s *Server) streams(bare string) []*resource {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if u := s.users[bare]; u != nil {
		return slices.Clone(u.streams)
	}
	return nil
}

// stream returns the bound stream of a device, nil if there is none.
func (s *Server) stream(bare, device string) *resource {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if u := s.users[bare]; u != nil {
		for _, x := range u.streams {
			if x.who.Device == device {
				return x
			}
		}
	}
	return nil
}

// rosterOf returns the roster in memory, nil if the user has no stream.
func (s *Server) rosterOf(bare string) *roster {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if u := s.users[bare]; u != nil {
		return u.roster
	}
	return nil
}

// loadRoster brings a user's roster into memory. It blocks; call it on his
// worker.
func (s *Server) loadRoster(ctx context.Context, bare string) error {
	if s.rosterOf(bare) != nil {
		return nil
	}
	r, err := s.readRoster(ctx, bare)
	if err != nil {
		return err
	}
	s.setRoster(bare, r)
	return nil
}

// setRoster puts a roster in memory. A user without a stream gets an entry,
// which goes with his stream.
func (s *Server) setRoster(bare string, r *roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[bare]
	if u == nil {
		u = &user{}
		s.users[bare] = u
	}
	u.roster = r
}

// updateRoster is setRoster for a user who may be away.
func (s *Server) updateRoster(bare string, r *roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[bare]; u != nil {
		u.roster = r
	}
}
