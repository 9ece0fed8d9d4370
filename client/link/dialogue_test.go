package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// The dialogues of the TypeScript SDK, held by this one: what an application
// does and is told, what is said on the wire. Those are left out that are about
// what a mailbox here does not have: a store of its own, several ways, a
// handler that may be slow or fail; and those of heartbeats, which come when
// the network's answers say, and here along with other traffic.
var shared = []string{"close-reasons", "denied", "devices", "expired", "gap", "hello", "signals"}

func TestSharedDialogues(t *testing.T) {
	for _, name := range shared {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("../../sdk/ts/test/dialogues", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				s := &stage{t: t, dials: make(chan *dial, 100), told: make(chan string, 100), options: map[string]string{}}
				defer s.end()
				for i, line := range strings.Split(string(text), "\n") {
					if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
						continue
					}
					if err := s.line(line); err != nil {
						t.Fatalf("%s.txt:%d: %s\n%v", name, i+1, line, err)
					}
					synctest.Wait()
				}
			})
		})
	}
}

// stage is where a dialogue is held.
type stage struct {
	t       *testing.T
	options map[string]string
	dials   chan *dial // that wait for the network to open or to refuse
	dialled atomic.Int64
	at      *dial // the one that was opened last
	told    chan string
	box     atomic.Pointer[Mailbox]
}

// dial is one connection from both its ends.
type dial struct {
	answer       chan error
	ours, theirs net.Conn
	said         chan frame.Raw // closed with the connection
}

func (s *stage) line(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch rest = strings.TrimSpace(rest); verb {
	case "~":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return err
	case "C:":
		return s.says(rest)
	case "S:":
		f, ack, err := frame.Parse(rest)
		if err != nil {
			return err
		}
		_, err = s.at.theirs.Write(frame.AppendAck(nil, f, ack))
		return err
	case "*":
		if strings.HasPrefix(rest, "online ") || strings.HasPrefix(rest, "waiting ") {
			return nil // it is seen by what follows
		}
		return s.hears(rest)
	case "!":
		return s.do(strings.Fields(rest))
	}
	return errors.New("cannot read this line")
}

func (s *stage) says(want string) error {
	var raw frame.Raw
	ok, quiet := false, true
	if s.at != nil {
		select {
		case raw, ok = <-s.at.said:
			quiet = false
		default:
		}
	}
	switch {
	case want == "(quiet)" && quiet, want == "(closed)" && !quiet && !ok:
		return nil
	case !ok:
		return fmt.Errorf("quiet: %v", quiet)
	}
	f, err := frame.Decode(raw)
	if err != nil {
		return err
	}
	if h, ok := f.(*frame.Hello); ok {
		h.Agent = "" // each SDK has its own
	}
	w, ack, err := frame.Parse(want)
	if err != nil {
		return err
	}
	if !bytes.Equal(frame.AppendAck(nil, f, raw.Ack), frame.AppendAck(nil, w, ack)) {
		return fmt.Errorf("it says %s", frame.Text(f, raw.Ack))
	}
	return nil
}

