package auth

// recent is a map of bounded size that keeps what was used of late. It is two
// maps: when the young one is full it becomes the old one, and the old one is
// dropped; what is found in the old one moves to the young. Set max, at least
// 1; at most twice as many entries are held. It needs a lock around it.
type recent[K comparable, V any] struct {
	max        int
	young, old map[K]V
}

func (r *recent[K, V]) get(k K) (V, bool) {
	v, ok := r.young[k]
	if ok {
		return v, true
	}
	if v, ok = r.old[k]; ok {
		r.put(k, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if _, ok := r.young[k]; !ok && len(r.young) >= r.max {
		r.old, r.young = r.young, nil
	}
	if r.young == nil {
		r.young = make(map[K]V)
	}
	r.young[k] = v
}

func (r *recent[K, V]) del(k K) {
	delete(r.young, k)
	delete(r.old, k)
}
