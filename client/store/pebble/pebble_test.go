package pebble

import (
	"testing"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/storetest"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, func() client.Store {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestOneProgramAtATime(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s, err := Open(dir); err == nil {
		s.Close()
		t.Error("opened twice")
	}
}

func TestOpenNoDirectory(t *testing.T) {
	if s, err := Open("/dev/null/x"); err == nil {
		s.Close()
		t.Error("opened")
	}
}
