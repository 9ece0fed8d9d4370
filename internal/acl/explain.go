package acl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Why says what has decided.
type Why string

// What can decide.
const (
	ByRule          Why = "rule"             // a rule
	NoneFits        Why = "no-rule-fits"     // there are rules, and none allows it
	NoRules         Why = "no-rules"         // there are none, so everything is allowed
	AnonymousTopics Why = "anonymous-topics" // the list for clients without an account
	AnonymousOff    Why = "anonymous-off"    // such clients are not let in
	RefusedToAll    Why = "refused"          // the list of what nobody may subscribe to
	ServerTopic     Why = "server-topic"     // it begins with $, where nobody publishes
)

// Source is one of the two lists.
type Source string

// The two lists.
const (
	File Source = "file" // the configuration
	API  Source = "api"  // what was set
)

// Question is what an operator wants to know: what a client may do.
type Question struct {
	// User is an account, with or without the domain; empty is a client
	// without one.
	User   string `json:"user,omitempty"`
	Client string `json:"client,omitempty"` // its identifier
	// Publish is a topic, Subscribe a filter. One of them at most; without
	// either the question is which rules there are for the client.
	Publish   string `json:"publish,omitempty"`
	Subscribe string `json:"subscribe,omitempty"`
}

// Answer says what a client may do.
type Answer struct {
	Question
	Role string `json:"role,omitempty"` // the account's
	// Allowed and Why are there if a topic or filter was asked about, By if it
	// was a rule that decided.
	Allowed bool     `json:"allowed,omitempty"`
	Why     Why      `json:"why,omitempty"`
	By      *Applied `json:"by,omitempty"`
	// Rules are otherwise those for this client, in order.
	Rules []Applied `json:"rules,omitempty"`
}

// Applied is a rule as it is for one client.
type Applied struct {
	From   Source `json:"from"`
	Number int    `json:"number"` // from 1, in its list
	Rule          // the filters have the client's names in them; without those that match nothing for it
}

// Explain answers q, by the rules in force. The role is that of the account;
// who logs in by an application key, or a token that says so, has another. An
// account that does not exist or is disabled is auth.ErrNoUser. It may read the
// disk.
func (r *Rules) Explain(ctx context.Context, q Question) (Answer, error) {
	a := Answer{Question: q}
	what, u, err := q.about()
	if err != nil {
		return a, err
	}
	if err := r.Load(ctx); err != nil {
		return a, err
	}
	var who auth.Who
	if q.User != "" {
		switch who, err = r.auth.Vouched(ctx, q.User); {
		case errors.Is(err, auth.ErrDenied):
			return a, fmt.Errorf("%w, or it is disabled: %s", auth.ErrNoUser, q.User)
		case err != nil:
			return a, err
		}
		a.User, a.Role = who.User, who.Role.String()
	}
	who.Device = q.Client
	s, v := r.now.Load(), valuesOf(&who)
	switch {
	case who.User == "" && !r.cfg.Anonymous:
		a.Why = AnonymousOff
	case what != "":
		var by *rule
		if a.Allowed, a.Why, by = s.decide(&r.cfg, &who, []byte(what), u); by != nil {
			a.By = by.applied(&v)
		}
	case who.User == "":
		a.Why = AnonymousTopics
	case len(s.rules) == 0:
		a.Why = NoRules
	default:
		for i := range s.inOrder(who.User) {
			if s.rules[i].isFor(who.Role) {
				a.Rules = append(a.Rules, *s.rules[i].applied(&v))
			}
		}
		if len(a.Rules) == 0 {
			a.Why = NoneFits
		}
	}
	return a, nil
}

// about is the topic or filter that is asked about; empty if none is.
func (q *Question) about() (what string, u use, err error) {
	switch {
	case q.Publish != "" && q.Subscribe != "":
		return "", 0, fmt.Errorf("%w: one of publish and subscribe at a time", ErrTopic)
	case q.Publish != "":
		if err := topic.CheckName([]byte(q.Publish)); err != nil {
			return "", 0, fmt.Errorf("%w: nobody can publish to %q", ErrTopic, q.Publish)
		}
		what, u = q.Publish, publishing
	case q.Subscribe != "":
		if _, what, err = topic.Parse(q.Subscribe); err != nil {
			return "", 0, fmt.Errorf("%w: %q is not a topic filter", ErrTopic, q.Subscribe)
		}
		u = subscribing
	}
	if strings.HasPrefix(what, "im/") {
		return "", 0, fmt.Errorf("%w: what is under im/ is the user's own mail, whatever the rules", ErrTopic)
	}
	return what, u, nil
}

// applied is r with the client's names in its filters.
func (r *rule) applied(v *values) *Applied {
	a := &Applied{From: r.from, Number: r.number, Rule: r.Rule}
	fill := func(ps []pattern) (filters []string) {
		for i := range ps {
			if f, ok := ps[i].filled(v); ok {
				filters = append(filters, f)
			}
		}
		return filters
	}
	a.Publish, a.Subscribe = fill(r.does[publishing]), fill(r.does[subscribing])
	return a
}
