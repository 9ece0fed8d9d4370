package poll

import (
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/store/mem"
)

func TestNetworks(t *testing.T) {
	core, store := newCore(t, mem.Options{})
	table, err := keepalive.Open(t.Context(), core.Mail, keepalive.Config{})
	if err != nil {
		t.Fatal(err)
	}
	core.Keepalive = table
	h := serve(t, core, store, Config{})
	if err := core.Auth.Add(t.Context(), "root", "root-password", auth.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	h.dialog(`
		root> GET /v1/networks
		200 {"networks":[]}
		bob> GET /v1/networks
		403 *forbidden*
	`)
	table.Report("wifi-hash", "bob", keepalive.Finding{Good: 100 * time.Second, Bad: 107 * time.Second})
	_, body := h.do(h.request("root", "GET", "/v1/networks", ""))
	if !strings.HasPrefix(body, `{"networks":[{"network":"wifi-hash","good":100,"bad":107,"interval":95,"reports":1,"at":"`) {
		t.Error(body)
	}
}
