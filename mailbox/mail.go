package mailbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Limits bounds what a post may hold, and how many devices a user may have. A zero
// field means its default.
type Limits struct {
	// Body is the greatest length of a body in bytes. Default 1 MiB.
	Body int
	// Attrs is the greatest total of a message's property names and values in
	// bytes. Default 64 KiB.
	Attrs int
	// AttrCount is the greatest number of a message's properties. Default 256.
	AttrCount int
	// Boxes is the greatest number of boxes in one post. Default 1024.
	Boxes int
	// Devices is the greatest number of devices of a user: those that have a
	// place in his box, and those that are connected. For a new one beyond that
	// those seen least lately are forgotten, as if they had been removed; if all
	// of them are connected the new one is refused. Default 100000, since a box
	// may be read by many.
	Devices int
}

const (
	defaultBody    = 1 << 20
	defaultAttrs   = 64 << 10
	defaultCount   = 256
	defaultBoxes   = 1024
	defaultDevices = 100_000

	// MaxName is the greatest length in bytes of an id, address, device,
	// media type, name of a property or box name.
	MaxName = 1024
)

// Mail is the service the rest of the server talks to.
type Mail struct {
	Store
	limits Limits
	now    func() time.Time
	prefix string // of the ids that Post gives, new each time the server starts
	given  atomic.Uint64
}

// New returns a Mail on s.
func New(s Store, l Limits) *Mail {
	if l.Body == 0 {
		l.Body = defaultBody
	}
	if l.Attrs == 0 {
		l.Attrs = defaultAttrs
	}
	if l.AttrCount == 0 {
		l.AttrCount = defaultCount
	}
	if l.Boxes == 0 {
		l.Boxes = defaultBoxes
	}
	if l.Devices == 0 {
		l.Devices = defaultDevices
	}
	return &Mail{Store: s, limits: l, now: time.Now, prefix: strings.ToLower(NewID()[:12])}
}

// Limits returns the limits in force, with no zero field.
func (ml *Mail) Limits() Limits { return ml.limits }

// Post checks p, stamps it with the time and, if it has no id, a fresh one,
// and hands it to the store. It does not wait; see [Post]. A post that fails
// the check is finished at once with ErrInvalid or ErrTooLarge.
func (ml *Mail) Post(p *Post) {
	if err := ml.check(p); err != nil {
		p.Err = err
		p.Finish()
		return
	}
	if p.ID == "" {
		p.ID, p.Fresh = ml.freshID(), true
	}
	if p.Time.IsZero() {
		p.Time = ml.now()
	}
	p.Time = p.Time.UTC().Truncate(time.Millisecond)
	if !p.Expires.IsZero() {
		p.Expires = p.Expires.UTC().Truncate(time.Millisecond)
	}
	ml.Store.Append(p)
}

// PostWait posts p and blocks until it is done. A nil error means durable. If
// ctx ends first the post is still carried out, and may not be used again.
func (ml *Mail) PostWait(ctx context.Context, p *Post) error {
	bell := make(bellChan, 1)
	p.Notify = bell
	ml.Post(p)
	return p.wait(ctx, bell)
}

// Put writes records durably, all or none. It blocks.
func (ml *Mail) Put(ctx context.Context, records ...Record) error {
	return ml.PostWait(ctx, &Post{Records: records})
}

// freshID makes an id that no message has: a prefix and a counter, which a
// protocol can say in fewer bytes than a random one.
func (ml *Mail) freshID() string {
	return ml.prefix + "." + strconv.FormatUint(ml.given.Add(1), 10)
}

func (ml *Mail) check(p *Post) error {
	if len(p.Boxes) == 0 {
		if len(p.Records) == 0 {
			return fmt.Errorf("%w: no box", ErrInvalid)
		}
		return nil
	}
	if n := len(p.Boxes); n > ml.limits.Boxes {
		return fmt.Errorf("%w: %d boxes, at most %d", ErrTooLarge, n, ml.limits.Boxes)
	}
	for _, f := range [...]struct{ what, s string }{
		{"id", p.ID}, {"from", p.From}, {"device", p.Device}, {"to", p.To}, {"type", p.Type},
	} {
		if err := checkName(f.what, f.s); err != nil {
			return err
		}
	}
	for _, b := range p.Boxes {
		if b == "" {
			return fmt.Errorf("%w: empty box name", ErrInvalid)
		}
		if err := checkName("box", b); err != nil {
			return err
		}
	}
	if twice(p.Boxes) {
		return fmt.Errorf("%w: a box is named twice", ErrInvalid)
	}
	if p.Urgency < UrgencyVeryLow || p.Urgency > UrgencyHigh {
		return fmt.Errorf("%w: urgency %d", ErrInvalid, p.Urgency)
	}
	if n := len(p.Body); n > ml.limits.Body {
		return fmt.Errorf("%w: body of %d bytes, at most %d", ErrTooLarge, n, ml.limits.Body)
	}
	if n := len(p.Attrs); n > ml.limits.AttrCount {
		return fmt.Errorf("%w: %d properties, at most %d", ErrTooLarge, n, ml.limits.AttrCount)
	}
	attrs := 0
	for _, a := range p.Attrs {
		if err := checkName("name of a property", a.Name); err != nil {
			return err
		}
		if !utf8.ValidString(a.Value) {
			return fmt.Errorf("%w: the property %s is not UTF-8", ErrInvalid, a.Name)
		}
		attrs += len(a.Name) + len(a.Value)
	}
	if attrs > ml.limits.Attrs {
		return fmt.Errorf("%w: properties of %d bytes, at most %d", ErrTooLarge, attrs, ml.limits.Attrs)
	}
	return nil
}

// twice reports whether a string stands twice in ss.
func twice(ss []string) bool {
	if len(ss) > 16 {
		ss = slices.Sorted(slices.Values(ss))
		for i := range ss[1:] {
			if ss[i] == ss[i+1] {
				return true
			}
		}
		return false
	}
	for i := range ss {
		if slices.Contains(ss[:i], ss[i]) {
			return true
		}
	}
	return false
}

func checkName(what, s string) error {
	if len(s) > MaxName {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrInvalid, what, len(s), MaxName)
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7f {
			return fmt.Errorf("%w: %s holds a control character", ErrInvalid, what)
		}
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, what)
	}
	return nil
}

// NewID returns an id that nobody has used: 26 letters and digits.
func NewID() string { return rand.Text() }
