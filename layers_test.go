package posthouse_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/posthouse-im/posthouse"

// layers says which packages of ours each package may import; tests are not
// bound by it. The first row whose pattern fits decides. DOOR stands for the
// name of the door that the package belongs to, and a pattern may end in /*.
//
// An import that is not here is a change of architecture: make it here first.
var layers = []struct{ pkg, may string }{
	{"mailbox", ""},
	{"address", ""},
	{"keepalive", "mailbox keepalive/learn"},
	{"keepalive/learn", ""},
	{"bench", "transport/*/*"},
	{"auth", "mailbox address"},
	{"router", "mailbox auth address"},
	{"internal/cost", ""},
	// Rules are about topics as MQTT has them, and the HTTP door has to show
	// what the MQTT door goes by: so they lie beneath both.
	{"internal/acl", "mailbox auth address transport/mqtt/topic"},
	{"internal/ledger", "mailbox internal/cost"},
	{"internal/conn", "internal/conn/* internal/cost"},
	{"internal/conn/*", "internal/conn/*"},
	{"internal/control", "mailbox auth address router internal/acl"},
	{"internal/certs", ""},
	{"internal/dialog", "internal/golden"},
	{"internal/golden", ""},
	{"internal/page", ""},

	{"store/storetest", "mailbox"},
	{"store/*", "mailbox"},

	{"transport", "mailbox router auth keepalive internal/conn internal/cost internal/ledger"},
	{"transport/coretest", "*"},
	{"transport/transporttest", "*"},
	{"transport/link", "mailbox router auth address keepalive internal/conn internal/conn/quic internal/cost transport transport/link/*"},
	{"transport/*", "mailbox router auth address keepalive internal/acl internal/conn internal/cost internal/ledger transport transport/DOOR/*"},
	// A codec turns bytes into values and back. It does no I/O and knows
	// nothing of the server, so that clients may use it too.
	{"transport/*/*", "address transport/DOOR/*"},

	{"client", ""},
	{"client/internal/stage", "transport/link/frame"},
	{"client/internal/*", "client client/internal/*"},
	{"client/store/*", "client"},
	// A carrier of its own, so that who does not use it does not link QUIC.
	{"client/link/quic", "client client/link transport/link/*"},
	{"client/*", "client client/internal/* address keepalive/learn transport/DOOR/*"},

	{"internal/config", "*"},
	{"internal/metrics", "*"},
	{"cmd/posthouse", "*"},
	{"e2e", ""},
	{"lab/nat", ""},
}

// onlyCmd may be imported by cmd, its configuration, coretest and tests, and by
// nothing else, whatever the table says.
var onlyCmd = []string{"store/*", "internal/config", "internal/metrics", "internal/certs"}

func TestLayers(t *testing.T) {
	for _, p := range packages(t) {
		may, ok := mayImport(p.name)
		if !ok {
			t.Errorf("%s is not in the table of layers", p.name)
			continue
		}
		for _, imp := range p.imports {
			switch {
			case matchAny(onlyCmd, imp) && p.name != "cmd/posthouse" && p.name != "internal/config" && p.name != "transport/coretest":
				t.Errorf("%s imports %s, which is for cmd alone", p.name, imp)
			case !matchAny(may, imp):
				t.Errorf("%s imports %s", p.name, imp)
			}
		}
	}
}

// Each door stands alone, whatever the table says.
func TestDoorsDoNotImportEachOther(t *testing.T) {
	for _, p := range packages(t) {
		door := doorOf(p.name)
		if door == "" || door == "transporttest" {
			continue
		}
		for _, imp := range p.imports {
			if other := doorOf(imp); other != "" && other != door {
				t.Errorf("%s imports %s: another door", p.name, imp)
			}
		}
	}
}

func mayImport(pkg string) (patterns []string, ok bool) {
	i := slices.IndexFunc(layers, func(l struct{ pkg, may string }) bool { return match(l.pkg, pkg) })
	if i < 0 {
		return nil, false
	}
	return strings.Fields(strings.ReplaceAll(layers[i].may, "DOOR", doorOf(pkg))), true
}

// doorOf returns "link" for transport/link, transport/link/frame and
// client/link, and nothing for what the ways share, client/internal/….
func doorOf(pkg string) string {
	parts := strings.Split(pkg, "/")
	if len(parts) < 2 || parts[0] != "transport" && parts[0] != "client" || parts[1] == "internal" {
		return ""
	}
	return parts[1]
}

func match(pattern, pkg string) bool {
	if pattern == "*" {
		return true
	}
	ok, err := path.Match(pattern, pkg)
	return ok && err == nil
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, pkg) })
}

type goPackage struct {
	name    string
	imports []string // ours, without the module's name
}

// packages lists the packages of this module that are not only tests.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath       string
			Imports, GoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		name, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours || len(p.GoFiles) == 0 {
			continue
		}
		gp := goPackage{name: name}
		for _, imp := range p.Imports {
			if imp, ours := strings.CutPrefix(imp, module+"/"); ours {
				gp.imports = append(gp.imports, imp)
			}
		}
		ps = append(ps, gp)
	}
}
