//go:build unix

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docBlock is a block of shell or of Go.
var docBlock = regexp.MustCompile("(?s)```(sh|go)\n(.*?)```")

// The five minutes of docs/sdk-go.md, pasted by a stranger beside a clone. Only
// the ports are others. Then he pulls the cable, and nothing is lost, doubled
// or swapped.
func TestGoSDKDocs(t *testing.T) {
	need(t, "bash")
	text, err := os.ReadFile("../docs/sdk-go.md")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	s.users("alice", "bob")
	ports := strings.NewReplacer("127.0.0.1:7400", s.addr["link"], "127.0.0.1:8080", s.addr["http"])
	var shell []string
	program := ""
	for _, m := range docBlock.FindAllStringSubmatch(string(text), -1) {
		switch {
		case m[1] == "sh":
			shell = append(shell, m[2])
		case program == "":
			program = ports.Replace(m[2])
		}
	}
	if len(shell) != 3 || !strings.Contains(program, s.addr["link"]) || !strings.Contains(program, s.addr["http"]) {
		t.Fatalf("%d blocks of shell, want 3: has the page changed?", len(shell))
	}
	beside := t.TempDir()
	clone(t, filepath.Join(beside, "posthouse"))
	bash := func(dir, script string) {
		t.Helper()
		cmd := exec.Command("bash", "-euc", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	bash(filepath.Join(beside, "posthouse"), shell[1])
	dir := filepath.Join(beside, "try")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	run := strings.Split(strings.TrimSpace(shell[2]), "\n")
	bash(dir, run[0])
	alice, bob := &typist{t: t, dir: dir, line: run[1]}, &typist{t: t, dir: dir, line: run[2]}
	alice.start()
	bob.start()
	alice.types("to bob 1")
	bob.types("to alice 1")
	bob.reads("to bob 1")
	alice.reads("to alice 1")
	s.kill()
	alice.types("to bob 2")
	bob.types("to alice 2")
	s.again()
	bob.reads("to bob 1", "to bob 2")
	alice.reads("to alice 1", "to alice 2")
	s.acknowledged("bob") // else what is printed and not kept yet is printed again
	s.acknowledged("alice")
	s.kill()
	alice.types("to bob 3")
	bob.types("to alice 3")
	alice.end()
	bob.end()
	s.again()
	alice.start()
	bob.start()
	bob.reads("to bob 3") // and not what he has had
	alice.reads("to alice 3")
	alice.end()
	bob.end()
}

// acknowledged waits until a user's only device has acknowledged all that there is.
func (s *server) acknowledged(user string) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, text, err := s.ask(user, http.MethodGet, "/v1/devices", "")
		if err == nil && strings.Contains(text, `"behind":0`) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s is behind: %s, %v", user, text, err)
		}
	}
}

// clone makes a directory that looks like a clone.
func clone(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if err := os.Symlink(filepath.Join(root, f.Name()), filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// typist sits before a terminal with one program.
type typist struct {
	t         *testing.T
	dir, line string
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       *output
	exit      chan struct{}
}

func (p *typist) start() {
	p.t.Helper()
	cmd := exec.Command("bash", "-euc", p.line)
	p.cmd, p.out, p.exit = cmd, newOutput(), make(chan struct{})
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	exit := p.exit
	go func() { // ends with the process
		cmd.Wait()
		close(exit)
	}()
	p.t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exit
	})
	p.until("* online link") // it is compiled first
}

func (p *typist) until(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, ok := p.out.await(ctx, p.exit, func(out string) bool { return strings.Contains(out, text) }); !ok {
		p.t.Fatalf("%s printed no %q but\n%s", p.line, text, out)
	}
}

func (p *typist) types(text string) { fmt.Fprintln(p.in, text) }

// reads waits for the last of bodies, and wants all of them and no more.
func (p *typist) reads(bodies ...string) {
	p.t.Helper()
	p.until("@localhost: " + bodies[len(bodies)-1] + "\n")
	var got []string
	for line := range strings.Lines(p.out.String()) {
		if _, body, ok := strings.Cut(strings.TrimSpace(line), "@localhost: "); ok {
			got = append(got, body)
		}
	}
	if strings.Join(got, "|") != strings.Join(bodies, "|") {
		p.t.Errorf("got %q, want %q", got, bodies)
	}
}

// end ends the input, and so the program.
func (p *typist) end() {
	p.t.Helper()
	p.in.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-p.exit:
	case <-ctx.Done():
		p.t.Fatalf("%s does not end\n%s", p.line, p.out)
	}
}
