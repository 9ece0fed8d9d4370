//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSecondServerOnTheSameData(t *testing.T) {
	s := start(t)
	second := &server{t: t, data: s.data}
	second.launch("--http", "127.0.0.1:0", "--mqtt", "", "--xmpp", "", "--link", "")
	second.wait()
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(second.errs.String(), "in use") {
		t.Errorf("exit status %d:\n%s", code, second.errs)
	}
	if code, _ := s.get("/readyz"); code != 200 {
		t.Errorf("the first one is not ready: %d", code)
	}
}

// A command line that cannot be is refused with its reason before anything is opened.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "posthouse.yaml")
	if err := os.WriteFile(file, []byte("domain: localhost\nlisten:\n  mqqt: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--insecure", "--mqtt", "0.0.0.0:0"}, 1, "can be reached from other machines"},
		{[]string{"--xmpp-s2s", "127.0.0.1:0"}, 1, "does not federate"},
		{[]string{"--config", file}, 1, "posthouse.yaml:3: there is no option listen.mqqt; did you mean listen.mqtt?"},
		{[]string{"--mqtt", "nowhere"}, 1, "is not host:port"},
		{[]string{"--set", "limits.bdy=5"}, 1, "did you mean limits.body?"},
		{[]string{"--nonsense"}, 2, "unknown flag --nonsense"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			s := &server{t: t, data: filepath.Join(t.TempDir(), "data")}
			s.launch(tt.args...)
			s.wait()
			if code := s.cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(s.errs.String(), tt.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", code, tt.code, tt.want, s.errs)
			}
			if _, err := os.Stat(s.data); err == nil {
				t.Error("a data directory was made")
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := &server{t: t, data: filepath.Join(t.TempDir(), "data")}
	s.launch("--mqtt", ln.Addr().String(), "--http", "127.0.0.1:0", "--xmpp", "", "--link", "")
	s.wait()
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.errs.String(), "address already in use") {
		t.Errorf("exit status %d:\n%s", code, s.errs)
	}
}

// A server that is told to stop says goodbye at every door and exits with 0.
func TestDrain(t *testing.T) {
	s := start(t)
	s.users("alice", "bob")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, d := range dialers {
		m, err := d.dial(ctx, options(s, d.via, "bob", "drain-"+d.via))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, s.errs)
	}
	if log := s.errs.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("errors were logged:\n%s", log)
	}
	s.again() // and nothing stands in the way of the next one
}

