package acl

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// house has the accounts alice, bob, who is an administrator, and others with
// odd names.
type house struct {
	t     testing.TB
	store *mem.Store
	mail  *mailbox.Mail
	auth  *auth.Auth
}

func newHouse(t testing.TB) *house {
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	mail := mailbox.New(st, mailbox.Limits{})
	a, err := auth.Open(t.Context(), mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	for name, role := range map[string]auth.Role{"alice": auth.RoleUser, "bob": auth.RoleAdmin, "a+b": auth.RoleUser, "%c": auth.RoleUser} {
		if err := a.Add(t.Context(), name, "pw", role); err != nil {
			t.Fatal(err)
		}
	}
	return &house{t, st, mail, a}
}

// rules are those of a server that has just been started.
func (h *house) rules(cfg Config) *Rules {
	cfg.Domain = "localhost"
	if cfg.MaxRules == 0 {
		cfg.MaxRules = 10
	}
	r := New(h.mail, h.auth, cfg)
	if err := r.Load(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return r
}

// fromText reads rules as people write them: a line for each, "deny alice admin
// pub a/b sub c/#".
func fromText(t testing.TB, text string) (rules []Rule) {
	for line := range strings.SplitSeq(text, "\n") {
		var r Rule
		if strings.TrimSpace(line) == "" {
			continue
		}
		words := strings.Fields(line)
		for len(words) > 0 {
			switch w := words[0]; w {
			case "deny":
				r.Deny = true
			case "pub", "sub":
				if w == "pub" {
					r.Publish = append(r.Publish, words[1])
				} else {
					r.Subscribe = append(r.Subscribe, words[1])
				}
				words = words[1:]
			case "user", "app", "admin":
				r.Roles = append(r.Roles, w)
			default:
				r.Users = append(r.Users, w)
			}
			words = words[1:]
		}
		rules = append(rules, r)
	}
	if err := Check(rules, "localhost"); err != nil {
		t.Fatal(err)
	}
	return rules
}

func who(name, device string) auth.Who {
	w := auth.Who{Device: device}
	if name != "" {
		w.User = name + "@localhost"
	}
	if name == "bob" {
		w.Role = auth.RoleAdmin
	}
	return w
}

func TestDecide(t *testing.T) {
	h := newHouse(t)
	for _, tt := range []struct {
		rules             string
		user, client      string
		may, mayNot       string // topics to publish to
		subscribe, cannot string // filters
	}{
		{"", "alice", "c", "a a/b", "$SYS/x", "# a/+ $SYS/#", ""},
		{"pub a/#", "alice", "c", "a a/b a/b/c", "b $a", "", "a #"},
		{"pub a/+ sub a/+", "alice", "c", "a/b a/", "a a/b/c", "a/b a/+", "a/# + a a/+/c"},
		{"sub #", "alice", "c", "", "a", "# + a/# +/x", "$SYS/#"},
		{"sub $SYS/#", "alice", "c", "", "", "$SYS/# $SYS/broker/+", "# +/broker"},
		{"sub a/#", "alice", "c", "", "", "a a/# a/+ a/b/#", "# + +/b b/#"},
		{"sub +/b", "alice", "c", "", "", "a/b +/b", "a/# +/# a/+"},
		// Who is meant: one account, one role, both, several.
		{"alice pub a\nbob pub b", "alice", "c", "a", "b", "", ""},
		{"alice@localhost bob pub a", "bob", "c", "a", "", "", ""},
		{"Alice pub a", "alice", "c", "a", "", "", ""},
		{"admin pub a", "alice", "c", "", "a", "", ""},
		{"admin pub a", "bob", "c", "a", "", "", ""},
		{"alice admin pub a", "alice", "c", "", "a", "", ""},
		// The first that fits, be it for all or for one.
		{"deny pub a\nalice pub a", "alice", "c", "", "a", "", ""},
		{"alice pub a\ndeny pub a", "alice", "c", "a", "", "", ""},
		{"pub x\nalice pub y\ndeny pub a\nalice pub a", "alice", "c", "x y", "a", "", ""},
		// What is denied cannot be read by a wider filter.
		{"deny sub home/secret/#\nsub home/#", "alice", "c", "", "", "home/lamp home/lamp/#", "home/# home/+ home/+/x home/secret home/secret/x"},
		{"deny sub home/+/key\nsub #", "alice", "c", "", "", "home/a/b home/a home/+ +", "home/a/key home/# home/a/# home/a/+ +/+/+ # +/a/#"},
		{"deny sub #\nsub $SYS/#", "alice", "c", "", "", "$SYS/#", "a # +/+"},
		{"deny pub home/secret/#\npub home/#", "alice", "c", "home home/x", "home/secret home/secret/x", "", ""},
		// Names in filters.
		{"pub dev/%c/# sub user/%u/+", "alice", "7", "dev/7 dev/7/x", "dev/8 dev/%c dev/77", "user/alice/x user/alice/+", "user/bob/x user/+/x"},
		{"pub u-%u-%c/x pub %%u", "alice", "7", "u-alice-7/x %alice", "u-alice-77/x u-alice-/x u-7-alice/x %u", "", ""},
		{"pub 100%/x pub %x", "alice", "7", "100%/x %x", "", "", ""},
		{"pub %c sub %c/#", "alice", "+", "", "a +", "", "a/# +/# #"},
		{"pub %c sub %c/#", "alice", "a/b", "", "a/b a", "", "a/b"},
		{"pub %c sub %c/#", "alice", "", "", "a", "", "/#"},
		{"pub %c/x sub %c/#", "alice", "$SYS", "", "$SYS/x", "", "$SYS/#"},
		{"sub u/%u/#", "a+b", "c", "", "", "", "u/a+b/x u/# u/+/x"},
		// A name is never taken for a sign.
		{"pub u/%u", "%c", "alice", "u/%c", "u/alice", "", ""},
		{"deny sub d/%c/#\nsub #", "alice", "x/y", "", "", "# d/x/y", ""},
	} {
		r := h.rules(Config{File: fromText(t, tt.rules)})
		check := func(words string, want bool, ask func(string) bool) {
			t.Helper()
			for _, w := range strings.Fields(words) {
				if ask(w) != want {
					t.Errorf("%q: %s as %q: %s: %t", tt.rules, tt.user, tt.client, w, !want)
				}
			}
		}
		publish := func(s string) bool { return r.MayPublish(who(tt.user, tt.client), []byte(s)) }
		subscribe := func(s string) bool { return r.MaySubscribe(who(tt.user, tt.client), s) }
		check(tt.may, true, publish)
		check(tt.mayNot, false, publish)
		check(tt.subscribe, true, subscribe)
		check(tt.cannot, false, subscribe)
	}
}

// What the two comparisons say is what trying all topics says.
func TestAllTopics(t *testing.T) {
	levels := []string{"", "a", "b", "+", "#", "$x"}
	var filters, names []string
	var grow func(prefix string, depth int)
	grow = func(prefix string, depth int) {
		for _, l := range levels {
			f := prefix + l
			if topic.CheckFilter(f) != nil || strings.HasPrefix(f, "$share") {
				continue
			}
			filters = append(filters, f)
			if !topic.HasWildcard(f) {
				names = append(names, f)
			}
			if depth < 3 && l != "#" {
				grow(f+"/", depth+1)
			}
		}
	}
	grow("", 1)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		outer, inner := filters[r.IntN(len(filters))], filters[r.IntN(len(filters))]
		contains, meets := true, false
		for _, n := range names {
			in, out := topic.Match(inner, n), topic.Match(outer, n)
			contains = contains && (out || !in)
			meets = meets || in && out
		}
		p := &patterns([]string{outer})[0]
		// The topics tried are short: what # has beyond them nothing but # has.
		// And that +/# is as much as # is not worth a line.
		if strings.HasSuffix(inner, "#") && !strings.HasSuffix(outer, "#") || inner == "#" && outer == "+/#" {
			contains = false
		}
		if got := p.contains([]byte(inner), &values{}); got != contains {
			t.Errorf("%q contains %q: %t", outer, inner, got)
		}
		if got := p.meets([]byte(inner), &values{}); got != meets {
			t.Errorf("%q meets %q: %t", outer, inner, got)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Rule{Users: []string{"alice", "bob@localhost"}, Roles: []string{"user", "app", "admin"}, Publish: []string{"a/%u/#", "+"}, Subscribe: []string{"#"}}
	for _, tt := range []struct {
		change func(*Rule)
		want   string
	}{
		{func(*Rule) {}, ""},
		{func(r *Rule) { r.Users[1] = "bob@example.org" }, `rule 2: users[1]: "bob@example.org" is not at localhost`},
		{func(r *Rule) { r.Users[0] = "" }, `rule 2: users[0]: "" is not the name of an account`},
		{func(r *Rule) { r.Users[0] = "alice/phone" }, `rule 2: users[0]: "alice/phone" names a device; %c in a filter is the client identifier`},
		{func(r *Rule) { r.Roles[2] = "root" }, `rule 2: roles[2]: "root" is none of user, app and admin`},
		{func(r *Rule) { r.Publish[1] = "a/#/b" }, `rule 2: publish[1]: "a/#/b": not a topic filter: wildcard where it may not stand`},
		{func(r *Rule) { r.Publish[1] = "" }, `rule 2: publish[1]: "": not a topic filter: empty`},
		{func(r *Rule) { r.Subscribe[0] = "a\x00" }, `rule 2: subscribe[0]: "a\x00": not a topic filter`},
		{func(r *Rule) { r.Subscribe[0] = "\xff" }, `rule 2: subscribe[0]: "\xff": not a topic filter`},
		{func(r *Rule) { r.Subscribe[0] = strings.Repeat("/", 201) }, `*too many levels`},
		{func(r *Rule) { r.Subscribe[0] = strings.Repeat("a", 65536) }, `*: not a topic filter`},
		{func(r *Rule) { r.Subscribe[0] = "im/inbox/#" }, `rule 2: subscribe[0]: "im/inbox/#": what is under im/ is the users' mail, which no rule is about`},
		{func(r *Rule) { r.Subscribe[0] = "$share/g/a" }, `*: for a shared subscription its filter alone is looked at`},
		{func(r *Rule) { r.Publish, r.Subscribe = nil, nil }, `rule 2: it is about nothing: publish or subscribe is wanted`},
	} {
		r := Rule{Users: slices.Clone(good.Users), Roles: slices.Clone(good.Roles), Publish: slices.Clone(good.Publish), Subscribe: slices.Clone(good.Subscribe)}
		tt.change(&r)
		err := Check([]Rule{good, r}, "localhost")
		text := ""
		if err != nil {
			text = err.Error()
		}
		if end, any := strings.CutPrefix(tt.want, "*"); text != tt.want && !(any && strings.HasSuffix(text, end)) || (err != nil) != errors.Is(err, ErrInvalid) {
			t.Errorf("%.200s, want %s", text, tt.want)
		}
	}
	all := Check([]Rule{{Users: []string{""}, Roles: []string{"x"}}, {}}, "localhost")
	if n := strings.Count(all.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d of 4 mistakes: %v", n, all)
	}
}

// What was set is in force at once, behind the rules of the file, and after a
// restart; a mistake, a limit, another's change or a broken disk changes nothing.
func TestSet(t *testing.T) {
	h := newHouse(t)
	cfg := Config{File: fromText(t, "deny pub lock\npub file"), MaxRules: 3}
	r := h.rules(cfg)
	calls := 0
	r.OnChange(func() { calls++ })
	alice := who("alice", "c")
	may := func(r *Rules) (s string) {
		for _, topic := range []string{"lock", "file", "one", "two"} {
			if r.MayPublish(alice, []byte(topic)) {
				s += topic + " "
			}
		}
		return strings.TrimSpace(s)
	}
	first, err := r.List(t.Context())
	if err != nil || len(first.Rules) != 0 || len(first.File) != 2 || may(r) != "file" {
		t.Error(first, err, may(r))
	}
	one := fromText(t, "pub one pub lock")
	second, err := r.Set(t.Context(), one, first.Version)
	if err != nil || second.Version == first.Version || !reflect.DeepEqual(second.Rules, one) || may(r) != "file one" || calls != 1 {
		t.Error(second, err, may(r), calls)
	}
	two := fromText(t, "pub two")
	long := []Rule{{Publish: []string{strings.Repeat("a", 60_000)}}}
	for range 20 {
		long[0].Publish = append(long[0].Publish, long[0].Publish[0])
	}
	for _, tt := range []struct {
		rules   []Rule
		version string
		want    error
	}{
		{two, first.Version, ErrChanged},
		{two, "nonsense", ErrChanged},
		{[]Rule{{}}, "", ErrInvalid},
		{slices.Repeat(two, 4), "", ErrMany},
		{long, "", ErrMany},
	} {
		if _, err := r.Set(t.Context(), tt.rules, tt.version); !errors.Is(err, tt.want) {
			t.Errorf("%v, want %v", err, tt.want)
		}
	}
	h.store.Fail(errors.New("disk full"))
	if _, err := r.Set(t.Context(), two, ""); !errors.Is(err, mailbox.ErrUnavailable) {
		t.Error(err)
	}
	h.store.Fail(nil)
	if now, _ := r.List(t.Context()); may(r) != "file one" || now.Version != second.Version || calls != 1 {
		t.Error(now, may(r), calls)
	}
	if r := h.rules(cfg); may(r) != "file one" {
		t.Error("after a restart:", may(r))
	}
	if now, _ := h.rules(Config{}).List(t.Context()); now.Version == second.Version {
		t.Error("with another file the version is the same")
	}
	if _, err := r.Set(t.Context(), slices.Repeat(two, 3), second.Version); err != nil || may(r) != "file two" {
		t.Error(err, may(r))
	}
	last, err := r.Set(t.Context(), nil, "")
	if v, _ := h.mail.Get(t.Context(), recordKey); err != nil || last.Version != first.Version || v != nil || may(r) != "file" {
		t.Error(last, err, v)
	}
}

// Of several who have seen the same rules one may change them.
func TestSetAtOnce(t *testing.T) {
	r := newHouse(t).rules(Config{})
	seen, _ := r.List(t.Context())
	var done, changed sync.Map
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rules := []Rule{{Publish: []string{string(rune('a' + i))}}}
			if _, err := r.Set(t.Context(), rules, seen.Version); err == nil {
				done.Store(i, rules)
			} else if errors.Is(err, ErrChanged) {
				changed.Store(i, true)
			}
			r.MayPublish(who("alice", "c"), []byte("a"))
		})
	}
	wg.Wait()
	winners, losers := 0, 0
	done.Range(func(_, v any) bool {
		winners++
		if now, _ := r.List(t.Context()); !reflect.DeepEqual(now.Rules, v) {
			t.Error(now.Rules, "in force, want", v)
		}
		return true
	})
	changed.Range(func(any, any) bool { losers++; return true })
	if winners != 1 || losers != 7 {
		t.Errorf("%d changed the rules, %d were told", winners, losers)
	}
}

