//go:build unix

package e2e

import (
	"bytes"
	"testing"
)

// What is sent by any client arrives at every other, in order and once, after
// the server was killed as well.
func TestMatrix(t *testing.T) {
	s := start(t)
	s.users("alice", "bob")

	var texts [][]byte
	for _, w := range ways {
		if w.missing != nil && w.missing() != "" {
			continue // its own subtest says so below
		}
		bodies := [][]byte{[]byte("first by " + w.name), []byte("zweite, 第二, <&>\"' by " + w.name)}
		w.send(t, s, bodies)
		texts = append(texts, bodies...)
	}
	s.kill()
	s.again()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			w.need(t)
			same(t, w.receive(t, s, len(texts)), texts)
		})
	}
}

// Bytes that are no text go wherever the client's protocol carries them.
func TestMatrixBinary(t *testing.T) {
	s := start(t)
	s.users("alice", "bob")

	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	var all [][]byte
	for i, w := range ways {
		if !w.binary || w.missing != nil && w.missing() != "" {
			continue
		}
		body := append([]byte{0, byte(i)}, every...)
		w.send(t, s, [][]byte{body})
		all = append(all, body)
	}
	for _, w := range ways {
		if !w.binary {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			w.need(t)
			same(t, w.receive(t, s, len(all)), all)
		})
	}
}

func same(t *testing.T, got, want [][]byte) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%d: missing %q", i, want[i])
		case i >= len(want):
			t.Errorf("%d: got %q, which was not sent", i, got[i])
		case !bytes.Equal(got[i], want[i]):
			t.Errorf("%d: got %q, want %q", i, got[i], want[i])
		}
	}
}
