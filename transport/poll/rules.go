package poll

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// ruler lets administrators through to the rules of the MQTT door.
func (s *Server) ruler(r *http.Request) (auth.Who, error) {
	who, err := s.login(r)
	switch {
	case err != nil:
		return who, err
	case who.Role != auth.RoleAdmin:
		return who, wire.NewProblem(wire.Forbidden, "", "only administrators may see or change the rules")
	case s.cfg.Rules == nil:
		return who, wire.NewProblem(wire.NotFound, "", "this server has no MQTT door")
	}
	return who, nil
}

// rules is GET /v1/mqtt/rules.
func (s *Server) rules(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.ruler(r); err != nil {
		return err
	}
	list, err := s.cfg.Rules.List(r.Context())
	if err != nil {
		return err
	}
	return sendRules(w, list)
}

// setRules is PUT /v1/mqtt/rules.
func (s *Server) setRules(w http.ResponseWriter, r *http.Request) error {
	who, err := s.ruler(r)
	if err != nil {
		return err
	}
	version, err := s.seen(r)
	if err != nil {
		return err
	}
	body, err := s.body(w, r, nil)
	if err != nil {
		return err
	}
	in, p := wire.DecodeRules(body, s.cfg.Rules.Max())
	if p != nil {
		return p
	}
	rules := make([]acl.Rule, len(in))
	for i := range in {
		rules[i] = acl.Rule(in[i])
	}
	list, err := s.cfg.Rules.Set(r.Context(), rules, version)
	if err != nil {
		return rulesProblem(err)
	}
	s.log.Info("rules replaced", "user", who.User, "rules", len(rules))
	return sendRules(w, list)
}

// seen is the version of the rules that the sender of r has seen; empty if that
// does not matter to him.
//
//	"If-Match is most often used with state-changing methods ... to prevent
//	accidental overwrites when multiple user agents might be acting in parallel
//	on the same resource (i.e., to prevent the "lost update" problem)."
//	RFC 9110 section 13.1.1; that it is required is RFC 6585 section 3
func (s *Server) seen(r *http.Request) (version string, err error) {
	header := strings.TrimSpace(strings.Join(r.Header.Values("If-Match"), ","))
	switch header {
	case "":
		return "", wire.NewProblem(wire.MatchNeeded, "If-Match", "send the ETag of the rules that you have seen, or * to replace them whatever they are")
	case "*":
		return "", nil
	}
	list, err := s.cfg.Rules.List(r.Context())
	if err != nil {
		return "", err
	}
	for t := range strings.SplitSeq(header, ",") {
		// "A recipient MUST use the strong comparison function" section 13.1.1
		if strings.TrimSpace(t) == ruleTag(list) {
			return list.Version, nil
		}
	}
	return "", rulesProblem(acl.ErrChanged)
}

func ruleTag(l acl.List) string { return strconv.Quote(l.Version) }

func sendRules(w http.ResponseWriter, l acl.List) error {
	w.Header().Set("ETag", ruleTag(l))
	return sendJSON(w, wire.RuleList{File: wireRules(l.File), Rules: wireRules(l.Rules)})
}

func wireRules(rules []acl.Rule) []wire.Rule {
	out := make([]wire.Rule, len(rules))
	for i := range rules {
		out[i] = wire.Rule(rules[i])
	}
	return out
}

// checkRules is GET /v1/mqtt/rules/check.
func (s *Server) checkRules(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.ruler(r); err != nil {
		return err
	}
	q := r.URL.Query()
	a, err := s.cfg.Rules.Explain(r.Context(), acl.Question{
		User: q.Get("user"), Client: q.Get("client"), Publish: q.Get("publish"), Subscribe: q.Get("subscribe"),
	})
	if err != nil {
		return rulesProblem(err)
	}
	out := wire.Access{User: a.User, Role: a.Role, Client: a.Client, Publish: a.Publish, Subscribe: a.Subscribe, Why: string(a.Why)}
	if a.Publish+a.Subscribe != "" {
		out.Allowed = &a.Allowed
	}
	applied := func(r *acl.Applied) *wire.AppliedRule {
		return &wire.AppliedRule{From: string(r.From), Number: r.Number, Rule: wire.Rule(r.Rule)}
	}
	if a.By != nil {
		out.By = applied(a.By)
	}
	for i := range a.Rules {
		out.Rules = append(out.Rules, *applied(&a.Rules[i]))
	}
	return sendJSON(w, out)
}

// rulesProblem turns the errors of acl into the words of this door.
func rulesProblem(err error) error {
	var mistake *acl.Error
	switch {
	case errors.As(err, &mistake):
		field := fmt.Sprintf("rules[%d]", mistake.Rule)
		if mistake.Field != "" {
			field += "." + mistake.Field
		}
		return wire.NewProblem(wire.BadField, field, mistake.Why)
	case errors.Is(err, acl.ErrMany):
		return wire.NewProblem(wire.TooLarge, "rules", words(err))
	case errors.Is(err, acl.ErrChanged):
		return wire.NewProblem(wire.Changed, "If-Match", "read the rules again")
	case errors.Is(err, acl.ErrTopic):
		return wire.NewProblem(wire.BadQuery, "", words(err))
	case errors.Is(err, auth.ErrNoUser):
		return wire.NewProblem(wire.NotFound, "user", words(err))
	}
	return err
}

// words is an error for the peer: without the package that it comes from.
func words(err error) string {
	_, text, _ := strings.Cut(err.Error(), ": ")
	return text
}
