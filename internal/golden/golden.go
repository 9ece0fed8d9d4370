// Package golden is for tests of files that are made from something else: they
// have to be what would be made today, and -rewrite makes them so.
package golden

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the files that are compared with; then read the diff")

// Rewriting reports whether tests are to write what they would compare with.
func Rewriting() bool { return *rewrite }

// File checks that a file is what it should be, or makes it so. How is the
// command that does that.
func File(t testing.TB, file, how string, want []byte) {
	t.Helper()
	is, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(is, want):
	case !*rewrite:
		t.Errorf("%s is out of date: %s", file, how)
	default:
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Error(err)
		}
	}
}
