package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newAuth(t *testing.T) *auth.Auth {
	a, _ := newAuthAndRules(t)
	return a
}

func newAuthAndRules(t *testing.T) (*auth.Auth, *acl.Rules) {
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	mail := mailbox.New(st, mailbox.Limits{})
	a, err := auth.Open(t.Context(), mail, auth.Config{
		Domain: "localhost", Iterations: 4096,
		Tokens: auth.TokenConfig{Keys: []auth.TokenKey{{Algorithm: "HS256", Key: strings.Repeat("k", 32)}}},
	})
	must(t, err)
	t.Cleanup(a.Close)
	return a, acl.New(mail, a, acl.Config{Domain: "localhost", MaxRules: 3, File: []acl.Rule{{Deny: true, Publish: []string{"lock"}}}})
}

// serve runs a server on dir until stop is called.
func serve(t *testing.T, dir string, a Accounts) (stop func()) { return serveRules(t, dir, a, nil) }

func serveRules(t *testing.T, dir string, a Accounts, r Rules) (stop func()) {
	ln, err := Listen(dir)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	s := &Server{a, r, func() Status { return Status{PID: 7, Domain: "localhost"} }, slog.New(slog.DiscardHandler)}
	go func() { done <- s.Serve(ctx, ln) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			must(t, <-done)
		}
	}
	t.Cleanup(stop)
	return stop
}

// Whoever has an Accounts need not know which it is.
func TestAccounts(t *testing.T) {
	direct := newAuth(t)
	dir := t.TempDir()
	serve(t, dir, newAuth(t))
	client, err := Dial(dir)
	must(t, err)
	defer client.Close()
	for name, a := range map[string]Accounts{"direct": direct, "client": client} {
		t.Run(name, func(t *testing.T) { accounts(t, a) })
	}
	s, err := client.Status(t.Context())
	if err != nil || !reflect.DeepEqual(s, Status{PID: 7, Domain: "localhost"}) {
		t.Errorf("%+v, %v", s, err)
	}
}

func accounts(t *testing.T, a Accounts) {
	ctx := t.Context()
	if list, err := a.List(ctx); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	must(t, a.Add(ctx, "alice", "secret", auth.RoleUser))
	must(t, a.Add(ctx, "bob", "", auth.RoleApp))
	must(t, a.SetPassword(ctx, "bob", "secret"))
	must(t, a.SetRole(ctx, "bob", auth.RoleAdmin))
	must(t, a.SetDisabled(ctx, "bob", true))
	key, err := a.AddKey(ctx, "alice", "web")
	if err != nil || !strings.HasPrefix(key, "pha_") {
		t.Error(key, err)
	}
	keys, err := a.ListKeys(ctx, "alice")
	if err != nil || len(keys) != 1 || keys[0].Label != "web" || keys[0].Created.IsZero() {
		t.Error(keys, err)
	}
	list, err := a.List(ctx)
	if err != nil || len(list) != 2 || list[0].User != "alice@localhost" || list[0].Keys != 1 ||
		list[1].Role != auth.RoleAdmin || !list[1].Disabled || !list[1].Password {
		t.Error(list, err)
	}
	token, expires, err := a.IssueToken(ctx, "alice", "phone", time.Hour)
	if err != nil || strings.Count(token, ".") != 2 || time.Until(expires) <= 0 {
		t.Error(token, expires, err)
	}
	_, badKey := a.AddKey(ctx, "alice", "")
	_, keyTwice := a.AddKey(ctx, "alice", "web")
	_, noUser := a.ListKeys(ctx, "nobody")
	_, _, noToken := a.IssueToken(ctx, "nobody", "", 0)
	for _, tc := range []struct{ err, want error }{
		{a.Add(ctx, "alice", "x", auth.RoleUser), auth.ErrUserExists},
		{a.Add(ctx, "a b", "x", auth.RoleUser), address.ErrInvalid},
		{a.Add(ctx, "a@b", "x", auth.RoleUser), auth.ErrName},
		{a.Add(ctx, "carol", "\x00", auth.RoleUser), auth.ErrPassword},
		{a.Remove(ctx, "nobody"), auth.ErrNoUser},
		{a.RemoveKey(ctx, "alice", "x"), auth.ErrNoKey},
		{badKey, auth.ErrLabel}, {keyTwice, auth.ErrKeyExists}, {noUser, auth.ErrNoUser}, {noToken, auth.ErrNoUser},
	} {
		if !errors.Is(tc.err, tc.want) || !strings.HasPrefix(tc.err.Error(), "auth: ") && !strings.HasPrefix(tc.err.Error(), "address: ") {
			t.Errorf("%v; want %v", tc.err, tc.want)
		}
	}
	must(t, a.RemoveKey(ctx, "alice", "web"))
	must(t, a.Remove(ctx, "alice"))
	if list, err := a.List(ctx); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}

// The same for a Rules.
func TestRules(t *testing.T) {
	directAuth, direct := newAuthAndRules(t)
	servedAuth, served := newAuthAndRules(t)
	dir := t.TempDir()
	serveRules(t, dir, servedAuth, served)
	client, err := Dial(dir)
	must(t, err)
	defer client.Close()
	for _, a := range []*auth.Auth{directAuth, servedAuth} {
		must(t, a.Add(t.Context(), "alice", "secret", auth.RoleApp))
	}
	t.Run("direct", func(t *testing.T) { rules(t, direct) })
	t.Run("client", func(t *testing.T) { rules(t, client.Rules()) })
}

