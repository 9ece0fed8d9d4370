package pebble

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/storetest"
)

func TestKill(t *testing.T) {
	storetest.Kill(t, func(dir string) (mailbox.Store, error) {
		return Open(dir, Options{MemTable: 1 << 20, Reserve: -1})
	})
}

// TestCrash pulls the plug: of what was not synced any part may be lost. Each
// life begins with what the last one left and sends again what was not
// acknowledged.
func TestCrash(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	fs := vfs.NewCrashableMem()
	l := new(storetest.Ledger)
	for life := range 15 {
		s := open(t, "store", Options{FS: fs, MemTable: 256 << 10, Sweep: -1})
		if err := l.Check(t.Context(), s); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		enough := l.Total() + rng.IntN(400)
		crash := make(chan struct{}, 1)
		done := make(chan struct{})
		var from [storetest.Writers]int
		for w := range from {
			from[w] = l.Next(w)
		}
		go func() {
			defer close(done)
			storetest.Write(ctx, s, from, func(w, n int, seq mailbox.Seq) {
				if err := l.Ack(w, n, seq); err != nil {
					t.Error(err)
				}
				if l.Total() >= enough {
					select {
					case crash <- struct{}{}:
					default:
					}
				}
			})
		}()
		<-crash
		told := l.Clone() // what comes after this may or may not be in the clone
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		stop()
		<-done
		s.Close()
		l = told
	}
	t.Logf("%d acknowledged", l.Total())
}

// TestTornRecord: the last record of the log is there in part.
func TestTornRecord(t *testing.T) {
	for _, torn := range []int{1, 6, 7, 11, 40, 200} {
		t.Run(fmt.Sprint(torn), func(t *testing.T) {
			dir, copied := t.TempDir(), t.TempDir()
			s := open(t, dir, Options{})
			l := new(storetest.Ledger)
			for n := range 10 {
				p := storetest.Post(0, n)
				if err := storetest.Send(s, p); err != nil {
					t.Fatal(err)
				}
				l.Ack(0, n, p.Seqs[0])
			}
			log := copyDir(t, dir, copied)
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			b = bytes.TrimRight(b, "\x00") // what was preallocated
			b = append(b, b[:min(torn, len(b))]...)
			if err := os.WriteFile(log, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := l.Check(t.Context(), open(t, copied, Options{})); err != nil {
				t.Error(err)
			}
		})
	}
}

// copyDir copies the files of from to to, and returns the newest log there.
func copyDir(t *testing.T, from, to string) (log string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		in, err := os.Open(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(to, f.Name())
		out, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
		in.Close()
		out.Close()
		if filepath.Ext(name) == ".log" {
			log = name
		}
	}
	return log
}
