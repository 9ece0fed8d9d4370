package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/stage"
	"github.com/posthouse-im/posthouse/client/link"
)

// The dialogues of both SDKs, all of them, held by this one.
func TestSharedDialogues(t *testing.T) {
	files, err := filepath.Glob("../sdk/ts/test/dialogues/*.txt")
	if err != nil || len(files) < 36 {
		t.Fatal("where are the dialogues?", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				p := &program{t: t, store: new(client.Memory)}
				p.s.Do = p.do
				if err := p.s.Hold(name, string(text)); err != nil {
					t.Error(err)
				}
				p.kill()
			})
		})
	}
}

// program uses the SDK, and is started again with what is in its store.
type program struct {
	t       *testing.T
	s       stage.Stage
	options map[string]string
	store   *client.Memory
	runs    int
	tokens  int
	run     *run
}

// run is one life of the program.
type run struct {
	c       *client.Client
	over    context.Context
	kill    context.CancelFunc
	release chan struct{} // of a slow handler
	slow    chan bool     // holds true while handlers are slow
	fail    chan bool     // holds true if the next one fails
}

func (p *program) do(words []string) error {
	r := p.run
	rest := words[1:]
	switch words[0] {
	case "connect":
		p.options = map[string]string{}
		for _, w := range rest {
			name, value, _ := strings.Cut(w, "=")
			p.options[name] = value
		}
		return p.start()
	case "restart":
		p.kill()
		return p.start()
	case "close":
		go r.c.Close() // the server hangs up when it has heard it
	case "send":
		_, err := r.c.Queue(draft(rest))
		return err
	case "pending":
		if got := strconv.Itoa(r.c.Pending()); got != rest[0] {
			return fmt.Errorf("%s are pending", got)
		}
	case "slow":
		r.slow <- true
	case "done":
		<-r.slow
		r.release <- struct{}{}
	case "fail":
		r.fail <- true
	case "network":
		name := p.options["network"]
		if len(rest) > 0 {
			name = rest[0]
		}
		p.options["network"] = name
		r.c.NetworkChanged(name)
	case "background", "foreground":
		r.c.SetBackground(words[0] == "background")
	case "signal":
		if l := r.live(); l != nil {
			l.Signal(rest[0], rest[1], []byte(strings.Join(rest[2:], " ")))
		}
	case "show":
		r.live().Show(rest[0])
	case "hide":
		r.live().Hide(rest[0])
	case "online":
		if got := fmt.Sprint(r.live().Online(rest[0])); got != rest[1] {
			return fmt.Errorf("online: %s", got)
		}
	case "devices", "forget":
		go p.devices(r, rest) // ends with the answer
	default:
		return fmt.Errorf("cannot do %q", words)
	}
	return nil
}

func (r *run) live() *link.Mailbox {
	l, _ := r.c.Live().(*link.Mailbox)
	return l
}

// kill ends the program at once.
func (p *program) kill() {
	if p.run == nil {
		return
	}
	p.run.kill()
	p.s.Cut()
	p.run.c.Close()
	synctest.Wait()
}

func (p *program) start() error {
	p.runs++
	r := &run{release: make(chan struct{}), slow: make(chan bool, 1), fail: make(chan bool, 1)}
	r.over, r.kill = context.WithCancel(context.Background())
	p.run = r
	o := p.options
	tell := func(format string, a ...any) {
		if r.over.Err() == nil {
			p.s.Tell(format, a...)
		}
	}
	way := func(name string) client.Way {
		return link.Way(name, link.Config{
			Dial: p.s.Dial(name, func() bool { return r.over.Err() == nil }), MaxMessage: 1 << 20,
			HoldNormal: o["normal"] == "1",
			OnSignal: func(g link.Signal) {
				body := ""
				if len(g.Body) > 0 {
					body = " :" + string(g.Body)
				}
				tell("signal %s/%s %s%s", g.From, g.Device, g.Kind, body)
			},
			ShowTo: func(address string) bool { return address == o["shows"] },
		})
	}
	cfg := client.Config{
		Ways: []client.Way{way("websocket")}, User: o["user"], Password: o["password"], Token: o["token"],
		Device: o["device"], Network: o["network"], Store: p.store,
		OnState: func(s client.State) {
			switch s.Phase {
			case client.Online:
				tell("online %s", s.Way)
			case client.Waiting:
				tell("waiting %v %s", time.Until(s.Again), code(s.Err))
			case client.Ended:
				tell("closed %s", code(s.Err))
			}
		},
		OnStored: func(r client.Receipt) {
			again := ""
			if r.Duplicate {
				again = " duplicate"
			}
			tell("stored %s %d%s", r.ID, r.Seq, again)
		},
		OnRefused: func(id string, why *client.Refused) { tell("refused %s %s", id, why.Code) },
		OnGap:     func(after, before uint64) { tell("gap after %d before %d", after, before) },
	}
	if o["ways"] == "2" {
		cfg.Ways = []client.Way{way("tcp"), way("websocket")}
	}
	if o["token"] == "fresh" {
		cfg.Token = ""
		cfg.Tokens = func(context.Context) (string, error) {
			p.tokens++
			return fmt.Sprint("t", p.tokens), nil
		}
	}
	var err error
	r.c, err = client.OpenStaged(context.Background(), cfg, strings.Repeat("k", p.runs), func(bound time.Duration) time.Duration { return bound / 2 })
	if err == nil {
		go r.handle(tell) // ends with the program
	}
	return err
}

// handle is what an application does with its messages. How it takes its time,
// or fails and tries again, is its own affair here.
func (r *run) handle(tell func(string, ...any)) {
	for {
		m, err := r.c.Receive(r.over)
		if err != nil {
			return
		}
		select {
		case <-r.fail:
			tell("error disk full")
			select {
			case <-time.After(2 * time.Second):
			case <-r.over.Done():
				return
			}
		default:
		}
		urgency := ""
		if m.Urgency != "normal" {
			urgency = " urgency=" + m.Urgency
		}
		tell("message %d %s%s :%s", m.Seq, m.From, urgency, m.Body)
		if len(r.slow) > 0 {
			select {
			case <-r.release:
			case <-r.over.Done():
				return
			}
		}
		if r.over.Err() == nil {
			r.c.Ack(r.over, m)
		}
	}
}

func (p *program) devices(r *run, forget []string) {
	l := r.live()
	if l == nil {
		p.s.Answer("devices OfflineError")
		return
	}
	ask := l.Devices
	if len(forget) > 0 {
		ask = func(ctx context.Context) ([]link.Device, error) { return l.Forget(ctx, forget[0]) }
	}
	ds, err := ask(r.over)
	if err != nil {
		p.s.Answer("devices OfflineError")
		return
	}
	var list []string
	for _, d := range ds {
		if d.Way == "" {
			d.Way = "-"
		}
		list = append(list, fmt.Sprint(d.Name, " ", d.Way, " ", d.Behind))
	}
	p.s.Answer("devices " + strings.Join(list, "; "))
}

// code is the dialogues' word for a reason.
func code(err error) string {
	var no *client.Closed
	var later *client.Later
	switch {
	case errors.As(err, &no):
		return no.Code
	case errors.As(err, &later):
		return later.Code
	case errors.Is(err, client.ErrClosed):
		return "done"
	case errors.Is(err, client.ErrMoved):
		return "network"
	case errors.Is(err, client.ErrPlace):
		return "place"
	}
	return "lost"
}

func draft(words []string) client.Draft {
	d := client.Draft{To: words[0]}
	var text []string
	for _, w := range words[1:] {
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
	return d
}
