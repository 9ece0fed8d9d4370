//go:build unix

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A block of shell in README.md, and what stands in the comment before it.
var readmeBlock = regexp.MustCompile("(?s)(?:<!-- (?:needs: ([^;]*?)(?:; )?)?(?:prints: (.*?))? -->\n)?```sh\n(.*?)```")

// Every example of README.md does what it says when it is pasted. Only the
// ports are others.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	dir := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(dir, "posthouse")); err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer(
		"127.0.0.1:8080", s.addr["http"],
		"-p 1883", "-p "+portOf(s.addr["mqtt"]),
		`"127.0.0.1", 5222`, `"127.0.0.1", `+portOf(s.addr["xmpp"]),
		"/tmp/", dir+"/",
	)
	tried := 0
	for _, m := range readmeBlock.FindAllStringSubmatch(string(text), -1) {
		needs, prints, script := strings.Fields(m[1]), m[2], m[3]
		if prints == "" {
			continue // the two commands that build and start it
		}
		tried++
		t.Run(prints, func(t *testing.T) {
			for _, n := range needs {
				if n == "slixmpp" {
					if why := noSlixmpp(); why != "" {
						missing(t, why)
					}
				} else {
					need(t, n)
				}
			}
			p := spawn(t, s.env(), dir, "bash", "-euc", ports.Replace(script))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			out, ok := p.out.await(ctx, p.exit, func(out string) bool { return strings.Contains(out, prints) })
			if !ok {
				t.Errorf("%s\nprinted no %q but\n%s\n%s", script, prints, out, p.errs)
			}
		})
	}
	if tried != 5 {
		t.Errorf("%d examples were found, want 5: has the form of the comments changed?", tried)
	}
}

func portOf(addr string) string { _, port := hostPort(addr); return port }
