// Package dialog runs dialogues of a protocol as tests, in virtual time.
//
//	alice C: PING            alice's client says something, in text form
//	alice C# 0400            the same as bytes
//	alice C1 PING            the same, byte by byte
//	alice S: PONG            what the server says to her next
//	alice S: (quiet)         the server has nothing to say to her
//	alice S: (closed)        the server has closed the connection
//	alice --                 her connection drops
//	      ~ 5m               five minutes pass
//	      ! drain            something that the test itself knows how to do
//	# A comment.
//
// An actor connects when first named, and again after a drop. What the server
// says must be in the dialogue to the last word: what is left over at the end
// is an error. Run the tests with -rewrite to write what the server said into
// the dialogue; then read the diff.
package dialog

import (
	"encoding/hex"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/internal/golden"
)

// Peer is what a dialogue is held with, and in which language.
type Peer struct {
	// Serve serves one connection until it ends.
	Serve func(net.Conn)
	// Encode turns a line's text into bytes.
	Encode func(text string) ([]byte, error)
	// Decode turns the bytes that a slice begins with into text, and says how
	// many they are; none if they are not complete yet.
	Decode func(p []byte) (text string, n int, err error)
	// Do carries out a line that begins with an exclamation mark.
	Do func(words []string) error
	// Close ends whatever was started.
	Close func()
}

// Run holds the dialogue in file with the peer that setup makes. Setup is
// called inside the bubble of virtual time.
func Run(t *testing.T, file string, setup func(t *testing.T) Peer) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	synctest.Test(t, func(t *testing.T) {
		r := &run{t: t, file: file, lines: lines, peer: setup(t), actors: map[string]*actor{}}
		defer r.end()
		for r.i = range lines {
			r.line(strings.TrimSpace(lines[r.i]))
			synctest.Wait()
		}
		for name, a := range r.actors {
			if left := a.next(); left != quiet && left != closed {
				t.Errorf("%s: to %s, left over: %s", file, name, left)
			}
		}
	})
	if golden.Rewriting() && !t.Failed() {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	quiet  = "(quiet)"
	closed = "(closed)"
)

type run struct {
	t      *testing.T
	file   string
	lines  []string
	i      int
	peer   Peer
	actors map[string]*actor
}

func (r *run) fatalf(format string, a ...any) {
	r.t.Helper()
	r.t.Fatalf("%s:%d: "+format, append([]any{r.file, r.i + 1}, a...)...)
}

func (r *run) end() {
	for _, a := range r.actors {
		a.drop()
	}
	r.peer.Close()
	synctest.Wait()
}

func (r *run) line(line string) {
	if line == "" || line[0] == '#' {
		return
	}
	name, rest, _ := strings.Cut(line, " ")
	what, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	switch name {
	case "~":
		d, err := time.ParseDuration(what)
		if err != nil {
			r.fatalf("%v", err)
		}
		time.Sleep(d)
		return
	case "!":
		if err := r.peer.Do(append([]string{what}, strings.Fields(text)...)); err != nil {
			r.fatalf("%v", err)
		}
		return
	}
	a := r.actors[name]
	if a == nil {
		a = dial(&r.peer)
		r.actors[name] = a
	}
	switch what {
	case "--":
		a.drop()
		delete(r.actors, name)
	case "C:", "C1":
		p, err := r.peer.Encode(text)
		if err != nil {
			r.fatalf("%v", err)
		}
		if what == "C:" {
			a.say <- p
			return
		}
		for _, b := range p {
			a.say <- []byte{b}
			synctest.Wait()
		}
	case "C#":
		p, err := hex.DecodeString(text)
		if err != nil {
			r.fatalf("%v", err)
		}
		a.say <- p
	case "S:":
		got := a.next()
		if golden.Rewriting() {
			line := r.lines[r.i]
			r.lines[r.i] = line[:strings.Index(line, "S:")] + "S: " + got
		} else if got != text {
			r.fatalf("to %s\n got: %s\nwant: %s", name, got, text)
		}
	default:
		r.fatalf("cannot read %q", line)
	}
}

// actor is one client.
type actor struct {
	nc   net.Conn
	say  chan []byte // what to write; its goroutine ends when it is closed
	said chan string // by the server; the last thing is that it closed
}

const manyLines = 10000

func dial(p *Peer) *actor {
	ours, theirs := net.Pipe()
	a := &actor{ours, make(chan []byte, manyLines), make(chan string, manyLines)}
	go p.Serve(theirs) // ends with the connection
	go func() {        // ends when say is closed
		for b := range a.say {
			ours.Write(b) // an error is seen by the reader
		}
	}()
	go func() { // ends with the connection
		defer func() { a.said <- closed }()
		var buf []byte
		chunk := make([]byte, 64<<10)
		for {
			n, err := ours.Read(chunk)
			buf = append(buf, chunk[:n]...)
			for len(buf) > 0 {
				text, n, err := p.Decode(buf)
				if err != nil {
					a.said <- "(unreadable) " + err.Error()
					return
				}
				if n == 0 {
					break
				}
				a.said <- text
				buf = buf[n:]
			}
			if err != nil {
				return
			}
		}
	}()
	return a
}

func (a *actor) next() string {
	synctest.Wait()
	select {
	case s := <-a.said:
		return s
	default:
		return quiet
	}
}

func (a *actor) drop() {
	a.nc.Close()
	close(a.say)
}
