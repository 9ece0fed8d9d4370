package link_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Devices of one box come at different times, know different senders, take
// deflated bodies or not, large ones or not, and read slowly or not. What the
// server made for one and gives to another says the same to that one.
func TestManyDevicesReadOneBox(t *testing.T) {
	const posts, devices = 400, 24
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	h := newHouse(t, link.Config{}, mem.Options{})
	defer h.close()
	addr := h.listen(t, nil)

	senders := []string{"alice", "carol", "bob"}
	number := map[string]int{}
	sent := make([]mailbox.Message, posts) // to bob
	from := make([]string, posts)
	for i := range sent {
		from[i] = senders[rnd.IntN(3)]
		number[from[i]] += 1 + rnd.IntN(3)
		m := mailbox.Message{ID: fmt.Sprintf("%s.%d", from[i], number[from[i]]), Type: mailbox.TypeText, Body: fmt.Append(nil, "message ", i)}
		switch rnd.IntN(8) {
		case 0:
			m.ID = fmt.Sprintf("%s-%d", from[i], i)
		case 1, 2:
			m.Body = []byte(strings.Repeat("deflates well. ", rnd.IntN(60)))
		case 3:
			m.Type, m.Body = "application/octet-stream", make([]byte, rnd.IntN(900))
		case 4:
			m.Urgency, m.Expires = mailbox.UrgencyHigh, time.Now().Add(time.Hour)
		}
		sent[i] = m
	}
	var readers sync.WaitGroup
	var times sync.Map // of a message's number, the time that devices were told
	for i := range sent {
		if i%100 == 0 {
			for range devices / 4 { // who then stand at the same place
				d := &reader{times: &times, name: fmt.Sprint("d", rnd.Uint32()), slow: rnd.IntN(4) == 0, maxFrame: []uint64{0, 0, 300}[rnd.IntN(3)]}
				if rnd.IntN(3) == 0 {
					d.caps = frame.CapDeflate
				}
				readers.Go(func() {
					if err := d.read(addr, sent); err != nil {
						t.Errorf("%s: %v", d.name, err)
					}
				})
			}
		}
		if err := h.post(from[i], "bob", sent[i]); err != nil {
			t.Fatal(err)
		}
	}
	readers.Wait()
}

// reader is a device of bob's that reads bare frames.
type reader struct {
	name     string
	times    *sync.Map
	caps     uint64
	maxFrame uint64
	slow     bool // has a small window
}

// read reads as many messages as want has, and compares.
func (d *reader) read(addr string, want []mailbox.Message) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	hello := &frame.Hello{Major: 1, User: "bob", Password: "secret", Device: d.name, Caps: d.caps, MaxFrame: d.maxFrame}
	if d.slow {
		hello.Window = 2000
	}
	nc.Write(frame.Append(nil, hello))
	var r frame.MsgReader
	var have []byte
	acked := uint64(0)
	for n := 0; n < len(want); {
		raw, k, err := frame.Next(have, 1<<20)
		if err != nil {
			return err
		}
		if k == 0 {
			if r.Place > acked {
				nc.Write(frame.Append(nil, &frame.Ack{Step: r.Place - acked}))
				acked = r.Place
			}
			b := make([]byte, 4096)
			if k, err = nc.Read(b); err != nil {
				return fmt.Errorf("after %d messages: %w", n, err)
			}
			have = append(have, b[:k]...)
			continue
		}
		f, err := frame.Decode(raw)
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *frame.Welcome:
			r.Place, r.Time, acked = f.Cursor, int64(f.Time), f.Cursor
		case *frame.Msg:
			m, err := r.Read(f)
			if err != nil {
				return err
			}
			if err := d.same(&m, want[n]); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
			if at, ok := d.times.LoadOrStore(n, m.Time); ok && at != m.Time {
				return fmt.Errorf("message %d: time %d, others were told %d", n, m.Time, at)
			}
			n++
		}
		have = have[k:]
	}
	return nil
}

// same compares what came with what was sent.
func (d *reader) same(m *frame.Message, want mailbox.Message) error {
	body := m.Body
	if m.Deflated != 0 {
		if d.caps&frame.CapDeflate == 0 {
			return fmt.Errorf("deflated")
		}
		var err error
		if body, err = frame.Inflate(body, m.Deflated); err != nil {
			return err
		}
	}
	media := m.Media
	if media == "" {
		media = mailbox.TypeText
	}
	switch {
	case m.ID != want.ID || media != want.Type || (m.Expires != 0) != !want.Expires.IsZero():
		return fmt.Errorf("got %+v, want %+v", m, want)
	case m.Left != 0:
		if d.maxFrame == 0 || m.Left != uint64(len(want.Body)) {
			return fmt.Errorf("%d bytes left out of %d", m.Left, len(want.Body))
		}
	case !bytes.Equal(body, want.Body):
		return fmt.Errorf("got %q, want %q", body, want.Body)
	case !slices.Contains([]string{"alice@localhost", "bob@localhost", "carol@localhost"}, m.From) || !strings.HasPrefix(want.ID, strings.TrimSuffix(m.From, "@localhost")):
		return fmt.Errorf("%s is from %s", want.ID, m.From)
	}
	return nil
}
