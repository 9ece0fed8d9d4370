package poll

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
)

// handler answers requests without a network.
type handler http.HandlerFunc

func (h handler) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	return w.Result(), nil
}

func newMailbox(t *testing.T, h handler) *Mailbox {
	t.Helper()
	m, err := newClient(client.Options{Addr: "house:80", User: "alice", Password: "pw"}, h)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A server that is busy is asked again, later and later, with the same id.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, bodies := 0, map[string]bool{}
		m := newMailbox(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			bodies[string(b)] = true
			if asked++; asked < 5 {
				w.Header().Set("Retry-After", "10")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, `{"results":[{"id":"x","seq":1}]}`)
		})
		defer m.Close()
		start := time.Now()
		r, err := m.Send(t.Context(), client.Draft{To: "bob", Body: []byte("x")})
		if err != nil || r.Seq != 1 {
			t.Fatal(r, err)
		}
		if took := time.Since(start); took < 40*time.Second || took > 48*time.Second || asked != 5 || len(bodies) != 1 {
			t.Errorf("asked %d times in %v with %d bodies", asked, took, len(bodies))
		}
		// And who does not want to wait that long does not.
		asked = -1 << 30
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := m.Send(ctx, client.Draft{To: "bob"}); err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// Two clients of one device end each other's polls: they slow down.
func TestQuarrel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		m := newMailbox(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			io.WriteString(w, `{"messages":[],"next":"n"}`)
		})
		defer m.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := m.Receive(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		if asked > 1000 {
			t.Errorf("asked %d times in an hour", asked)
		}
	})
}
