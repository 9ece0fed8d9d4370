package topic

import (
	"strings"
	"sync"
)

// Names maps topic names to values, and finds those that a filter matches.
// The zero Names is empty.
type Names[V any] struct {
	mu    sync.RWMutex
	root  name[V]
	count int
}

type name[V any] struct {
	children map[string]*name[V]
	value    V
	set      bool
}

// Len is how many names there are.
func (ns *Names[V]) Len() int {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.count
}

// Set gives name, a valid one, a value. Old is the value it had, if any.
func (ns *Names[V]) Set(s string, v V) (old V, ok bool) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n, rest, more := &ns.root, s, true
	for more {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		next := n.children[level]
		if next == nil {
			if n.children == nil {
				n.children = map[string]*name[V]{}
			}
			next = new(name[V])
			n.children[level] = next
		}
		n = next
	}
	old, ok = n.value, n.set
	n.value, n.set = v, true
	if !ok {
		ns.count++
	}
	return old, ok
}

// Delete removes name if drop agrees to lose its value.
func (ns *Names[V]) Delete(s string, drop func(V) bool) (old V, ok bool) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if old, ok = ns.root.remove(s, drop); ok {
		ns.count--
	}
	return old, ok
}

func (n *name[V]) remove(rest string, drop func(V) bool) (old V, ok bool) {
	level, rest, more := strings.Cut(rest, "/")
	next := n.children[level]
	if next == nil {
		return old, false
	}
	if more {
		old, ok = next.remove(rest, drop)
	} else if next.set && drop(next.value) {
		var zero V
		old, ok = next.value, true
		next.value, next.set = zero, false
	}
	if !next.set && len(next.children) == 0 {
		delete(n.children, level)
	}
	return old, ok
}

// Match calls yield for the value of every name that filter, a valid one,
// matches, in no order. Yield runs under a lock and must not come back here.
func (ns *Names[V]) Match(filter string, yield func(V)) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	ns.root.match(filter, true, yield)
}

func (n *name[V]) match(filter string, first bool, yield func(V)) {
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		n.all(first, yield)
	case "+":
		for l, next := range n.children {
			if first && strings.HasPrefix(l, "$") { // [MQTT-4.7.2-1]
				continue
			}
			next.step(rest, more, yield)
		}
	default:
		if next := n.children[level]; next != nil {
			next.step(rest, more, yield)
		}
	}
}

func (n *name[V]) step(rest string, more bool, yield func(V)) {
	if more {
		n.match(rest, false, yield)
		return
	}
	if n.set {
		yield(n.value)
	}
}

// all yields n, which # matches as the parent level, and all below.
func (n *name[V]) all(first bool, yield func(V)) {
	if n.set {
		yield(n.value)
	}
	for l, next := range n.children {
		if first && strings.HasPrefix(l, "$") {
			continue
		}
		next.all(false, yield)
	}
}

// Get returns the value of a name.
func (ns *Names[V]) Get(s string) (v V, ok bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	n, rest, more := &ns.root, s, true
	for more {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if n = n.children[level]; n == nil {
			return v, false
		}
	}
	return n.value, n.set
}
