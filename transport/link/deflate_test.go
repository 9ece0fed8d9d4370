package link_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/posthouse-im/posthouse/client"
	sdk "github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link"
)

// counted is a connection that counts the bytes of both directions.
type counted struct {
	net.Conn
	in, out *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	c.out.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// A long text goes in and out deflated, between clients that can; what the
// store has is the text.
func TestDeflate(t *testing.T) {
	h := newHouse(t, link.Config{}, mem.Options{})
	t.Cleanup(h.close)
	type traffic struct{ in, out atomic.Int64 }
	open := func(user, device string) (*sdk.Mailbox, *traffic) {
		tr := new(traffic)
		mb, err := sdk.Open(t.Context(), sdk.Config{
			Options: client.Options{User: user, Password: "secret", Device: device},
			Dial: func(context.Context) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go h.serve(theirs) // ends with the connection
				return counted{ours, &tr.in, &tr.out}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mb.Close() })
		return mb, tr
	}
	alice, up := open("alice", "phone")
	bob, down := open("bob", "pad")
	body := bytes.Repeat([]byte(`{"sku":"A-1000","name":"part number one","quantity":3},`), 12)
	for _, media := range []string{"application/json", "application/octet-stream"} {
		out, in := up.out.Load(), down.in.Load()
		if _, err := alice.Send(t.Context(), client.Draft{To: "bob", Type: media, Body: body}); err != nil {
			t.Fatal(err)
		}
		m, err := bob.Receive(t.Context())
		if err != nil || !bytes.Equal(m.Body, body) {
			t.Fatalf("got %q, %v", m.Body, err)
		}
		out, in = up.out.Load()-out, down.in.Load()-in
		t.Logf("%s: %d bytes went as %d and came as %d", media, len(body), out, in)
		if deflated := out < int64(len(body)/2) && in < int64(len(body)/2); deflated != (media == "application/json") {
			t.Errorf("%s: %d bytes up, %d down", media, out, in)
		}
		es, ok := h.core.Mail.Tail(nil, "bob@localhost", 0, 10)
		if !ok || !bytes.Equal(es[len(es)-1].Body, body) {
			t.Error("stored is something else")
		}
	}
}
