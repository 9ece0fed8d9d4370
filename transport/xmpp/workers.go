package xmpp

import (
	"context"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// workers carry out what has to wait for the disk, one piece at a time for
// each key. A goroutine runs only while there is something to do.
type workers struct {
	log  *slog.Logger
	once sync.Once
	seed maphash.Seed
	line [8]line

	mu      sync.Mutex
	running int           // guarded by mu; lines that have a goroutine
	idle    chan struct{} // guarded by mu; closed when running becomes 0, nil if nobody waits
}

// line is the queue of one worker.
type line struct {
	mu      sync.Mutex // taken before workers.mu
	todo    []func()
	running bool
}

// maxLine is how many pieces of work may wait in one line.
const maxLine = 4096

// storeTime is how long one piece of work may take. It has no other context:
// its result must be there also for those who are connected otherwise.
const storeTime = 30 * time.Second

func storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), storeTime)
}

// do has f called after everything else for key. It does not block; false
// means that too much waits already.
func (w *workers) do(key string, f func()) bool {
	w.once.Do(func() { w.seed = maphash.MakeSeed() })
	l := &w.line[maphash.String(w.seed, key)%uint64(len(w.line))]
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.todo) >= maxLine {
		return false
	}
	l.todo = append(l.todo, f)
	if !l.running {
		l.running = true
		w.count(1)
		go w.run(l) // ends when the line is empty
	}
	return true
}

func (w *workers) run(l *line) {
	defer w.count(-1)
	for {
		l.mu.Lock()
		if len(l.todo) == 0 {
			l.running, l.todo = false, nil
			l.mu.Unlock()
			return
		}
		f := l.todo[0]
		l.todo[0] = nil
		l.todo = l.todo[1:]
		l.mu.Unlock()
		w.call(f)
	}
}

// call calls f, and has a panic end that piece of work alone.
func (w *workers) call(f func()) {
	defer func() {
		if r := recover(); r != nil {
			w.log.Error("xmpp: panic in a worker", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// count is called with a line's lock held or with none.
func (w *workers) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running += n; w.running == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// wait returns when there is nothing to do.
func (w *workers) wait() {
	w.mu.Lock()
	if w.running == 0 {
		w.mu.Unlock()
		return
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	<-idle
}
