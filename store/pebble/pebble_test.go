package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Engine {
		return open(t, "store", Options{FS: vfs.NewMem(), Retention: o.Retention, Now: o.Now, Sweep: -1})
	})
}

// TestContractSmall: with as little memory as it can.
func TestContractSmall(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Engine {
		return open(t, "store", Options{FS: vfs.NewMem(), Retention: o.Retention, Now: o.Now, Sweep: -1, MemTable: 256 << 10, Tail: 8 << 10, Boxes: 1})
	})
}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
