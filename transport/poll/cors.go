package poll

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// allowed reports whether pages of origin may use the API.
func (s *Server) allowed(origin string, r *http.Request) bool {
	if slices.Contains(s.cfg.Origins, origin) || slices.Contains(s.cfg.Origins, "*") {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// crossOrigin refuses a request that a foreign page has made a browser send: a
// browser adds a password it remembers by itself, and asking with after= or
// posting changes something.
func (s *Server) crossOrigin(r *http.Request) *wire.Problem {
	if origin := r.Header.Get("Origin"); origin != "" {
		if s.allowed(origin, r) {
			return nil
		}
		return wire.NewProblem(wire.CrossOrigin, "Origin", clip(origin))
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "cross-site", "same-site":
		return wire.NewProblem(wire.CrossOrigin, "Sec-Fetch-Site", site)
	}
	return nil
}

// cors adds the headers that let a page of an allowed origin read the answer
// (the Fetch standard, section 3.3), and answers a preflight; done says that it
// did.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) (done bool) {
	if len(s.cfg.Origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !s.allowed(origin, r) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "ETag, Retry-After, WWW-Authenticate")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", s.methods())
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// methods are those that some route takes.
func (s *Server) methods() string {
	var ms []string
	for _, rt := range s.routes {
		if !slices.Contains(ms, rt.op.Method) {
			ms = append(ms, rt.op.Method)
		}
	}
	return strings.Join(ms, ", ")
}
