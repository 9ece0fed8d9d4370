//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A person with profanity, in a terminal, logs in and reads what curl has sent.
func TestProfanity(t *testing.T) {
	need(t, "profanity", "tmux", "curl")
	s := start(t)
	s.users("alice", "bob")
	home := t.TempDir()
	host, port := hostPort(s.addr["xmpp"])
	accounts := filepath.Join(home, "data", "profanity", "accounts")
	if err := os.MkdirAll(filepath.Dir(accounts), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[bob@localhost]\nenabled=true\njid=bob@localhost\nserver=%s\nport=%s\npassword=secret\nresource=profanity\ntls.policy=trust\nauth.policy=default\n", host, port)
	if err := os.WriteFile(accounts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(home, "tmux")
	env := append(cleanEnv(), "XDG_CONFIG_HOME="+filepath.Join(home, "config"), "XDG_DATA_HOME="+filepath.Join(home, "data"),
		"TERM=xterm-256color", "LC_ALL=C.UTF-8", "HOME="+home)
	tmux := func(args ...string) (string, error) {
		cmd := exec.Command("tmux", append([]string{"-S", socket}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := tmux("new-session", "-d", "-x", "120", "-y", "40", "profanity"); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() { tmux("kill-server") })
	screen := func(want string) {
		t.Helper()
		var last string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			// tmux has no way to wait for a text.
			last, _ = tmux("capture-pane", "-p", "-S", "-200")
			if strings.Contains(last, want) {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("%q does not appear:\n%s", want, last)
	}
	typeIn := func(line string) {
		t.Helper()
		if out, err := tmux("send-keys", line, "Enter"); err != nil {
			t.Fatalf("tmux: %v\n%s", err, out)
		}
	}
	screen("Profanity")
	typeIn("/connect bob@localhost")
	screen("logged in successfully")
	curlSend(t, s, [][]byte{[]byte("for a person at a terminal")})
	screen("chat message: alice@localhost")
	typeIn("/win 2")
	screen("for a person at a terminal")
	typeIn("/msg alice@localhost an answer from profanity")
	screen("an answer from profanity")
	end := time.Now().Add(patience)
	for !slices.Contains(s.inbox("alice"), "an answer from profanity") {
		if time.Now().After(end) {
			t.Fatal("alice has no answer")
		}
	}
}
