package mqtt

import (
	"testing"
	"unsafe"

	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// What an idle connection with one subscription costs here in structs. Each
// stands in a size class of the allocator; one more field may cost 16 bytes
// or more for each of a million connections.
func TestSizes(t *testing.T) {
	for _, s := range []struct {
		name      string
		size, max uintptr
	}{
		{"client", unsafe.Sizeof(client{}), 128},
		{"session", unsafe.Sizeof(session{}), 80},
		{"subscription", unsafe.Sizeof(subscription{}), 32},
		{"topic.Sub", unsafe.Sizeof(topic.Sub[*session]{}), 32},
	} {
		if s.size > s.max {
			t.Errorf("%s has %d bytes, at most %d", s.name, s.size, s.max)
		}
	}
}
