//go:build unix

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/mqtt"
	"github.com/posthouse-im/posthouse/client/poll"
	"github.com/posthouse-im/posthouse/client/xmpp"
)

var dialers = []struct {
	via  string
	dial func(context.Context, client.Options) (client.Mailbox, error)
}{
	{"poll", poll.Dial}, {"link", link.Dial}, {"mqtt", mqtt.Dial}, {"xmpp", xmpp.Dial},
}

func options(s *server, via, user, device string) client.Options {
	o := client.Options{
		Addr: s.addr[via], User: user, Password: "secret", Device: device,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	switch via {
	case "poll":
		o.Addr = "http://" + s.addr["http"]
	case "xmpp":
		o.Addr = s.addr["xmpps"]
		o.TLS = &tls.Config{InsecureSkipVerify: true} // the server's own certificate, on loopback
	}
	return o
}

// A server that is killed in the middle of a thousand sends has everything
// that it acknowledged, once and in order, whichever door it came in by.
func TestKillInTheMiddle(t *testing.T) {
	const total = 1000
	for _, d := range dialers {
		t.Run(d.via, func(t *testing.T) {
			s := start(t)
			s.users("alice", "bob")
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			from, err := d.dial(ctx, options(s, d.via, "alice", "sender"))
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()

			// Several senders at once, so that the kill meets some on the way.
			const senders = 8
			var acked [total]atomic.Bool
			var stored atomic.Int64
			enough := make(chan struct{})
			sending, stop := context.WithCancel(ctx)
			done := make(chan struct{}, senders)
			for k := range senders {
				go func() { // ends when all are sent or the server is gone
					defer func() { done <- struct{}{} }()
					for i := k; i < total; i += senders {
						_, err := from.Send(sending, client.Draft{ID: fmt.Sprintf("m%d", i), To: "bob", Body: fmt.Appendf(nil, "%d", i)})
						if err != nil {
							return
						}
						acked[i].Store(true)
						if stored.Add(1) == total/3 {
							close(enough)
						}
					}
				}()
			}
			select {
			case <-enough:
			case <-ctx.Done():
				t.Fatalf("only %d of %d messages were stored", stored.Load(), total)
			}
			s.kill()
			// What is under way now fails or is tried again after a reconnect
			// that cannot succeed.
			stop()
			for range senders {
				<-done
			}
			s.again()

			to, err := link.Dial(ctx, options(s, "link", "bob", "reader"))
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			want := 0
			for i := range acked {
				if acked[i].Load() {
					want++
				}
			}
			got := map[string]int{}
			last := uint64(0)
			for found := 0; found < want; {
				m, err := to.Receive(ctx)
				if err != nil {
					t.Fatalf("after %d messages, %d of them acknowledged to the sender (of %d): %v", len(got), found, want, err)
				}
				if m.Seq <= last {
					t.Errorf("seq %d after %d", m.Seq, last)
				}
				last = m.Seq
				if got[m.ID]++; got[m.ID] > 1 {
					t.Errorf("%s came twice", m.ID)
				}
				var i int
				if _, err := fmt.Sscanf(string(m.Body), "%d", &i); err != nil {
					t.Fatalf("body %q", m.Body)
				}
				if acked[i].Load() {
					found++
				}
			}
			t.Logf("%d of %d were acknowledged before the kill; all are there", want, total)
		})
	}
}
