package mqtt

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A statement is a dialogue that shows one or several of the standard's numbered
// statements. Beyond the lines of play it has these, where v is the version of
// the table it stands in:
//
//	a up WORDS       a connects with a clean start, as bob if the name begins with b
//	a kept WORDS     and with a session that is kept; it answers present or new
//	a sub FILTERS    a subscribes, and is granted something
//	a breaks 0x81 P  a sends packet P and loses the connection; 5.0 is told why
type statement struct {
	ids    string // without MQTT-, separated by spaces
	script string
	cfg    Config
	test   func(*testing.T) // instead of a script
}

// numbered has the standards' numbered statements: how many there are of each
// section, and which of those numbers are not in use.
type numbered struct {
	count   map[string]int
	missing []string
}

func (n numbered) all() map[string]bool {
	m := map[string]bool{}
	for section, count := range n.count {
		for i := range count {
			m[section+"-"+strconv.Itoa(i+1)] = true
		}
	}
	for _, id := range n.missing {
		delete(m, id)
	}
	return m
}

// MQTT 3.1.1, appendix B.
var statements311 = numbered{count: map[string]int{
	"1.5.3": 3, "2.2.2": 2, "2.3.1": 7, "3.1.0": 2, "3.1.2": 24, "3.1.3": 11, "3.1.4": 5, "3.2.0": 1, "3.2.2": 6,
	"3.3.1": 12, "3.3.2": 3, "3.3.4": 1, "3.3.5": 2, "3.6.1": 1, "3.8.1": 1, "3.8.3": 4, "3.8.4": 6, "3.9.3": 2,
	"3.10.1": 1, "3.10.3": 2, "3.10.4": 6, "3.12.4": 1, "3.14.1": 1, "3.14.4": 3, "4.1.0": 2, "4.3.1": 1, "4.3.2": 2,
	"4.3.3": 2, "4.4.0": 1, "4.5.0": 2, "4.6.0": 6, "4.7.1": 3, "4.7.2": 1, "4.7.3": 4, "4.8.0": 2, "6.0.0": 4,
}}

// MQTT 5.0, appendix B.
var statements5 = numbered{count: map[string]int{
	"1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1, "3.1.0": 2, "3.1.2": 30, "3.1.3": 12,
	"3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1,
	"3.6.2": 3, "3.7.2": 3, "3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2,
	"3.10.4": 6, "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3, "3.15.1": 1,
	"3.15.2": 3, "4.1.0": 2, "4.2": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2, "4.6.0": 6,
	"4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2, "4.13.1": 1,
	"4.13.2": 1, "6.0.0": 4,
}, missing: []string{"2.2.1-1"}}

// noDialogue are the statements that no dialogue with this server can show, and why.
var noDialogue311 = reasons(map[string]string{
	"binds the client": "2.3.1-2 2.3.1-3 3.1.2-23 3.1.3-7 3.14.4-1 4.5.0-2 6.0.0-3",
	"binds a server that cannot do it; this one has wildcards": "3.8.3-2",
})

var noDialogue5 = reasons(map[string]string{
	"binds the client": "2.2.1-3 3.1.2-20 3.1.2-21 3.2.2-4 3.2.2-5 3.2.2-21 3.3.2-10 3.3.4-8 4.5.0-2 4.12.0-3 6.0.0-3",
	"binds a server that sends a copy for each overlapping subscription": "3.3.4-5",
	"no such property is sent there":                                     "3.2.2-19 3.2.2-20 3.4.2-3 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2 3.14.2-3 3.14.2-4 3.15.2-2 3.15.2-3",
})

func reasons(by map[string]string) map[string]string {
	m := map[string]string{}
	for why, ids := range by {
		for _, id := range strings.Fields(ids) {
			m[id] = why
		}
	}
	return m
}

// Every numbered statement of both standards has a dialogue, or a reason why none.
func TestEveryStatement(t *testing.T) {
	for _, std := range []struct {
		name      string
		all       numbered
		dialogues []statement
		none      map[string]string
	}{
		{"3.1.1", statements311, dialogues311, noDialogue311},
		{"5.0", statements5, dialogues5(), noDialogue5},
	} {
		all, shown := std.all.all(), map[string]bool{}
		for _, s := range std.dialogues {
			for _, id := range strings.Fields(s.ids) {
				if !all[id] {
					t.Errorf("%s: a dialogue for MQTT-%s, which there is not", std.name, id)
				}
				shown[id] = true
			}
		}
		for _, id := range slices.Sorted(maps.Keys(all)) {
			switch {
			case !shown[id] && std.none[id] == "":
				t.Errorf("%s: MQTT-%s has neither a dialogue nor a reason", std.name, id)
			case shown[id] && std.none[id] != "":
				t.Errorf("%s: MQTT-%s has a dialogue and a reason against one", std.name, id)
			}
		}
		for id := range std.none {
			if !all[id] {
				t.Errorf("%s: a reason for MQTT-%s, which there is not", std.name, id)
			}
		}
		t.Logf("%s: %d statements, %d in %d dialogues", std.name, len(all), len(shown), len(std.dialogues))
	}
}

func TestStatements311(t *testing.T) { runStatements(t, 4, dialogues311) }
func TestStatements5(t *testing.T)   { runStatements(t, 5, dialogues5()) }

func dialogues5() []statement {
	return slices.Concat(connects5, publishes5, subscribes5, sessions5)
}

func runStatements(t *testing.T, version int, list []statement) {
	for _, s := range list {
		t.Run(strings.ReplaceAll(s.ids, " ", "_"), func(t *testing.T) {
			if s.test != nil {
				s.test(t)
				return
			}
			dialogue(t, s.cfg, written(version, s.script))
		})
	}
}

// written writes the short lines of a statement out.
func written(v int, script string) string {
	var b strings.Builder
	for _, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		who, rest, _ := strings.Cut(line, " ")
		verb, words, _ := strings.Cut(strings.TrimSpace(rest), " ")
		user := "alice"
		if strings.HasPrefix(who, "b") {
			user = "bob"
		}
		switch verb {
		case "up":
			fmt.Fprintf(&b, "%s C: CONNECT %d clean id=%s user=%s %s\n%s S: CONNACK 0x00*\n", who, v, who, user, words, who)
		case "kept":
			present, words, _ := strings.Cut(words, " ")
			if v == 5 && !strings.Contains(words, "session-expiry-interval=") {
				words = "session-expiry-interval=100 " + words
			}
			answer := map[string]string{"new4": "CONNACK 0x00", "new5": "CONNACK 0x00 t*", "present4": "CONNACK 0x00 present", "present5": "CONNACK 0x00 present*"}[present+strconv.Itoa(v)]
			fmt.Fprintf(&b, "%s C: CONNECT %d id=%s user=%s %s\n%s S: %s\n", who, v, who, user, words, who, answer)
		case "sub":
			fmt.Fprintf(&b, "%s C: SUBSCRIBE #77 %s\n%s S: SUBACK #77 0x0*\n", who, words, who)
		case "breaks":
			code, words, _ := strings.Cut(words, " ")
			fmt.Fprintf(&b, "%s C: %s\n", who, words)
			if v == 5 {
				fmt.Fprintf(&b, "%s S: DISCONNECT %s*\n", who, code)
			}
			fmt.Fprintf(&b, "%s S: --\n", who)
		default:
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
