// Package acl says who may use which topics of the MQTT door.
//
// Rules stand in two lists that are asked as one. Those of the configuration
// come first, and change only with it; behind them come those that were set
// while the server runs, which are kept in the mailbox and replaced as a whole:
//
//	configuration    set, and kept
//	1  2  3          1  2
//	──────────────────────▶ the first that fits decides; if none does: no
//
// So who may set rules cannot undo what the file says. Where there is no rule
// in either list every account may use every topic.
//
// A rule fits a topic that is published to if one of its filters matches it.
// With subscriptions, care is on the side of who denies: a rule that allows fits
// a filter all of whose topics one of its own matches, and one that denies fits a
// filter that has any topic in common with one of its own. Otherwise home/#
// would bring what home/secret/# is to hide.
//
// Topics under im/ are the mailboxes of the users: no rule is about them, and
// who asks here has seen to them before. What a client without an account may
// use is a list of the configuration, and no rule is about it either.
//
// Asking takes no lock and no memory. What becomes of clients and their
// subscriptions when rules change is for the door to say; see [Rules.OnChange].
package acl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Rule allows or denies the use of plain topics. In its filters %u stands for
// the user's name without the domain and %c for the client identifier; where
// one of them has +, # or / in it the filter matches nothing.
type Rule struct {
	// Users are the accounts that the rule is for, with or without the
	// domain. Default: all.
	Users []string `json:"users,omitempty"`
	// Roles are the roles that it is for: user, app, admin. Default: all.
	Roles []string `json:"roles,omitempty"`
	// Deny makes the rule forbid what it names.
	Deny bool `json:"deny,omitempty"`
	// Publish are filters of the topics that it is about.
	Publish []string `json:"publish,omitempty"`
	// Subscribe are filters of those that may be subscribed to: a subscription
	// is allowed if it is contained in one of these. It is denied if it has a
	// topic in common with one of them.
	Subscribe []string `json:"subscribe,omitempty"`
}

// Config says what stands fast while the server runs.
type Config struct {
	// Domain is that of the accounts.
	Domain string
	// File are the rules that come first. Check has found no mistake in them.
	File []Rule
	// MaxRules is how many may be set behind them.
	MaxRules int
	// Anonymous says that clients without an account are let in, which may
	// then use AnonymousTopics.
	Anonymous       bool
	AnonymousTopics []string
	// Refused are filters that nobody may subscribe to.
	Refused []string
}

// Errors of Set and Explain.
var (
	// ErrInvalid is what every [Error] is, by errors.Is.
	ErrInvalid = errors.New("acl: invalid rule")
	// ErrMany: there are more rules than are allowed, or they are too long.
	ErrMany = errors.New("acl: too many rules")
	// ErrChanged: the rules are not those that the caller has seen.
	ErrChanged = errors.New("acl: the rules have changed meanwhile")
	// ErrTopic: what is asked about is no topic or filter that a rule could be
	// about.
	ErrTopic = errors.New("acl: not a plain topic")
)

// The rules that were set are one record: the version of its form, and a list
// in JSON.
const (
	recordKey  = "mqtt/rules"
	recordForm = 1
	// maxBytes bounds that list.
	maxBytes = 1 << 20
)

// Rules are the rules in force. Methods may be called from any goroutine.
type Rules struct {
	mail *mailbox.Mail
	auth *auth.Auth
	cfg  Config

	now     atomic.Pointer[set]
	changed atomic.Pointer[func()]

	// setting is held while rules are read from the mailbox, and from the look
	// at the old ones until the new ones are kept and in force.
	setting sync.Mutex
	loaded  bool // guarded by setting
}

// New returns the rules. Those of the configuration are in force at once; see
// Load for the others.
func New(mail *mailbox.Mail, a *auth.Auth, cfg Config) *Rules {
	r := &Rules{mail: mail, auth: a, cfg: cfg}
	r.now.Store(compile(&r.cfg, nil))
	return r
}

// Load reads the rules that were kept, the first time it is called. It blocks.
// Whoever asks MayPublish or MaySubscribe has called it before.
func (r *Rules) Load(ctx context.Context) error {
	r.setting.Lock()
	defer r.setting.Unlock()
	return r.loadLocked(ctx)
}

