package poll

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/klauspost/compress/gzhttp"

	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// route is one operation of the API.
type route struct {
	op    *huma.Operation
	serve func(http.ResponseWriter, *http.Request) error
	// open says that it needs no login, and may be linked to from anywhere.
	open  bool
	count counters
}

// handle registers a route: its operation goes into the document, and its
// handler onto the mux, from one value, so that they are the same.
func (s *Server) handle(rt *route) {
	s.routes = append(s.routes, rt)
	s.api.OpenAPI().AddOperation(rt.op)
	var known []string
	for _, p := range rt.op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := s.refused(rt, known, r)
		if p != nil && p.Kind() == wire.BadMethod {
			w.Header().Set("Allow", rt.op.Method)
		}
		if p == nil {
			err := rt.serve(w, r)
			switch {
			case err == nil:
				return
			case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
				panic(http.ErrAbortHandler) // the peer has gone: there is nobody to tell
			}
			p = s.problem(err, "")
		}
		s.turnAway(w, r, p)
	})
	if rt.op.Method == http.MethodGet && rt.op.Path != pathEvents {
		h = compress(h)
	}
	s.api.Adapter().Handle(rt.op, func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		cw := &countingWriter{ResponseWriter: w}
		if r.Body != nil && r.Body != http.NoBody {
			// In a copy: net/http knows by the type of the body what to do with
			// one that was not read.
			c := *r
			r = &c
			r.Body = &countingBody{ReadCloser: r.Body, n: &s.count.bytesIn}
		}
		defer func() {
			s.count.bytesOut.Add(uint64(cw.n))
			rt.count.add(cw.status)
		}()
		defer s.recover(cw, r)
		h.ServeHTTP(cw, r)
	})
}

// turnAway refuses a request whose body may still be on its way. A client may
// look for an answer only when it has sent everything, and would find a reset
// connection; so what it sends is taken for a while, and thrown away. Who waits
// to be told to send (RFC 9110 section 10.1.1) is told not to, and of what is
// short net/http takes care.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, p *wire.Problem) {
	body, ok := r.Body.(*countingBody)
	short := r.ContentLength >= 0 && r.ContentLength < 256<<10
	if !ok || body.done || short || r.ProtoMajor > 1 || r.Header.Get("Expect") != "" {
		refuse(w, p)
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/1 has that
	w.Header().Set("Connection", "close")
	refuse(w, p)
	_ = rc.Flush() // an error means that the peer has gone
	_, _ = io.CopyN(io.Discard, body, 2*int64(s.cfg.MaxRequest))
}

// compress packs answers that are worth it. What one sender writes and what
// others wrote to the same reader may share an answer, so its length is made
// uncertain: else it would tell a sender, guess by guess, what the others said
// (the attack known as BREACH).
func compress(h http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.ContentTypes([]string{"application/json"}),
		gzhttp.RandomJitter(64, 0, false), gzhttp.EnableZstd(false))
	if err != nil {
		panic(err) // the options are constants
	}
	return wrap(h)
}

// refused looks at what is the same for all routes.
func (s *Server) refused(rt *route, known []string, r *http.Request) *wire.Problem {
	if !rt.open {
		if p := s.crossOrigin(r); p != nil {
			return p
		}
		// The mux takes HEAD for GET. Here an answer without its body would
		// acknowledge what it has not brought.
		if r.Method == http.MethodHead {
			return wire.NewProblem(wire.BadMethod, "", "allowed: GET")
		}
	}
	if rt.op.Method == http.MethodGet && r.ContentLength != 0 {
		return wire.NewProblem(wire.BadJSON, "", "a GET has no body")
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return wire.NewProblem(wire.BadQuery, "", "the query is not well-formed")
	}
	for name, vs := range q {
		switch {
		// URLs end up in logs, histories and Referer headers. RFC 6750
		// section 5.3: "Don't pass bearer tokens in page URLs".
		case slices.Contains([]string{"token", "access_token", "api_key", "apikey", "key", "password", "auth"}, strings.ToLower(name)):
			return wire.NewProblem(wire.TokenInURL, name, "send it in the Authorization header")
		case !slices.Contains(known, name):
			return wire.NewProblem(wire.BadQuery, clip(name), "there is no such parameter; there are: "+strings.Join(known, " "))
		case len(vs) > 1:
			return wire.NewProblem(wire.BadQuery, name, "the parameter is there twice")
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// recover ends a request, and only that, when its handler has panicked.
func (s *Server) recover(w *countingWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("poll: panic", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // the answer had begun: cut it off, so that nobody takes it for whole
	}
	refuse(w, wire.NewProblem(wire.Internal, "", ""))
}

// Handler answers what Serve does, for another HTTP server.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == http.NoBody {
			// Nothing more is to come, so what is held is not cut off by the
			// time limit for what has to come. It works on every connection of
			// net/http's; with another, as in a test, there is no limit.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
			if s.cors(w, r) {
				return
			}
		}
		handler, pattern := s.mux.Handler(r)
		if pattern == "" {
			s.nothing(w, r, handler)
			return
		}
		if !strings.Contains(pattern, " /v1/") {
			s.other.add(http.StatusOK)
		}
		s.mux.ServeHTTP(w, r)
	})
}