func (s *stage) hears(want string) error {
	got := "(nothing)"
	select {
	case got = <-s.told:
	default:
	}
	if got != want {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

func (s *stage) do(words []string) error {
	switch words[0] {
	case "connect":
		for _, w := range words[1:] {
			name, value, _ := strings.Cut(w, "=")
			s.options[name] = value
		}
		s.connect()
	case "open", "refuse":
		select {
		case s.at = <-s.dials: // the time that it takes goes by
		case <-time.After(time.Minute):
			return errors.New("it does not dial")
		}
		if words[0] == "refuse" {
			s.at.answer <- errors.New("refused")
			return nil
		}
		s.at.listen()
		s.at.answer <- nil
	case "drop":
		return s.at.theirs.Close()
	case "dials":
		if got := strconv.FormatInt(s.dialled.Load(), 10); got != words[1] {
			return fmt.Errorf("%s dials", got)
		}
	case "send":
		if s.box.Load() != nil { // a mailbox is there when it has been connected once
			return s.send(words[1], words[2:])
		}
	case "close":
		err := make(chan error, 1)
		go func() { err <- s.box.Load().Close() }() // ends when the server's end is closed
		synctest.Wait()
		s.at.theirs.Close()
		return <-err
	case "signal":
		if s.box.Load() != nil {
			s.box.Load().Signal(words[1], words[2], []byte(strings.Join(words[3:], " ")))
		}
	case "show":
		s.box.Load().Show(words[1])
	case "hide":
		s.box.Load().Hide(words[1])
	case "online":
		if got := fmt.Sprint(s.box.Load().Online(words[1])); got != words[2] {
			return fmt.Errorf("online: %s", got)
		}
	case "devices", "forget":
		go s.devices(words[1:]) // ends with the answer
	default:
		return fmt.Errorf("cannot do %q", words)
	}
	return nil
}

func (s *stage) connect() {
	o := s.options
	cfg := Config{
		Options:    client.Options{User: o["user"], Password: o["password"], Token: o["token"], Device: o["device"]},
		MaxMessage: 1 << 20,
		Findings:   new(MemoryFindings),
		Dial:       s.dial,
		OnGap:      func(after, before uint64) { s.told <- fmt.Sprintf("gap after %d before %d", after, before) },
		OnSignal: func(g Signal) {
			body := ""
			if len(g.Body) > 0 {
				body = " :" + string(g.Body)
			}
			s.told <- fmt.Sprintf("signal %s/%s %s%s", g.From, g.Device, g.Kind, body)
		},
		ShowTo: func(address string) bool { return address == o["shows"] },
	}
	go func() { // ends when the mailbox does
		box := newMailbox(cfg)
		box.prefix = "k" // as little is random as in the other SDK's
		box.jitter = func(tries int) time.Duration { return 250 * time.Millisecond << min(tries, 5) }
		err := box.open(context.Background())
		if err == nil {
			s.box.Store(box)
		}
		for err == nil {
			var m client.Message
			if m, err = box.Receive(context.Background()); err == nil {
				s.told <- fmt.Sprintf("message %d %s :%s", m.Seq, m.From, m.Body)
				box.Ack(context.Background(), m)
			}
		}
		var why *Closed
		switch {
		case errors.As(err, &why):
			s.told <- "closed " + why.Code
		case errors.Is(err, client.ErrClosed):
			s.told <- "closed done"
		default:
			s.told <- "closed " + err.Error()
		}
	}()
}

func (s *stage) dial(ctx context.Context) (net.Conn, error) {
	d := &dial{answer: make(chan error, 1), said: make(chan frame.Raw, 1000)}
	d.ours, d.theirs = net.Pipe()
	s.dialled.Add(1)
	s.dials <- d
	select {
	case err := <-d.answer:
		return d.ours, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listen takes what the client says, until it closes.
func (d *dial) listen() {
	go func() {
		defer close(d.said)
		var buf []byte
		chunk := make([]byte, 64<<10)
		for {
			n, err := d.theirs.Read(chunk)
			buf = append(buf, chunk[:n]...)
			for {
				raw, n, err := frame.Next(bytes.Clone(buf), 1<<20)
				if err != nil || n == 0 {
					break
				}
				buf = buf[n:]
				d.said <- raw
			}
			if err != nil {
				return
			}
		}
	}()
}

func (s *stage) send(to string, words []string) error {
	d := client.Draft{To: to}
	var text []string
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		switch {
		case !ok:
			text = append(text, w)
		case name == "id":
			d.ID = value
		case name == "type":
			d.Type = value
		case name == "urgency":
			d.Urgency = value
		case name == "expires":
			d.Expires, _ = time.ParseDuration(value)
		}
	}
	d.Body = []byte(strings.Join(text, " "))
	return s.box.Load().SendAsync(d, func(r client.Receipt, err error) {
		var no *client.Refused
		switch {
		case errors.As(err, &no):
			s.told <- "refused " + r.ID + " " + no.Code
		case err == nil && r.Duplicate:
			s.told <- fmt.Sprint("stored ", r.ID, " ", r.Seq, " duplicate")
		case err == nil:
			s.told <- fmt.Sprint("stored ", r.ID, " ", r.Seq)
		}
	})
}

func (s *stage) devices(forget []string) {
	if s.box.Load() == nil {
		s.told <- "devices OfflineError"
		return
	}
	ask := s.box.Load().Devices
	if len(forget) > 0 {
		ask = func(ctx context.Context) ([]Device, error) { return s.box.Load().Forget(ctx, forget[0]) }
	}
	ds, err := ask(context.Background())
	if err != nil {
		s.told <- "devices OfflineError"
		return
	}
	var list []string
	for _, d := range ds {
		way := d.Way
		if way == "" {
			way = "-"
		}
		list = append(list, fmt.Sprint(d.Name, " ", way, " ", d.Behind))
	}
	s.told <- "devices " + strings.Join(list, "; ")
}

func (s *stage) end() {
	s.at.theirs.Close()
	if s.box.Load() != nil {
		s.box.Load().Close()
	}
	synctest.Wait()
	select {
	case left := <-s.told:
		if !strings.HasPrefix(left, "closed ") {
			s.t.Errorf("left over: %s", left)
		}
	default:
	}
}
