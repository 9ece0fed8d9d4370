package mem_test

import (
	"errors"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Engine {
		return mem.New(mem.Options{Retention: o.Retention, Now: o.Now})
	})
}

func post(id string) *mailbox.Post {
	return &mailbox.Post{Message: mailbox.Message{ID: id, From: "alice", Body: []byte(id)}, Boxes: []string{"bob"}}
}

func TestTailIsBounded(t *testing.T) {
	s := mem.New(mem.Options{Tail: 2})
	s.Append(post("1"), post("2"), post("3"))
	if _, ok := s.Tail(nil, "bob", 0, 10); ok {
		t.Error("tail reaches too far back")
	}
	if es, ok := s.Tail(nil, "bob", 1, 10); !ok || len(es) != 2 {
		t.Errorf("tail: %d entries, %v", len(es), ok)
	}
	if st := s.Stats(); st.TailHits != 1 || st.TailMisses != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestHold(t *testing.T) {
	s := mem.New(mem.Options{})
	release := s.Hold()
	p := post("1")
	s.Append(p)
	s.MoveCursor("bob", "phone", 1)
	if es, _ := s.Tail(nil, "bob", 0, 1); p.Done() || len(es) > 0 {
		t.Error("done while held")
	}
	release()
	release()
	if c, ok, _ := s.Cursor(t.Context(), "bob", "phone"); !p.Done() || !ok || c.Seq != 1 {
		t.Errorf("after release: done %v, cursor %+v", p.Done(), c)
	}
}

func TestFail(t *testing.T) {
	s := mem.New(mem.Options{})
	full := errors.New("disk full")
	s.Fail(full)
	p := post("1")
	s.Append(p)
	if !errors.Is(p.Err, mailbox.ErrUnavailable) || !errors.Is(p.Err, full) || !errors.Is(s.Ready(), full) {
		t.Errorf("post: %v, ready: %v", p.Err, s.Ready())
	}
	s.Fail(nil)
	if p = post("1"); s.Ready() != nil {
		t.Error(s.Ready())
	}
	if s.Append(p); p.Err != nil || p.Duplicate {
		t.Errorf("after recovery: %v, duplicate %v", p.Err, p.Duplicate)
	}
}
