package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between Pebble and the file system. Pebble takes an error of a
// write to its log or its manifest as the end of the process; guard never
// shows it one.
//
// A write that fails is tried again until it succeeds, with the store refusing
// posts meanwhile: a full disk, or one that is read-only for a while, so costs
// nothing but time. A sync that fails cannot be tried again, since the kernel
// may have dropped the pages that it could not write and call the next sync a
// success; so does whatever makes Pebble give up. Then the guard is broken:
// nothing is written through it any more, and the store opens the database
// again behind a new guard, from what is on the disk.
type guard struct {
	vfs.FS
	dir string

	armed  atomic.Bool   // Open has succeeded: from now on no error gets through
	broken chan struct{} // closed when the guard is broken
	dead   chan struct{} // closed when the store has given this database up
	bell   chan struct{} // something changed

	ops sync.RWMutex // read-locked by each change of the file system while it happens

	mu    sync.Mutex // a leaf
	stuck int        // operations being tried again
	cause error      // why; of the first that failed
	fatal error      // why broken
	over  bool       // dead is closed
}

// again is how long a failed operation waits until it is tried again.
const again = 100 * time.Millisecond

func newGuard(fs vfs.FS, dir string) *guard {
	return &guard{FS: fs, dir: dir, broken: make(chan struct{}), dead: make(chan struct{}), bell: make(chan struct{}, 1)}
}

// err is why nothing can be written at present, nil if it can.
func (g *guard) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fatal != nil {
		return g.fatal
	}
	return g.cause
}

func (g *guard) ring() {
	select {
	case g.bell <- struct{}{}:
	default:
	}
}

// fail breaks the guard.
func (g *guard) fail(err error) {
	g.mu.Lock()
	if g.fatal == nil {
		g.fatal = err
		close(g.broken)
	}
	g.mu.Unlock()
	g.ring()
}

// kill gives the database up: when it has returned, nothing is changed through
// this guard any more. What tries to waits for ever, since Pebble would not
// bear to be told.
func (g *guard) kill() {
	g.mu.Lock()
	if !g.over {
		g.over = true
		close(g.dead)
	}
	g.mu.Unlock()
	g.ops.Lock()
	defer g.ops.Unlock()
}

// enter read-locks ops, unless the database has been given up: then it does not
// return.
func (g *guard) enter() {
	g.ops.RLock()
	select {
	case <-g.dead:
		g.ops.RUnlock()
		select {}
	default:
	}
}

// do carries out one change of the file system.
func (g *guard) do(op func() error) error {
	if !g.armed.Load() {
		return op()
	}
	waiting := false
	for {
		g.enter()
		err := op()
		g.ops.RUnlock()
		if err == nil || passes(err) {
			if waiting {
				g.release()
			}
			return err
		}
		if !waiting {
			waiting = true
			g.mu.Lock()
			if g.stuck++; g.stuck == 1 {
				g.cause = err
			}
			g.mu.Unlock()
			g.ring()
		}
		select {
		case <-time.After(again):
		case <-g.dead:
		}
	}
}

// release ends the trouble of an operation that was waiting.
func (g *guard) release() {
	g.mu.Lock()
	if g.stuck--; g.stuck == 0 {
		g.cause = nil
	}
	g.mu.Unlock()
	g.ring()
}

// passes reports whether Pebble may see err: answers, not troubles.
func passes(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) || errors.Is(err, os.ErrClosed)
}

// sync carries out a sync, which is not tried again.
func (g *guard) sync(op func() error) error {
	if !g.armed.Load() {
		return op()
	}
	g.enter()
	err := op()
	g.ops.RUnlock()
	if err != nil {
		g.fail(fmt.Errorf("sync: %w", err))
		<-g.dead
		select {}
	}
	return nil
}

// Lock implements vfs.FS. The store has locked the directory itself, for
// longer than one database lives.
func (g *guard) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = g.do(func() error { f, err = g.FS.Create(name, c); return err })
	return g.wrap(f, err)
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (f vfs.File, err error) {
	err = g.do(func() error { f, err = g.FS.OpenReadWrite(name, c, opts...); return err })
	return g.wrap(f, err)
}

func (g *guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = g.do(func() error { f, err = g.FS.ReuseForWrite(oldname, newname, c); return err })
	return g.wrap(f, err)
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.wrap(f, err)
}

func (g *guard) Link(oldname, newname string) error {
	return g.do(func() error { return g.FS.Link(oldname, newname) })
}

func (g *guard) Rename(oldname, newname string) error {
	return g.do(func() error { return g.FS.Rename(oldname, newname) })
}

func (g *guard) Remove(name string) error {
	return g.do(func() error { return g.FS.Remove(name) })
}

func (g *guard) RemoveAll(name string) error {
	return g.do(func() error { return g.FS.RemoveAll(name) })
}

func (g *guard) MkdirAll(name string, perm os.FileMode) error {
	return g.do(func() error { return g.FS.MkdirAll(name, perm) })
}

// Unwrap implements vfs.FS.
func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g}, nil
}

// guardedFile is a file open for writing.
type guardedFile struct {
	vfs.File
	g *guard
}

func (f *guardedFile) Write(p []byte) (n int, err error) {
	err = f.g.do(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.g.do(func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

// Preallocate is a kindness to the file system. Without room it is left out,
// and what is then written says that there is none.
func (f *guardedFile) Preallocate(off, n int64) error {
	if err := f.File.Preallocate(off, n); err != nil && !f.g.armed.Load() {
		return err
	}
	return nil
}

func (f *guardedFile) Sync() error     { return f.g.sync(f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.g.sync(f.File.SyncData) }

func (f *guardedFile) SyncTo(n int64) (full bool, err error) {
	err = f.g.sync(func() error { full, err = f.File.SyncTo(n); return err })
	return full, err
}
