package client

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Store is what a device keeps: its place in the mailbox, what it has not sent
// yet, and what it knows of networks. It is a table of keys and values, small
// enough to be put over whatever a program stores its own things in. One store
// belongs to one account and device, and to one program at a time. Its methods
// may be called from any goroutine.
//
// Memory is one; client/store/pebble keeps a directory.
type Store interface {
	// Range calls f for each key that begins with prefix, in the order of
	// their bytes, until f returns an error, which it returns. Value is valid
	// until f returns.
	Range(prefix string, f func(key string, value []byte) error) error
	// Apply makes changes, all or none. When it has returned they survive the
	// end of the program and of the machine.
	Apply(changes ...Change) error
	// Close is called last.
	Close() error
}

// Change is what Apply does to a key. A nil Value removes it.
type Change struct {
	Key   string
	Value []byte
}

// Memory is a Store that ends with the program. The zero value is ready, and
// may be used again after Close.
type Memory struct {
	mu sync.Mutex
	m  map[string][]byte // guarded by mu
}

// Range implements Store.
func (s *Memory) Range(prefix string, f func(string, []byte) error) error {
	s.mu.Lock()
	m := maps.Clone(s.m) // values are not changed in place
	s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !strings.HasPrefix(k, prefix) {
			continue
		}
		if err := f(k, m[k]); err != nil {
			return err
		}
	}
	return nil
}

// Apply implements Store.
func (s *Memory) Apply(changes ...Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string][]byte{}
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(s.m, c.Key)
		} else {
			s.m[c.Key] = append([]byte{}, c.Value...)
		}
	}
	return nil
}

// Close implements Store.
func (s *Memory) Close() error { return nil }
