// Package pebble keeps what a device must not forget in a directory: a
// client.Store on the Pebble engine. Changes that are made at the same time
// share one write to the disk.
package pebble

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/client"
)

// The engine's defaults are for servers; a device keeps a few kilobytes.
const (
	cache    = 1 << 20
	memTable = 1 << 20
)

// Store is a client.Store. Make one with Open.
type Store struct{ db *pebble.DB }

var _ client.Store = (*Store)(nil)

// Open opens the store in a directory, and makes it if there is none. A
// program that has it open keeps others out.
func Open(dir string) (*Store, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		Logger: quiet{}, CacheSize: cache, MemTableSize: memTable, FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return nil, fmt.Errorf("client/store/pebble: open %s: %w", dir, err)
	}
	return &Store{db}, nil
}

// Range implements client.Store.
func (s *Store) Range(prefix string, f func(string, []byte) error) (err error) {
	o := &pebble.IterOptions{UpperBound: after(prefix)}
	if prefix != "" { // no bound is nil, not empty
		o.LowerBound = []byte(prefix)
	}
	it, err := s.db.NewIter(o)
	if err != nil {
		return fmt.Errorf("client/store/pebble: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("client/store/pebble: %w", err)
		}
		if err := f(string(it.Key()), v); err != nil {
			return err
		}
	}
	return nil // Close tells what the iterator met
}

// after is the first key behind all that begin with prefix; nil is the end.
func after(prefix string) []byte {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// Apply implements client.Store.
func (s *Store) Apply(changes ...client.Change) error {
	b := s.db.NewBatch()
	defer b.Close()
	for _, c := range changes {
		var err error
		if c.Value == nil {
			err = b.Delete([]byte(c.Key), nil)
		} else {
			err = b.Set([]byte(c.Key), c.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("client/store/pebble: %w", err)
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("client/store/pebble: %w", err)
	}
	return nil
}

// Close implements client.Store.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("client/store/pebble: %w", err)
	}
	return nil
}

// quiet is the engine's logger: what matters it returns as an error.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, a ...any) {
	panic(fmt.Sprintf("client/store/pebble: "+format, a...))
}
