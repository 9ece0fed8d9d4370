package link

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/store/mem"
)

// radio is a connection that counts how often it wakes a radio: bytes either
// way after ten seconds of silence.
type radio struct {
	net.Conn
	mu      sync.Mutex
	last    time.Time // guarded by mu
	wakeups int       // guarded by mu
}

func (r *radio) traffic() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.last) >= 10*time.Second {
		r.wakeups++
	}
	r.last = time.Now()
}

func (r *radio) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.traffic()
	return n, err
}

func (r *radio) Write(p []byte) (int, error) {
	r.traffic()
	return r.Conn.Write(p)
}

// A phone lies on a table for six hours and gets news that can wait every 97
// seconds, and a message every half hour that cannot. What wakes it?
func TestHoldSavesWakeups(t *testing.T) {
	const hours = 6 * time.Hour
	night := func(t *testing.T, hold time.Duration) (wakeups int, latest, urgentLate time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, mem.Options{})
			var r *radio
			phone := h.login(t, "alice", "phone", func(c *Config) {
				c.Hold, c.Heartbeat = hold, 4*time.Minute+30*time.Second
				c.Dial = func(ctx context.Context) (net.Conn, error) {
					nc, err := h.dial(ctx)
					r = &radio{Conn: nc}
					return r, err
				}
			})
			phone.SetBackground(true)
			var got int
			var last uint64
			read := make(chan struct{})
			go func() { // ends when the phone is closed
				defer close(read)
				for {
					m, err := phone.Receive(t.Context())
					if err != nil {
						return
					}
					if m.Seq <= last {
						t.Errorf("%d after %d", m.Seq, last)
					}
					last, got = m.Seq, got+1
					late := time.Since(m.Time)
					if latest = max(latest, late); string(m.Body) == "now" {
						urgentLate = max(urgentLate, late)
					}
					phone.Ack(t.Context(), m)
				}
			}()
			bob := h.login(t, "bob", "pad")
			sent := 0
			for at := time.Duration(0); at < hours; at += 97 * time.Second {
				d := client.Draft{To: "alice", Body: []byte("news"), Urgency: "low"}
				if sent%19 == 18 {
					d = client.Draft{To: "alice", Body: []byte("now")}
				}
				if _, err := bob.Send(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				sent++
				time.Sleep(97 * time.Second)
			}
			time.Sleep(10 * time.Minute)
			phone.Close()
			<-read
			if got != sent {
				t.Errorf("got %d of %d", got, sent)
			}
			wakeups = r.wakeups
		})
		return wakeups, latest, urgentLate
	}
	without, _, _ := night(t, -1)
	with, latest, urgent := night(t, 0)
	t.Logf("wake-ups in %v: %d, without holding %d; what can wait came %v late at most", hours, with, without, latest)
	if with*2 > without {
		t.Errorf("%d wake-ups with holding, %d without", with, without)
	}
	if latest > 5*time.Minute || urgent > time.Second {
		t.Errorf("news came %v late, what was urgent %v", latest, urgent)
	}
}
