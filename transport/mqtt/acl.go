package mqtt

import (
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Rule allows or denies the use of plain topics. In its filters %u stands for
// the user's name without the domain and %c for the client identifier.
type Rule struct {
	// Users are the accounts that the rule is for, with or without the
	// domain. Default: all.
	Users []string
	// Roles are the roles that it is for: user, app, admin. Default: all.
	Roles []string
	// Deny makes the rule forbid what it names.
	Deny bool
	// Publish are filters of the topics that it is about.
	Publish []string
	// Subscribe are the filters that may be subscribed to: one that is
	// contained in one of these. A denied one is refused if it is contained in
	// one of these or the same.
	Subscribe []string
}

// appliesTo reports whether the rule is for who.
func (r *Rule) appliesTo(user string, role auth.Role) bool {
	if len(r.Users) > 0 {
		name, _, _ := strings.Cut(user, "@")
		ok := false
		for _, u := range r.Users {
			ok = ok || u == user || u == name
		}
		if !ok {
			return false
		}
	}
	if len(r.Roles) == 0 {
		return true
	}
	for _, n := range r.Roles {
		if n == role.String() {
			return true
		}
	}
	return false
}

// expand fills in the patterns of a filter. A name that could be taken for a
// wildcard or for levels makes a pattern match nothing.
func expand(filter, user, device string) (string, bool) {
	if !strings.Contains(filter, "%") {
		return filter, true
	}
	name, _, _ := strings.Cut(address.Bare(user), "@")
	for _, p := range [...]struct{ sign, value string }{{"%u", name}, {"%c", device}} {
		if !strings.Contains(filter, p.sign) {
			continue
		}
		if p.value == "" || strings.ContainsAny(p.value, "+#/") {
			return "", false
		}
		filter = strings.ReplaceAll(filter, p.sign, p.value)
	}
	return filter, true
}

// mayPublish reports whether c may publish to a plain topic.
func (srv *Server) mayPublish(c *client, name []byte) bool {
	// "Server implementations MAY use Topic Names that start with a leading $
	// character for other purposes" MQTT 5.0 section 4.7.2: no client writes there.
	if name[0] == '$' {
		return false
	}
	if c.users > 0 && len(srv.cfg.ACL) == 0 || c.isBridge() {
		return true
	}
	return srv.allowed(c, string(name), topic.Match, func(r *Rule) []string { return r.Publish })
}

// maySubscribe reports whether c may subscribe to a plain filter.
func (srv *Server) maySubscribe(c *client, filter string) bool {
	if c.users > 0 && len(srv.cfg.ACL) == 0 || c.isBridge() {
		return true
	}
	return srv.allowed(c, filter, contains, func(r *Rule) []string { return r.Subscribe })
}

func (srv *Server) allowed(c *client, what string, fits func(filter, what string) bool, of func(*Rule) []string) bool {
	user, device := c.user(), c.device()
	if user == "" {
		for _, f := range srv.cfg.AnonymousTopics {
			if f, ok := expand(f, user, device); ok && fits(f, what) {
				return true
			}
		}
		return false
	}
	for i := range srv.cfg.ACL {
		r := &srv.cfg.ACL[i]
		if !r.appliesTo(user, c.role) {
			continue
		}
		for _, f := range of(r) {
			if f, ok := expand(f, user, device); ok && (fits(f, what) || r.Deny && f == what) {
				return !r.Deny
			}
		}
	}
	return false
}

// contains reports whether every name that inner matches is matched by outer.
func contains(outer, inner string) bool {
	if inner != "" && (inner[0] == '$') != (outer != "" && outer[0] == '$') {
		return false
	}
	for {
		o, orest, omore := strings.Cut(outer, "/")
		if o == "#" {
			return true
		}
		i, irest, imore := strings.Cut(inner, "/")
		if i == "#" || o != "+" && o != i {
			return false
		}
		switch {
		case !omore && !imore:
			return true
		case omore && !imore:
			return orest == "#"
		case !omore:
			return false
		}
		outer, inner = orest, irest
	}
}