func rules(t *testing.T, r Rules) {
	ctx := t.Context()
	empty, err := r.List(ctx)
	if err != nil || len(empty.Rules) != 0 || len(empty.File) != 1 || empty.Version == "" {
		t.Error(empty, err)
	}
	set := []acl.Rule{{Users: []string{"alice"}, Roles: []string{"app"}, Deny: true, Publish: []string{"a/%c"}, Subscribe: []string{"#"}}}
	now, err := r.Set(ctx, set, empty.Version)
	if err != nil || !reflect.DeepEqual(now.Rules, set) {
		t.Error(now, err)
	}
	if again, err := r.List(ctx); err != nil || !reflect.DeepEqual(again, now) {
		t.Error(again, err)
	}
	got, err := r.Explain(ctx, acl.Question{User: "alice", Client: "7", Publish: "a/7"})
	if err != nil || got.Allowed || got.Why != acl.ByRule || got.Role != "app" || got.By.From != acl.API || got.By.Publish[0] != "a/7" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, tt := range []struct {
		rules   []acl.Rule
		version string
		want    error
	}{
		{nil, empty.Version, acl.ErrChanged},
		{[]acl.Rule{{}}, "", acl.ErrInvalid},
		{[]acl.Rule{set[0], set[0], set[0], set[0]}, "", acl.ErrMany},
	} {
		if _, err := r.Set(ctx, tt.rules, tt.version); !errors.Is(err, tt.want) {
			t.Errorf("%v, want %v", err, tt.want)
		}
	}
	if _, err := r.Explain(ctx, acl.Question{User: "bob"}); !errors.Is(err, auth.ErrNoUser) {
		t.Error(err)
	}
	if _, err := r.Explain(ctx, acl.Question{User: "alice", Publish: "im/to/bob"}); !errors.Is(err, acl.ErrTopic) {
		t.Error(err)
	}
	// As many as may be at all fit through the socket.
	long := []acl.Rule{{Publish: make([]string, 15)}}
	for i := range long[0].Publish {
		long[0].Publish[i] = strings.Repeat("a", 65_000)
	}
	if _, err := r.Set(ctx, long, ""); err != nil {
		t.Error(err)
	}
	if last, err := r.Set(ctx, nil, ""); err != nil || last.Version != empty.Version {
		t.Error(last, err)
	}
}

func TestErrorCodes(t *testing.T) {
	for _, c := range codes {
		e := errorOf(c.err)
		if e.Code != c.code || !errors.Is(e, c.err) || e.Error() != c.err.Error() {
			t.Errorf("%s: %+v", c.code, e)
		}
	}
	if e := errorOf(io.ErrUnexpectedEOF); e.Code != "failed" || e.Unwrap() != nil {
		t.Errorf("%+v", e)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	if _, err := Dial(dir); err != ErrNotRunning {
		t.Error("no socket:", err)
	}
	a := newAuth(t)
	stop := serve(t, dir, a)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := Listen(dir); err != ErrInUse {
		t.Error("a second server:", err)
	}
	client, err := Dial(dir)
	must(t, err)
	if _, err := client.Status(t.Context()); err != nil {
		t.Error("after the second server:", err)
	}
	stop()
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if err := client.Add(t.Context(), "alice", "x", auth.RoleUser); !errors.Is(err, ErrNotRunning) {
		t.Error("the server has gone:", err)
	}

	// A server that was killed leaves its socket.
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	old.SetUnlinkOnClose(false)
	old.Close()
	if _, err := Dial(dir); err != ErrNotRunning {
		t.Error("a dead socket:", err)
	}
	serve(t, dir, a)
	client, err = Dial(dir)
	must(t, err)
	if _, err := client.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Listen(filepath.Join(dir, "not there")); err == nil {
		t.Error("listened in no directory")
	}
}

func TestLongPath(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system has no /proc/self/fd:", err)
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	must(t, os.MkdirAll(dir, 0o700))
	stop := serve(t, dir, newAuth(t))
	client, err := Dial(dir)
	must(t, err)
	if _, err := client.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Listen(dir); err != ErrInUse {
		t.Error(err)
	}
	stop()
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	t.Chdir(filepath.Dir(dir)) // now there is a short way
	serve(t, dir, newAuth(t))
	if _, err := Dial(dir); err != nil {
		t.Error(err)
	}
}

func TestBadRequests(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, newAuth(t))
	client, err := Dial(dir)
	must(t, err)
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "user/ls", "", http.StatusMethodNotAllowed},
		{"POST", "user/eat", "{}", http.StatusNotFound},
		{"POST", "user/ls", "", http.StatusBadRequest},
		{"POST", "user/ls", "[]", http.StatusBadRequest},
		{"POST", "user/ls", "{} {}", http.StatusBadRequest},
		{"POST", "user/ls", `{"nonsense":1}`, http.StatusBadRequest},
		{"POST", "user/add", `{"user":"a","role":"king"}`, http.StatusBadRequest},
		{"POST", "user/add", `{"user":"` + strings.Repeat("a", maxBody) + `"}`, http.StatusBadRequest},
		{"POST", "user/add", `{}`, http.StatusUnprocessableEntity},
		{"POST", "user/ls", "{}", http.StatusOK},
	} {
		r, err := http.NewRequest(tc.method, "http://posthouse/v1/"+tc.path, strings.NewReader(tc.body))
		must(t, err)
		resp, err := client.http.Do(r)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != tc.status {
			t.Errorf("%s %s %.40s: %s", tc.method, tc.path, tc.body, resp.Status)
		}
	}
}
