// Package storetest is the contract of client.Store, which every store runs.
package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/posthouse-im/posthouse/client"
)

// Run runs the contract. Open opens the same store again after a Close.
func Run(t *testing.T, open func() client.Store) {
	s := open()
	all := func(prefix string) (kept []string) {
		t.Helper()
		err := s.Range(prefix, func(k string, v []byte) error {
			kept = append(kept, fmt.Sprintf("%s=%s", k, v))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	want := func(prefix string, want ...string) {
		t.Helper()
		if got := all(prefix); !reflect.DeepEqual(got, want) {
			t.Fatalf("under %q: %q, want %q", prefix, got, want)
		}
	}
	apply := func(changes ...client.Change) {
		t.Helper()
		if err := s.Apply(changes...); err != nil {
			t.Fatal(err)
		}
	}
	want("")
	v := []byte("two")
	apply(client.Change{Key: "q/2", Value: v}, client.Change{Key: "q/1", Value: []byte("one")}, client.Change{Key: "r", Value: []byte{}})
	copy(v, "xxx") // the caller's own again
	apply(client.Change{Key: "q/\xff", Value: []byte("last")}, client.Change{Key: "p\xff", Value: []byte("p")})
	want("q/", "q/1=one", "q/2=two", "q/\xff=last")
	want("", "p\xff=p", "q/1=one", "q/2=two", "q/\xff=last", "r=")
	want("p\xff", "p\xff=p")
	want("s")
	apply(client.Change{Key: "q/1"}, client.Change{Key: "q/3", Value: []byte("three")}, client.Change{Key: "gone"})
	apply(client.Change{Key: "q/2", Value: []byte("2")})
	want("q/", "q/2=2", "q/3=three", "q/\xff=last")

	stop, n := errors.New("stop"), 0
	if err := s.Range("", func(string, []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Fatalf("ended by the caller: %v after %d", err, n)
	}
	// What is found may be changed on the way.
	if err := s.Range("q/", func(k string, _ []byte) error { return s.Apply(client.Change{Key: k}) }); err != nil {
		t.Fatal(err)
	}
	want("", "p\xff=p", "r=")

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	want("", "p\xff=p", "r=")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
