package xmpp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/dialog"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/coretest"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// house is a server in memory, with the users alice, bob and carol whose
// password is "secret".
type house struct {
	core    *transport.Core
	server  *Server
	store   *mem.Store
	ctx     context.Context
	stop    context.CancelFunc
	close   func()
	release func()
	ear     ear
	previd  string         // the last that the server gave
	attrs   []mailbox.Attr // of the next post
}

func newHouse(t testing.TB, cfg Config, o mem.Options, loops int) *house {
	t.Helper()
	return newHouseWithLog(t, cfg, o, loops, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
}

func newHouseWithLog(t testing.TB, cfg Config, o mem.Options, loops int, log *slog.Logger) *house {
	t.Helper()
	core := coretest.New(t, coretest.Config{Store: o, Limits: mailbox.Limits{Body: 100_000}, Loops: loops, Log: log,
		Auth: auth.Config{Failures: 3, MaxWait: time.Second,
			Tokens: auth.TokenConfig{Keys: []auth.TokenKey{{Algorithm: "HS256", Key: strings.Repeat("k", 32)}}}}})
	h := &house{core: core.Core, store: core.Store, server: New(core.Core, cfg)}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.close = func() {
		h.stop()
		h.core.Engine.Close()
		h.server.finish(h.ctx) // what the last connections have left
		core.Close()
	}
	return h
}

func (h *house) serve(nc net.Conn) {
	h.core.Engine.ServeConn(h.ctx, nc, h.server.options())
}

const open = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"

// encode knows, besides bytes as they are:
//
//	OPEN                     a stream header
//	AUTH user                PLAIN, with the password
//	TOKEN user device        PLAIN, with a token for that device
//	LOGIN user device        all that it takes to bind the device
//	ONLINE user device       the same, and initial presence
//	SM user device           LOGIN, and stream management
//	BIG element n            <message> with a body of so many bytes, in element
//	DEEP n                   so many elements in each other
//	GROUPS n                 a contact in so many groups
//	HEX bytes
func (h *house) encode(text string) ([]byte, error) {
	words := append(strings.Fields(text), "")
	with := func(user, password string) string {
		return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" +
			base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + "</auth>"
	}
	plain := func(user string) string { return with(user, "secret") }
	bind := func(user, device string) string {
		if device != "" {
			device = "<resource>" + device + "</resource>"
		}
		return open + plain(user) + open + "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>" + device + "</bind></iq>"
	}
	switch words[0] {
	case "OPEN":
		return []byte(open), nil
	case "AUTH":
		return []byte(plain(words[1])), nil
	case "TOKEN":
		token, _, err := h.core.Auth.IssueToken(h.ctx, words[1], words[2], 0)
		return []byte(with(words[1], token)), err
	case "LOGIN":
		return []byte(bind(words[1], words[2])), nil
	case "ONLINE":
		return []byte(bind(words[1], words[2]) + "<presence/>"), nil
	case "SM":
		return []byte(bind(words[1], words[2]) + "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"), nil
	case "BIG":
		n, err := strconv.Atoi(words[1])
		return []byte("<message to='bob@localhost' id='big' type='chat'><body>" + strings.Repeat("x", n) + "</body></message>"), err
	case "DEEP":
		n, err := strconv.Atoi(words[1])
		return []byte(strings.Repeat("<a>", n)), err
	case "GROUPS":
		n, err := strconv.Atoi(words[1])
		groups := ""
		for i := range n {
			groups += fmt.Sprint("<group>", i, "</group>")
		}
		return []byte("<iq type='set' id='g'><query xmlns='jabber:iq:roster'><item jid='friend@localhost'>" + groups + "</item></query></iq>"), err
	}
	return []byte(strings.ReplaceAll(text, "$previd", h.previd)), nil
}

var random = regexp.MustCompile(`\b(id|previd|origin-id)='(ping-[A-Z0-9]{8}|[A-Z2-7]{26}|[a-z2-7]{12}\.[0-9]+)'`)
var someday = regexp.MustCompile(`stamp='[^']*'`)
var previd = regexp.MustCompile(`<enabled [^>]*\bid='([A-Z2-7]{26})'`)

// decode shows a stanza as it is, but for what is made up anew each time.
func (h *house) decode(p []byte) (string, int, error) {
	s := strings.TrimLeft(string(p), " ")
	skip := len(p) - len(s)
	if rest, ok := strings.CutPrefix(s, "<?xml version='1.0'?>"); ok {
		n := strings.IndexByte(rest, '>')
		if n < 0 {
			return "", 0, nil
		}
		s, skip = rest[n+1:], len(p)-len(rest)+n+1
		if s == "" {
			return "", 0, nil // features follow, or an error
		}
		if !strings.HasPrefix(s, "<stream:features>") {
			return "(stream)", skip, nil
		}
		f := strings.Index(s, "</stream:features>")
		if f < 0 {
			return "", 0, nil
		}
		return "(stream)", skip + f + len("</stream:features>"), nil
	}
	if strings.HasPrefix(s, "</stream:stream>") {
		return "</stream:stream>", skip + len("</stream:stream>"), nil
	}
	sc := stream.Scanner{Limits: stream.After}
	if _, _, err := sc.Next([]byte(open)); err != nil {
		return "", 0, err
	}
	k, n, err := sc.Next([]byte(s))
	if err != nil || k == stream.More {
		return "", 0, err
	}
	text := s[:n]
	if m := previd.FindStringSubmatch(text); m != nil {
		h.previd = m[1]
	}
	text = random.ReplaceAllString(text, "$1='*'")
	text = strings.NewReplacer("\n", "\\n", "\t", "\\t").Replace(text)
	text = someday.ReplaceAllString(text, "stamp='*'")
	if len(text) > 1000 {
		text = text[:300] + fmt.Sprintf("… (%d bytes)", len(text))
	}
	return text, skip + n, nil
}

// do knows:
//
//	! drain                        the server stops
//	! attr name value              a property of the next post
//	! post from to id type text    a message from another door; text may be
//	                               quoted as in Go, type - is none
//	! fill bob to 300                so many messages from another door
//	! hold, ! release              the disk is slow
//	! posted 3                     fails if XMPP has posted more or less
//	! full, ! space                the disk is full
//	! end user                     the account's sessions end
//	! properties user 3 "name" "value" …  fails if message 3 has others
//	! cursor user device 3         fails if the device is not there
//	! signal from device to kind   a word of the moment from another door
//	! hear user device             a session at another door
//	! heard from kind              fails if that was not the next that it heard
func (h *house) do(words []string) error {
	switch words[0] {
	case "drain":
		h.stop()
		return nil
	case "post":
		text := strings.Join(words[5:], " ")
		if q, err := strconv.Unquote(text); err == nil {
			text = q
		}
		return h.post(words[1], words[2], words[3], strings.Trim(words[4], "-"), text)
	case "attr":
		name, err := strconv.Unquote(words[1])
		value, err2 := strconv.Unquote(strings.Join(words[2:], " "))
		h.attrs = append(h.attrs, mailbox.Attr{Name: name, Value: value})
		return errors.Join(err, err2)
	case "properties":
		seq, err := strconv.ParseUint(words[2], 10, 64)
		if err != nil {
			return err
		}
		es, _, err := h.core.Mail.Read(h.ctx, nil, words[1]+"@localhost", mailbox.Seq(seq-1), 1, 1<<20)
		if err != nil || len(es) == 0 {
			return fmt.Errorf("%d entries, %w", len(es), err)
		}
		got := ""
		for _, a := range es[0].Attrs {
			if !router.Private(a.Name) {
				got += fmt.Sprintf(" %q %q", a.Name, a.Value)
			}
		}
		if want := " " + strings.Join(words[3:], " "); strings.TrimSpace(got) != strings.TrimSpace(want) {
			return fmt.Errorf("properties%s", got)
		}
		return nil
	case "fill":
		n, err := strconv.Atoi(words[2])
		for i := range n {
			err = errors.Join(err, h.post("carol", words[1], fmt.Sprint("f.", i+1), "", fmt.Sprint("message ", i+1)))
		}
		return err
	case "hold":
		h.release = h.store.Hold()
		return nil
	case "release":
		h.release()
		return nil
	case "posted":
		if got := fmt.Sprint(h.core.Router.Stats(router.XMPP).Posted); got != words[1] {
			return fmt.Errorf("posted %s", got)
		}
		return nil
	case "full":
		h.store.Fail(errors.New("no space left on device"))
		return nil
	case "space":
		h.store.Fail(nil)
		return nil
	case "end":
		h.core.Router.EndUser(words[1]+"@localhost", router.Removed)
		return nil
	case "signal":
		_, err := h.core.Router.Signal(words[3], &router.Signal{Door: router.Link, From: words[1] + "@localhost", Device: words[2], Kind: words[4]})
		return err
	case "hear":
		h.ear = make(ear, 100)
		h.core.Router.AttachAt(router.Link, auth.Who{User: words[1] + "@localhost", Device: words[2]}, h.ear, 0)
		return nil
	case "heard":
		got := "nothing"
		select {
		case got = <-h.ear:
		default:
		}
		if want := strings.Join(words[1:], " "); got != want {
			return fmt.Errorf("heard %s", got)
		}
		return nil
	case "cursor":
		c, _, err := h.core.Mail.Cursor(h.ctx, words[1]+"@localhost", words[2])
		if got := strconv.Itoa(int(c.Seq)); err == nil && got != words[3] {
			err = fmt.Errorf("cursor is at %s", got)
		}
		return err
	}
	return fmt.Errorf("cannot do %q", words)
}

// ear is a session at another door.
type ear chan string

func (e ear) Wake()             {}
func (e ear) End(router.Reason) {}

func (e ear) Signal(_ string, s *router.Signal) bool {
	e <- s.From + "/" + s.Device + " " + s.Kind
	return true
}

func (h *house) post(from, to, id, kind, body string) error {
	bell := make(chan struct{}, 1)
	p := &mailbox.Post{Message: mailbox.Message{ID: id, Type: kind, Body: []byte(body), Attrs: h.attrs}, Notify: mailbox.WakeFunc(func() { bell <- struct{}{} })}
	h.attrs = nil
	if err := h.core.Router.Submit(router.Poll, auth.Who{User: from + "@localhost", Device: "curl"}, to, p); err != nil {
		return err
	}
	<-bell
	return p.Err
}

// TestDialogues holds the dialogues of testdata. A file whose name begins with
// "small-" meets a server with small limits, one with "trim-" a server that
// keeps two messages.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			cfg := Config{Insecure: true}
			var o mem.Options
			switch {
			case strings.HasPrefix(name, "small-"):
				cfg = Config{Insecure: true, MaxStanza: 2000, LoginTime: 3 * time.Second, MaxRoster: 2, MaxPosts: 2, MaxQueue: 1000, LoginTries: 2, ResumeTime: 20 * time.Second}
			case strings.HasPrefix(name, "trim-"):
				o.Retention.Count = 2
			case strings.HasPrefix(name, "clear-"):
				cfg.Insecure = false
			}
			dialog.Run(t, file, func(t *testing.T) dialog.Peer {
				h := newHouse(t, cfg, o, -1)
				return dialog.Peer{Serve: h.serve, Encode: h.encode, Decode: h.decode, Do: h.do, Close: h.close}
			})
		})
	}
}
