package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// quiet hears what a test would be told.
type quiet struct {
	testing.TB
	errors []string
}

func (q *quiet) Helper() {}
func (q *quiet) Errorf(format string, a ...any) {
	q.errors = append(q.errors, format)
}

func TestFile(t *testing.T) {
	was := *rewrite
	defer func() { *rewrite = was }()
	file := filepath.Join(t.TempDir(), "page.md")
	for _, c := range []struct {
		text    string
		rewrite bool
		errors  int
	}{
		{"one", false, 1}, // there is none
		{"one", true, 0},
		{"one", false, 0},
		{"two", false, 1},
		{"two", true, 0},
		{"two", false, 0},
	} {
		*rewrite = c.rewrite
		q := &quiet{TB: t}
		File(q, file, "go generate", []byte(c.text))
		if len(q.errors) != c.errors {
			t.Errorf("%+v: %s", c, strings.Join(q.errors, ", "))
		}
		if is, err := os.ReadFile(file); c.rewrite && (err != nil || string(is) != c.text) {
			t.Errorf("%+v: wrote %q, %v", c, is, err)
		}
	}
}
