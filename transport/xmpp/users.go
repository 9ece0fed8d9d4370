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

// join makes r known to the others, and brings its user's roster into memory.
// It blocks; call it on the user's worker, so that the roster does not change
// meanwhile.
func (s *Server) join(ctx context.Context, r *resource) error {
	ro := s.rosterOf(r.bare)
	if ro == nil {
		var err error
		if ro, err = s.readRoster(ctx, r.bare); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[r.bare]
	if u == nil {
		u = &user{roster: ro}
		s.users[r.bare] = u
	}
	u.streams = append(u.streams, r)
	return nil
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

// stream returns the bound stream of a device, the newest if one is just being
// replaced, nil if there is none.
func (s *Server) stream(bare, device string) *resource {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if u := s.users[bare]; u != nil {
		for _, r := range slices.Backward(u.streams) {
			if r.who.Device == device {
				return r
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

// updateRoster replaces the roster in memory, if the user has a stream.
func (s *Server) updateRoster(bare string, r *roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[bare]; u != nil {
		u.roster = r
	}
}
