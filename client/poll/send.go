package poll

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// A batch is what was queued while the last request was under way, at most so
// many messages and about so many bytes.
const (
	maxBatch   = 256
	batchBytes = 512 << 10
)

// sending is a message that is not answered yet.
type sending struct {
	client.Draft
	since time.Time
	done  func(client.Receipt, error)
	gone  bool // guarded by the mailbox's mu; answered, or given up by who waited
}

// Send returns when the server has stored d. It is posted again until the
// server has answered or ctx ends; a mailbox of a [Way] gives up with its
// connection. Several at the same time share a request.
func (m *Mailbox) Send(ctx context.Context, d client.Draft) (client.Receipt, error) {
	type result struct {
		r   client.Receipt
		err error
	}
	done := make(chan result, 1)
	s, err := m.enqueue(d, func(r client.Receipt, err error) { done <- result{r, err} })
	if err != nil {
		return client.Receipt{}, err
	}
	select {
	case r := <-done:
		return r.r, r.err
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		s.gone = true
		return client.Receipt{ID: s.ID}, ctx.Err()
	}
}

// SendAsync does not wait: done is called with what Send would return, on a
// goroutine that must not be blocked. Messages are stored in the order of the
// calls. An error means that done will not be called.
func (m *Mailbox) SendAsync(d client.Draft, done func(client.Receipt, error)) error {
	_, err := m.enqueue(d, done)
	return err
}

func (m *Mailbox) enqueue(d client.Draft, done func(client.Receipt, error)) (*sending, error) {
	if d.ID == "" {
		d.ID = rand.Text()
	}
	s := &sending{Draft: d, since: time.Now(), done: done}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Err() != nil {
		return nil, client.ErrClosed
	}
	m.queue = append(m.queue, s)
	if !m.posting {
		m.posting = true
		m.posts.Go(m.post) // ends when the queue is empty, or with Close
	}
	return s, nil
}

// post posts what is in the queue, in order.
func (m *Mailbox) post() {
	for tries := 0; ; tries++ {
		if m.closed.Err() != nil {
			m.end(client.ErrClosed)
			return
		}
		b := m.batch()
		if len(b) == 0 {
			return
		}
		again, err := m.try(b)
		if !again {
			tries = -1
			continue
		}
		after := client.Backoff(tries)
		var l *later
		if errors.As(err, &l) {
			after += l.after
		}
		m.log.Info("poll: posting again", "in", after, "err", err)
		m.sleep(m.closed, after) // or until Close, which is seen above
	}
}

// batch returns the head of the queue, which it leaves there; nothing ends
// post.
func (m *Mailbox) batch() []*sending {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.queue[:0]
	for _, s := range m.queue {
		if !s.gone {
			waiting = append(waiting, s)
		}
	}
	clear(m.queue[len(waiting):])
	m.queue = waiting
	n, bytes := 0, 0
	for n < len(m.queue) && n < maxBatch && bytes < batchBytes && (n == 0 || m.singly == 0) {
		bytes += len(m.queue[n].Body)
		n++
	}
	m.posting = n > 0
	return append([]*sending(nil), m.queue[:n]...)
}

// try makes one request of b and answers what can be answered. Again says
// that something is left to be tried after a pause, for the reason of err.
func (m *Mailbox) try(b []*sending) (again bool, err error) {
	results, err := m.postOnce(b)
	var no *client.Refused
	switch {
	case err == nil:
	case m.closed.Err() != nil:
		return false, nil
	case !errors.As(err, &no):
		if !m.once {
			return true, err
		}
		m.answer(b, client.Receipt{}, forClient(err))
		return false, nil
	case len(b) > 1 && finals[no.Code] == "":
		// What is wrong with one of them, or with so many, refuses all.
		m.mu.Lock()
		m.singly = len(b)
		m.mu.Unlock()
		return false, nil
	default:
		m.answer(b, client.Receipt{}, m.no(no))
		return false, nil
	}
	for i := range b {
		r := results[i]
		switch p := r.Problem; {
		case p == nil:
			m.answer(b[i:i+1], client.Receipt{Seq: r.Seq, Duplicate: r.Duplicate}, nil)
		case !passing(p.Status):
			m.answer(b[i:i+1], client.Receipt{}, m.no(refusal(p)))
		case m.once:
			m.answer(b[i:i+1], client.Receipt{}, &client.Refused{Code: string(wire.Unavailable), Text: p.Error()})
		default:
			again, err = true, p
		}
	}
	return again, err
}

// passing reports whether a problem of that status says nothing about the
// message.
func passing(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

func (m *Mailbox) postOnce(b []*sending) ([]wire.Receipt, error) {
	body := []byte{'['}
	for i, s := range b {
		if i > 0 {
			body = append(body, ',')
		}
		w := wire.Draft{To: s.To, ID: s.ID, Type: s.Type, Body: s.Body, Urgency: s.Urgency}
		for _, a := range s.Attrs {
			w.Attrs = append(w.Attrs, wire.Attr(a))
		}
		if w.Type == "" {
			w.Type = "text/plain; charset=utf-8"
		}
		w.Binary = !wire.Textual(w.Type)
		if s.Expires > 0 {
			w.TTL = max(s.Expires-time.Since(s.since), time.Millisecond)
		}
		body = wire.AppendDraft(body, &w)
	}
	body = append(body, ']')
	answer, err := m.request(m.closed, http.MethodPost, "/v1/messages", m.device(), body, slack)
	if err != nil {
		return nil, err
	}
	var r struct {
		Results []wire.Receipt `json:"results"`
	}
	if err = json.Unmarshal(answer, &r); err == nil && len(r.Results) != len(b) {
		err = fmt.Errorf("%d results for %d messages", len(r.Results), len(b))
	}
	if err != nil {
		return nil, fmt.Errorf("poll: /v1/messages: answer is not what it should be: %w", err)
	}
	return r.Results, nil
}

// answer takes b out of the queue and says what became of it.
func (m *Mailbox) answer(b []*sending, r client.Receipt, err error) {
	m.mu.Lock()
	for _, s := range b {
		s.gone = true // batch takes it out
	}
	m.singly = max(m.singly-len(b), 0)
	m.mu.Unlock()
	for _, s := range b {
		s.done(client.Receipt{ID: s.ID, Seq: r.Seq, Duplicate: r.Duplicate}, err)
	}
}

// end answers all that waits: there will be no more requests.
func (m *Mailbox) end(err error) {
	m.mu.Lock()
	all := m.queue
	m.queue, m.posting = nil, false
	m.mu.Unlock()
	for _, s := range all {
		if !s.gone { // nobody else changes it any more
			s.done(client.Receipt{ID: s.ID}, err)
		}
	}
}

// refusal is a problem in the client's words.
func refusal(p *wire.Problem) *client.Refused {
	text := p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return &client.Refused{Code: string(p.Kind()), Text: text}
}

// words are those that link has for the same refusals: a client that changes
// ways is told the same by each.
var words = map[string]string{
	string(wire.BadRecipient): "unknown-recipient",
	string(wire.Conflict):     "conflict",
	string(wire.RemoteDomain): "remote",
	string(wire.BadField):     "invalid",
}

// no is the server's no, in the words of a client if the mailbox is one's.
func (m *Mailbox) no(r *client.Refused) error {
	if !m.once {
		return r
	}
	if w := words[r.Code]; w != "" {
		return &client.Refused{Code: w, Text: r.Text}
	}
	return forClient(r)
}
