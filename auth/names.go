package auth

import (
	"hash/maphash"
	"sync"
)

// names is the set of all accounts. It keeps 128 bits of keyed hash of each,
// which takes half the room of the names and nothing of the garbage
// collector's time. That two of a million accounts share them has a chance of
// less than 2^-88.
type names struct {
	seed [2]maphash.Seed

	mu  sync.RWMutex
	set map[nameHash]struct{}
}

// nameHash stands for a name.
type nameHash [2]uint64

func newNames() *names {
	return &names{seed: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, set: map[nameHash]struct{}{}}
}

func (n *names) hash(s string) nameHash {
	return nameHash{maphash.String(n.seed[0], s), maphash.String(n.seed[1], s)}
}

func (n *names) has(s string) bool {
	h := n.hash(s)
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.set[h]
	return ok
}

func (n *names) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set[n.hash(s)] = struct{}{}
}

func (n *names) del(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.set, n.hash(s))
}

func (n *names) len() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.set)
}
