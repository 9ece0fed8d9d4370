package topic

import (
	"bytes"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Sub is one subscription of an owner.
type Sub[O any] struct {
	Owner  O
	Filter string // without $share/{name}/
	state  atomic.Uint64
}

// state: bit 63 gone, bits 32..39 options, bits 0..27 identifier.
const gone = 1 << 63

func pack(options byte, id uint32) uint64 { return uint64(options)<<32 | uint64(id) }

// Options returns the options and the identifier given to Add last. Live is
// false once the subscription has been removed.
func (s *Sub[O]) Options() (options byte, id uint32, live bool) {
	v := s.state.Load()
	return byte(v >> 32), uint32(v), v&gone == 0
}

// SetOptions replaces both, so that no message falls between an old and a new
// subscription: "Application Messages MUST NOT be lost due to replacing the
// Subscription" [MQTT-3.8.4-4].
func (s *Sub[O]) SetOptions(options byte, id uint32) { s.state.Store(pack(options, id)) }

// list is an ordered set of subscriptions. It only grows in place: a reader
// may keep a slice of it while others add. What is removed is marked, and the
// list copied without the marked ones when they are the greater part.
type list[O any] struct {
	subs []*Sub[O]
	dead int
}

func (l *list[O]) add(s *Sub[O]) { l.subs = append(l.subs, s) }

func (l *list[O]) remove(s *Sub[O]) {
	s.state.Or(gone)
	if l.dead++; l.dead*2 < len(l.subs) {
		return
	}
	var live []*Sub[O]
	if n := len(l.subs) - l.dead; n > 0 {
		live = make([]*Sub[O], 0, n)
		for _, s := range l.subs {
			if s.state.Load()&gone == 0 {
				live = append(live, s)
			}
		}
	}
	l.subs, l.dead = live, 0
}

// Group is the subscriptions that share one filter under one name. A message
// goes to one of them.
type Group[O any] struct {
	Share, Filter string
	Next          atomic.Uint32 // for whoever takes turns

	mu   sync.RWMutex
	list list[O]
}

// Subs returns the group's subscriptions; some may have been removed.
func (g *Group[O]) Subs() []*Sub[O] {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.list.subs
}

// leaf is what hangs at one filter: most often one subscription, so that it is
// small.
type leaf[O any] struct {
	subs []*Sub[O] // like list's
	more *rest[O]  // nil while there is no need
}

type rest[O any] struct {
	dead   int         // of subs
	groups []*Group[O] // grows in place like a list; replaced when one goes
}

func (l *leaf[O]) rest() *rest[O] {
	if l.more == nil {
		l.more = new(rest[O])
	}
	return l.more
}

func (l *leaf[O]) empty() bool {
	return len(l.subs) == 0 && (l.more == nil || len(l.more.groups) == 0)
}

func (l *leaf[O]) group(share string) *Group[O] {
	if l.more != nil {
		for _, g := range l.more.groups {
			if g.Share == share {
				return g
			}
		}
	}
	return nil
}

func (l *leaf[O]) add(share string, s *Sub[O]) {
	if share == "" {
		if l.subs == nil {
			l.subs = make([]*Sub[O], 0, 1)
		}
		l.subs = append(l.subs, s)
		return
	}
	g := l.group(share)
	if g == nil {
		g = &Group[O]{Share: share, Filter: s.Filter}
		r := l.rest()
		r.groups = append(r.groups, g)
	}
	g.mu.Lock()
	g.list.add(s)
	g.mu.Unlock()
}

func (l *leaf[O]) remove(share string, s *Sub[O]) {
	if share == "" {
		if len(l.subs) == 1 {
			s.state.Or(gone)
			l.subs = nil
			return
		}
		r := l.rest()
		all := list[O]{l.subs, r.dead}
		all.remove(s)
		l.subs, r.dead = all.subs, all.dead
		return
	}
	g := l.group(share)
	g.mu.Lock()
	g.list.remove(s)
	empty := len(g.list.subs) == 0
	g.mu.Unlock()
	if !empty {
		return
	}
	var left []*Group[O]
	for _, o := range l.more.groups {
		if o != g {
			left = append(left, o)
		}
	}
	l.more.groups = left
}

// Found collects what matches a name. It may be used again after Reset.
type Found[O any] struct {
	// Lists has one list of subscriptions for each filter that matches. Those
	// whose Options say that they are not live must be passed over.
	Lists [][]*Sub[O]
	// Groups has the groups whose filter matches.
	Groups []*Group[O]
}

// Reset forgets what was found.
func (f *Found[O]) Reset() {
	clear(f.Lists)
	clear(f.Groups)
	f.Lists, f.Groups = f.Lists[:0], f.Groups[:0]
}

func (f *Found[O]) take(l *leaf[O]) {
	if len(l.subs) > 0 {
		f.Lists = append(f.Lists, l.subs)
	}
	if l.more != nil {
		f.Groups = append(f.Groups, l.more.groups...)
	}
}

// Tree holds subscriptions. Filters without a wildcard stand in a hash table,
// the others in a tree by level; both are cut in shards, so that a lookup and
// a new subscription seldom meet. A lookup holds a read lock only while it
// collects slices. The zero Tree is empty.
type Tree[O any] struct {
	seed  maphash.Seed
	once  sync.Once
	exact [64]exactShard[O]
	wild  [17]wildShard[O] // by the first level; the last for + and #
	wilds atomic.Int64
	count atomic.Int64
	gen   atomic.Uint64
}

type exactShard[O any] struct {
	mu     sync.RWMutex
	leaves map[string]*leaf[O]
	_      [32]byte // keep neighbours off this cache line
}

type wildShard[O any] struct {
	mu    sync.RWMutex
	count atomic.Int64
	root  node[O]
}

// node is one level of filters with wildcards.
type node[O any] struct {
	children map[string]*node[O] // "+" among them
	here     leaf[O]
	below    leaf[O] // of the filter that goes on with #
}

func (n *node[O]) empty() bool {
	return len(n.children) == 0 && n.here.empty() && n.below.empty()
}

func (t *Tree[O]) init() { t.once.Do(func() { t.seed = maphash.MakeSeed() }) }

func (t *Tree[O]) exactShard(h uint64) *exactShard[O] { return &t.exact[h%uint64(len(t.exact))] }

func (t *Tree[O]) wildShard(first string) *wildShard[O] {
	if first == "+" || first == "#" {
		return &t.wild[len(t.wild)-1]
	}
	return &t.wild[maphash.String(t.seed, first)%uint64(len(t.wild)-1)]
}

// Generation changes with every Add and Remove. What Match found for a name is
// what it would find again as long as the generation read before is the same.
func (t *Tree[O]) Generation() uint64 { return t.gen.Load() }

// Len is how many subscriptions there are.
func (t *Tree[O]) Len() int { return int(t.count.Load()) }

// Add adds a subscription to filter, a valid one, shared under the name share
// if that is not empty. An owner must not add the same one twice.
func (t *Tree[O]) Add(owner O, share, filter string, options byte, id uint32) *Sub[O] {
	t.init()
	defer t.gen.Add(1)
	s := &Sub[O]{Owner: owner, Filter: filter}
	s.state.Store(pack(options, id))
	t.count.Add(1)
	if !HasWildcard(filter) {
		sh := t.exactShard(maphash.String(t.seed, filter))
		sh.mu.Lock()
		defer sh.mu.Unlock()
		l := sh.leaves[filter]
		if l == nil {
			if sh.leaves == nil {
				sh.leaves = map[string]*leaf[O]{}
			}
			l = new(leaf[O])
			sh.leaves[filter] = l
		}
		l.add(share, s)
		return s
	}
	first, _, _ := strings.Cut(filter, "/")
	sh := t.wildShard(first)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.count.Add(1)
	t.wilds.Add(1)
	n, rest, more := &sh.root, filter, true
	for more {
		var level string
		if level, rest, more = strings.Cut(rest, "/"); level == "#" {
			n.below.add(share, s)
			return s
		}
		next := n.children[level]
		if next == nil {
			if n.children == nil {
				n.children = map[string]*node[O]{}
			}
			next = new(node[O])
			n.children[level] = next
		}
		n = next
	}
	n.here.add(share, s)
	return s
}

// Remove takes back what Add with the same share returned, once.
func (t *Tree[O]) Remove(share string, s *Sub[O]) {
	defer t.gen.Add(1)
	t.count.Add(-1)
	if !HasWildcard(s.Filter) {
		sh := t.exactShard(maphash.String(t.seed, s.Filter))
		sh.mu.Lock()
		defer sh.mu.Unlock()
		l := sh.leaves[s.Filter]
		if l.remove(share, s); l.empty() {
			delete(sh.leaves, s.Filter)
		}
		return
	}
	first, _, _ := strings.Cut(s.Filter, "/")
	sh := t.wildShard(first)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.count.Add(-1)
	t.wilds.Add(-1)
	sh.root.remove(s.Filter, share, s)
}

func (n *node[O]) remove(rest, share string, s *Sub[O]) {
	level, rest, more := strings.Cut(rest, "/")
	if level == "#" {
		n.below.remove(share, s)
		return
	}
	next := n.children[level]
	if more {
		next.remove(rest, share, s)
	} else {
		next.here.remove(share, s)
	}
	if next.empty() {
		delete(n.children, level)
	}
}

// Match adds to found what matches name, a valid one.
func (t *Tree[O]) Match(name []byte, found *Found[O]) {
	t.init()
	sh := t.exactShard(maphash.Bytes(t.seed, name))
	sh.mu.RLock()
	if l := sh.leaves[string(name)]; l != nil {
		found.take(l)
	}
	sh.mu.RUnlock()
	if t.wilds.Load() == 0 {
		return
	}
	first := name
	if i := bytes.IndexByte(name, '/'); i >= 0 {
		first = name[:i]
	}
	w := &t.wild[maphash.Bytes(t.seed, first)%uint64(len(t.wild)-1)]
	w.match(name, found)
	if name[0] != '$' { // [MQTT-4.7.2-1]
		t.wild[len(t.wild)-1].match(name, found)
	}
}

func (w *wildShard[O]) match(name []byte, found *Found[O]) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.RLock()
	w.root.match(name, found)
	w.mu.RUnlock()
}

func (n *node[O]) match(rest []byte, found *Found[O]) {
	found.take(&n.below)
	level, more := rest, false
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		level, rest, more = rest[:i], rest[i+1:], true
	}
	if next := n.children[string(level)]; next != nil {
		next.step(rest, more, found)
	}
	if next := n.children["+"]; next != nil {
		next.step(rest, more, found)
	}
}

func (n *node[O]) step(rest []byte, more bool, found *Found[O]) {
	if more {
		n.match(rest, found)
		return
	}
	found.take(&n.here)
	found.take(&n.below) // a/# matches a
}
