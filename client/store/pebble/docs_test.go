package pebble_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The program of docs/sdk-go.md, built and run as it stands there.
func TestProgramOfTheDocumentation(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "sdk-go.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(doc)
	if found == nil {
		t.Fatal("no program in docs/sdk-go.md")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), found[1], 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "try"), filepath.Join(dir, "main.go"))
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr := serve(t)
	start := func(as, to string) (in io.WriteCloser, until func(string), wait func() error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "try"), "-as", as, "-to", to, "-link", addr, "-http", "http://127.0.0.1:1")
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		until = func(begins string) {
			t.Helper()
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), begins) {
					return
				}
			}
			t.Fatalf("%s never printed %q", as, begins)
		}
		return in, until, cmd.Wait
	}
	alice, aliceUntil, aliceEnds := start("alice", "bob")
	bob, bobUntil, bobEnds := start("bob", "alice")
	fmt.Fprintln(alice, "hello")
	aliceUntil("stored")
	bobUntil("alice@localhost: hello")
	fmt.Fprintln(bob, "hello yourself")
	aliceUntil("bob@localhost: hello yourself")
	for _, in := range []io.Closer{alice, bob} {
		in.Close()
	}
	if err := aliceEnds(); err != nil {
		t.Error(err)
	}
	if err := bobEnds(); err != nil {
		t.Error(err)
	}
}
