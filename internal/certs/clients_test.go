package certs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestClientsNeedAuthorities(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(Options{Dir: dir, Domain: "localhost", Clients: Required}); !errors.Is(err, ErrClients) {
		t.Error(err)
	}
	bad := filepath.Join(dir, "bad.pem")
	os.WriteFile(bad, []byte("nothing"), 0o600)
	if _, err := Open(Options{Dir: dir, Domain: "localhost", Clients: Optional, ClientCA: bad}); err == nil {
		t.Error("taken")
	}
	if c := open(t, Options{Dir: dir, Domain: "localhost"}).ForClients(); c.ClientCAs != nil || c.ClientAuth != 0 {
		t.Error("asks")
	}
	for word, want := range map[string]Clients{"": Off, "off": Off, "optional": Optional, "required": Required} {
		if got, err := ParseClients(word); got != want || err != nil {
			t.Error(word, got, err)
		}
	}
	if _, err := ParseClients("yes"); !errors.Is(err, ErrClients) {
		t.Error(err)
	}
}
