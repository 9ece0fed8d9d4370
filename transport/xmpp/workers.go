package xmpp

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// workers carry out what has to wait for the disk, one piece at a time for
// each key. A goroutine runs only while there is something to do.
type workers struct {
	once sync.Once
	seed maphash.Seed
	all  sync.WaitGroup
	line [8]line
}

// line is the queue of one worker.
type line struct {
	mu      sync.Mutex
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
		w.all.Add(1)
		go l.run(&w.all) // ends when the line is empty
	}
	return true
}

func (l *line) run(all *sync.WaitGroup) {
	defer all.Done()
	for {
		l.mu.Lock()
		if len(l.todo) == 0 {
			l.running, l.todo = false, nil
			l.mu.Unlock()
			return
		}
		f := l.todo[0]
		l.todo = l.todo[1:]
		l.mu.Unlock()
		f()
	}
}

func (w *workers) wait() { w.all.Wait() }
