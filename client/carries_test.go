package client_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A program carries what it names, and nothing of the other ways: these are all
// the modules and the packages of ours that come with each.
func TestWhatEachWayCarries(t *testing.T) {
	const ours = "github.com/posthouse-im/posthouse"
	for pkg, want := range map[string]string{
		"client":           ". client",
		"client/link":      ". client client/internal/* client/link keepalive/learn transport/link/frame github.com/coder/websocket github.com/klauspost/compress",
		"client/link/quic": ". client client/internal/* client/link client/link/quic keepalive/learn transport/link/frame github.com/coder/websocket github.com/klauspost/compress github.com/quic-go/quic-go golang.org/x/*",
		"client/poll":      ". client client/internal/carrier client/poll transport/poll/wire",
		"client/mqtt":      ". client client/internal/* client/mqtt transport/mqtt/packet github.com/coder/websocket",
		"client/xmpp":      ". address client client/internal/* client/xmpp transport/xmpp/stream github.com/xdg-go/* golang.org/x/*",
	} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{$.ImportPath}}{{end}}", ours+"/"+pkg).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		may := strings.Fields(want)
		for _, w := range strings.Fields(string(out)) {
			name, inside := strings.CutPrefix(w, ours+"/")
			if w == ours {
				name = "."
			}
			known := func(m string) bool {
				prefix, any := strings.CutSuffix(m, "*")
				return name == m || any && strings.HasPrefix(name, prefix) || !inside && strings.HasPrefix(name, m+"/")
			}
			if !slices.ContainsFunc(may, known) {
				t.Errorf("%s carries %s", pkg, name)
			}
		}
	}
}