func TestUnknownForm(t *testing.T) {
	h := newHouse(t)
	for _, v := range []string{"\x02[]", "\x01nonsense"} {
		if err := h.mail.Put(t.Context(), mailbox.Record{Key: recordKey, Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
		if err := New(h.mail, h.auth, Config{Domain: "localhost"}).Load(t.Context()); err == nil {
			t.Errorf("%q is taken", v)
		}
	}
}

func TestExplain(t *testing.T) {
	h := newHouse(t)
	r := h.rules(Config{
		File:      fromText(t, "deny sub secret/#\nadmin pub #\nalice pub u/%u/%c/#"),
		Anonymous: true, AnonymousTopics: []string{"open/#"}, Refused: []string{"never"},
	})
	if _, err := r.Set(t.Context(), fromText(t, "bob pub b\npub api/%c sub api/#"), ""); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		q    Question
		want string
	}{
		{Question{User: "alice", Publish: "api/x"}, "false no-rule-fits"},
		{Question{User: "alice", Client: "x", Publish: "api/x"}, "true rule api 2 api/x"},
		{Question{User: "ALICE@localhost", Client: "7", Publish: "u/alice/7/a"}, "true rule file 3 u/alice/7/#"},
		{Question{User: "alice", Subscribe: "#"}, "false rule file 1"},
		{Question{User: "alice", Subscribe: "$share/g/api/+"}, "true rule api 2"},
		{Question{User: "alice", Subscribe: "never"}, "false refused"},
		{Question{User: "bob", Publish: "$SYS/x"}, "false server-topic"},
		{Question{User: "bob", Publish: "$SYS/broker/connection//state"}, "false server-topic"},
		{Question{User: "bob", Publish: "$SYS/broker/connection/x/state"}, "false no-rule-fits"},
		{Question{User: "bob", Publish: "b"}, "true rule file 2 #"},
		{Question{Publish: "open/x"}, "true anonymous-topics"},
		{Question{Publish: "api/x"}, "false anonymous-topics"},
		{Question{User: "nobody"}, "auth: no such account, or it is disabled: nobody"},
		{Question{User: "a b"}, "auth: no such account, or it is disabled: a b"},
		{Question{User: "bob", Publish: "a", Subscribe: "b"}, "acl: not a plain topic: one of publish and subscribe at a time"},
		{Question{User: "bob", Publish: "a/+"}, `acl: not a plain topic: nobody can publish to "a/+"`},
		{Question{User: "bob", Subscribe: "a/#/b"}, `acl: not a plain topic: "a/#/b" is not a topic filter`},
		{Question{User: "bob", Subscribe: "im/inbox/#"}, "acl: not a plain topic: what is under im/ is the user's own mail, whatever the rules"},
	} {
		a, err := r.Explain(t.Context(), tt.q)
		got := strings.TrimSpace(fmt.Sprint(a.Allowed, " ", a.Why))
		if a.By != nil {
			got += fmt.Sprint(" ", a.By.From, " ", a.By.Number)
			if tt.q.Publish != "" {
				got += " " + strings.Join(a.By.Publish, " ")
			}
		}
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.q, got, tt.want)
		}
	}
	// Which rules there are for a client, in order, with its names in them.
	for _, tt := range []struct {
		q    Question
		want string
	}{
		{Question{User: "alice", Client: "7"}, "user [file 1 [] [secret/#] file 3 [u/alice/7/#] [] api 2 [api/7] [api/#]]"},
		{Question{User: "bob"}, "admin [file 1 [] [secret/#] file 2 [#] [] api 1 [b] [] api 2 [] [api/#]]"},
		{Question{}, " []"},
	} {
		a, err := r.Explain(t.Context(), tt.q)
		if err != nil {
			t.Fatal(err)
		}
		var rules []string
		for _, r := range a.Rules {
			rules = append(rules, fmt.Sprint(r.From, " ", r.Number, " ", r.Publish, " ", r.Subscribe))
		}
		if got := fmt.Sprint(a.Role, " ", rules); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.q, got, tt.want)
		}
	}
	if a, _ := h.rules(Config{}).Explain(t.Context(), Question{Publish: "x"}); a.Allowed || a.Why != AnonymousOff {
		t.Error(a)
	}
	empty := newHouse(t).rules(Config{})
	for _, q := range []Question{{User: "alice"}, {User: "alice", Publish: "x"}} {
		if a, _ := empty.Explain(t.Context(), q); a.Allowed != (q.Publish != "") || a.Why != NoRules {
			t.Error(a)
		}
	}
}

