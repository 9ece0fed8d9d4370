// Package transporttest holds what every door must do, whatever its bytes look
// like. It knows a door only as a [client.Mailbox], so that the same dialogues
// are held over all of them, and between each two.
package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/coretest"
)

// A Door is a way in and out under test.
type Door struct {
	Name string
	// Dial connects device of user at h.
	Dial func(ctx context.Context, h *House, user, device string) (client.Mailbox, error)
	// NoSeq says that the protocol has no word for a place in the recipient's
	// box, so that Receipt.Seq is zero.
	NoSeq bool
	// NoConflict says that the protocol's answer to an id used twice is not a
	// refusal that the sender sees.
	NoConflict bool
	// NoWorth says that the protocol has no word for how urgent a message is
	// and when it expires: what is sent is as any other, and what is received
	// tells neither.
	NoWorth bool
}

// A House is a server under test with its doors open. Users alice, bob and
// carol have the password secret.
type House struct {
	Core *coretest.Core
	Addr map[string]string // by door
	// Trim has retention remove all that is in the boxes.
	Trim func() error
	// Cursor is how far a device has acknowledged.
	Cursor func(user, device string) uint64
	// Drain has every door say goodbye, and returns when all have closed.
	Drain func() error
}

// patience bounds every wait, so that what hangs fails. It is no assertion on speed.
const patience = 30 * time.Second

// device is one connected device in a dialogue.
type device struct {
	t  *testing.T
	mb client.Mailbox
}

func dial(t *testing.T, d Door, h *House, user, name string) *device {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mb, err := d.Dial(ctx, h, user, name)
	if err != nil {
		t.Fatalf("%s/%s dials %s: %v", user, name, d.Name, err)
	}
	v := &device{t, mb}
	t.Cleanup(v.close)
	return v
}

func (v *device) close() { v.mb.Close() }

func (v *device) send(d client.Draft) client.Receipt {
	v.t.Helper()
	r, err := v.trySend(d)
	if err != nil {
		v.t.Fatalf("send %s to %s: %v", d.ID, d.To, err)
	}
	return r
}

func (v *device) trySend(d client.Draft) (client.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return v.mb.Send(ctx, d)
}

func (v *device) recv() client.Message {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := v.mb.Receive(ctx)
	if err != nil {
		v.t.Fatalf("receive: %v", err)
	}
	return m
}

func (v *device) ack(m client.Message) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := v.mb.Ack(ctx, m); err != nil {
		v.t.Fatalf("ack %d: %v", m.Seq, err)
	}
}

// want receives and acknowledges one message with this body.
func (v *device) want(body string) client.Message {
	v.t.Helper()
	m := v.recv()
	if string(m.Body) != body {
		v.t.Fatalf("received %q, want %q", m.Body, body)
	}
	v.ack(m)
	return m
}

func text(to, id, body string) client.Draft {
	return client.Draft{To: to, ID: id, Body: []byte(body)}
}