func (r *Rules) loadLocked(ctx context.Context) error {
	if r.loaded {
		return nil
	}
	v, err := r.mail.Get(ctx, recordKey)
	if err != nil {
		return fmt.Errorf("acl: read rules: %w", err)
	}
	var kept []Rule
	if v != nil {
		if v[0] != recordForm {
			return errors.New("acl: rules in a form that this version does not know")
		}
		if err := json.Unmarshal(v[1:], &kept); err != nil {
			return fmt.Errorf("acl: read rules: %w", err)
		}
	}
	r.now.Store(compile(&r.cfg, kept))
	r.loaded = true
	return nil
}

// Max is how many rules Set takes.
func (r *Rules) Max() int { return r.cfg.MaxRules }

// List is all rules as somebody sees them who manages them.
type List struct {
	// Version is another one whenever the rules are.
	Version string `json:"version"`
	// File are those of the configuration, Rules those that were set.
	File  []Rule `json:"file"`
	Rules []Rule `json:"rules"`
}

// List returns the rules. It may read the disk.
func (r *Rules) List(ctx context.Context) (List, error) {
	if err := r.Load(ctx); err != nil {
		return List{}, err
	}
	return r.now.Load().list(&r.cfg), nil
}

func (s *set) list(cfg *Config) List {
	return List{Version: s.version, File: slices.Clone(cfg.File), Rules: slices.Clone(s.kept)}
}

// Set replaces the rules behind those of the configuration. Unless version is
// empty it must be that of the rules as they are, else nothing is done and the
// error is ErrChanged. When Set returns the new rules are on disk and in force.
// Mistakes in them are an error that is ErrInvalid, or ErrMany.
func (r *Rules) Set(ctx context.Context, rules []Rule, version string) (List, error) {
	if err := Check(rules, r.cfg.Domain); err != nil {
		return List{}, err
	}
	if len(rules) > r.cfg.MaxRules {
		return List{}, fmt.Errorf("%w: %d, at most %d", ErrMany, len(rules), r.cfg.MaxRules)
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return List{}, fmt.Errorf("acl: %w", err)
	}
	if len(text) > maxBytes {
		return List{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMany, len(text), maxBytes)
	}
	list, err := r.replace(ctx, rules, text, version)
	if err != nil {
		return List{}, err
	}
	if f := r.changed.Load(); f != nil {
		(*f)()
	}
	return list, nil
}

func (r *Rules) replace(ctx context.Context, rules []Rule, text []byte, version string) (List, error) {
	r.setting.Lock()
	defer r.setting.Unlock()
	if err := r.loadLocked(ctx); err != nil {
		return List{}, err
	}
	if version != "" && version != r.now.Load().version {
		return List{}, ErrChanged
	}
	rec := mailbox.Record{Key: recordKey}
	if len(rules) > 0 {
		rec.Value = append([]byte{recordForm}, text...)
	}
	// Although the caller may have left: what memory knows must follow the disk.
	if err := r.mail.Put(context.WithoutCancel(ctx), rec); err != nil {
		return List{}, fmt.Errorf("acl: keep rules: %w", err)
	}
	s := compile(&r.cfg, slices.Clone(rules))
	r.now.Store(s)
	return s.list(&r.cfg), nil
}

// OnChange has f called, without a lock, whenever other rules are in force. It
// may block; who has set the rules waits for it. Call OnChange once, before
// rules are set.
func (r *Rules) OnChange(f func()) { r.changed.Store(&f) }

// MayPublish reports whether who, who has no User if he is nobody's, may
// publish to a plain topic.
func (r *Rules) MayPublish(who auth.Who, topic []byte) bool {
	ok, _, _ := r.now.Load().decide(&r.cfg, &who, topic, publishing)
	return ok
}

// MaySubscribe reports whether who may subscribe to a plain filter.
func (r *Rules) MaySubscribe(who auth.Who, filter string) bool {
	ok, _, _ := r.now.Load().decide(&r.cfg, &who, []byte(filter), subscribing)
	return ok
}

// versionOf names what rules there are.
func versionOf(file, kept []Rule) string {
	// append, so that nil is the same as an empty list.
	text, err := json.Marshal([2][]Rule{append([]Rule{}, file...), append([]Rule{}, kept...)})
	if err != nil {
		panic(err) // it is text and nothing else
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
