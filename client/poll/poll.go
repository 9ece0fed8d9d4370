// Package poll reaches a mailbox over HTTP, by long poll. It needs nothing of
// the network but that requests are answered, and costs a request for each
// acknowledgement and for each batch sent, which is what was given to Send
// while the last one was under way: prefer client/link where it gets through.
//
// What fails for a reason that may pass, the network or a server that is
// restarting, is tried again with growing pauses until the context ends;
// sending again is harmless, since each message has an id.
package poll

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/carrier"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

const (
	// wait is how long a poll asks to be held. The server shortens it to what
	// it knows of the network.
	wait = 5 * time.Minute
	// slack is how long an answer may take beyond that.
	slack = 30 * time.Second

	// holdWay is how long a poll of a Way asks to be held: many proxies cut at
	// sixty seconds. It is shortened when one is cut, to no less than shortest.
	holdWay  = 50 * time.Second
	shortest = time.Second

	// maxAnswer bounds an answer in bytes.
	maxAnswer = 64 << 20
)

// Mailbox is one device's access. It implements [client.Mailbox].
type Mailbox struct {
	base string
	o    client.Options
	once bool // what fails ends the mailbox
	http *http.Client
	log  *slog.Logger

	address string        // whose mailbox it is
	after   *uint64       // place after which messages follow, if known
	hold    time.Duration // how long a poll asks to be held; belongs to who holds turn

	closed context.Context // ended by Close
	close  context.CancelFunc

	posts   sync.WaitGroup
	mu      sync.Mutex
	queue   []*sending // guarded by mu; not answered, oldest first
	posting bool       // guarded by mu; post runs
	singly  int        // guarded by mu; so many are posted one by one
	saying  int        // guarded by mu; signals on their way

	// turn has one token: whoever holds it may receive, and owns what follows.
	turn chan struct{}
	got  []wire.Message // received and not yet given out
	next string         // where to read on; empty is the device's cursor
}