// Run holds door to the contract, on a fresh house for each dialogue.
func Run(t *testing.T, d Door, open func(*testing.T) *House) {
	t.Run("LateAndLiveAreOnePath", func(t *testing.T) {
		h := open(t)
		alice := dial(t, d, h, "alice", "phone")
		for i := range 3 {
			alice.send(text("bob", fmt.Sprint("late", i), fmt.Sprint("late ", i)))
		}
		bob := dial(t, d, h, "bob", "phone")
		for i := range 3 {
			bob.want(fmt.Sprint("late ", i))
		}
		alice.send(text("bob@localhost", "live", "live"))
		m := bob.want("live")
		if m.From != "alice@localhost" {
			t.Errorf("from %q, want alice@localhost", m.From)
		}
		if m.ID != "live" {
			t.Errorf("id %q, want live", m.ID)
		}
	})
	t.Run("Order", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		const n = 100
		go func() {
			for i := range n {
				if _, err := alice.trySend(text("bob", fmt.Sprint(i), fmt.Sprint(i))); err != nil {
					t.Errorf("send %d: %v", i, err)
				}
			}
		}()
		var last uint64
		for i := range n {
			m := bob.want(fmt.Sprint(i))
			if m.Seq != 0 && (m.Seq <= last || m.Prev != last) {
				t.Fatalf("message %d has seq %d and prev %d after seq %d", i, m.Seq, m.Prev, last)
			}
			last = m.Seq
		}
	})
	t.Run("RetryIsStoredOnce", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		one := alice.send(text("bob", "m1", "hello"))
		// The answer was lost, she thinks, and says it again.
		again := alice.send(text("bob", "m1", "hello"))
		if one.Seq != again.Seq {
			t.Errorf("seq %d, and %d when sent again", one.Seq, again.Seq)
		}
		if !d.NoSeq && one.Seq == 0 {
			t.Error("no seq in the receipt")
		}
		_, err := alice.trySend(text("bob", "m1", "something else"))
		var no *client.Refused
		if !d.NoConflict && !errors.As(err, &no) {
			t.Errorf("the same id with another body: %v, want it refused", err)
		}
		alice.send(text("bob", "m2", "bye"))
		bob.want("hello")
		bob.want("bye")
	})
	t.Run("UnackedComesAgainAckedDoesNot", func(t *testing.T) {
		h := open(t)
		alice := dial(t, d, h, "alice", "phone")
		for _, s := range []string{"one", "two", "three"} {
			alice.send(text("bob", s, s))
		}
		bob := dial(t, d, h, "bob", "phone")
		bob.want("one")
		for _, s := range []string{"two", "three"} { // received, not acknowledged
			if m := bob.recv(); string(m.Body) != s {
				t.Fatalf("received %q, want %q", m.Body, s)
			}
		}
		bob.close()
		bob = dial(t, d, h, "bob", "phone")
		bob.want("two")
		bob.want("three")
		bob.close()
		alice.send(text("bob", "four", "four"))
		bob = dial(t, d, h, "bob", "phone")
		bob.want("four")
	})
	t.Run("ABoxOfLargeMessages", func(t *testing.T) {
		h := open(t)
		alice := dial(t, d, h, "alice", "phone")
		const n = 40 // together more than a connection lets wait unsent
		body := func(i int) string { return fmt.Sprintf("%0200000d", i) }
		for i := range n {
			alice.send(text("bob", fmt.Sprint(i), body(i)))
		}
		bob := dial(t, d, h, "bob", "phone")
		for i := range n {
			bob.want(body(i))
		}
	})
	t.Run("EveryDeviceReadsForItself", func(t *testing.T) {
		h := open(t)
		alice := dial(t, d, h, "alice", "phone")
		phone, laptop := dial(t, d, h, "bob", "phone"), dial(t, d, h, "bob", "laptop")
		alice.send(text("bob", "1", "one"))
		phone.want("one")
		alice.send(text("bob", "2", "two"))
		phone.want("two")
		laptop.want("one")
		laptop.want("two")
		tablet := dial(t, d, h, "bob", "tablet") // new: from the oldest kept
		tablet.want("one")
		tablet.want("two")
	})
	t.Run("AHoleIsToldOnce", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		alice.send(text("bob", "1", "one"))
		bob.want("one")
		bob.close()
		alice.send(text("bob", "2", "two"))
		alice.send(text("bob", "3", "three"))
		if err := h.Trim(); err != nil {
			t.Fatal(err)
		}
		bob = dial(t, d, h, "bob", "phone")
		got := make(chan client.Message, 1)
		go func() { // ends when bob is closed at the latest
			m, err := bob.mb.Receive(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- m
		}()
		// With nothing else to acknowledge.
		for end := time.Now().Add(patience); h.Cursor("bob", "phone") != 3; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the cursor is at %d, want it behind what is gone, at 3", h.Cursor("bob", "phone"))
			}
		}
		alice.send(text("bob", "4", "four"))
		if m := <-got; string(m.Body) != "four" {
			t.Errorf("received %q, want four", m.Body)
		}
	})
	t.Run("BinaryBody", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		binary(t, alice, bob)
	})
	t.Run("UnknownRecipient", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		var no *client.Refused
		if _, err := alice.trySend(text("nobody", "1", "hello?")); !errors.As(err, &no) {
			t.Errorf("message to nobody: %v, want it refused", err)
		}
		alice.send(text("bob", "2", "still here")) // the connection survives
		bob.want("still here")
	})
	t.Run("Properties", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		many := make([]client.Attr, 256)
		for i := range many {
			many[i] = client.Attr{Name: fmt.Sprint("name ", i%200), Value: fmt.Sprint(i)}
		}
		alice.send(client.Draft{To: "bob", ID: "1", Body: []byte("one"), Attrs: many})
		if m := bob.want("one"); !slices.Equal(m.Attrs, many) {
			t.Errorf("received %q, want %q", m.Attrs, many)
		}
		for what, attrs := range map[string][]client.Attr{
			"too many":           append(many, client.Attr{Name: "one", Value: "more"}),
			"too long":           {{Name: "a", Value: strings.Repeat("x", 40<<10)}, {Name: "b", Value: strings.Repeat("x", 40<<10)}},
			"a control in names": {{Name: "a\x01b"}},
		} {
			var no *client.Refused
			if _, err := alice.trySend(client.Draft{To: "bob", ID: what, Body: []byte(what), Attrs: attrs}); !errors.As(err, &no) {
				t.Errorf("properties that are %s: %v, want it refused", what, err)
			}
		}
		alice.send(text("bob", "2", "two"))
		if m := bob.want("two"); len(m.Attrs) > 0 {
			t.Errorf("%q, where there were none", m.Attrs)
		}
	})
	t.Run("MessageToOneself", func(t *testing.T) {
		h := open(t)
		alice := dial(t, d, h, "alice", "phone")
		alice.send(text("alice", "1", "remember the milk"))
		alice.want("remember the milk")
	})
	t.Run("Drain", func(t *testing.T) {
		h := open(t)
		alice, bob := dial(t, d, h, "alice", "phone"), dial(t, d, h, "bob", "phone")
		alice.send(text("bob", "1", "one"))
		bob.want("one")
		done := make(chan error, 1)
		go func() { done <- h.Drain() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve returned %v after cancel, want nil", err)
			}
		case <-time.After(patience):
			t.Fatal("Serve has not returned")
		}
	})
}

