//go:build unix

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// A tail that was started once prints each message once, over a power cut,
// with the link door closed after the next one, and open again.
func TestTailOutlivesTheServer(t *testing.T) {
	s := start(t)
	s.users("alice", "bob")
	link := s.addr["link"]
	send := func(body string) { t.Helper(); s.send("alice", "bob", body) }
	tail := spawn(t, s.env(), "", binary, "tail", "--as", "bob", "--password", "secret")
	until := func(n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, ok := tail.out.await(ctx, tail.exit, func(out string) bool { return strings.Count(out, "\n") >= n })
		lines := strings.Split(strings.TrimSpace(out), "\n")
		for i, line := range lines {
			if !strings.Contains(line, fmt.Sprintf(`"body":"message %d"`, i+1)) {
				ok = false
			}
		}
		if !ok || len(lines) != n {
			t.Fatalf("want %d messages, each once and in order, got\n%s\n%s", n, out, tail.errs)
		}
	}
	send("message 1")
	until(1)
	s.kill()
	s.again()
	send("message 2")
	until(2)
	s.kill()
	s.again("--link", "", "--links", "")
	send("message 3") // by HTTP, too
	until(3)
	s.kill()
	s.again("--link", link)
	send("message 4")
	until(4)
}

// Where nobody listens, or the password is wrong, both say so at once.
func TestTailAndSendSayWhy(t *testing.T) {
	s := start(t)
	s.users("alice")
	for _, c := range [][]string{{"tail"}, {"send", "--to", "alice", "hello"}} {
		args := append(c, "--as", "alice", "--password", "wrong")
		if out, err := s.posthouse(args...); err == nil || !strings.Contains(out, "denied") {
			t.Errorf("%v with a wrong password: %v, %s", c, err, out)
		}
	}
	s.kill()
	for _, c := range [][]string{{"tail"}, {"send", "--to", "alice", "hello"}} {
		args := append(c, "--as", "alice", "--password", "secret")
		if out, err := s.posthouse(args...); err == nil || !strings.Contains(out, "link at "+s.addr["link"]) {
			t.Errorf("%v without a server: %v, %s", c, err, out)
		}
	}
}
