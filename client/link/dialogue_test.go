package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/stage"
)

// Dialogues of the SDKs, held by a Mailbox alone, which comes back by itself.
// The rest of them are about a store, several ways, a program that is killed:
// client holds all of them with a Client.
var shared = []string{"bad-server", "close-reasons", "deflate", "denied", "devices", "doubt", "expired", "gap", "hello", "learning", "signals", "tokens"}

func TestSharedDialogues(t *testing.T) {
	for _, name := range shared {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("../../sdk/ts/test/dialogues", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				a := &app{}
				a.s.Do, a.s.Patience = a.do, time.Minute
				a.s.Hear = func(line string) string {
					if strings.HasPrefix(line, "online ") || strings.HasPrefix(line, "waiting ") {
						return "" // it is seen by what follows
					}
					return line
				}
				if err := a.s.Hold(name, string(text)); err != nil {
					t.Error(err)
				}
				a.over.Store(true)
				a.s.Cut()
				if mb := a.box.Load(); mb != nil {
					mb.Close()
				}
			})
		})
	}
}

// app uses a mailbox.
type app struct {
	s      stage.Stage
	box    atomic.Pointer[Mailbox] // which is there when it has been connected once
	over   atomic.Bool
	tokens atomic.Int64
}

func (a *app) do(words []string) error {
	mb, rest := a.box.Load(), words[1:]
	switch words[0] {
	case "connect":
		o := map[string]string{}
		for _, w := range rest {
			name, value, _ := strings.Cut(w, "=")
			o[name] = value
		}
		a.connect(o)
	case "send":
		if mb != nil {
			return a.send(mb, rest[0], rest[1:])
		}
	case "close":
		go mb.Close() // the server hangs up when it has heard it
	case "signal":
		if mb != nil {
			mb.Signal(rest[0], rest[1], []byte(strings.Join(rest[2:], " ")))
		}
	case "show":
		mb.Show(rest[0])
	case "hide":
		mb.Hide(rest[0])
	case "online":
		if got := fmt.Sprint(mb.Online(rest[0])); got != rest[1] {
			return fmt.Errorf("online: %s", got)
		}
	case "devices", "forget":
		go a.devices(mb, rest) // ends with the answer
	default:
		return fmt.Errorf("cannot do %q", words)
	}
	return nil
}

func (a *app) connect(o map[string]string) {
	cfg := Config{
		Options: client.Options{User: o["user"], Password: o["password"], Token: o["token"], Device: o["device"]},
		Network: o["network"], MaxMessage: 1 << 20,
		Dial:  a.s.Dial("link", func() bool { return !a.over.Load() }),
		OnGap: func(after, before uint64) { a.s.Tell("gap after %d before %d", after, before) },
		OnSignal: func(g Signal) {
			body := ""
			if len(g.Body) > 0 {
				body = " :" + string(g.Body)
			}
			a.s.Tell("signal %s/%s %s%s", g.From, g.Device, g.Kind, body)
		},
		ShowTo: func(address string) bool { return address == o["shows"] },
	}
	if o["token"] == "fresh" {
		cfg.Tokens = func(context.Context) (string, error) { return fmt.Sprint("t", a.tokens.Add(1)), nil }
	}
	mb := newMailbox(cfg)
	mb.prefix = "k" // as little is random as in the other SDK's
	mb.jitter = func(tries int) time.Duration { return 250 * time.Millisecond << min(tries, 5) }
	go a.live(mb) // ends when the mailbox does
}

// live tries until it has been connected once, and then reads.
func (a *app) live(mb *Mailbox) {
	err := mb.open(context.Background())
	var no *Closed
	for err != nil && !errors.As(err, &no) && !a.over.Load() {
		time.Sleep(250 * time.Millisecond)
		err = mb.open(context.Background())
	}
	if err == nil {
		a.box.Store(mb)
	}
	for err == nil {
		var m client.Message
		if m, err = mb.Receive(context.Background()); err == nil {
			a.s.Tell("message %d %s :%s", m.Seq, m.From, m.Body)
			mb.Ack(context.Background(), m)
		}
	}
	switch {
	case a.over.Load():
	case errors.As(err, &no):
		a.s.Tell("closed %s", no.Code)
	case errors.Is(err, client.ErrClosed):
		a.s.Tell("closed done")
	default:
		a.s.Tell("closed %v", err)
	}
}

func (a *app) send(mb *Mailbox, to string, words []string) error {
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
	return mb.SendAsync(d, func(r client.Receipt, err error) {
		var no *client.Refused
		switch {
		case errors.As(err, &no):
			a.s.Tell("refused %s %s", r.ID, no.Code)
		case err == nil && r.Duplicate:
			a.s.Tell("stored %s %d duplicate", r.ID, r.Seq)
		case err == nil:
			a.s.Tell("stored %s %d", r.ID, r.Seq)
		}
	})
}

func (a *app) devices(mb *Mailbox, forget []string) {
	if mb == nil {
		a.s.Answer("devices OfflineError")
		return
	}
	ask := mb.Devices
	if len(forget) > 0 {
		ask = func(ctx context.Context) ([]Device, error) { return mb.Forget(ctx, forget[0]) }
	}
	ds, err := ask(context.Background())
	if err != nil {
		a.s.Answer("devices OfflineError")
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
	a.s.Answer("devices " + strings.Join(list, "; "))
}