// binary sends bytes that are no text and wants them to arrive as they are.
func binary(t *testing.T, from, to *device) {
	t.Helper()
	body := make([]byte, 1000)
	for i := range body {
		body[i] = byte(i)
	}
	from.send(client.Draft{To: "bob", ID: "bin", Type: "application/octet-stream", Body: body})
	m := to.recv()
	to.ack(m)
	if !bytes.Equal(m.Body, body) || m.Type != "application/octet-stream" {
		t.Errorf("received %d bytes of %q, want the same %d bytes of application/octet-stream", len(m.Body), m.Type, len(body))
	}
}

// properties sends a message with properties and wants them in their order. A
// door that has MQTT between may tell those of a request first.
func properties(t *testing.T, from, to *device) {
	t.Helper()
	attrs := []client.Attr{
		{Name: "zone", Value: "kitchen"}, {Name: "lang", Value: "de"}, {Name: "zone", Value: "hall"},
		{Name: "ünï ✓ <&'>", Value: ` "<&'>" ✓ `}, {Name: "empty", Value: ""}, {Name: "zone", Value: "kitchen"},
	}
	request := []client.Attr{{Name: client.AttrResponse, Value: "im/to/alice"}, {Name: client.AttrCorrelation, Value: "7f"}}
	from.send(client.Draft{To: "bob", ID: "attrs", Type: "application/json", Body: []byte(`{"on":true}`), Attrs: append(request, attrs...)})
	m := to.recv()
	to.ack(m)
	if string(m.Body) != `{"on":true}` || m.Type != "application/json" {
		t.Errorf("received %q of %q", m.Body, m.Type)
	}
	if want := append(request, attrs...); !slices.Equal(m.Attrs, want) {
		t.Errorf("received properties\n     %q\nwant %q", m.Attrs, want)
	}
	// Bytes that are no text, and no type: the properties do not change it.
	attrs = []client.Attr{{Name: client.AttrCorrelation64, Value: "AP8="}, {Name: "a", Value: "b"}}
	from.send(client.Draft{To: "bob", ID: "attrs 2", Body: []byte("text"), Attrs: attrs})
	m = to.recv()
	to.ack(m)
	if string(m.Body) != "text" || !slices.Equal(m.Attrs, attrs) {
		t.Errorf("received %q with %q, want text with %q", m.Body, m.Attrs, attrs)
	}
}

// worth sends a message that is urgent for an hour.
func worth(t *testing.T, in, out Door, from, to *device) {
	t.Helper()
	d := client.Draft{To: "bob", ID: "worth", Body: []byte("now")}
	want := "normal"
	if !in.NoWorth {
		d.Urgency, d.Expires, want = "high", time.Hour, "high"
	}
	from.send(d)
	m := to.recv()
	to.ack(m)
	if out.NoWorth {
		want = ""
	}
	if m.Urgency != want {
		t.Errorf("its urgency is %q, want %q", m.Urgency, want)
	}
	left := time.Until(m.Expires)
	if expires := !in.NoWorth && !out.NoWorth; expires == m.Expires.IsZero() || expires && (left < 59*time.Minute || left > 61*time.Minute) {
		t.Errorf("it expires at %v", m.Expires)
	}
}

// Matrix holds a dialogue from each door to each door, and has a device leave
// by one and return by another.
func Matrix(t *testing.T, doors []Door, open func(*testing.T) *House) {
	for _, in := range doors {
		for _, out := range doors {
			t.Run(in.Name+"To"+out.Name, func(t *testing.T) {
				h := open(t)
				alice := dial(t, in, h, "alice", "phone")
				alice.send(text("bob", "1", "dear bob, ünï ✓ <&>"))
				bob := dial(t, out, h, "bob", "phone")
				bob.want("dear bob, ünï ✓ <&>")
				alice.send(text("bob", "2", "line one\nline two"))
				bob.want("line one\nline two")
				binary(t, alice, bob)
				properties(t, alice, bob)
				worth(t, in, out, alice, bob)
			})
			if in.Name == out.Name {
				continue
			}
			t.Run("Leave"+in.Name+"Return"+out.Name, func(t *testing.T) {
				h := open(t)
				alice := dial(t, in, h, "alice", "phone")
				bob := dial(t, in, h, "bob", "phone")
				alice.send(text("bob", "1", "one"))
				alice.send(text("bob", "2", "two"))
				bob.want("one")
				if m := bob.recv(); string(m.Body) != "two" {
					t.Fatalf("received %q, want two", m.Body)
				}
				bob.close() // before he could acknowledge two
				bob = dial(t, out, h, "bob", "phone")
				bob.want("two")
			})
		}
	}
}
