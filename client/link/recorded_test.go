package link

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// An old server and a new client: what servers said when there was nothing but
// version 1.0, byte for byte, is said to a mailbox of today, which asks for
// more than they know. It is to understand all messages, and to be told what
// became of as many sends as were answered.
func TestRecordedServer(t *testing.T) {
	files, err := filepath.Glob("../../transport/link/testdata/recorded-1.0/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("nothing recorded", err)
	}
	heard := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, said := range connections(t, string(text)) {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { heard += hearRecorded(t, said) })
			})
		}
	}
	if heard < 40 {
		t.Errorf("only %d messages and answers were heard", heard)
	}
}

// connections returns what the server said on the first connection of each
// actor whose session began.
func connections(t *testing.T, text string) map[string][][]byte {
	m, over := map[string][][]byte{}, map[string]bool{}
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 2 || over[w[0]] {
			continue
		}
		if w[1] == "--" {
			over[w[0]] = true
		}
		if w[1] != "S:" || strings.HasPrefix(w[2], "(") {
			continue
		}
		p, err := hex.DecodeString(w[2])
		if err != nil {
			t.Fatal(line, err)
		}
		if len(m[w[0]]) == 0 && (w[3] != "WELCOME" || !strings.Contains(line, "device=")) {
			over[w[0]] = true // it was refused, or is a probe
			continue
		}
		m[w[0]] = append(m[w[0]], p)
	}
	return m
}

func hearRecorded(t *testing.T, said [][]byte) (heard int) {
	ours, theirs := net.Pipe()
	go func() { // ends with the connection
		buf := make([]byte, 4096)
		for {
			if _, err := theirs.Read(buf); err != nil {
				return
			}
		}
	}()
	go theirs.Write(said[0])
	dialled := false
	mb, err := Open(t.Context(), Config{
		Options:  client.Options{User: "x", Password: "x"},
		OnSignal: func(Signal) {},
		Dial: func(ctx context.Context) (net.Conn, error) {
			if dialled {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			dialled = true
			return ours, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		theirs.Close()
		mb.Close()
		synctest.Wait()
	}()
	var got, want []string
	r := frame.MsgReader{}
	for i, p := range said {
		raw, _, err := frame.Next(p, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		f, err := frame.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *frame.Welcome:
			r.Place, r.Time = f.Cursor, int64(f.Time)
		case *frame.Trimmed:
			r.Place += f.Step
		case *frame.Msg:
			m, err := r.Read(f)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(m.Seq, m.From, m.ID, string(m.Body)))
		case *frame.Stored:
			n := 0
			for _, run := range f.Runs {
				n += int(run.Count)
			}
			for range n {
				heard += send1(t, mb)
			}
		case *frame.Refused:
			heard += send1(t, mb)
		}
		if i == 0 {
			continue
		}
		if _, err := theirs.Write(p); err != nil {
			t.Fatalf("after %x: %v", p, err)
		}
		synctest.Wait()
		for len(got) < len(want) {
			m, err := mb.Receive(t.Context())
			if err != nil {
				t.Fatalf("after %x: %v", p, err)
			}
			got = append(got, fmt.Sprint(m.Seq, m.From, m.ID, string(m.Body)))
			mb.Ack(t.Context(), m)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	return heard + len(got)
}

// send1 sends something, for the server to answer.
func send1(t *testing.T, mb *Mailbox) int {
	if err := mb.SendAsync(client.Draft{To: "bob", Body: []byte("x")}, func(client.Receipt, error) {}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return 1
}
