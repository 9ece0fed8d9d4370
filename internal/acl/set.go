package acl

import (
	"bytes"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
)

// set is rules made ready for asking. It is never changed.
type set struct {
	version string
	kept    []Rule
	rules   []rule
	// all has the rules that are for everybody, of those that name an account,
	// each as places in rules, in order.
	all []int
	of  map[string][]int

	anonymous []pattern
}

// rule is a Rule made ready.
type rule struct {
	Rule
	from   Source
	number int   // from 1, in its list
	roles  uint8 // a bit for each; none means all
	does   [2][]pattern
}

// use is what a topic is used for.
type use uint8

const (
	publishing use = iota
	subscribing
)

// compile makes rules ready. What has a mistake in it fits nobody and nothing.
func compile(cfg *Config, kept []Rule) *set {
	s := &set{version: versionOf(cfg.File, kept), kept: kept, of: map[string][]int{}}
	add := func(from Source, rules []Rule) {
		for i, r := range rules {
			c := rule{Rule: r, from: from, number: i + 1, does: [2][]pattern{patterns(r.Publish), patterns(r.Subscribe)}}
			for _, name := range r.Roles {
				if role, err := auth.ParseRole(name); err == nil {
					c.roles |= 1 << role
				}
			}
			if at := len(s.rules); len(r.Users) == 0 {
				s.all = append(s.all, at)
			} else {
				for _, u := range r.Users {
					a, err := address.Parse(u, cfg.Domain)
					if own := s.of[a.Bare()]; err == nil && !slices.Contains(own, at) {
						s.of[a.Bare()] = append(own, at)
					}
				}
			}
			s.rules = append(s.rules, c)
		}
	}
	add(File, cfg.File)
	add(API, kept)
	s.anonymous = patterns(cfg.AnonymousTopics)
	return s
}

// decide says whether who may use what, why, and by which rule if it is one.
func (s *set) decide(cfg *Config, who *auth.Who, what []byte, u use) (ok bool, why Why, by *rule) {
	switch {
	case u == publishing && what[0] == '$' && !isState(what):
		// "Server implementations MAY use Topic Names that start with a leading
		// $ character for other purposes" MQTT 5.0 section 4.7.2: no client
		// writes there.
		return false, ServerTopic, nil
	case u == subscribing && slices.Contains(cfg.Refused, string(what)):
		return false, RefusedToAll, nil
	case who.User != "" && len(s.rules) == 0:
		return true, NoRules, nil
	}
	v := valuesOf(who)
	if who.User == "" {
		for i := range s.anonymous {
			if s.anonymous[i].contains(what, &v) {
				return true, AnonymousTopics, nil
			}
		}
		return false, AnonymousTopics, nil
	}
	for i := range s.inOrder(who.User) {
		if r := &s.rules[i]; r.isFor(who.Role) && r.fits(what, &v, u) {
			return !r.Deny, ByRule, r
		}
	}
	return false, NoneFits, nil
}

// BridgeState returns the name of the bridge that a topic is about, if it is
// $SYS/broker/connection/{bridge}/state. Brokers like mosquitto say there, also on
// the broker that a bridge of theirs leads to, whether it is up, and leave the
// opposite as their will: refused it would not come in.
func BridgeState(topic string) (bridge string, ok bool) {
	rest, ok1 := strings.CutPrefix(topic, "$SYS/broker/connection/")
	bridge, ok2 := strings.CutSuffix(rest, "/state")
	return bridge, ok1 && ok2 && bridge != ""
}

func isState(topic []byte) bool {
	_, ok := BridgeState(string(topic))
	return ok
}

// inOrder yields the places of the rules for an account.
func (s *set) inOrder(user string) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		own, all := s.of[user], s.all
		for len(own)+len(all) > 0 {
			from := &own
			if len(own) == 0 || len(all) > 0 && all[0] < own[0] {
				from = &all
			}
			i := (*from)[0]
			*from = (*from)[1:]
			if !yield(i) {
				return
			}
		}
	}
}

func (r *rule) isFor(role auth.Role) bool {
	return len(r.Roles) == 0 || r.roles>>role&1 == 1
}

// fits reports whether r has a word to say; see the package comment.
func (r *rule) fits(what []byte, v *values, u use) bool {
	for i := range r.does[u] {
		p := &r.does[u][i]
		if r.Deny && u == subscribing {
			if p.meets(what, v) {
				return true
			}
		} else if p.contains(what, v) {
			return true
		}
	}
	return false
}

