package pebble_test

import (
	"testing"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/storetest"
	"github.com/posthouse-im/posthouse/client/store/pebble"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, func() client.Store {
		s, err := pebble.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestOneProgramAtATime(t *testing.T) {
	dir := t.TempDir()
	s, err := pebble.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s, err := pebble.Open(dir); err == nil {
		s.Close()
		t.Error("opened twice")
	}
}

func TestOpenNoDirectory(t *testing.T) {
	if s, err := pebble.Open("/dev/null/x"); err == nil {
		s.Close()
		t.Error("opened")
	}
}
