package poll

import (
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// buffers are for requests' bodies and answers. What has grown large is left
// to the garbage collector.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

const keepBuffer = 64 << 10

func putBuffer(p *[]byte, b []byte) {
	if cap(b) <= keepBuffer {
		*p = b[:0]
		buffers.Put(p)
	}
}

// post is POST /v1/messages.
func (s *Server) post(w http.ResponseWriter, r *http.Request) error {
	who, err := s.login(r)
	if err != nil {
		return err
	}
	if err := s.device(r, &who, r.URL.Query().Get("device")); err != nil {
		return err
	}
	pb := buffers.Get().(*[]byte)
	buf := *pb
	defer func() { putBuffer(pb, buf) }()
	if buf, err = s.body(w, r, buf[:0]); err != nil {
		return err
	}
	in, problem := wire.DecodePost(buf, s.cfg.MaxBatch)
	if problem != nil {
		return problem
	}
	if err := idempotencyKey(&in, r.Header); err != nil {
		return err
	}
	// Everything is checked before anything is posted.
	posts := make([]mailbox.Post, len(in.Drafts))
	now := time.Now()
	for i := range in.Drafts {
		if err := s.fill(&posts[i], &in.Drafts[i], now, prefix(&in, i)); err != nil {
			return err
		}
	}
	receipts, err := s.submit(r.Context(), who, &in, posts)
	if err != nil {
		return err
	}
	status, out := http.StatusOK, buf[:0] // what was read is not needed any more
	if !in.Batch {
		if p := receipts[0].Problem; p != nil {
			return p
		}
		out = wire.AppendReceipt(out, &receipts[0])
	} else {
		out = append(out, `{"results":[`...)
		for i := range receipts {
			if i > 0 {
				out = append(out, ',')
			}
			if receipts[i].Problem != nil {
				status = http.StatusMultiStatus
			}
			out = wire.AppendReceipt(out, &receipts[i])
		}
		out = append(out, "]}"...)
	}
	buf = append(out, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	write(w, status, buf)
	return nil
}

// prefix is how the fields of draft i are called in errors.
func prefix(in *wire.Post, i int) string {
	if !in.Batch {
		return ""
	}
	return "messages[" + strconv.Itoa(i) + "]."
}

// idempotencyKey takes the header as the id of a message that has none.
func idempotencyKey(in *wire.Post, h http.Header) error {
	const name = "Idempotency-Key"
	key := strings.TrimSpace(h.Get(name))
	if key == "" {
		return nil
	}
	if in.Batch {
		return wire.NewProblem(wire.BadField, name, "in a batch each message has its own id")
	}
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1] // a string of structured fields, as the draft of the header has it
	}
	d := &in.Drafts[0]
	if d.ID != "" && d.ID != key {
		return wire.NewProblem(wire.BadField, name, "differs from the id in the body")
	}
	d.ID = key
	return nil
}

// fill makes a post of a draft.
func (s *Server) fill(p *mailbox.Post, d *wire.Draft, now time.Time, prefix string) error {
	limits := s.core.Mail.Limits()
	for _, f := range [...]struct{ name, v string }{{"to", d.To}, {"id", d.ID}, {"type", d.Type}} {
		if err := checkName(prefix+f.name, f.v); err != nil {
			return err
		}
	}
	if d.Type != "" {
		if mt, _, err := mime.ParseMediaType(d.Type); err != nil || !strings.Contains(mt, "/") {
			return wire.NewProblem(wire.BadField, prefix+"type", "not a media type")
		}
	} else if d.Binary {
		d.Type = "application/octet-stream"
	}
	if n := len(d.Body); n > limits.Body {
		return wire.NewProblem(wire.TooLarge, prefix+"body", itoa(n)+" bytes, at most "+itoa(limits.Body))
	}
	u, ok := mailbox.ParseUrgency(d.Urgency)
	if !ok {
		return wire.NewProblem(wire.BadField, prefix+"urgency", "one of very-low low normal high")
	}
	attrs := 0
	for _, a := range d.Attrs {
		if attrs += len(a.Name) + len(a.Value); a.Name == "" || router.Private(a.Name) {
			return wire.NewProblem(wire.BadField, prefix+"attrs", "a name that is empty or begins with that of a door")
		}
		if err := checkName(prefix+"attrs", a.Name); err != nil {
			return err
		}
		p.Attrs = append(p.Attrs, mailbox.Attr(a))
	}
	if n := len(d.Attrs); n > limits.AttrCount {
		return wire.NewProblem(wire.TooLarge, prefix+"attrs", itoa(n)+" properties, at most "+itoa(limits.AttrCount))
	}
	if attrs > limits.Attrs {
		return wire.NewProblem(wire.TooLarge, prefix+"attrs", itoa(attrs)+" bytes, at most "+itoa(limits.Attrs))
	}
	p.Expires = d.Expires
	if d.TTL > 0 {
		p.Expires = now.Add(d.TTL).UTC().Truncate(time.Millisecond)
	}
	if p.Expired(now) {
		return wire.NewProblem(wire.BadField, prefix+"expires", "has passed")
	}
	p.ID, p.Type, p.Body, p.Urgency = d.ID, d.Type, d.Body, u
	return nil
}

// submit posts in order and waits for all. One Wake of many posts is enough,
// since each is asked whether it is done.
func (s *Server) submit(ctx context.Context, who auth.Who, in *wire.Post, posts []mailbox.Post) ([]wire.Receipt, error) {
	receipts := make([]wire.Receipt, len(posts))
	done := newBell()
	for i := range posts {
		p := &posts[i]
		p.Device, p.Notify = who.Device, done
		if err := s.core.Router.Submit(router.Poll, who, in.Drafts[i].To, p); err != nil {
			receipts[i] = wire.Receipt{ID: p.ID, Problem: s.problem(err, prefix(in, i)+"to")}
		}
	}
	for i := range posts {
		p, rc := &posts[i], &receipts[i]
		if rc.Problem != nil {
			continue
		}
		for !p.Done() {
			select {
			case <-done:
			case <-ctx.Done():
				return nil, ctx.Err() // the peer has gone; what was posted stands
			}
		}
		if p.Err != nil {
			*rc = wire.Receipt{ID: p.ID, Problem: s.problem(p.Err, prefix(in, i)+"id")}
			continue
		}
		s.count.in.Add(1)
		if p.Duplicate {
			s.count.duplicates.Add(1)
		}
		*rc = wire.Receipt{ID: p.ID, Seq: uint64(p.Seqs[0]), Duplicate: p.Duplicate, Time: p.Time}
	}
	return receipts, nil
}

// bell is rung when there is news.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

// Wake implements [mailbox.Waker].
func (b bell) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}
