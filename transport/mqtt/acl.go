package mqtt

import (
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Access is what the configuration says of who may use which topics, on a
// server whose accounts are at domain.
func (c *Config) Access(domain string) acl.Config {
	most := c.MaxRules
	if most <= 0 {
		most = 1000
	}
	return acl.Config{
		Domain: domain, File: c.ACL, MaxRules: most,
		Anonymous: c.Anonymous, AnonymousTopics: c.AnonymousTopics, Refused: c.Refused,
	}
}

// Rules are those that the door goes by.
func (srv *Server) Rules() *acl.Rules { return srv.rules }

// mayPublish reports whether c may publish to a plain topic.
func (srv *Server) mayPublish(c *client, name []byte) bool {
	if c.isBridge() {
		return name[0] != '$'
	}
	return srv.rules.MayPublish(c.who(), name) && !srv.ownState(name)
}

// maySubscribe reports whether c may subscribe to a plain filter.
func (srv *Server) maySubscribe(c *client, filter string) bool {
	return c.isBridge() || srv.rules.MaySubscribe(c.who(), filter)
}

// obeyRules has every session look at the rules, which are new. It returns when
// those of absent clients have. The others belong to their clients, which do so
// as soon as they have a moment.
func (srv *Server) obeyRules() {
	type absent struct {
		s    *session
		user string
	}
	var away []absent
	for i := range srv.sessions.shards {
		sh := &srv.sessions.shards[i]
		sh.mu.Lock()
		for _, s := range sh.all {
			if s.owner != nil {
				s.owner.unruly.Store(true)
				s.owner.c.Wake()
			} else if k := s.kept.Load(); k.user != bridgeUser {
				away = append(away, absent{s, k.user})
			}
		}
		sh.mu.Unlock()
	}
	roles := map[string]*auth.Who{"": {}}
	for _, a := range away {
		who, known := roles[a.user]
		if !known {
			// Who is disabled has an error, and is looked at if he comes back.
			if w, err := srv.core.Auth.Vouched(background, a.user); err == nil {
				who = &w
			}
			roles[a.user] = who
		}
		if who != nil {
			srv.obeyAway(a.s, *who)
		}
	}
}

// obeyAway is obey for a session whose client is away, unless it came back: then
// it did that itself.
func (srv *Server) obeyAway(s *session, who auth.Who) {
	sh := srv.sessions.shard(s.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := s.kept.Load()
	if sh.all[s.key] != s || s.owner != nil || k == nil {
		return
	}
	who.Device = s.key[len(who.User)+1:]
	records, w := srv.obey(s, who, k.will)
	if w != k.will {
		k.will = nil
		records = append(records, sessionRecord(s, nil, k.left))
	}
	srv.write(records)
}

// obey is called when the rules are new, or a session is taken up again.
func (c *client) obey() {
	if c.isBridge() {
		return
	}
	var was *will
	if c.x != nil {
		was = c.x.will
	}
	records, w := c.srv.obey(c.s, c.who(), was)
	if c.x != nil {
		c.x.index = nil
	}
	if w != was {
		c.x.will = nil
		if c.s.kept.Load() != nil {
			records = append(records, sessionRecord(c.s, nil, time.Time{}))
		}
		records = append(records, c.forgetWill()...)
	}
	c.srv.write(records)
}

// obey ends what the rules no longer allow: subscriptions, and the will. The
// client is not told, for which MQTT has no words. It returns records to be
// written, and the will that is left.
func (srv *Server) obey(s *session, who auth.Who, w *will) ([]mailbox.Record, *will) {
	var records []mailbox.Record
	before := len(s.subs)
	s.subs = slices.DeleteFunc(s.subs, func(sb subscription) bool {
		if sb.sub == nil || srv.rules.MaySubscribe(who, sb.sub.Filter) {
			return false
		}
		srv.subs.Remove(sb.share(), sb.sub)
		if s.kept.Load() != nil {
			records = append(records, mailbox.Record{Key: subKey(s.key, sb.filter)})
		}
		return true
	})
	if w != nil && !srv.rules.MayPublish(who, w.m.topic) {
		w = nil
	}
	if ended := before - len(s.subs); ended > 0 {
		srv.log.Info("subscriptions ended by the rules", "user", who.User, "device", who.Device, "count", ended)
	}
	return records, w
}
