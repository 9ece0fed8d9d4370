package poll

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
)

// Stats counts what this door did since it was made.
type Stats struct {
	// Requests are the routes of the API, in order, and last "other": what
	// was for another handler, or for none.
	Requests []Requests
	// In and Out are messages stored, and messages handed out (once for each
	// time that they were).
	In, Out uint64
	// Duplicates are, of those in, the ones that were there already.
	Duplicates uint64
	// Dropped are words of the moment that were too many, or that a stream did
	// not take in time.
	Dropped uint64
	// BytesIn and BytesOut are bodies of requests and answers of the API, as
	// they are sent.
	BytesIn, BytesOut uint64
	// Polls and Streams are held now.
	Polls, Streams int64
	// Conns are open now; ConnsRefused were over a limit.
	Conns        int64
	ConnsRefused uint64
}

// Requests counts the requests to one route by the class of their answer.
type Requests struct {
	Route string    // "GET /v1/inbox"
	Class [6]uint64 // 2 is 2xx; 0 ended without an answer
}

// counters are the requests to one route.
type counters [6]atomic.Uint64

func (c *counters) add(status int) {
	if status < 0 || status > 599 {
		status = 0
	}
	c[status/100].Add(1)
}

func (c *counters) load(name string) Requests {
	r := Requests{Route: name}
	for i := range c {
		r.Class[i] = c[i].Load()
	}
	return r
}

type counts struct {
	in, out, duplicates, dropped, bytesIn, bytesOut, refused atomic.Uint64
	polls, streams, conns                                    atomic.Int64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	st := Stats{
		In: s.count.in.Load(), Out: s.count.out.Load(), Duplicates: s.count.duplicates.Load(),
		Dropped: s.count.dropped.Load(),
		BytesIn: s.count.bytesIn.Load(), BytesOut: s.count.bytesOut.Load(),
		Polls: s.count.polls.Load(), Streams: s.count.streams.Load(),
		Conns: s.count.conns.Load(), ConnsRefused: s.count.refused.Load(),
	}
	for _, rt := range s.routes {
		st.Requests = append(st.Requests, rt.count.load(rt.op.Method+" "+rt.op.Path))
	}
	st.Requests = append(st.Requests, s.other.load("other"))
	return st
}

// countingWriter notes how an answer began and how long it was.
type countingWriter struct {
	http.ResponseWriter
	status int
	n      int
}

// Unwrap is for [http.ResponseController].
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += n
	return n, err
}

func (w *countingWriter) Flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // an error means that the peer has gone
}

// countingBody is the body of a request.
type countingBody struct {
	io.ReadCloser
	n    *atomic.Uint64
	done bool // all of it was read
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(uint64(n))
	b.done = b.done || err == io.EOF
	return n, err
}

func itoa(n int) string { return strconv.Itoa(n) }
