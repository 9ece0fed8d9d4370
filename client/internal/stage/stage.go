// Package stage holds dialogues with a program that uses the long connection:
// what its user does and is told, and what is said on the wire, in virtual
// time. They are the files in sdk/ts/test/dialogues, which that SDK holds too;
// its support/stage.ts says what may stand in a line.
package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// Stage is where one dialogue is held. It is used in a synctest bubble.
type Stage struct {
	// Do carries out what stands behind "!" and is not the network's.
	Do func(words []string) error
	// Hear, if not nil, changes what stands behind "*" into what this program
	// can be told; empty is nothing at all.
	Hear func(line string) string
	// Patience is how long to wait for a connection to be dialled, by a
	// program whose pauses are others.
	Patience time.Duration

	mu      sync.Mutex
	dials   []*dial  // guarded by mu; of the program that runs
	told    []string // guarded by mu
	answers []string // guarded by mu; to questions, which come beside what is told
	at      int      // the number of the connection that lines are about; zero is the last
}

// dial is one connection from both its ends.
type dial struct {
	way    string
	answer chan error
	ours   net.Conn
	theirs net.Conn

	mu      sync.Mutex
	said    []frame.Raw // guarded by mu
	closed  bool        // guarded by mu
	reset   bool        // guarded by mu; it was closed by a reset
	answers bool        // guarded by mu; answers PING and SET by itself
}

// resettable is a pipe that may end as a socket does by a reset.
type resettable struct {
	net.Conn
	d *dial
}

func (c resettable) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if err != nil && c.d.reset {
		err = fmt.Errorf("read: %w", syscall.ECONNRESET)
	}
	return n, err
}

// Hold holds a dialogue. The error says which line does not hold.
func (s *Stage) Hold(name, text string) error {
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		synctest.Wait()
		if err := s.line(line); err != nil {
			return fmt.Errorf("%s:%d: %s\n%w", name, i+1, line, err)
		}
		synctest.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) > 0 {
		return fmt.Errorf("%s: told and not in the dialogue: %q", name, s.told)
	}
	return nil
}

// Tell is what the program's user is told.
func (s *Stage) Tell(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf(format, a...))
}

// Answer is Tell of the answer to a question.
func (s *Stage) Answer(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, line)
}

// Dial returns the Dial function of a way. Live, if not nil, says whether the
// program still runs.
func (s *Stage) Dial(way string, live func() bool) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if live != nil && !live() {
			return nil, errors.New("the program has ended")
		}
		d := &dial{way: way, answer: make(chan error, 1)}
		d.ours, d.theirs = net.Pipe()
		s.mu.Lock()
		s.dials = append(s.dials, d)
		s.mu.Unlock()
		select {
		case err := <-d.answer:
			return resettable{d.ours, d}, err
		case <-ctx.Done():
			d.end()
			return nil, ctx.Err()
		}
	}
}

// Cut ends all connections, and forgets them and what was told: the program
// has been killed.
func (s *Stage) Cut() {
	s.mu.Lock()
	dials := s.dials
	s.dials, s.told, s.at = nil, nil, 0
	s.mu.Unlock()
	for _, d := range dials {
		select {
		case d.answer <- errors.New("the program has ended"):
		default:
		}
		d.end()
	}
}

// Hangup closes the server's end.
func (s *Stage) Hangup() {
	if d := s.end(); d != nil {
		d.theirs.Close()
	}
}

func (s *Stage) end() *dial {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.at
	if at == 0 {
		at = len(s.dials)
	}
	if at == 0 || at > len(s.dials) {
		return nil
	}
	return s.dials[at-1]
}

func (s *Stage) line(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch verb {
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
		_, err = s.end().theirs.Write(frame.AppendAck(nil, f, ack))
		return err
	case "S#":
		p := make([]byte, len(rest)/2)
		if _, err := fmt.Sscanf(rest, "%x", &p); err != nil {
			return err
		}
		_, err := s.end().theirs.Write(p)
		return err
	case "*":
		return s.hears(rest)
	case "!":
		return s.do(strings.Fields(rest))
	}
	return errors.New("cannot read this line")
}

