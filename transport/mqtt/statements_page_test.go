package mqtt

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/internal/golden"
)

//go:generate go test -run TestStatementsPage -rewrite .

// docs/mqtt-statements.md is what the dialogues show, no more and no less.
func TestStatementsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# MQTT, statement by statement

Every numbered statement of both editions, by the section it stands in: ` + "`22`" + ` in the row 3.1.2 is [MQTT-3.1.2-22]. *Shown* ones
have a dialogue with the server in ` + "`transport/mqtt/statements_*_test.go`" + `, named after them; the others cannot have one, for
the reason given. Made from those tests by ` + "`go generate ./transport/mqtt`" + `.
`)
	page(&b, "5.0", statements5, dialogues5(), noDialogue5)
	page(&b, "3.1.1", statements311, dialogues311, noDialogue311)
	golden.File(t, "../../docs/mqtt-statements.md", "go generate ./transport/mqtt", []byte(b.String()))
}

// page writes the table of one edition.
func page(b *strings.Builder, edition string, all numbered, dialogues []statement, none map[string]string) {
	shown := map[string]bool{}
	for _, s := range dialogues {
		for _, id := range strings.Fields(s.ids) {
			shown[id] = true
		}
	}
	sections := map[string]map[string][]int{} // section, then reason or "", then numbers
	count := 0
	for id := range all.all() {
		i := strings.LastIndexByte(id, '-')
		number, _ := strconv.Atoi(id[i+1:])
		why := none[id]
		if shown[id] {
			why = ""
			count++
		}
		if sections[id[:i]] == nil {
			sections[id[:i]] = map[string][]int{}
		}
		sections[id[:i]][why] = append(sections[id[:i]][why], number)
	}
	fmt.Fprintf(b, "\n## %s\n\n%d statements, %d of them shown.\n\n| section | shown | others |\n|---|---|---|\n", edition, len(all.all()), count)
	for _, section := range slices.SortedFunc(maps.Keys(sections), bySection) {
		by := sections[section]
		var others []string
		for _, why := range slices.Sorted(maps.Keys(by)) {
			if why != "" {
				others = append(others, numbers(by[why])+": "+why)
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", section, numbers(by[""]), strings.Join(others, "; "))
	}
}

// bySection orders 3.9.2 before 3.10.1.
func bySection(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
}

// numbers writes 1 2 3 7 as "1–3 7".
func numbers(ns []int) string {
	slices.Sort(ns)
	var runs []string
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) && ns[j+1] == ns[j]+1 {
			j++
		}
		run := strconv.Itoa(ns[i])
		if j > i {
			run += "–" + strconv.Itoa(ns[j])
		}
		runs = append(runs, run)
		i = j + 1
	}
	return strings.Join(runs, " ")
}
