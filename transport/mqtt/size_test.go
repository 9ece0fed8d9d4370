package mqtt

import (
	"testing"
	"unsafe"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// What an idle connection with one subscription costs here; the engine and the
// store of subscriptions come on top.
func TestSizes(t *testing.T) {
	t.Logf("client %d, session %d, subscription %d, Sub %d, conn %d", unsafe.Sizeof(client{}), unsafe.Sizeof(session{}),
		unsafe.Sizeof(subscription{}), unsafe.Sizeof(topic.Sub[*session]{}), unsafe.Sizeof(conn.Conn{}))
}