// While a server says goodbye /readyz is 503 and says why; told to stop a
// second time it does so at once.
func TestDrainIsSeen(t *testing.T) {
	s := start(t)
	// A peer that neither reads nor leaves is waited for.
	c, err := net.Dial("tcp", s.addr["link"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if code, _ := s.get("/readyz"); code != http.StatusOK {
		t.Fatalf("readyz before: %d", code)
	}
	for end := time.Now().Add(patience); ; { // the system has let us in, and the server will
		if _, text := s.get("/metrics"); strings.Contains(text, `posthouse_connections{door="link"} 1`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server does not take the connection")
		}
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	for {
		code, text := s.get("/readyz")
		if code == http.StatusOK {
			continue // the signal is on its way
		}
		if code != http.StatusServiceUnavailable || !strings.Contains(text, "draining") {
			t.Errorf("readyz: %d %s", code, text)
		}
		break
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.wait()
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.errs.String(), "stopped at once") {
		t.Errorf("exit status %d:\n%s", code, s.errs)
	}
}

// Accounts are managed while the server runs and while it does not.
func TestUserCommands(t *testing.T) {
	s := start(t)
	must := func(want string, args ...string) {
		t.Helper()
		out, err := s.posthouse(append([]string{"user"}, args...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("user %q: %v\n%s", args, err, out)
		}
	}
	mustNot := func(want string, args ...string) {
		t.Helper()
		out, err := s.posthouse(append([]string{"user"}, args...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("user %q: %v, want %q\n%s", args, err, want, out)
		}
	}
	for range 2 { // with the server, then without
		must("", "add", "alice", "--password", "secret")
		mustNot("exists", "add", "alice", "--password", "other")
		must("alice@localhost", "ls")
		must("", "passwd", "alice", "--password", "better")
		must("pha_", "key", "alice", "--label", "backend")
		must("", "role", "alice", "app")
		must("", "disable", "alice")
		must("disabled, 1 keys", "ls")
		must("", "enable", "alice")
		must("alice@localhost  app  ", "ls")
		must("", "rm", "alice")
		mustNot("no such account", "rm", "alice")
		mustNot("no such account", "passwd", "alice", "--password", "x")
		if s.cmd.ProcessState == nil {
			s.stop()
		}
	}
}

func TestStatus(t *testing.T) {
	s := start(t)
	s.users("alice")
	out, err := s.posthouse("status")
	for _, want := range []string{fmt.Sprint("process   ", s.cmd.Process.Pid), "accounts  1", "sessions  poll 0  xmpp 0  mqtt 0  link 0\n", "mqtt      " + s.addr["mqtt"] + "\n"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, want %q:\n%s", err, want, out)
		}
	}
	s.stop()
	if out, err := s.posthouse("status"); err == nil || !strings.Contains(out, "no server runs on this data directory") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// The password of a running server's user changes at once.
func TestPasswordFromStandardInput(t *testing.T) {
	s := start(t)
	feed(t, s.env(), []byte("first\n"), binary, "user", "add", "alice")
	send := func(pw string) error {
		_, err := s.posthouse("send", "--as", "alice", "--password", pw, "--to", "alice", "hello")
		return err
	}
	if err := send("first"); err != nil {
		t.Errorf("the password that was read: %v", err)
	}
	feed(t, s.env(), []byte("second\n"), binary, "user", "passwd", "alice")
	if err := send("first"); err == nil {
		t.Error("the old password still works")
	}
	if err := send("second"); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

// One who is disabled is let in by nothing that he has, also where he is
// connected, and has what was sent meanwhile when he is enabled again.
func TestDisable(t *testing.T) {
	s := start(t)
	s.users("alice", "bob")
	tail := func() *process { return spawn(t, s.env(), "", binary, "tail", "--as", "bob", "--password", "secret") }
	p := tail()
	s.send("alice", "bob", "first")
	p.says(t, "first")
	if out, err := s.posthouse("user", "disable", "bob"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.ends(t)
	s.send("alice", "bob", "second")
	tail().ends(t)
	if out, err := s.posthouse("user", "enable", "bob"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tail().says(t, "second")
}

// When the disk is full posts are refused by name, reading goes on, /readyz
// says so, and when there is space again everything acknowledged is there.
func TestDiskFull(t *testing.T) {
	for name, reserve := range map[string]string{"down to the reserve": "2MiB", "to the last block": "-1"} {
		t.Run(name, func(t *testing.T) { diskFull(t, reserve) })
	}
}

func diskFull(t *testing.T, reserve string) {
	if os.Geteuid() != 0 {
		missing(t, "only root can mount a small file system")
	}
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=24m"); err != nil {
		missing(t, "a small file system cannot be mounted: "+err.Error())
	}
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	s := &server{t: t, data: filepath.Join(small, "data")}
	s.run("--http", free(t, "127.0.0.1"), "--mqtt", "", "--xmpp", "", "--link", free(t, "127.0.0.1"), "--set", "store.reserve="+reserve)
	t.Cleanup(func() { s.kill() }) // before the file system goes
	s.users("alice", "bob")
	s.send("alice", "bob", "before")

	ballast := filepath.Join(small, "ballast")
	full := exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=4k")
	full.Run() // ends when nothing more fits
	acked := []string{"before"}
	refused := ""
	for i := 0; refused == "" && i < 200; i++ {
		body := fmt.Sprintf("%d %s", i, strings.Repeat("x", 64<<10))
		out, err := s.posthouse("send", "--as", "alice", "--password", "secret", "--to", "bob", body)
		if err != nil {
			refused = out
		} else {
			acked = append(acked, body)
		}
	}
	if refused == "" {
		t.Fatal("the disk is full and nothing was refused")
	}
	t.Logf("%d messages were stored before one was refused: %s", len(acked), refused)
	if !strings.Contains(refused, "refused:") || strings.Contains(refused, small) {
		t.Errorf("the sender was told %q", refused)
	}
	if code, text := s.get("/readyz"); code != 503 {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, _ := s.get("/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	texts := func(bodies [][]byte) (list []string) {
		for _, b := range bodies {
			list = append(list, string(b))
		}
		return list
	}
	if got := texts(ownReceive("link")(t, s, len(acked))); strings.Join(got, "|") != strings.Join(acked, "|") {
		t.Errorf("while the disk is full %d messages can be read, want %d", len(got), len(acked))
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	var err error
	var out string
	for range 100 { // the store tries again by itself
		if out, err = s.posthouse("send", "--as", "alice", "--password", "secret", "--to", "bob", "after"); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("there is space again, and yet: %v\n%s", err, out)
	}
	if code, text := s.get("/readyz"); code != 200 {
		t.Errorf("readyz: %d %s", code, text)
	}
	s.kill()
	s.again("--mqtt", "", "--xmpp", "", "--set", "store.reserve="+reserve)
	s.send("alice", "bob", "last")
	// What was refused on the way may be there: its sender knows that it was
	// not acknowledged, and nothing more.
	acked = append(acked, "after", "last")
	there := s.inbox("bob")
	for _, body := range there {
		if len(acked) > 0 && body == acked[0] {
			acked = acked[1:]
		}
	}
	if len(acked) != 0 {
		t.Errorf("of %d messages after a restart %d acknowledged ones are missing", len(there), len(acked))
	}
}
