//go:build unix

package e2e

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// rules calls /v1/mqtt/rules as the administrator root.
func (s *server) rules(method, body, match string) (status int, tag, answer string) {
	s.t.Helper()
	var header []string
	if match != "" {
		header = []string{"If-Match", match}
	}
	resp, answer, err := s.ask("root", method, "/v1/mqtt/rules", body, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("ETag"), strings.TrimSpace(answer)
}

// Rules that are set over HTTP or on the command line bind clients of the
// running server, those that have subscribed already, too, and are there after
// it was killed.
func TestRules(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto_sub")
	s := start(t)
	s.users("alice", "bob")
	if out, err := s.posthouse("user", "add", "root", "--password", "secret", "--role", "admin"); err != nil {
		t.Fatal(out, err)
	}
	_, port := hostPort(s.addr["mqtt"])
	m := mosquitto{t: t, common: []string{"-h", "localhost", "-p", port, "-V", "5"}, tag: "rules-", v5: true}
	// refused says whether bob may not publish to a topic.
	refused := func(topic string) bool {
		t.Helper()
		cmd := exec.Command("mosquitto_pub", m.args("bob", "probe", "-t", topic, "-m", "x", "-q", "1")...)
		out, _ := cmd.CombinedOutput()
		return strings.Contains(string(out), "Not authorized")
	}
	ear := m.listen("alice", "ear", "-t", "home/#", "-t", "end", "-q", "1")
	m.pub("bob", "home/lamp", "before", "-q", "1")
	ear.says(t, "got home/lamp 1 0 before")

	_, tag, _ := s.rules("GET", "", "")
	code, set, answer := s.rules("PUT", `{"rules":[{"publish":["home/lamp","end"],"subscribe":["end"]}]}`, tag)
	if code != 200 {
		t.Fatal(code, answer)
	}
	if refused("home/lamp") || !refused("other") {
		t.Error("the rules are not in force")
	}
	m.pub("bob", "end", "first", "-q", "1")
	ear.says(t, "got end 1 0 first")
	if got := ear.out.String(); strings.Contains(got, "home/lamp 1 0 x") {
		t.Errorf("what alice may not read any more came:\n%s", got)
	}

	s.kill()
	s.again()
	if code, tag, answer := s.rules("GET", "", ""); code != 200 || tag != set || !strings.Contains(answer, `"publish":["home/lamp","end"]`) {
		t.Error("after a crash:", code, tag, answer)
	}
	if refused("home/lamp") || !refused("other") {
		t.Error("after a crash the rules are not in force")
	}
	out, err := s.posthouse("mqtt", "rules", "check", "bob", "--publish", "other")
	if err != nil || out != "no, by no rule allowing it\n" {
		t.Errorf("check: %q, %v", out, err)
	}

	// On the command line: while the server runs, and while it does not.
	command := func(input string) {
		t.Helper()
		feed(t, s.env(), []byte(input), binary, "mqtt", "rules", "set", "-")
	}
	command("- {users: [bob], publish: [other]}")
	if !refused("home/lamp") || refused("other") {
		t.Error("rules of the command line are not in force")
	}
	if code, _, answer := s.rules("PUT", `{"rules":[]}`, set); code != http.StatusPreconditionFailed {
		t.Error("somebody else's change was undone:", code, answer)
	}
	if code := s.stop(); code != 0 {
		t.Error("exit status", code)
	}
	command("- {users: [bob], publish: [third]}")
	s.again()
	if !refused("other") || refused("third") {
		t.Error("rules that were set while no server ran are not in force")
	}
}
