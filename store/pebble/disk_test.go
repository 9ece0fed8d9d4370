package pebble

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// faults makes operations fail while it is set.
type faults struct {
	on    atomic.Pointer[error]
	kinds func(errorfs.OpKind) bool
}

func (f *faults) String() string { return "faults" }

func (f *faults) MaybeError(op errorfs.Op) error {
	if e := f.on.Load(); e != nil && f.kinds(op.Kind) {
		return *e
	}
	return nil
}

// retry posts number n of writer 0, with so many bytes more, until it is accepted.
func retry(t *testing.T, s *Store, l *storetest.Ledger, n, extra int) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; {
		p := storetest.Post(0, n)
		p.Body = append(p.Body, noise(n, extra)...)
		err := storetest.Send(s, p)
		if err == nil {
			if err := l.Ack(0, n, p.Seqs[0]); err != nil {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, mailbox.ErrUnavailable) || t.Context().Err() != nil || time.Now().After(limit) {
			t.Fatal(err)
		}
	}
}

// noise returns bytes that cannot be compressed, the same for the same n.
func noise(n, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

func TestDiskTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		kinds func(errorfs.OpKind) bool
	}{
		"Full":     {syscall.ENOSPC, func(k errorfs.OpKind) bool { return k == errorfs.OpFileWrite || k == errorfs.OpCreate }},
		"ReadOnly": {syscall.EROFS, func(k errorfs.OpKind) bool { return k.ReadOrWrite() == errorfs.OpIsWrite }},
		"Sync":     {syscall.EIO, func(k errorfs.OpKind) bool { return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData }},
	} {
		t.Run(name, func(t *testing.T) {
			f := &faults{kinds: c.kinds}
			s := open(t, "store", Options{FS: errorfs.Wrap(vfs.NewMem(), f), MemTable: 256 << 10, Sweep: -1})
			l := new(storetest.Ledger)
			n := 0
			for range 3 {
				for range 50 {
					retry(t, s, l, n, 0)
					n++
				}
				f.on.Store(&c.err)
				err := storetest.Send(s, storetest.Post(0, n))
				if !errors.Is(err, mailbox.ErrUnavailable) || !errors.Is(err, c.err) {
					t.Fatalf("a post while the disk fails: %v", err)
				}
				if err := s.Ready(); !errors.Is(err, mailbox.ErrUnavailable) {
					t.Errorf("ready: %v", err)
				}
				if err := storetest.Send(s, storetest.Post(1, n)); !errors.Is(err, mailbox.ErrUnavailable) {
					t.Errorf("another: %v", err)
				}
				es, err := storetest.ReadAll(t.Context(), s, "writer0@x", 0)
				if err != nil || len(es) != n {
					t.Errorf("reading meanwhile: %d of %d, %v", len(es), n, err)
				}
				f.on.Store(nil)
				retry(t, s, l, n, 0)
				n++
				if err := s.Ready(); err != nil {
					t.Errorf("ready after the trouble: %v", err)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloseWhileDiskFails: Close ends, and what was acknowledged is there later.
func TestCloseWhileDiskFails(t *testing.T) {
	for name, kinds := range map[string]func(errorfs.OpKind) bool{
		"Write": func(k errorfs.OpKind) bool { return k == errorfs.OpFileWrite },
		"Sync":  func(k errorfs.OpKind) bool { return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData },
	} {
		t.Run(name, func(t *testing.T) {
			mem, eio := vfs.NewMem(), error(syscall.EIO)
			f := &faults{kinds: kinds}
			s := open(t, "store", Options{FS: errorfs.Wrap(mem, f), Sweep: -1})
			l := new(storetest.Ledger)
			retry(t, s, l, 0, 0)
			f.on.Store(&eio)
			p := storetest.Post(0, 1)
			s.Append(p)
			if err := s.Close(); !errors.Is(err, mailbox.ErrUnavailable) || !errors.Is(err, eio) {
				t.Errorf("Close: %v", err)
			}
			if !errors.Is(p.Err, mailbox.ErrUnavailable) {
				t.Errorf("post: %v", p.Err)
			}
			f.on.Store(nil)
			if err := l.Check(t.Context(), open(t, "store", Options{FS: mem})); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReserve: posts are refused while the disk has little room.
func TestReserve(t *testing.T) {
	fs := &roomFS{FS: vfs.NewMem()}
	fs.avail.Store(1 << 30)
	s := open(t, "store", Options{FS: fs, Reserve: 1 << 20})
	l := new(storetest.Ledger)
	retry(t, s, l, 0, 0)
	fs.avail.Store(1 << 19)
	for s.Ready() == nil {
		runtime.Gosched() // it looks again after some milliseconds
	}
	err := storetest.Send(s, storetest.Post(0, 1))
	if !errors.Is(err, mailbox.ErrUnavailable) || !strings.Contains(err.Error(), "524288 bytes left") {
		t.Errorf("post: %v", err)
	}
	fs.avail.Store(1 << 30)
	retry(t, s, l, 1, 0)
	if err := s.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
}

// roomFS is a file system on a disk with so much room.
type roomFS struct {
	vfs.FS
	avail atomic.Uint64
}

func (r *roomFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: r.avail.Load()}, nil
}

// TestSmallDisk fills a real one.
func TestSmallDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "posthouse-test", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	data, ballast := filepath.Join(dir, "store"), filepath.Join(dir, "ballast")
	for name, reserve := range map[string]int64{"Reserve": 2 << 20, "NoReserve": -1} {
		t.Run(name, func(t *testing.T) {
			os.RemoveAll(data)
			// When it goes there is room for all that was written once more:
			// a compaction that filled the disk could not end with less.
			if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, data, Options{Reserve: reserve, MemTable: 1 << 20, Sweep: -1})
			l := new(storetest.Ledger)
			const extra = 50 << 10 // for it to be full soon
			n := 0
			var full error
			for full == nil {
				p := storetest.Post(0, n)
				p.Body = append(p.Body, noise(n, extra)...)
				if full = storetest.Send(s, p); full == nil {
					if err := l.Ack(0, n, p.Seqs[0]); err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
			if !errors.Is(full, mailbox.ErrUnavailable) || s.Ready() == nil {
				t.Errorf("after %d posts: %v; ready: %v", n, full, s.Ready())
			}
			es, err := storetest.ReadAll(t.Context(), s, "writer0@x", 0)
			if err != nil || len(es) != n {
				t.Errorf("reading meanwhile: %d of %d, %v", len(es), n, err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				retry(t, s, l, n, extra)
				n++
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = open(t, data, Options{Reserve: -1})
			if err := l.Check(t.Context(), s); err != nil {
				t.Error(err)
			}
			s.Close()
		})
	}
}

func TestSecondServer(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Open: %v", err)
	}
}

// TestDirectoryCannotBeUsed: that is not said to be another server's doing.
func TestDirectoryCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "LOCK"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	if err == nil || errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open: %v", err)
	}
}

func TestNewerFormat(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "store", Options{FS: fs})
	if err := s.life.Load().db.Set([]byte(formatKey), []byte{formatVersion + 1}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err := Open("store", Options{FS: fs})
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "store") {
		t.Errorf("Open: %v", err)
	}
}

// TestFullQueueWhileDiskIsFull: also those are told who wait behind more than
// one batch holds.
func TestFullQueueWhileDiskIsFull(t *testing.T) {
	full := error(syscall.ENOSPC)
	f := &faults{kinds: func(k errorfs.OpKind) bool { return k == errorfs.OpFileWrite }}
	s := open(t, "store", Options{FS: errorfs.Wrap(vfs.NewMem(), f), Sweep: -1})
	l := new(storetest.Ledger)
	retry(t, s, l, 0, 0)
	f.on.Store(&full)
	var posts []*mailbox.Post
	for n := range 4 * maxBatch >> 20 {
		p := storetest.Post(1, n)
		p.Body = append(p.Body, noise(n, 1<<20)...)
		posts = append(posts, p)
	}
	if err := storetest.Send(s, posts...); !errors.Is(err, mailbox.ErrUnavailable) {
		t.Errorf("while the disk is full: %v", err)
	}
	f.on.Store(nil)
	retry(t, s, l, 1, 0)
}

// TestTroubleUnderLoad: whoever posts while syncs fail is told what became of
// it, and loses nothing that was acknowledged.
func TestTroubleUnderLoad(t *testing.T) {
	eio := error(syscall.EIO)
	f := &faults{kinds: func(k errorfs.OpKind) bool { return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData }}
	s := open(t, "store", Options{FS: errorfs.Wrap(vfs.NewMem(), f), MemTable: 256 << 10, Sweep: -1})
	l := new(storetest.Ledger)
	for round := range 6 {
		var from [storetest.Writers]int
		for w := range from {
			from[w] = l.Next(w)
		}
		some := l.Total() + 20*round
		storetest.Write(t.Context(), s, from, func(w, n int, seq mailbox.Seq) { // ends with the first error
			if err := l.Ack(w, n, seq); err != nil {
				t.Error(err)
			}
			if l.Total() >= some {
				f.on.Store(&eio)
			}
		})
		f.on.Store(nil)
		for s.Ready() != nil {
			runtime.Gosched()
		}
	}
	if err := l.Check(t.Context(), s); err != nil {
		t.Error(err)
	}
}
