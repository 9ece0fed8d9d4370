package router_test

import (
	"context"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
)

// disk is a store that remembers nothing in memory, and whose reads wait for
// leave to return what they found.
type disk struct {
	*mem.Store
	found, leave chan struct{}
}

func (d *disk) Tail(buf []mailbox.Entry, _ string, _ mailbox.Seq, _ int) ([]mailbox.Entry, bool) {
	return buf, false
}

func (d *disk) Read(ctx context.Context, buf []mailbox.Entry, box string, after mailbox.Seq, max, maxBytes int) ([]mailbox.Entry, mailbox.Seq, error) {
	es, end, err := d.Store.Read(ctx, buf, box, after, max, maxBytes)
	d.found <- struct{}{}
	<-d.leave
	return es, end, err
}

// A message that comes while a read from the disk is under way, too late for
// it, is not left lying until the next one comes.
func TestNewsDuringRead(t *testing.T) {
	d := &disk{mem.New(mem.Options{}), make(chan struct{}), make(chan struct{})}
	ml := mailbox.New(d, mailbox.Limits{})
	r := router.New(t.Context(), ml, accounts{"alice@localhost", "bob@localhost"}, "localhost")
	p := newPeer()
	s := attach(t, r, p, "bob", "phone")
	<-p.bell
	if es, err := s.Next(nil, 10); len(es) != 0 || err != nil {
		t.Fatal(es, err)
	}
	<-d.found // nothing
	say(t, r, who("alice", ""), "bob", "m1", "late")
	<-p.bell
	if es, err := s.Next(nil, 10); len(es) != 0 || err != nil {
		t.Fatal(es, err)
	}
	d.leave <- struct{}{}
	<-p.bell // the read is done
	if es, err := s.Next(nil, 10); len(es) != 0 || err != nil {
		t.Fatal(es, err)
	}
	<-p.bell // and what came meanwhile is announced again
	if es, err := s.Next(nil, 10); len(es) != 0 || err != nil {
		t.Fatal(es, err)
	}
	<-d.found
	d.leave <- struct{}{}
	<-p.bell
	es, err := s.Next(nil, 10)
	if err != nil || len(es) != 1 || string(es[0].Body) != "late" {
		t.Fatal(es, err)
	}
}
