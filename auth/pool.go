package auth

import "sync"

// pool runs functions on up to workers goroutines. A goroutine ends when there
// is nothing left to run, so an idle pool has none.
type pool struct {
	workers, most int

	mu      sync.Mutex
	line    []func() // at most most
	running int
	closed  bool
	ended   sync.WaitGroup
}

func (p *pool) run(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return false
	case p.running < p.workers:
		p.running++
		p.ended.Add(1)
		go p.work(f) // ends when line is empty
	case len(p.line) < p.most:
		p.line = append(p.line, f)
	default:
		return false
	}
	return true
}

func (p *pool) work(f func()) {
	defer p.ended.Done()
	for f != nil {
		f()
		f = p.next()
	}
}

// next takes the first of line. It returns nil if the goroutine should end.
func (p *pool) next() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) == 0 || p.closed {
		p.running--
		p.line = nil
		return nil
	}
	f := p.line[0]
	p.line[0] = nil
	p.line = p.line[1:]
	return f
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.ended.Wait()
}
