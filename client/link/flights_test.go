package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/store/mem"
)

// trip is how long it takes to the server and back.
const trip = 200 * time.Millisecond

// far connects to a server that is half a trip away, over TLS if cfg is given.
func (h *house) far(cfg *tls.Config) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		ours, near := net.Pipe()
		distant, theirs := net.Pipe()
		r := h.server.Load()
		o := r.Options(r.ctx)
		o.TLS = cfg
		go h.core.Engine.ServeConn(r.ctx, theirs, o) // these end with the connection
		go carry(near, distant)
		go carry(distant, near)
		w := h.wire(ours)
		if cfg == nil {
			return w, nil
		}
		tc := tls.Client(w, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		return tc, tc.HandshakeContext(ctx)
	}
}

// carry takes what is said from one end to the other, half a trip later.
func carry(from, to net.Conn) {
	type packet struct {
		b   []byte
		due time.Time
	}
	way := make(chan packet, 1000)
	go func() { // ends with from
		defer to.Close()
		for p := range way {
			time.Sleep(time.Until(p.due))
			to.Write(p.b)
		}
	}()
	defer close(way)
	for b := make([]byte, 64<<10); ; {
		n, err := from.Read(b)
		if err != nil {
			from.Close()
			return
		}
		way <- packet{append([]byte(nil), b[:n]...), time.Now().Add(trip / 2)}
	}
}

// Behind TCP and TLS one round trip brings the first message, and all the
// others, however many: HELLO there, WELCOME and messages back. It does so after
// a break, too.
func TestMessagesComeInOneRoundTrip(t *testing.T) {
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS() // for its certificate
	defer certs.Close()
	for _, c := range []struct {
		name  string
		cfg   *tls.Config
		trips time.Duration
	}{
		{"TCP", nil, 1},
		{"TLS 1.3", certs.TLS, 2}, // one for the handshake: RFC 8446 section 2
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 300
				h := open(t, mem.Options{})
				alice := h.login(t, "alice", "phone")
				fill := func(from int) {
					for i := range n {
						send(t, alice, "bob", fmt.Sprint(from+i))
					}
				}
				fill(0)
				begin, may := time.Now(), make(chan struct{}, 1)
				may <- struct{}{}
				bob := h.login(t, "bob", "pad", func(cfg *Config) {
					dial := h.far(c.cfg)
					cfg.Heartbeat = time.Minute // no probes, which would dial
					cfg.Dial = func(ctx context.Context) (net.Conn, error) {
						select {
						case <-may:
							return dial(ctx)
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
				})
				all := func(from int) {
					t.Helper()
					for i := range n {
						m := receive(t, bob, fmt.Sprint(from+i))
						if took := time.Since(begin); took != c.trips*trip {
							t.Fatalf("message %d came after %v, a round trip is %v", from+i, took, trip)
						}
						bob.Ack(t.Context(), m)
					}
				}
				all(0)
				time.Sleep(time.Second) // for the acknowledgements
				h.last().Close()
				fill(n)
				time.Sleep(time.Second) // for the pause before it dials
				begin = time.Now()
				may <- struct{}{}
				all(n)
				bob.Close()
				time.Sleep(trip) // its last words are on their way
			})
		})
	}
}

// What the program has to say goes with the first flight that can carry it, and
// is answered a round trip later.
func TestSendTakesOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		bob := h.login(t, "bob", "pad", func(c *Config) { c.Dial = h.far(nil) })
		begin := time.Now()
		for range 10 {
			if err := bob.SendAsync(client.Draft{To: "alice", Body: []byte("x")}, func(client.Receipt, error) {}); err != nil {
				t.Fatal(err)
			}
		}
		send(t, bob, "alice", "the last")
		if took := time.Since(begin); took != trip {
			t.Errorf("took %v", took)
		}
		bob.Close()
		time.Sleep(trip)
	})
}