// values are what %u and %c stand for; empty is nothing.
type values struct{ user, client string }

func valuesOf(who *auth.Who) values {
	name, _, _ := strings.Cut(who.User, "@")
	return values{usable(name), usable(who.Device)}
}

// usable is s, or nothing if it could be taken for a wildcard or for levels.
func usable(s string) string {
	if strings.ContainsAny(s, "+#/") {
		return ""
	}
	return s
}

// of is what a part of a level says.
func (v *values) of(part string) string {
	switch part {
	case "%u":
		return v.user
	case "%c":
		return v.client
	}
	return part
}

// pattern is a filter in which %u and %c stand for something.
type pattern struct {
	text   string
	levels []level
	// server says that it begins with $: "The Server MUST NOT match Topic
	// Filters starting with a wildcard character (# or +) with Topic Names
	// beginning with a $ character" [MQTT-4.7.2-1]. Nor is %c such a beginning.
	server       bool
	user, client bool // %u is in it, and %c
}

// level is one level of a filter: a text, or parts that are put together.
type level struct {
	text  string
	parts []string // %u, %c, and what stands between; nil if it is only text
}

func patterns(filters []string) (ps []pattern) {
	for _, f := range filters {
		p := pattern{text: f, server: strings.HasPrefix(f, "$"), user: strings.Contains(f, "%u"), client: strings.Contains(f, "%c")}
		for text := range strings.SplitSeq(f, "/") {
			p.levels = append(p.levels, level{text, parts(text)})
		}
		ps = append(ps, p)
	}
	return ps
}

// parts takes a level apart at its signs.
func parts(text string) (ps []string) {
	signs, rest := 0, text
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] != '%' || rest[i+1] != 'u' && rest[i+1] != 'c' {
			continue
		}
		if i > 0 {
			ps = append(ps, rest[:i])
		}
		ps = append(ps, rest[i:i+2])
		signs, rest, i = signs+1, rest[i+2:], -1
	}
	if signs == 0 {
		return nil
	}
	if rest != "" {
		ps = append(ps, rest)
	}
	return ps
}

// is reports whether l, which is no wildcard, is what.
func (l *level) is(what []byte, v *values) bool {
	if l.parts == nil {
		return string(what) == l.text
	}
	for _, part := range l.parts {
		part = v.of(part)
		if len(what) < len(part) || string(what[:len(part)]) != part {
			return false
		}
		what = what[len(part):]
	}
	return len(what) == 0
}

// void reports whether p can match nothing.
func (p *pattern) void(v *values) bool {
	return p.user && v.user == "" || p.client && v.client == ""
}

// contains reports whether p matches every topic that what does: a topic itself,
// or a filter.
func (p *pattern) contains(what []byte, v *values) bool {
	if p.void(v) || p.server != (what[0] == '$') {
		return false
	}
	more := true
	for i := range p.levels {
		l := &p.levels[i]
		if l.text == "#" {
			return true // what has ended is the parent, which # matches, too
		}
		if !more {
			return false
		}
		var at []byte
		at, what, more = bytes.Cut(what, slash)
		if string(at) == "#" || l.text != "+" && !l.is(at, v) {
			return false
		}
	}
	return !more
}

// meets reports whether there is a topic that both p and filter match.
func (p *pattern) meets(filter []byte, v *values) bool {
	if p.void(v) || p.server != (filter[0] == '$') {
		return false
	}
	more := true
	for i := range p.levels {
		l := &p.levels[i]
		if l.text == "#" {
			return true
		}
		if !more {
			return false
		}
		var at []byte
		at, filter, more = bytes.Cut(filter, slash)
		if string(at) == "#" {
			return true
		}
		if l.text != "+" && string(at) != "+" && !l.is(at, v) {
			return false
		}
	}
	return !more || string(filter) == "#"
}

var slash = []byte{'/'}

// filled is the filter with its signs filled in; ok is false if that matches
// nothing.
func (p *pattern) filled(v *values) (text string, ok bool) {
	var b strings.Builder
	for i := range p.levels {
		if i > 0 {
			b.WriteByte('/')
		}
		if p.levels[i].parts == nil {
			b.WriteString(p.levels[i].text)
		}
		for _, part := range p.levels[i].parts {
			b.WriteString(v.of(part))
		}
	}
	text = b.String()
	return text, !p.void(v) && p.server == strings.HasPrefix(text, "$")
}
