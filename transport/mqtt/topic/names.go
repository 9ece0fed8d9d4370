package topic

import (
	"iter"
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

// Walk goes over the names that a filter matches, in no order and a few at a
// time. In between others may set and delete names: those are found or not, and
// all that were there throughout are found once. A walk that has not come to
// its end must be closed.
type Walk[V any] struct {
	ns   *Names[V]
	vs   []V                     // being filled
	fill func() (struct{}, bool) // called under ns.mu
	stop func()
}

// Walk begins a walk over what filter, a valid one, matches.
func (ns *Names[V]) Walk(filter string) *Walk[V] {
	w := &Walk[V]{ns: ns, stop: func() {}}
	if !HasWildcard(filter) { // one name at most, the usual case
		w.fill = func() (none struct{}, _ bool) {
			if v, ok := ns.root.get(filter); ok && filter != "" {
				w.vs = append(w.vs, v)
			}
			filter = ""
			return none, false
		}
		return w
	}
	// A coroutine is the place in the tree: maps have no other.
	w.fill, w.stop = iter.Pull(func(full func(struct{}) bool) {
		ns.root.match(filter, true, func(v V) bool {
			w.vs = append(w.vs, v)
			return len(w.vs) < cap(w.vs) || full(struct{}{})
		})
	})
	return w
}

// Next appends the values of the next names to vs, as many as there is room for.
// If none is appended the walk has come to its end.
func (w *Walk[V]) Next(vs []V) []V {
	w.ns.mu.RLock()
	defer w.ns.mu.RUnlock()
	w.vs = vs
	w.fill()
	vs, w.vs = w.vs, nil
	return vs
}

// Close ends the walk.
func (w *Walk[V]) Close() { w.stop() }

// Any reports whether filter, a valid one, matches a name.
func (ns *Names[V]) Any(filter string) bool {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return !ns.root.match(filter, true, func(V) bool { return false })
}

// match yields what filter matches below n, and reports whether to go on.
func (n *name[V]) match(filter string, first bool, yield func(V) bool) bool {
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		return n.all(first, yield)
	case "+":
		for l, next := range n.children {
			if first && strings.HasPrefix(l, "$") { // [MQTT-4.7.2-1]
				continue
			}
			if !next.step(rest, more, yield) {
				return false
			}
		}
	default:
		if next := n.children[level]; next != nil {
			return next.step(rest, more, yield)
		}
	}
	return true
}

func (n *name[V]) step(rest string, more bool, yield func(V) bool) bool {
	if more {
		return n.match(rest, false, yield)
	}
	return !n.set || yield(n.value)
}

// all yields n, which # matches as the parent level, and all below.
func (n *name[V]) all(first bool, yield func(V) bool) bool {
	if n.set && !yield(n.value) {
		return false
	}
	for l, next := range n.children {
		if first && strings.HasPrefix(l, "$") {
			continue
		}
		if !next.all(false, yield) {
			return false
		}
	}
	return true
}

// Get returns the value of a name.
func (ns *Names[V]) Get(s string) (v V, ok bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.root.get(s)
}

func (n *name[V]) get(s string) (v V, ok bool) {
	for more := true; more; {
		var level string
		level, s, more = strings.Cut(s, "/")
		if n = n.children[level]; n == nil {
			return v, false
		}
	}
	return n.value, n.set
}
