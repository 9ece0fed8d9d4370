package wire

import "strconv"

// Rule is one of the rules that say who may use which topics of the MQTT door.
type Rule struct {
	Users     []string `json:"users,omitempty" doc:"The accounts that it is for, with or without the domain. Without any: all." example:"[\"meter\"]"`
	Roles     []string `json:"roles,omitempty" doc:"The roles that it is for. Without any: all." enum:"user,app,admin"`
	Deny      bool     `json:"deny,omitempty" doc:"It forbids what it names."`
	Publish   []string `json:"publish,omitempty" doc:"Filters of the topics that it is about. %u is the user's name, %c the client identifier." example:"[\"home/%u/#\"]"`
	Subscribe []string `json:"subscribe,omitempty" doc:"Filters of those that may be subscribed to."`
}

// RuleList is the answer of GET and PUT /v1/mqtt/rules.
type RuleList struct {
	File  []Rule `json:"file" doc:"Those of the configuration, which come first and are changed there alone."`
	Rules []Rule `json:"rules" doc:"Those behind them."`
}

// AppliedRule is a rule as it is for one client.
type AppliedRule struct {
	From   string `json:"from" enum:"file,api" doc:"Which list it is in: the configuration's, or the one that is set here."`
	Number int    `json:"number" doc:"Its number there, from 1." example:"1"`
	Rule
}

// Access is the answer of GET /v1/mqtt/rules/check.
type Access struct {
	User      string        `json:"user,omitempty" doc:"The account; there is none for a client without one."`
	Role      string        `json:"role,omitempty" doc:"Its role." enum:"user,app,admin"`
	Client    string        `json:"client,omitempty" doc:"The client identifier."`
	Publish   string        `json:"publish,omitempty" doc:"The topic that was asked about."`
	Subscribe string        `json:"subscribe,omitempty" doc:"The filter that was asked about."`
	Allowed   *bool         `json:"allowed,omitempty" doc:"Whether the client may, if a topic or filter was asked about."`
	Why       string        `json:"why,omitempty" enum:"rule,no-rule-fits,no-rules,refused,server-topic,anonymous-topics,anonymous-off" doc:"What says so: a rule; that there are rules and none allows it; that there are none; the list of filters that nobody may have; that the topic is the server's; the list for clients without an account; that such clients are not let in."`
	By        *AppliedRule  `json:"by,omitempty" doc:"The rule that says so. Its filters have the client's names in them."`
	Rules     []AppliedRule `json:"rules,omitempty" doc:"Without a topic or filter: the rules for this client, in order."`
}

// DecodeRules reads the content of a PUT /v1/mqtt/rules, with at most max rules.
func DecodeRules(in []byte, max int) (rules []Rule, _ *Problem) {
	s, err := newScanner(in)
	if err != nil {
		return nil, err
	}
	seen, first := false, true
	for s.expectOpen('{', &first, ""); s.more('}', &first, ""); {
		switch name := string(s.raw("")); {
		case s.err != nil:
		case name == "file":
			s.fail(UnknownField, name, "the rules of the configuration are changed there; send those under rules alone")
		case name != "rules":
			s.fail(UnknownField, clip([]byte(name)), "there are rules, and nothing else")
		case seen:
			s.fail(BadJSON, name, "the field is there twice")
		default:
			seen = s.expect(':', name)
			rules = s.rules(max)
		}
	}
	s.end()
	if s.err == nil && !seen {
		s.fail(MissingField, "rules", "a list is wanted; an empty one is none")
	}
	if s.err != nil {
		return nil, s.err
	}
	return rules, nil
}

func (s *scanner) rules(max int) (rules []Rule) {
	first := true
	for s.expectOpen('[', &first, "rules"); s.more(']', &first, "rules"); {
		if len(rules) == max {
			s.fail(TooLarge, "rules", "more than %d rules", max)
			return nil
		}
		rules = append(rules, s.rule("rules["+strconv.Itoa(len(rules))+"]"))
	}
	return rules
}

func (s *scanner) rule(path string) (r Rule) {
	seen := map[string]bool{}
	first := true
	for s.expectOpen('{', &first, path); s.more('}', &first, path); {
		name := string(s.raw(path))
		if s.err != nil {
			break
		}
		field := path + "." + clip([]byte(name))
		if seen[name] {
			s.fail(BadJSON, field, "the field is there twice")
			break
		}
		seen[name] = true
		s.expect(':', field)
		switch name {
		case "users":
			r.Users = s.strings(field)
		case "roles":
			r.Roles = s.strings(field)
		case "deny":
			r.Deny = s.bool(field)
		case "publish":
			r.Publish = s.strings(field)
		case "subscribe":
			r.Subscribe = s.strings(field)
		default:
			s.fail(UnknownField, field, "a rule has no such field")
		}
	}
	return r
}

// strings takes a list of strings.
func (s *scanner) strings(field string) (list []string) {
	first := true
	for s.expectOpen('[', &first, field); s.more(']', &first, field); {
		list = append(list, string(s.raw(field+"["+strconv.Itoa(len(list))+"]")))
	}
	return list
}

// bool takes true or false.
func (s *scanner) bool(field string) bool {
	s.space()
	for word, v := range map[string]bool{"true": true, "false": false} {
		if len(s.in)-s.pos >= len(word) && string(s.in[s.pos:s.pos+len(word)]) == word {
			s.pos += len(word)
			return v
		}
	}
	s.unexpected(field, "true or false")
	return false
}
