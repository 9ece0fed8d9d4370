package posthouse_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	linkRef  = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()]*\))?[^()\s]*)\)`)
	codeSpan = regexp.MustCompile("`[^`]*`")
	heading  = regexp.MustCompile(`^#{1,6} +(.*?)(?: +#+)?$`)
	anchor   = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	divider  = regexp.MustCompile(`^\|(?: *:?-+:? *\|)+$`)
)

// Every link in the documents leads somewhere, and every table is one.
func TestDocuments(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != "."):
			return filepath.SkipDir
		case filepath.Ext(file) != ".md":
			return nil
		}
		seen++
		lines, err := prose(file)
		for _, what := range append(badLinks(file, lines), badTables(file, lines)...) {
			t.Error(what)
		}
		return err
	})
	if err != nil || seen < 10 {
		t.Fatalf("%d documents, %v", seen, err)
	}
}

// line is one that is not code.
type line struct {
	n    int
	text string
}

// prose returns the lines of a document; of those that are code nothing is left.
func prose(file string) (lines []line, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fenced := 0
	for i, s := range strings.Split(string(text), "\n") {
		fence := strings.HasPrefix(strings.TrimSpace(s), "```")
		switch {
		case fence && fenced == 0:
			fenced = i + 1
		case fence:
			fenced = 0
		}
		if fence || fenced > 0 || strings.HasPrefix(s, "    ") {
			s = ""
		}
		lines = append(lines, line{i + 1, s})
	}
	if fenced > 0 {
		return nil, fmt.Errorf("%s code that does not end", place(file, fenced))
	}
	return lines, nil
}

func place(file string, n int) string { return fmt.Sprintf("%s:%d:", file, n) }

func badLinks(file string, lines []line) (bad []string) {
	for _, l := range lines {
		for _, m := range linkRef.FindAllStringSubmatch(codeSpan.ReplaceAllString(l.text, ""), -1) {
			if strings.Contains(m[1], ":") {
				continue // somewhere else
			}
			if why := follow(file, lines, m[1]); why != "" {
				bad = append(bad, place(file, l.n)+" "+m[1]+": "+why)
			}
		}
	}
	return bad
}

// follow says why the link from file leads nowhere, if so.
func follow(file string, lines []line, link string) string {
	to, fragment, _ := strings.Cut(link, "#")
	if to != "" {
		file = filepath.Join(filepath.Dir(file), filepath.FromSlash(to))
		if _, err := os.Stat(file); err != nil {
			return "is not there"
		}
	}
	if fragment == "" || filepath.Ext(file) != ".md" {
		return ""
	}
	if to != "" {
		var err error
		if lines, err = prose(file); err != nil {
			return err.Error()
		}
	}
	if !anchors(lines)[fragment] {
		return "there is no such heading"
	}
	return ""
}

// anchors are what the headings of a document can be linked by, as GitHub makes
// them, and those that it names itself.
func anchors(lines []line) map[string]bool {
	all := map[string]bool{}
	for _, l := range lines {
		for _, m := range anchor.FindAllStringSubmatch(l.text, -1) {
			all[m[1]] = true
		}
		if m := heading.FindStringSubmatch(l.text); m != nil {
			all[slug(m[1])] = true
		}
	}
	return all
}

func slug(title string) string {
	title = linkText.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, title)
}

// badTables finds rows that belong to no table, since a blank line has cut them
// off, and rows with other columns than the table has.
func badTables(file string, lines []line) (bad []string) {
	columns := 0 // of the table that we are in
	for i, l := range lines {
		switch {
		case !strings.HasPrefix(l.text, "|"):
			columns = 0
		case columns == 0 && (i+1 == len(lines) || !divider.MatchString(lines[i+1].text)):
			bad = append(bad, place(file, l.n)+" a row without a table")
		case columns == 0:
			columns = cells(l.text)
		case cells(l.text) != columns:
			bad = append(bad, place(file, l.n)+" a row with other columns than the table's")
		}
	}
	return bad
}

// cells counts what a row is cut into: at each | that has no \ before it.
func cells(row string) int { return strings.Count(strings.ReplaceAll(row, `\|`, ""), "|") - 1 }

// What is wrong with a document is found.
func TestMistakesInDocuments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.md")
	text := `# One, two & three
[good](#one-two--three), [good](a.md#one-two--three), [good](https://example.org/#x), ` + "`[code](b.md)`" + `
[bad](b.md), [bad](#one), [bad](a.md#three)

| a | b |
|---|---|
| good | a \| b |
| bad |

| bad | too |
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lines, err := prose(file)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.Join(append(badLinks(file, lines), badTables(file, lines)...), "\n"), file, "")
	want := `:3: b.md: is not there
:3: #one: there is no such heading
:3: a.md#three: there is no such heading
:8: a row with other columns than the table's
:10: a row without a table`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}
