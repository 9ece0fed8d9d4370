package posthouse_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const standardsFile = "docs/standards.md"

var (
	// What a comment or a string in the code may refer to.
	rfcRef  = regexp.MustCompile(`\bRFC[ -]?(\d{3,5})\b`)
	xepRef  = regexp.MustCompile(`\bXEP-(\d{4})\b`)
	mqttRef = regexp.MustCompile(`\[?\bMQTT-(\d+\.\d+)(?:\.\d+)*-\d+\b`)

	codePath = regexp.MustCompile("`([^`]+)`")
)

// standard is a row of the table.
type standard struct {
	line    int
	name    string // "RFC 6120", "XEP-0198", "MQTT-3.1"
	section string // what is meant when only a part matters, or the edition
	support string // yes, partial, no
	where   []string
}

// Every standard that the code refers to stands in docs/standards.md.
func TestStandardsAreListed(t *testing.T) {
	listed := map[string]bool{}
	for _, s := range standards(t) {
		listed[s.name] = true
	}
	reported := map[string]bool{}
	goFiles(t, func(file, text string) {
		for _, ref := range references(text) {
			if !listed[ref] && !reported[ref] {
				reported[ref] = true
				t.Errorf("%s refers to %s, which is not in %s", file, ref, standardsFile)
			}
		}
	})
}

// What the table says of where a standard is kept is a place that exists.
func TestStandardsTable(t *testing.T) {
	seen := map[string]int{}
	for _, s := range standards(t) {
		if was := seen[s.name]; was != 0 {
			t.Errorf("%s:%d: %s stands in line %d already", standardsFile, s.line, s.name, was)
		}
		seen[s.name] = s.line
		if !slices.Contains([]string{"yes", "partial", "no"}, s.support) {
			t.Errorf("%s:%d: support of %s is %q, want yes, partial or no", standardsFile, s.line, s.name, s.support)
		}
		if len(s.where) == 0 && s.support != "no" {
			t.Errorf("%s:%d: %s names no place in the code", standardsFile, s.line, s.name)
		}
		for _, w := range s.where {
			if _, err := os.Stat(filepath.FromSlash(w)); err != nil {
				t.Errorf("%s:%d: %s: %v", standardsFile, s.line, s.name, err)
			}
		}
	}
	if len(seen) == 0 {
		t.Fatalf("%s has no table", standardsFile)
	}
}

func TestReferences(t *testing.T) {
	got := references("RFC 6120 4.3, RFC-8030, XEP-0198 #acking, [MQTT-3.1.2-22] and [MQTT-4.13-1]")
	want := []string{"RFC 6120", "RFC 8030", "XEP-0198", "MQTT-3.1", "MQTT-4.13"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func references(text string) (refs []string) {
	for _, m := range rfcRef.FindAllStringSubmatch(text, -1) {
		refs = append(refs, "RFC "+m[1])
	}
	for _, m := range xepRef.FindAllStringSubmatch(text, -1) {
		refs = append(refs, "XEP-"+m[1])
	}
	for _, m := range mqttRef.FindAllStringSubmatch(text, -1) {
		refs = append(refs, "MQTT-"+m[1])
	}
	return refs
}

// standards reads the rows of every table in the document:
//
//	| RFC 6120 | sections 4 to 6 | partial | `transport/xmpp` |
func standards(t *testing.T) (rows []standard) {
	t.Helper()
	text, err := os.ReadFile(standardsFile)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 4 {
			continue
		}
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		if cells[0] == "standard" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		s := standard{line: i + 1, name: cells[0], section: cells[1], support: cells[2]}
		for _, m := range codePath.FindAllStringSubmatch(cells[3], -1) {
			s.where = append(s.where, m[1])
		}
		rows = append(rows, s)
	}
	return rows
}

// goFiles calls visit with every Go file of the module but this one.
func goFiles(t *testing.T, visit func(file, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || file == "standards_test.go":
			return nil
		}
		text, err := os.ReadFile(file)
		if err == nil {
			visit(filepath.ToSlash(file), string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
