package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

const (
	// KillsEnv says how often Kill kills. Default 5.
	KillsEnv = "POSTHOUSE_KILLS"

	childEnv = "POSTHOUSE_KILL_CHILD" // the directory, in the child
	fromEnv  = "POSTHOUSE_KILL_FROM"  // where its writers begin
)

// Kill runs the engine in a child process under load, kills that with SIGKILL,
// and compares what it had acknowledged, over a pipe, with what is there. The
// next child sends again what was not acknowledged, and goes on.
//
// The child is the test binary itself, so Kill must be called by a test of its
// own, and do nothing else in it.
func Kill(t *testing.T, open func(dir string) (mailbox.Store, error)) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(t, dir, open)
		return
	}
	kills := 5
	if s := os.Getenv(KillsEnv); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", KillsEnv, err)
		}
		kills = n
	}
	dir := t.TempDir()
	l := new(Ledger)
	check := func() {
		t.Helper()
		s, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := l.Check(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for k := range kills {
		before := l.Total()
		killOne(t, dir, l)
		if l.Total() == before {
			t.Logf("kill %d: nothing was acknowledged", k)
		}
		if k < 5 || k%10 == 9 || k == kills-1 {
			check() // each is more to read; a fault stays where it is until the next
		}
		if l.Total() > 30000 { // begin anew rather than read ever more
			check()
			dir, l = t.TempDir(), new(Ledger)
		}
	}
	t.Logf("%d kills, %d acknowledged posts in the last directory", kills, l.Total())
}

// killOne starts a child, lets it acknowledge some, and kills it.
func killOne(t *testing.T, dir string, l *Ledger) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	for w := range Writers {
		from = append(from, fmt.Sprint(l.Next(w)))
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), childEnv+"="+dir, fromEnv+"="+strings.Join(from, " "))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	some := 1 + rand.IntN(800) // acknowledgements after which to kill
	r := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == some {
			cmd.Process.Kill()
		}
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // what was in the pipe when it was killed counts, but for half a line
		}
		var w, num int
		var seq mailbox.Seq
		if _, serr := fmt.Sscanf(line, "ack %d %d %d\n", &w, &num, &seq); err != nil || serr != nil {
			t.Errorf("child says %q, %v", line, err)
			cmd.Process.Kill()
			break
		}
		if err := l.Ack(w, num, seq); err != nil {
			t.Error(err)
		}
	}
	cmd.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// child writes until it is killed.
func child(t *testing.T, dir string, open func(dir string) (mailbox.Store, error)) {
	var from [Writers]int
	if _, err := fmt.Sscan(os.Getenv(fromEnv), &from[0], &from[1], &from[2], &from[3]); err != nil {
		t.Fatal(err)
	}
	s, err := open(dir)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// Should the parent be gone, this ends too.
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var mu sync.Mutex
	Write(ctx, s, from, func(w, n int, seq mailbox.Seq) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Fprintf(os.Stdout, "ack %d %d %d\n", w, n, seq); err != nil {
			os.Exit(1)
		}
	})
}
