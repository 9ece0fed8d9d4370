package poll

import (
	"net/http"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// maxSaying is how many signals may be on their way.
const maxSaying = 4

// Signal says a word of the moment to a user, or to one of his devices
// ("bob/phone"): composing, paused, active, inactive, gone, ask, or the
// application's own. It does not wait, and it is not repeated. False says that
// it is lost already, as online and offline always are here: they belong to a
// connection. What others say does not come by this way.
func (m *Mailbox) Signal(to, kind string, body []byte) bool {
	if kind == "" || kind == "online" || kind == "offline" {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Err() != nil || m.saying == maxSaying {
		return false
	}
	m.saying++
	in := wire.AppendSaid(nil, to, kind, body, !utf8.Valid(body))
	m.posts.Go(func() { // ends with the request, or with Close
		if _, err := m.request(m.closed, http.MethodPost, "/v1/signals", m.device(), in, slack); err != nil {
			m.log.Debug("poll: a signal is lost", "err", err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.saying--
	})
	return true
}