// Asking before a publication takes no memory, and no time to speak of.
func TestMayPublishAllocatesNothing(t *testing.T) {
	r := newHouse(t).rules(Config{File: fromText(t, "deny pub a/lock\nbob pub #\nalice pub dev/%c/u-%u/#\npub home/+/lamp")})
	alice, name := who("alice", "phone"), []byte("home/kitchen/lamp")
	if n := testing.AllocsPerRun(100, func() {
		if !r.MayPublish(alice, name) {
			t.Error("no")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMayPublish(b *testing.B) {
	h := newHouse(b)
	b.Run("no rules", func(b *testing.B) {
		r, alice, name := h.rules(Config{}), who("alice", "phone"), []byte("home/kitchen/lamp")
		for b.Loop() {
			r.MayPublish(alice, name)
		}
	})
	for _, n := range []int{0, 1, 10, 1000} {
		rules := slices.Repeat([]Rule{{Publish: []string{"dev/%c/+/state", "dev/x"}}}, n)
		// Those of other accounts cost nothing.
		rules = append(rules, slices.Repeat([]Rule{{Users: []string{"bob"}, Publish: []string{"#"}}}, 1000)...)
		if n == 0 {
			rules = nil
		}
		r := h.rules(Config{File: append(rules, Rule{Publish: []string{"home/#"}})})
		b.Run(fmt.Sprint(n, " before it"), func(b *testing.B) {
			alice, name := who("alice", "phone"), []byte("home/kitchen/lamp")
			b.ReportAllocs()
			for b.Loop() {
				r.MayPublish(alice, name)
			}
		})
	}
}
