package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	maxBody = 2 << 20          // bytes of a request: as many rules as may be
	linger  = 5 * time.Second  // for calls to end when the server goes down
	patient = 10 * time.Second // for a request to come in
)

// Server serves the socket.
type Server struct {
	Accounts Accounts
	Rules    Rules
	// Status says what the server is.
	Status func() Status
	Log    *slog.Logger
}

// Serve answers calls on ln, which it closes, until ctx is cancelled. When it
// has returned nothing it started is left.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: patient,
		ReadTimeout:       patient,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }() // ends with srv.Shutdown
	select {
	case err := <-served:
		srv.Close()
		return err
	case <-ctx.Done():
	}
	// ctx is over; what is under way may still finish.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), linger)
	defer cancel()
	if srv.Shutdown(late) != nil {
		srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) handler() http.Handler {
	type none struct{}
	mux := http.NewServeMux()
	on := func(call string, f func(ctx context.Context, r request) (any, error)) {
		mux.HandleFunc("POST /v1/"+call, func(w http.ResponseWriter, r *http.Request) {
			var in request
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
			d.DisallowUnknownFields()
			err := d.Decode(&in)
			if err == nil && d.Decode(&none{}) != io.EOF {
				err = errors.New("more than one object")
			}
			if err != nil {
				answer(w, http.StatusBadRequest, errorOf(err))
				return
			}
			out, err := f(r.Context(), in)
			attrs := []any{"call", call, "user", in.User}
			if err != nil {
				s.Log.Info("control", append(attrs, "error", err)...)
				answer(w, http.StatusUnprocessableEntity, errorOf(err))
				return
			}
			s.Log.Info("control", attrs...)
			answer(w, http.StatusOK, out)
		})
	}
	a := s.Accounts
	on("user/add", func(ctx context.Context, r request) (any, error) {
		return none{}, a.Add(ctx, r.User, r.Password, r.Role)
	})
	on("user/rm", func(ctx context.Context, r request) (any, error) {
		return none{}, a.Remove(ctx, r.User)
	})
	on("user/passwd", func(ctx context.Context, r request) (any, error) {
		return none{}, a.SetPassword(ctx, r.User, r.Password)
	})
	on("user/role", func(ctx context.Context, r request) (any, error) {
		return none{}, a.SetRole(ctx, r.User, r.Role)
	})
	on("user/disable", func(ctx context.Context, r request) (any, error) {
		return none{}, a.SetDisabled(ctx, r.User, r.Disabled)
	})
	on("user/ls", func(ctx context.Context, r request) (any, error) {
		list, err := a.List(ctx)
		return accountList{list}, err
	})
	on("key/add", func(ctx context.Context, r request) (any, error) {
		key, err := a.AddKey(ctx, r.User, r.Label)
		return newKey{key}, err
	})
	on("key/rm", func(ctx context.Context, r request) (any, error) {
		return none{}, a.RemoveKey(ctx, r.User, r.Label)
	})
	on("key/ls", func(ctx context.Context, r request) (any, error) {
		list, err := a.ListKeys(ctx, r.User)
		return keyList{list}, err
	})
	on("token", func(ctx context.Context, r request) (any, error) {
		token, expires, err := a.IssueToken(ctx, r.User, r.Device, r.Life)
		return newToken{token, expires}, err
	})
	on("rules/ls", func(ctx context.Context, r request) (any, error) { return s.Rules.List(ctx) })
	on("rules/set", func(ctx context.Context, r request) (any, error) { return s.Rules.Set(ctx, r.Rules, r.Version) })
	on("rules/check", func(ctx context.Context, r request) (any, error) { return s.Rules.Explain(ctx, r.Question) })
	on("status", func(context.Context, request) (any, error) { return s.Status(), nil })
	return mux
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // fails only if the client has left
}
