//go:build unix

// Package e2e drives the real program, built and started as a user would, with
// real clients of other people. It knows the server by its addresses alone.
//
// A test that needs a client that is not installed is skipped and says so;
// with POSTHOUSE_E2E=all it fails instead.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test.
var binary string

// patience bounds what should take a moment. It is no measurement: a test that
// reaches it has failed.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "posthouse-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "posthouse")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/posthouse").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	ports.Store(rand.Int64N(20_000))
	return m.Run()
}

// need skips the test unless the programs are installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, p+" is not installed")
		}
	}
}

// missing skips the test, or fails it where nothing may be missing.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("POSTHOUSE_E2E") == "all" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// server is one running posthouse.
type server struct {
	t    *testing.T
	data string
	addr map[string]string // what it printed, by name: http, mqtt, xmpp, link, …

	cmd    *exec.Cmd
	errs   *output
	stdout *output
	exit   chan struct{} // closed when the process has ended
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced at every write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await blocks until ok says yes to the text so far, or over is closed, or ctx
// ends, and returns the text.
func (o *output) await(ctx context.Context, over <-chan struct{}, ok func(string) bool) (string, bool) {
	for {
		o.mu.Lock()
		text, more := o.text.String(), o.more
		o.mu.Unlock()
		if ok(text) {
			return text, true
		}
		select {
		case <-more:
		case <-over:
			text = o.String()
			return text, ok(text)
		case <-ctx.Done():
			return text, false
		}
	}
}

// ports counts those that free has given, so that each is another one.
var ports atomic.Int64

// free is an address for a server to listen at, now and when it is started
// again. The port is none that the system gives to whoever asks for any, as
// other tests do at the same time.
func free(t *testing.T, host string) string {
	t.Helper()
	var err error
	for range 1000 {
		addr := net.JoinHostPort(host, fmt.Sprint(11_000+ports.Add(1)%20_000)) // Linux gives from 32768 on
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal(err)
	return ""
}

// start runs a server on free ports of the loopback with an empty data
// directory, and waits until it says that it is open.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, data: filepath.Join(t.TempDir(), "data")}
	var doors []string
	for _, name := range []string{"http", "https", "mqtt", "mqtts", "xmpp", "xmpps", "link", "links"} {
		doors = append(doors, "--"+name, free(t, "127.0.0.1"))
	}
	s.run(append(doors, args...)...)
	return s
}

// openLine is a line of what serve prints: a name and an address.
var openLine = regexp.MustCompile(`(?m)^  (https?|mqtts?|mqtt-sn|xmpps?|links?) +(\S+:\d+)`)

func (s *server) run(args ...string) {
	s.t.Helper()
	s.launch(args...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, ok := s.stdout.await(ctx, s.exit, func(text string) bool { return strings.Contains(text, "\nReady.\n") })
	if !ok {
		s.t.Fatalf("the server did not open:\n%s\n%s", text, s.errs)
	}
	addr := map[string]string{}
	for _, m := range openLine.FindAllStringSubmatch(text, -1) {
		addr[m[1]] = m[2]
	}
	if !maps.Equal(addr, s.addr) { // else others may be asking at the same addresses
		s.addr = addr
	}
}

// launch starts the process and does not wait for anything.
func (s *server) launch(args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(binary, append([]string{"serve", "--data", s.data}, args...)...)
	s.cmd.Env = cleanEnv()
	s.stdout, s.errs, s.exit = newOutput(), newOutput(), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.errs
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exit := s.cmd, s.exit
	go func() { // ends with the process
		cmd.Wait()
		close(exit)
	}()
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		<-exit
		if s.t.Failed() {
			s.t.Logf("the server's log:\n%s", s.errs)
		}
	})
}

// again starts the server anew on the same data and the same addresses.
func (s *server) again(args ...string) {
	s.t.Helper()
	var same []string
	for name, addr := range s.addr {
		same = append(same, "--"+name, addr)
	}
	s.run(append(same, args...)...)
}

// kill ends the server as a power cut would.
func (s *server) kill() {
	s.t.Helper()
	s.cmd.Process.Kill()
	<-s.exit
}

// stop asks the server to end, and returns its exit status.
func (s *server) stop() int {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.wait()
	return s.cmd.ProcessState.ExitCode()
}

func (s *server) wait() {
	s.t.Helper()
	select {
	case <-s.exit:
	case <-time.After(patience):
		s.t.Fatalf("the server does not end:\n%s", s.errs)
	}
}

// env finds the server for posthouse send and tail.
func (s *server) env() []string {
	env := append(cleanEnv(), "POSTHOUSE_DATA="+s.data)
	for name, addr := range s.addr {
		env = append(env, "POSTHOUSE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+addr)
	}
	return env
}

// cleanEnv is the environment without what would configure a server.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "POSTHOUSE_") {
			env = append(env, kv)
		}
	}
	return env
}

// users makes accounts, each with the password secret.
func (s *server) users(names ...string) {
	s.t.Helper()
	for _, n := range names {
		if out, err := s.posthouse("user", "add", n, "--password", "secret"); err != nil {
			s.t.Fatalf("user add %s: %v\n%s", n, err, out)
		}
	}
}

// posthouse runs a command of the program that ends by itself.
func (s *server) posthouse(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = s.env()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// send sends a message with the program.
func (s *server) send(from, to, body string) {
	s.t.Helper()
	if out, err := s.posthouse("send", "--as", from, "--password", "secret", "--to", to, body); err != nil {
		s.t.Fatalf("send: %v\n%s", err, out)
	}
}

// ask makes an HTTP request, as a user whose password is secret or, if that is
// empty, as nobody.
func (s *server) ask(user, method, path, body string, header ...string) (*http.Response, string, error) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr["http"]+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, "secret")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// get asks the HTTP address and returns status and body.
func (s *server) get(path string) (int, string) {
	s.t.Helper()
	resp, text, err := s.ask("", http.MethodGet, path, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, text
}

// inbox is what others have written to a user, read as a device never seen before.
func (s *server) inbox(user string) (bodies []string) {
	s.t.Helper()
	for after := ""; ; {
		resp, text, err := s.ask(user, http.MethodGet, "/v1/inbox?device=new&ack=false&limit=1000"+after, "")
		var in inbox
		if err == nil {
			err = json.Unmarshal([]byte(text), &in)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			s.t.Fatal(err, text)
		}
		if len(in.Messages) == 0 {
			return bodies
		}
		for _, m := range in.Messages {
			if m.Body != nil && !strings.HasPrefix(m.From, user+"@") {
				bodies = append(bodies, *m.Body)
			}
		}
		after = "&after=" + in.Next
	}
}

// process is a client at work.
type process struct {
	cmd  *exec.Cmd
	out  *output // standard output
	errs *output
	exit chan struct{}
}

// spawn starts a client in a process group of its own, which ends with the test.
func spawn(t *testing.T, env []string, dir, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), out: newOutput(), errs: newOutput(), exit: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = env, dir
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		p.cmd.Wait()
		close(p.exit)
	}()
	t.Cleanup(p.end)
	return p
}

// end ends the client and everything that it started.
func (p *process) end() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exit
}

// says waits until the client has printed want.
func (p *process) says(t *testing.T, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, ok := p.out.await(ctx, p.exit, func(out string) bool { return strings.Contains(out, want) }); !ok {
		t.Fatalf("no %q in\n%s\n%s", want, out, p.errs)
	}
}

// ends waits until the client has ended by itself.
func (p *process) ends(t *testing.T) {
	t.Helper()
	select {
	case <-p.exit:
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s\n%s", p.out, p.errs)
	}
}
