package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/mailbox"
)

type sendCmd struct {
	account
	To   string   `required:"" placeholder:"ADDRESS" help:"Who gets it: bob or bob@example.org."`
	ID   string   `name:"id" placeholder:"ID" help:"The message's id; sending it again with the same id stores nothing twice."`
	Type string   `placeholder:"MEDIATYPE" help:"The media type of the body. Default text/plain."`
	Attr []string `sep:"none" placeholder:"NAME=VALUE" help:"A property of the message. May be given more than once."`
	Text string   `arg:"" help:"The text; - reads the body from standard input."`
	settings
}

func (c *sendCmd) Run(ctx context.Context, p *program) error {
	body := []byte(c.Text)
	if c.Text == "-" {
		if c.Password == nil && c.Token == "" {
			return errors.New("with - the password cannot come from standard input too: give --password")
		}
		var err error
		if body, err = io.ReadAll(p.in); err != nil {
			return err
		}
	}
	var attrs []client.Attr
	for _, a := range c.Attr {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return fmt.Errorf("--attr %s: it should be NAME=VALUE", a)
		}
		attrs = append(attrs, client.Attr{Name: name, Value: value})
	}
	if c.Type == "" && !utf8.Valid(body) {
		c.Type = "application/octet-stream"
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if c.Device == "" {
		c.Device = "send" // or it would take the place of the user's tail
	}
	m, err := dial(ctx, p, &c.settings, c.account)
	if err != nil {
		return err
	}
	defer m.Close()
	r, err := m.Send(ctx, client.Draft{ID: c.ID, To: c.To, Type: c.Type, Body: body, Attrs: attrs})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.out, receipt(r))
	return err
}

func receipt(r client.Receipt) string {
	s := "stored " + r.ID
	if r.Seq != 0 {
		s += fmt.Sprintf(" seq %d", r.Seq)
	}
	if r.Duplicate {
		s += " (it was there already)"
	}
	return s
}

type tailCmd struct {
	account
	After uint64 `placeholder:"SEQ" help:"Leave out, and acknowledge, what is not after this place."`
	Count int    `placeholder:"N" help:"Stop after so many messages. Default: never."`
	settings
}

func (c *tailCmd) Run(ctx context.Context, p *program) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	m, err := follow(ctx, p, &c.settings, c.account)
	if err != nil {
		return err
	}
	defer m.Close()
	out := bufio.NewWriter(p.out)
	for n := 0; c.Count == 0 || n < c.Count; {
		msg, err := m.Receive(ctx)
		if ctx.Err() != nil {
			return nil // asked to stop
		}
		if err != nil {
			return err
		}
		if msg.Seq == 0 || msg.Seq > c.After {
			line, err := json.Marshal(lineOf(msg))
			if err == nil {
				_, err = out.Write(append(line, '\n'))
			}
			if err == nil {
				err = out.Flush()
			}
			if err != nil {
				return err // not written, so not acknowledged
			}
			n++
		}
		// What is printed must not come again because the signal came now.
		if err := ack(context.WithoutCancel(ctx), m, msg); err != nil {
			return err
		}
	}
	return nil
}

func ack(ctx context.Context, m client.Mailbox, msg client.Message) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return m.Ack(ctx, msg)
}

// line is what tail prints, in the words of the poll door.
type line struct {
	Seq    uint64      `json:"seq,omitempty"`
	Prev   uint64      `json:"prev,omitempty"`
	ID     string      `json:"id,omitempty"`
	From   string      `json:"from,omitempty"`
	To     string      `json:"to,omitempty"`
	Device string      `json:"device,omitempty"`
	Time   *time.Time  `json:"time,omitempty"`
	Type   string      `json:"type,omitempty"`
	Body   *string     `json:"body,omitempty"`
	Body64 []byte      `json:"body64,omitempty"`
	Attrs  [][2]string `json:"attrs,omitempty"`
}

func lineOf(m client.Message) line {
	// Some doors leave out the type of text, which a line has as poll has it.
	l := line{Seq: m.Seq, Prev: m.Prev, ID: m.ID, From: m.From, To: m.To, Device: m.Device, Type: cmp.Or(m.Type, mailbox.TypeText)}
	if !m.Time.IsZero() {
		l.Time = &m.Time
	}
	for _, a := range m.Attrs {
		l.Attrs = append(l.Attrs, [2]string{a.Name, a.Value})
	}
	if text := string(m.Body); utf8.ValidString(text) && (strings.HasPrefix(l.Type, "text/") || strings.HasSuffix(l.Type, "json")) {
		l.Body = &text
	} else {
		l.Body64 = m.Body
	}
	return l
}
