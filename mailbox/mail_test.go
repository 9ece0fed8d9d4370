package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

func good() *mailbox.Post {
	return &mailbox.Post{
		Message: mailbox.Message{ID: "m1", From: "alice@x", To: "bob@x", Body: []byte("hello")},
		Boxes:   []string{"bob@x", "alice@x"},
	}
}

func boxes(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return names
}

// TestLimits: each limit lets pass what it allows and bites one beyond.
func TestLimits(t *testing.T) {
	small := mailbox.Limits{Body: 10, Attrs: 10, Boxes: 3}
	for _, c := range []struct {
		what   string
		limits mailbox.Limits
		change func(p *mailbox.Post, over int)
		want   error
	}{
		{"body", small, func(p *mailbox.Post, over int) { p.Body = make([]byte, 10+over) }, mailbox.ErrTooLarge},
		{"body by default", mailbox.Limits{}, func(p *mailbox.Post, over int) { p.Body = make([]byte, 1<<20+over) }, mailbox.ErrTooLarge},
		{"attrs", small, func(p *mailbox.Post, over int) {
			p.Attrs = []mailbox.Attr{{Name: "abc", Value: "de"}, {Name: "abc", Value: strings.Repeat("x", 2+over)}}
		}, mailbox.ErrTooLarge},
		{"attrs by default", mailbox.Limits{}, func(p *mailbox.Post, over int) {
			p.Attrs = []mailbox.Attr{{Value: strings.Repeat("x", 64<<10+over)}}
		}, mailbox.ErrTooLarge},
		{"number of attrs", mailbox.Limits{AttrCount: 3}, func(p *mailbox.Post, over int) {
			p.Attrs = make([]mailbox.Attr, 3+over)
		}, mailbox.ErrTooLarge},
		{"number of attrs by default", mailbox.Limits{}, func(p *mailbox.Post, over int) {
			p.Attrs = make([]mailbox.Attr, 256+over)
		}, mailbox.ErrTooLarge},
		{"boxes", small, func(p *mailbox.Post, over int) { p.Boxes = boxes(3 + over) }, mailbox.ErrTooLarge},
		{"boxes by default", mailbox.Limits{}, func(p *mailbox.Post, over int) { p.Boxes = boxes(1024 + over) }, mailbox.ErrTooLarge},
		{"id", small, func(p *mailbox.Post, over int) { p.ID = strings.Repeat("x", mailbox.MaxName+over) }, mailbox.ErrInvalid},
		{"box", small, func(p *mailbox.Post, over int) { p.Boxes[1] = strings.Repeat("x", mailbox.MaxName+over) }, mailbox.ErrInvalid},
	} {
		for over := range 2 {
			ml := mailbox.New(mem.New(mem.Options{}), c.limits)
			p := good()
			c.change(p, over)
			err := ml.PostWait(t.Context(), p)
			if over == 0 && err != nil || over == 1 && !errors.Is(err, c.want) {
				t.Errorf("%s, %d over: %v", c.what, over, err)
			}
			if info, _ := ml.Info(t.Context(), p.Boxes[0]); over == 1 && info.Last != 0 {
				t.Errorf("%s: something was stored", c.what)
			}
		}
	}
}

