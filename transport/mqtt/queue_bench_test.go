package mqtt

import (
	"fmt"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// BenchmarkFromQueue is what a message in the queue of a kept session costs until
// it is known which of so many filters want it.
func BenchmarkFromQueue(b *testing.B) {
	for _, n := range []int{1, 31, 100, 1000, 10_000} {
		for _, filter := range []string{"site/%d/light", "site/%d/+"} {
			b.Run(fmt.Sprintf("filters=%d/%s", n, fmt.Sprintf(filter, 0)), func(b *testing.B) {
				c := &client{version: packet.V311, srv: &Server{}, s: &session{key: "alice@localhost/hub"}}
				c.srv.cfg.MaxSubscriptions = n
				for i := range n {
					f := fmt.Sprintf(filter, i)
					c.addSub(subscription{filter: f, sub: c.srv.subs.Add(c.s, "", f, 1, 0)})
				}
				m := message{topic: fmt.Appendf(nil, "site/%d/light", n/2), payload: []byte("on"), qos: 1}
				e := mailbox.Entry{Message: &mailbox.Message{Body: m.encode("")}}
				b.ReportAllocs()
				for b.Loop() {
					var p outgoing
					if !c.fromQueue(&p, &e) {
						b.Fatal("nobody wants it")
					}
				}
			})
		}
	}
}
