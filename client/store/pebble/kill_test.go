package pebble_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/store/pebble"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	door "github.com/posthouse-im/posthouse/transport/link"
)

const total = 1000

func TestMain(m *testing.M) {
	if role := os.Getenv("POSTHOUSE_TEST_ROLE"); role != "" {
		if err := program(role, os.Getenv("POSTHOUSE_TEST_ADDR"), os.Getenv("POSTHOUSE_TEST_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// program is what is killed. It prints a line for each message that it has
// done its part for, and ends after the last.
func program(role, addr, dir string) error {
	store, err := pebble.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	user := map[string]string{"sender": "alice", "reader": "bob"}[role]
	c, err := client.Open(context.Background(), client.Config{User: user, Password: "secret", Device: role, Store: store,
		Ways: []client.Way{link.Way("link", link.Config{Options: client.Options{Addr: addr}})}})
	if err != nil {
		return err
	}
	if role == "sender" {
		return sends(c)
	}
	return reads(c, filepath.Join(dir, "read"))
}

// sends queues the messages that no earlier one is known to have queued.
func sends(c *client.Client) error {
	first, err := strconv.Atoi(os.Getenv("POSTHOUSE_TEST_FIRST"))
	if err != nil {
		return err
	}
	for i := first; i < total; i++ {
		// Of the last one the earlier program may not have heard that it was
		// kept: so it has an id of ours.
		if _, err := c.Queue(client.Draft{ID: fmt.Sprint("m", i), To: "bob", Body: fmt.Append(nil, i)}); err != nil {
			return err
		}
		fmt.Println(i)
	}
	if _, err := c.Send(context.Background(), client.Draft{ID: "end", To: "alice", Body: []byte("end")}); err != nil {
		return err
	}
	return c.Close()
}

// reads writes each message to a file, which is the application's own store.
func reads(c *client.Client, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last, _, _ := strings.Cut(lines[len(lines)-1], " ")
	seq, _ := strconv.ParseUint(last, 10, 64)
	for {
		m, err := c.Receive(context.Background())
		if err != nil {
			return err
		}
		if m.Seq > seq { // else it was killed before Ack
			if _, err := fmt.Fprintf(f, "%d %s\n", m.Seq, m.Body); err != nil {
				return err
			}
		}
		if err := c.Ack(context.Background(), m); err != nil {
			return err
		}
		fmt.Println(string(m.Body))
		if string(m.Body) == fmt.Sprint(total-1) {
			return c.Close()
		}
	}
}

// serve runs a server on this machine, and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	mail := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	a, err := auth.Open(ctx, mail, auth.Config{Domain: "localhost", Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob"} {
		if err := a.Add(ctx, u, "secret", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	engine := conn.New(conn.Config{Log: log})
	core := &transport.Core{Mail: mail, Router: router.New(ctx, mail, a, "localhost"), Auth: a, Keepalive: keepalive.Fixed(0), Engine: engine, Log: log}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { door.New(core, door.Config{}).Serve(ctx, ln) }) // ends with ctx
	t.Cleanup(func() {
		stop()
		serving.Wait()
		engine.Close()
		a.Close()
		mail.Close()
	})
	return ln.Addr().String()
}

// run runs the program and kills it after n lines, if it has not ended by
// itself. It returns the lines.
func run(t *testing.T, role, addr, dir string, first, n int) (lines []string, ended bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "POSTHOUSE_TEST_ROLE="+role, "POSTHOUSE_TEST_ADDR="+addr, "POSTHOUSE_TEST_DIR="+dir, fmt.Sprint("POSTHOUSE_TEST_FIRST=", first))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewScanner(out); in.Scan(); {
		lines = append(lines, in.Text())
		if len(lines) == n {
			cmd.Process.Kill()
		}
	}
	return lines, cmd.Wait() == nil
}

// A program that is killed again and again sends each message once, in order,
// and shows each once.
func TestKilled(t *testing.T) {
	addr := serve(t)
	kills := 0
	dir, next := t.TempDir(), 0
	for ended := false; !ended; kills++ {
		var lines []string
		if lines, ended = run(t, "sender", addr, dir, next, 1+rand.N(200)); len(lines) > 0 {
			last, err := strconv.Atoi(lines[len(lines)-1])
			if err != nil {
				t.Fatal(err)
			}
			next = last + 1
		}
	}
	if next != total {
		t.Fatalf("the sender ended at %d", next)
	}
	dir = t.TempDir()
	var lines []string
	for ended := false; !ended; kills++ {
		_, ended = run(t, "reader", addr, dir, 0, 1+rand.N(200))
		b, err := os.ReadFile(filepath.Join(dir, "read"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		// It may have been killed with the last one: the next would wait for
		// ever.
		ended = ended || len(lines) >= total
	}
	t.Logf("%d runs", kills)
	for i, line := range lines {
		if _, body, _ := strings.Cut(line, " "); body != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, line)
		}
	}
	if len(lines) != total {
		t.Errorf("%d messages", len(lines))
	}

	// And the server has no more than these.
	store := new(client.Memory)
	c, err := client.Open(t.Context(), client.Config{User: "bob", Password: "secret", Device: "other", Store: store,
		Ways: []client.Way{link.Way("link", link.Config{Options: client.Options{Addr: addr}})}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range total {
		m, err := c.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Body) != fmt.Sprint(i) || m.Seq != uint64(i+1) {
			t.Fatalf("message %d is %q at %d", i, m.Body, m.Seq)
		}
		if err := c.Ack(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
}