func TestInvalid(t *testing.T) {
	ml := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	for what, change := range map[string]func(p *mailbox.Post){
		"no box":             func(p *mailbox.Post) { p.Boxes = nil },
		"empty box":          func(p *mailbox.Post) { p.Boxes[1] = "" },
		"box twice":          func(p *mailbox.Post) { p.Boxes = []string{"a", "b", "a"} },
		"box twice of many":  func(p *mailbox.Post) { p.Boxes = append(boxes(100), "7") },
		"zero in box":        func(p *mailbox.Post) { p.Boxes[0] = "a\x00b" },
		"newline in id":      func(p *mailbox.Post) { p.ID = "a\nb" },
		"delete in device":   func(p *mailbox.Post) { p.Device = "a\x7f" },
		"bad UTF-8 in from":  func(p *mailbox.Post) { p.From = "a\xff" },
		"bad UTF-8 in to":    func(p *mailbox.Post) { p.To = "\xc0\x80" },
		"bad UTF-8 in type":  func(p *mailbox.Post) { p.Type = "\xed\xa0\x80" },
		"bad UTF-8 in attr":  func(p *mailbox.Post) { p.Attrs = []mailbox.Attr{{Name: "a", Value: "\xff"}} },
		"newline in a name":  func(p *mailbox.Post) { p.Attrs = []mailbox.Attr{{Name: "a\nb"}} },
		"control in the box": func(p *mailbox.Post) { p.Boxes[0] = "\x1f" },
		"urgency beyond":     func(p *mailbox.Post) { p.Urgency = mailbox.UrgencyHigh + 1 },
		"urgency below":      func(p *mailbox.Post) { p.Urgency = mailbox.UrgencyVeryLow - 1 },
	} {
		p := good()
		change(p)
		if err := ml.PostWait(t.Context(), p); !errors.Is(err, mailbox.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, p := range []*mailbox.Post{
		{Message: mailbox.Message{ID: "日本 \U0001F4EE", From: "ü@x", Body: []byte{0, 255}}, Boxes: []string{"ß"}},
		{Records: []mailbox.Record{{Key: "k", Value: []byte("v")}}},
	} {
		if err := ml.PostWait(t.Context(), p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestStamp: a post without id or time gets them.
func TestStamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(123456 * time.Microsecond)
		ml := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
		p, q := good(), good()
		p.ID, q.ID = "", ""
		for _, p := range []*mailbox.Post{p, q} {
			if err := ml.PostWait(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		want := time.Now().UTC().Truncate(time.Millisecond)
		if !p.Fresh || !strings.HasSuffix(p.ID, ".1") || !strings.HasSuffix(q.ID, ".2") || len(p.ID) < 14 || p.ID == q.ID || !p.Time.Equal(want) || p.Time.Location() != time.UTC {
			t.Errorf("id %q and %q, time %v, want %v", p.ID, q.ID, p.Time, want)
		}
		r := good()
		r.Expires = time.Now().Add(time.Hour + time.Nanosecond)
		if err := ml.PostWait(t.Context(), r); err != nil || r.Fresh || r.ID != "m1" {
			t.Errorf("id of the sender's: %q, fresh %v, %v", r.ID, r.Fresh, err)
		}
		if want := want.Add(time.Hour); r.Expires != want { // as it comes back from a disk
			t.Errorf("expires %v, want %v", r.Expires, want)
		}
	})
}

func TestPut(t *testing.T) {
	ml := mailbox.New(mem.New(mem.Options{}), mailbox.Limits{})
	if err := ml.Put(t.Context(), mailbox.Record{Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if v, err := ml.Get(t.Context(), "k"); err != nil || string(v) != "v" {
		t.Errorf("k = %q, %v", v, err)
	}
}

// TestPostWait: it ends with the context, and the post is carried out all the same.
func TestPostWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(mem.Options{})
		release := s.Hold()
		ml := mailbox.New(s, mailbox.Limits{})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		p := good()
		if err := ml.PostWait(ctx, p); !errors.Is(err, ctx.Err()) || p.Done() {
			t.Errorf("%v, done %v", err, p.Done())
		}
		release()
		if !p.Done() || p.Err != nil {
			t.Errorf("after release: done %v, %v", p.Done(), p.Err)
		}
	})
}

func TestUrgency(t *testing.T) {
	for _, w := range []string{"very-low", "low", "normal", "high"} {
		if u, ok := mailbox.ParseUrgency(w); !ok || u.String() != w {
			t.Errorf("%s: %v, %v", w, u, ok)
		}
	}
	if u, ok := mailbox.ParseUrgency(""); !ok || u != mailbox.UrgencyNormal {
		t.Errorf("empty: %v, %v", u, ok)
	}
	if _, ok := mailbox.ParseUrgency("HIGH"); ok {
		t.Error("HIGH is taken")
	}
}

// TestDigest holds the digest to its value: engines store it.
func TestDigest(t *testing.T) {
	p := good()
	if got, want := p.Digest(), uint64(0xf512fbb1cc91ceee); got != want {
		t.Errorf("digest %#x, want %#x", got, want)
	}
}