// Dial checks that the server is there and lets us in. Options.Addr is
// host:port or a URL, http://host:port/prefix.
func Dial(ctx context.Context, o client.Options) (client.Mailbox, error) {
	m, err := newClient(o, newTransport(o))
	if err != nil {
		return nil, err
	}
	if err := m.login(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// login makes the cheapest request that needs one. It is made once: who dials
// wants to know that the address is wrong.
func (m *Mailbox) login(ctx context.Context) error {
	answer, err := m.request(ctx, http.MethodGet, "/v1/presence", nil, nil, slack)
	if err != nil {
		return fmt.Errorf("poll: dial %s: %w", m.base, err)
	}
	var who struct {
		User string `json:"user"`
	}
	if err := json.Unmarshal(answer, &who); err != nil {
		return fmt.Errorf("poll: dial %s: answer is not what it should be: %w", m.base, err)
	}
	m.address = who.User
	return nil
}

// newTransport knows the environment's proxy.
func newTransport(o client.Options) http.RoundTripper {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         carrier.Dial,
		TLSClientConfig:     carrier.Sessions(o.TLS),
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
}

func newClient(o client.Options, tr http.RoundTripper) (*Mailbox, error) {
	base, err := baseURL(o)
	if err != nil {
		return nil, err
	}
	m := &Mailbox{base: base, o: o, http: &http.Client{Transport: tr}, log: o.Log, hold: wait, turn: make(chan struct{}, 1)}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.closed, m.close = context.WithCancel(context.Background())
	m.turn <- struct{}{}
	return m, nil
}

func baseURL(o client.Options) (string, error) {
	addr := o.Addr
	if !strings.Contains(addr, "://") {
		scheme := "http"
		if o.TLS != nil {
			scheme = "https"
		}
		addr = scheme + "://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return "", fmt.Errorf("poll: address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("poll: %q is neither host:port nor an http URL", o.Addr)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// Receive returns the next message, waiting for it.
func (m *Mailbox) Receive(ctx context.Context) (client.Message, error) {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return client.Message{}, ctx.Err()
	case <-m.closed.Done():
		return client.Message{}, client.ErrClosed
	}
	defer func() { m.turn <- struct{}{} }()
	for early := 0; len(m.got) == 0; {
		start := time.Now()
		if err := m.poll(ctx); err != nil {
			return client.Message{}, err
		}
		// An empty answer before its time means that the server is going down
		// or that the same device polls from elsewhere. Asking again at once
		// would be a quarrel without end.
		if len(m.got) == 0 && time.Since(start) < 5*time.Second {
			if err := m.sleep(ctx, client.Backoff(early)); err != nil {
				return client.Message{}, err
			}
			early++
		}
	}
	w := m.got[0]
	m.got[0] = wire.Message{}
	m.got = m.got[1:]
	msg := client.Message{Seq: w.Seq, Prev: w.Prev, ID: w.ID, From: w.From, To: w.To, Device: w.Device,
		Time: w.Time, Type: w.Type, Body: w.Body, Expires: w.Expires, Urgency: cmp.Or(w.Urgency, "normal")}
	for _, a := range w.Attrs {
		msg.Attrs = append(msg.Attrs, client.Attr(a))
	}
	return msg, nil
}

// poll asks for what is behind what we have. It acknowledges nothing: that is
// for the application to say.
func (m *Mailbox) poll(ctx context.Context) error {
	q := m.device()
	hold := m.hold
	q.Set("wait", strconv.Itoa(int(hold.Seconds())))
	q.Set("ack", "false")
	if m.next != "" {
		q.Set("after", m.next)
	}
	var in wire.Inbox
	begin := time.Now()
	if err := m.do(ctx, http.MethodGet, "/v1/inbox", q, nil, hold+slack, &in); err != nil {
		if m.once && m.cut(ctx, err, time.Since(begin)) {
			return nil
		}
		var no *client.Refused
		if errors.As(err, &no) && m.next != "" && (no.Code == string(wire.AckBeyond) || no.Code == string(wire.BadQuery)) {
			m.log.Warn("poll: the server does not know our place; beginning at its cursor", "err", err)
			m.next = ""
			return nil
		}
		return err
	}
	if t := in.Trimmed; t != nil {
		m.log.Warn("poll: messages were removed before this device read them", "from", t.From, "to", t.To)
	}
	m.got, m.next = in.Messages, in.Next
	return nil
}

// cut reports whether a poll was ended by something on the way that lets no
// request wait so long, and has the next ones wait less.
func (m *Mailbox) cut(ctx context.Context, err error, held time.Duration) bool {
	var no *client.Refused
	var end *client.Closed
	if ctx.Err() != nil || m.closed.Err() != nil || errors.As(err, &no) || errors.As(err, &end) || held < 2*shortest || held > m.hold {
		return false
	}
	m.hold = max(held*3/4, shortest)
	m.log.Info("poll: a poll was cut", "after", held, "next", m.hold, "err", err)
	return true
}

// Ack moves the device's cursor on the server past msg.
func (m *Mailbox) Ack(ctx context.Context, msg client.Message) error {
	body := append(strconv.AppendUint([]byte(`{"seq":`), msg.Seq, 10), '}')
	return m.do(ctx, http.MethodPost, "/v1/ack", m.device(), body, slack, nil)
}

// Close ends what is under way. What is not answered ends with ErrClosed.
func (m *Mailbox) Close() error {
	m.mu.Lock()
	m.close()
	m.mu.Unlock()
	m.posts.Wait()
	m.http.CloseIdleConnections()
	return nil
}

func (m *Mailbox) device() url.Values {
	q := url.Values{}
	if m.o.Device != "" {
		q.Set("device", m.o.Device)
	}
	return q
}

// do makes a request until it is answered, and decodes the answer into v.
func (m *Mailbox) do(ctx context.Context, method, path string, q url.Values, body []byte, limit time.Duration, v any) error {
	for tries := 0; ; tries++ {
		answer, err := m.request(ctx, method, path, q, body, limit)
		if err == nil {
			if v == nil {
				return nil
			}
			if err = json.Unmarshal(answer, v); err == nil {
				return nil
			}
			err = fmt.Errorf("poll: %s: answer is not what it should be: %w", path, err)
		}
		var no *client.Refused
		var l *later
		after := client.Backoff(tries)
		switch {
		case m.closed.Err() != nil:
			return client.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &no) && m.once:
			return forClient(err)
		case errors.As(err, &no):
			return err
		case errors.As(err, &l):
			after += l.after
		}
		if m.once {
			return forClient(err)
		}
		m.log.Info("poll: trying again", "path", path, "in", after, "err", err)
		if err := m.sleep(ctx, after); err != nil {
			return err
		}
	}
}

// later is an answer that may be another next time.
type later struct {
	after time.Duration
	text  string
}

func (e *later) Error() string { return "server says: " + e.text }

// request makes one request, within limit, and returns what it was answered.
func (m *Mailbox) request(ctx context.Context, method, path string, q url.Values, body []byte, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(m.closed, cancel)()
	target := m.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if m.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+m.o.Token)
	} else {
		r.SetBasicAuth(m.o.User, m.o.Password)
	}
	resp, err := m.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(answer) > maxAnswer:
		return nil, &client.Refused{Code: "answer-too-large"}
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusMultiStatus:
		return answer, nil
	}
	return nil, refused(resp, answer)
}

// refused makes an error of an answer that is not 200: *later if another
// answer may come, else *client.Refused.
func refused(resp *http.Response, answer []byte) error {
	var p wire.Problem
	if json.Unmarshal(answer, &p) != nil || p.Title == "" {
		p.Title = resp.Status // not one of ours: a proxy's
	}
	if passing(resp.StatusCode) {
		sec, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date or nothing is as good as zero
		return &later{time.Duration(min(max(sec, 0), 300)) * time.Second, p.Error()}
	}
	r := refusal(&p)
	if r.Code == "" {
		r.Code = strconv.Itoa(resp.StatusCode)
	}
	return r
}

// sleep waits for d, or for ctx or Close.
func (m *Mailbox) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.closed.Done():
		return client.ErrClosed
	}
}