func (s *Stage) do(words []string) error {
	switch words[0] {
	case "at":
		at, err := strconv.Atoi(words[1])
		s.at = at
		if err == nil && s.end() == nil {
			return errors.New("it was not dialled")
		}
		return err
	case "open", "refuse":
		d := s.end()
		for begin := time.Now(); d == nil || d.answered(); d = s.end() {
			if time.Since(begin) >= s.Patience {
				return errors.New("it does not dial")
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if words[0] == "refuse" {
			d.answer <- errors.New("refused")
			return nil
		}
		d.listen()
		d.answer <- nil
		return nil
	case "drop", "reset":
		d := s.end()
		d.mu.Lock()
		d.reset = words[0] == "reset"
		d.mu.Unlock()
		return d.theirs.Close()
	case "answer", "deaf":
		at, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		s.dials[at-1].mu.Lock()
		defer s.dials[at-1].mu.Unlock()
		s.dials[at-1].answers = words[0] == "answer"
		return nil
	case "dials":
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := strconv.Itoa(len(s.dials)); got != words[1] {
			return fmt.Errorf("%s dials", got)
		}
		return nil
	}
	return s.Do(words)
}

func (s *Stage) hears(want string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Hear != nil {
		if want = s.Hear(want); want == "" {
			return nil
		}
	}
	from := &s.told
	if strings.HasPrefix(want, "devices ") {
		from = &s.answers
	}
	got := "(nothing)"
	if len(*from) > 0 {
		got = (*from)[0]
		*from = (*from)[1:]
	}
	if got != want {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

// says compares what the program says next. Acknowledgements are cumulative:
// one may stand for several.
func (s *Stage) says(want string) error {
	d := s.end()
	if d == nil {
		if want == "(quiet)" {
			return nil
		}
		return errors.New("there is no connection")
	}
	raw, ok, closed := d.next()
	switch {
	case !ok && (want == "(closed)" && closed || want == "(quiet)" && !closed):
		return nil
	case !ok:
		return fmt.Errorf("nothing; closed: %v", closed)
	}
	w, ack, err := frame.Parse(want)
	if err != nil {
		return fmt.Errorf("it says %v: %w", text(raw), err)
	}
	f, err := frame.Decode(raw)
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *frame.Hello:
		f.Agent = "" // each SDK has its own
	case *frame.Send:
		if f.Deflated != 0 {
			if f.Body, err = frame.Inflate(f.Body, f.Deflated); err != nil {
				return err
			}
		}
	case *frame.Ack:
		for wanted, ok := w.(*frame.Ack); ok && f.Step < wanted.Step; {
			raw, there, _ := d.next()
			more, err := frame.Decode(raw)
			next, is := more.(*frame.Ack)
			if !there || err != nil || !is {
				break
			}
			f.Step += next.Step
		}
	}
	if !bytes.Equal(frame.AppendAck(nil, f, raw.Ack), frame.AppendAck(nil, w, ack)) {
		return fmt.Errorf("it says %s", frame.Text(f, raw.Ack))
	}
	return nil
}

func text(raw frame.Raw) string {
	f, err := frame.Decode(raw)
	if err != nil {
		return err.Error()
	}
	return frame.Text(f, raw.Ack)
}

func (d *dial) next() (raw frame.Raw, ok, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.said) == 0 {
		return raw, false, d.closed
	}
	raw = d.said[0]
	d.said = d.said[1:]
	return raw, true, false
}

func (d *dial) answered() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed || len(d.answer) > 0 || d.said != nil
}

// end closes both ends.
func (d *dial) end() {
	d.ours.Close()
	d.theirs.Close()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
}

// listen takes what the program says, until it closes, and hangs up when it
// says goodbye.
func (d *dial) listen() {
	d.said = []frame.Raw{}
	go func() { // ends with the connection
		for raw := range Frames(d.theirs) {
			d.take(raw)
		}
		d.mu.Lock()
		d.closed = true
		d.mu.Unlock()
	}()
}

// Frames is what is said on r until it ends. What comes after something that is
// no frame is read, and not heard.
func Frames(r io.Reader) iter.Seq[frame.Raw] {
	return func(yield func(frame.Raw) bool) {
		var buf []byte
		for chunk := make([]byte, 64<<10); ; {
			raw, n, err := frame.Next(buf, 1<<24)
			switch {
			case err != nil:
				io.Copy(io.Discard, r)
				return
			case n > 0:
				if buf = buf[n:]; !yield(raw) {
					return
				}
				continue
			}
			if n, err = r.Read(chunk); n == 0 && err != nil {
				return
			}
			buf = append(buf, chunk[:n]...)
		}
	}
}

func (d *dial) take(raw frame.Raw) {
	f, err := frame.Decode(raw)
	if err != nil {
		return
	}
	d.mu.Lock()
	answers := d.answers
	if _, ping := f.(*frame.Ping); !answers || !ping {
		d.said = append(d.said, raw)
	}
	d.mu.Unlock()
	switch f := f.(type) {
	case *frame.Ping:
		if answers {
			d.theirs.Write(frame.Append(nil, &frame.Pong{Payload: f.Payload}))
		}
	case *frame.Set:
		if answers && f.Interval != 0 {
			d.theirs.Write(frame.Append(nil, &frame.Set{Interval: f.Interval}))
		}
	case *frame.Close:
		d.theirs.Close()
	}
}