// nothing answers a request that no route is for: handler is what the mux
// would have said, a 404 or a 405 with Allow.
func (s *Server) nothing(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	said := &saidWriter{header: http.Header{}}
	handler.ServeHTTP(said, r)
	s.other.add(said.status)
	if said.status != http.StatusMethodNotAllowed {
		refuse(w, wire.NewProblem(wire.NotFound, "", clip(r.URL.Path)))
		return
	}
	allow := said.header.Get("Allow")
	if s.headless(r) {
		allow = strings.Replace(allow, ", HEAD", "", 1)
	}
	w.Header().Set("Allow", allow)
	refuse(w, wire.NewProblem(wire.BadMethod, "", "allowed: "+allow))
}

// headless reports whether HEAD is refused where r is for and GET is taken.
func (s *Server) headless(r *http.Request) bool {
	get := *r
	get.Method = http.MethodGet
	_, pattern := s.mux.Handler(&get)
	return slices.ContainsFunc(s.routes, func(rt *route) bool { return !rt.open && rt.op.Method+" "+rt.op.Path == pattern })
}

// saidWriter keeps the head of an answer and drops the rest.
type saidWriter struct {
	header http.Header
	status int
}

func (w *saidWriter) Header() http.Header         { return w.header }
func (w *saidWriter) WriteHeader(status int)      { w.status = status }
func (w *saidWriter) Write(p []byte) (int, error) { return len(p), nil }

// body reads a request's body as a whole.
func (s *Server) body(w http.ResponseWriter, r *http.Request, buf []byte) ([]byte, error) {
	if ct := r.Header.Get("Content-Type"); !acceptable(ct) {
		return nil, wire.NewProblem(wire.BadMediaType, "Content-Type", clip(ct))
	}
	if ce := r.Header.Get("Content-Encoding"); ce != "" && ce != "identity" {
		return nil, wire.NewProblem(wire.BadMediaType, "Content-Encoding", clip(ce))
	}
	if r.ContentLength > int64(s.cfg.MaxRequest) {
		return nil, s.tooLong()
	}
	in := http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxRequest))
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(512, len(buf)))
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == nil {
			continue
		}
		var tooLong *http.MaxBytesError
		switch {
		case err == io.EOF:
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			return buf, nil
		case errors.As(err, &tooLong):
			return nil, s.tooLong()
		}
		w.Header().Set("Connection", "close")
		if isTimeout(err) {
			return nil, wire.NewProblem(wire.BodySlow, "", "within "+s.cfg.BodyTimeout.String())
		}
		return nil, wire.NewProblem(wire.BadJSON, "", "the body was cut off")
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func (s *Server) tooLong() *wire.Problem {
	return wire.NewProblem(wire.TooLarge, "", "a request of more than "+itoa(s.cfg.MaxRequest)+" bytes")
}

// acceptable reports whether ct may be JSON. Tools that do not ask call it
// other things: curl -d a form, fetch plain text.
func acceptable(ct string) bool {
	mt, _, _ := strings.Cut(ct, ";")
	switch mt = strings.ToLower(strings.TrimSpace(mt)); mt {
	case "", "application/json", "application/x-www-form-urlencoded", "text/plain", "text/json":
		return true
	}
	return strings.HasSuffix(mt, "+json")
}
