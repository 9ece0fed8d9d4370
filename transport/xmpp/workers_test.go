package xmpp

import (
	"log/slog"
	"strings"
	"testing"
)

// A piece of work that panics is no end for those behind it.
func TestWorkerPanics(t *testing.T) {
	var log strings.Builder
	w := workers{log: slog.New(slog.NewTextHandler(&log, nil))}
	done := make(chan struct{})
	w.do("bob", func() { panic("out of order") })
	w.do("bob", func() { close(done) })
	<-done
	w.wait()
	if !strings.Contains(log.String(), "out of order") {
		t.Errorf("logged: %s", &log)
	}
}
