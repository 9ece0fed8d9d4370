package poll

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// Config is where the server is, for Way.
type Config struct {
	// Options has the address and TLS; the client brings the rest.
	client.Options
	// Transport, if not nil, makes the requests, in place of one that knows
	// the environment's proxy.
	Transport http.RoundTripper
}

// Way makes HTTP one of the ways of a client.Client: the one that remains
// where nothing else gets through.
func Way(cfg Config) client.Way {
	if cfg.Transport == nil {
		cfg.Transport = newTransport(cfg.Options)
	}
	return client.Way{Name: "poll", Open: func(ctx context.Context, a client.Attempt) (client.Mailbox, error) {
		o := cfg.Options
		o.User, o.Password, o.Token, o.Device, o.Log = a.User, a.Password, a.Token, a.Device, a.Log
		m, err := newClient(o, cfg.Transport)
		if err != nil {
			return nil, err
		}
		m.once, m.hold = true, holdWay
		if err = m.login(ctx); err == nil {
			err = m.begin(ctx, a.Place)
		}
		if err != nil {
			m.Close()
			return nil, forClient(err)
		}
		return m, nil
	}}
}

// begin tells the server how far the program is.
func (m *Mailbox) begin(ctx context.Context, place *uint64) error {
	if place == nil {
		return nil
	}
	body := append(strconv.AppendUint([]byte(`{"seq":`), *place, 10), '}')
	_, err := m.request(ctx, http.MethodPost, "/v1/ack", m.device(), body, slack)
	after := *place
	var no *client.Refused
	if errors.As(err, &no) && no.Code == string(wire.AckBeyond) {
		after, err = 0, nil // the server has lost what was there
	}
	m.after = &after
	return err
}

// Greeting says whose mailbox it is, and after which place messages follow, if
// that is known.
func (m *Mailbox) Greeting() (address string, after uint64, known bool) {
	if m.after == nil {
		return m.address, 0, false
	}
	return m.address, *m.after, true
}

// finals are the server's words for a client that it does not want, and ours.
var finals = map[string]string{
	string(wire.NotAuthorized): "denied",
	string(wire.TokenExpired):  "expired",
	string(wire.Insecure):      "insecure",
}

// forClient puts the server's words into the client's.
func forClient(err error) error {
	var no *client.Refused
	if errors.As(err, &no) && finals[no.Code] != "" {
		return &client.Closed{Code: finals[no.Code], Text: no.Text}
	}
	var l *later
	if errors.As(err, &l) && l.after > 0 {
		return &client.Later{Code: l.text, After: l.after}
	}
	return err
}
