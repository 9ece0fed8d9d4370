package poll

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

// discard is an answer that nobody looks at.
type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) Write(p []byte) (int, error) { return len(p), nil }
func (w *discard) WriteHeader(status int)      { w.status = status }

// BenchmarkPost is a post of 256 bytes as the handler sees it: without the
// network, with a password that is remembered, into a store in memory.
func BenchmarkPost(b *testing.B) {
	core, _ := newCore(b, mem.Options{Retention: mailbox.Retention{Count: 1000}})
	h := New(core, Config{}).Handler()
	body := strings.Repeat("x", 256)
	var n atomic.Uint64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := local("POST", pathMessages, fmt.Sprintf(`{"to":"bob","id":"m%d","body":"%s"}`, n.Add(1), body))
			w := &discard{header: http.Header{}}
			if h.ServeHTTP(w, r); w.status != 200 {
				b.Errorf("status %d", w.status)
				return
			}
		}
	})
}

// BenchmarkInbox is an answer of 100 messages of 256 bytes.
func BenchmarkInbox(b *testing.B) {
	core, store := newCore(b, mem.Options{})
	h := serve(b, core, store, Config{})
	h.post("alice", `[`+strings.Repeat(`{"to":"bob","body":"`+strings.Repeat("x", 256)+`"},`, 99)+`{"to":"bob","body":"x"}]`)
	handler := h.srv.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := local("GET", pathInbox, "")
		w := &discard{header: http.Header{}}
		if handler.ServeHTTP(w, r); w.status != 200 {
			b.Fatalf("status %d", w.status)
		}
	}
}

// BenchmarkPostHTTP is the same over a real connection.
func BenchmarkPostHTTP(b *testing.B) {
	core, store := newCore(b, mem.Options{Retention: mailbox.Retention{Count: 1000}})
	h := serve(b, core, store, Config{})
	h.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	body := strings.Repeat("x", 256)
	var n atomic.Uint64
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := h.client.Do(h.request("alice", "POST", pathMessages, fmt.Sprintf(`{"to":"bob","id":"m%d","body":"%s"}`, n.Add(1), body)))
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// local is a request from this machine by bob.
func local(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = pipeAddr.String()
	r.SetBasicAuth("bob", "bob-password")
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, pipeAddr))
}
