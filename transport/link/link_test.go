package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	sdk "github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/dialog"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// house is a server in memory, with the users alice, bob and carol whose
// password is "secret".
type house struct {
	core    *transport.Core
	server  *link.Server
	store   *mem.Store
	ctx     context.Context
	stop    context.CancelFunc
	close   func()
	vars    map[string]string
	release func()
	serving sync.WaitGroup // those of listen
}

func newHouse(t testing.TB, cfg link.Config, o mem.Options) *house {
	t.Helper()
	h := &house{store: mem.New(o), vars: map[string]string{}}
	mail := mailbox.New(h.store, mailbox.Limits{Body: 1000})
	under, stop := context.WithCancel(context.Background())
	a, err := auth.Open(under, mail, auth.Config{Domain: "localhost", Iterations: 4096,
		Tokens: auth.TokenConfig{Keys: []auth.TokenKey{{ID: "k", Algorithm: "HS256", Key: "01234567890123456789012345678901"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "bob", "carol"} {
		if err := a.Add(under, u, "secret", auth.RoleUser); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	engine := conn.New(conn.Config{Loops: -1, Log: log})
	h.core = &transport.Core{Mail: mail, Router: router.New(under, mail, a, "localhost"), Auth: a,
		Keepalive: keepalive.Fixed(0), Engine: engine, Log: log}
	h.server = link.New(h.core, cfg)
	h.ctx, h.stop = context.WithCancel(under)
	h.close = func() {
		h.stop()
		h.serving.Wait()
		engine.Close()
		a.Close()
		stop()
		mail.Close()
	}
	return h
}

func (h *house) serve(nc net.Conn) { h.core.Engine.ServeConn(h.ctx, nc, h.server.Options(h.ctx)) }

// listen serves on TCP, with TLS if cfg is given, until the house is closed.
func (h *house) listen(t testing.TB, cfg *tls.Config) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.serving.Go(func() { h.server.ServeTLS(h.ctx, ln, cfg) })
	return ln.Addr().String()
}

func (h *house) encode(text string) ([]byte, error) {
	for name, value := range h.vars {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	if n, ok := strings.CutPrefix(text, "SEND 0 large "); ok {
		size, _ := strconv.Atoi(n)
		return frame.Append(nil, &frame.Send{ID: frame.ID{Step: 1}, Body: make([]byte, size)}), nil
	}
	f, ack, err := frame.Parse(text)
	if err != nil {
		return nil, err
	}
	return frame.AppendAck(nil, f, ack), nil
}

func decode(p []byte) (string, int, error) {
	raw, n, err := frame.Next(p, 1<<20)
	if err != nil || n == 0 {
		return "", 0, err
	}
	f, err := frame.Decode(raw)
	if err != nil {
		return "", 0, err
	}
	return frame.Text(f, raw.Ack), n, nil
}

// do knows:
//
//	! drain                        the server stops
//	! token NAME user device 1m    $NAME is a token for so long; - is no device
//	! post from to id text         a message from another door; its urgency and
//	                               expiry may follow a single word
//	! fill to 300                  so many messages from another door
//	! hold, ! release              the disk is slow
//	! full, ! space                the disk is full
//	! end user                     the account's sessions end
func (h *house) do(words []string) error {
	switch words[0] {
	case "drain":
		h.stop()
		return nil
	case "token":
		d, err := time.ParseDuration(words[4])
		if err != nil {
			return err
		}
		token, _, err := h.core.Auth.IssueToken(h.ctx, words[2], strings.Trim(words[3], "-"), d)
		h.vars[words[1]] = token
		return err
	case "post":
		var m mailbox.Message
		if len(words) > 6 {
			if d, err := time.ParseDuration(words[6]); err == nil {
				m.Expires, words = time.Now().Add(d), words[:6]
			}
		}
		if len(words) == 6 {
			if u, ok := mailbox.ParseUrgency(words[5]); ok {
				m.Urgency, words = u, words[:5]
			}
		}
		m.ID, m.Body = words[3], []byte(strings.Join(words[4:], " "))
		return h.post(words[1], words[2], m)
	case "fill":
		n, err := strconv.Atoi(words[2])
		for i := range n {
			err = errors.Join(err, h.post("carol", words[1], mailbox.Message{ID: fmt.Sprint("f.", i+1), Body: fmt.Append(nil, "message ", i+1)}))
		}
		return err
	case "hold":
		h.release = h.store.Hold()
		return nil
	case "release":
		h.release()
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
	}
	return fmt.Errorf("cannot do %q", words)
}

func (h *house) post(from, to string, m mailbox.Message) error {
	bell := make(chan struct{}, 1)
	p := &mailbox.Post{Message: m, Notify: mailbox.WakeFunc(func() { bell <- struct{}{} })}
	if err := h.core.Router.Submit(router.Poll, auth.Who{User: from + "@localhost", Device: "curl"}, to, p); err != nil {
		return err
	}
	<-bell
	return p.Err
}

// TestDialogues holds the dialogues of testdata. A file whose name begins with
// "small-" meets a server with small limits, one with "trim-" a server that
// keeps two messages, "probe" one that learns heartbeats.
func TestDialogues(t *testing.T) { holdDialogues(t, "testdata/*.txt", func(*dialog.Peer) {}) }

func holdDialogues(t *testing.T, pattern string, speak func(*dialog.Peer)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			var cfg link.Config
			var o mem.Options
			switch {
			case strings.HasPrefix(name, "small-"):
				cfg = link.Config{MaxHello: 300, Inflight: 2, Peers: 2, Window: 50, HelloTime: 3 * time.Second,
					MinInterval: 10 * time.Second, MaxInterval: time.Minute, Margin: time.Second, Spread: time.Second,
					MaxProbes: 1, MaxProbesInAll: 2, MaxShown: 1, SignalRate: 1, MaxHold: 30 * time.Second}
			case strings.HasPrefix(name, "trim-"):
				o.Retention.Count = 2
			}
			dialog.Run(t, file, func(t *testing.T) dialog.Peer {
				h := newHouse(t, cfg, o)
				if strings.HasPrefix(name, "probe") {
					table, err := keepalive.Open(h.ctx, h.core.Mail, keepalive.Config{})
					if err != nil {
						t.Fatal(err)
					}
					h.core.Keepalive = table
				}
				p := dialog.Peer{Serve: h.serve, Encode: h.encode, Decode: decode, Do: h.do, Close: h.close}
				speak(&p)
				return p
			})
		})
	}
}

// distant is a connection from another machine.
type distant struct{ net.Conn }

func (distant) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 80), Port: 7400} }
func (distant) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 50000} }

// Where others can read it no password is taken, and not looked at either; a
// token is.
func TestPasswordInTheClear(t *testing.T) {
	h := newHouse(t, link.Config{}, mem.Options{})
	defer h.close()
	token, _, err := h.core.Auth.IssueToken(h.ctx, "alice", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		hello frame.Hello
		want  string
	}{
		{frame.Hello{User: "alice", Password: "secret"}, `CLOSE code=insecure text="a password is taken over TLS only"`},
		{frame.Hello{User: "alice", Password: "wrong"}, `CLOSE code=insecure text="a password is taken over TLS only"`},
		{frame.Hello{Token: token}, "WELCOME"},
	} {
		ours, theirs := net.Pipe()
		go h.serve(distant{theirs}) // ends with the connection
		c.hello.Major = frame.Major
		ours.Write(frame.Append(nil, &c.hello))
		p := make([]byte, 1024)
		n, err := ours.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := decode(p[:n]); err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("answered %s, %v, want %s", got, err, c.want)
		}
		ours.Close()
	}
}

// A reader that takes nothing from the network stalls nobody: others, his other
// device and those who write to him go on, and when he reads it is all there.
func TestSlowReaderStallsOnlyItself(t *testing.T) {
	const window, size, n = 20_000, 900, 3000
	h := newHouse(t, link.Config{Window: window}, mem.Options{})
	defer h.close()
	addr := h.listen(t, nil)
	stuck, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	stuck.Write(frame.Append(nil, &frame.Hello{Major: 1, User: "bob", Password: "secret", Device: "stuck"}))

	open := func(user, device string) *sdk.Mailbox {
		mb, err := sdk.Open(t.Context(), sdk.Config{Options: client.Options{Addr: addr, User: user, Password: "secret", Device: device}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mb.Close() })
		return mb
	}
	alice, bob := open("alice", "phone"), open("bob", "pad")
	body := make([]byte, size)
	answers := make(chan error, n)
	for range n {
		if err := alice.SendAsync(client.Draft{To: "bob", Type: "application/octet-stream", Body: body}, func(_ client.Receipt, err error) { answers <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		m, err := bob.Receive(t.Context())
		if err == nil {
			err = bob.Ack(t.Context(), m)
		}
		if err = errors.Join(err, <-answers); err != nil {
			t.Fatal(err)
		}
	}
	// What waits for him in the server and the kernel is the window.
	got, places := 0, uint64(0)
	var have []byte
	for p := make([]byte, 64<<10); places < n; {
		stuck.SetReadDeadline(time.Now().Add(10 * time.Second))
		k, err := stuck.Read(p)
		if err != nil {
			t.Fatalf("after %d messages: %v", places, err)
		}
		have = append(have, p[:k]...)
		step := uint64(0)
		for {
			raw, k, err := frame.Next(have, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if k == 0 {
				break
			}
			if raw.Type == frame.TypeMsg {
				step++
				got += k
			}
			have = have[k:]
		}
		if places == 0 && got > window+2*size {
			t.Errorf("%d bytes came before he acknowledged any", got)
		}
		if places += step; step > 0 {
			stuck.Write(frame.Append(nil, &frame.Ack{Step: step}))
		}
	}
}

// Whatever a client says, before the welcome or after it, ends that client at
// most, and another one is served as before.
func FuzzSession(f *testing.F) {
	h := newHouse(f, link.Config{HelloTime: time.Minute}, mem.Options{})
	f.Cleanup(h.close)
	token, _, err := h.core.Auth.IssueToken(h.ctx, "alice", "", 1<<40)
	if err != nil {
		f.Fatal(err)
	}
	hello := frame.Append(nil, &frame.Hello{Major: 1, Token: token, Prefix: "k", Caps: 1<<6 - 1})
	for _, text := range []string{
		"SEND 0=bob :hello", "SEND 0=alice id=m1 type=text/html urgency=low expires=1s attr=a,b :x", "ACK +1", "PING ack+1", "PING #00",
		"SET interval=1s window=1", "SET hold=1s normal=1", "DEVICES", "SEND 0=bob deflated=256 #4b4c4a1e0502004b4c4a1e05", "DEVICES forget=x", "SIGNAL 0=bob composing", "SIGNAL 0=alice online", "SET token=x", "CLOSE code=done", "HELLO 1.0", "0x10 ack+9 :typing", "STORED 1+1",
	} {
		fr, ack, err := frame.Parse(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(false, frame.AppendAck(nil, fr, ack))
	}
	f.Add(true, []byte{0x16, 3, 1})
	f.Add(true, hello)
	session := func(says ...[]byte) (heard []byte, why error) {
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- h.core.Engine.ServeConn(h.ctx, theirs, h.server.Options(h.ctx)) }()
		go func() { // ends with the connection
			for _, p := range says {
				ours.Write(p)
			}
			ours.Write(frame.Append(nil, &frame.Close{Code: frame.CloseDone}))
		}()
		ours.SetReadDeadline(time.Now().Add(2 * time.Second)) // half a frame waits for the rest
		heard, _ = io.ReadAll(ours)
		ours.Close()
		return heard, <-ended
	}
	f.Fuzz(func(t *testing.T, first bool, p []byte) {
		says := [][]byte{hello, p}
		if first {
			says = [][]byte{p}
		}
		if _, n, err := frame.Next(p, 1<<16); n == 0 && err == nil {
			return // it would only wait
		}
		if _, why := session(says...); errors.Is(why, conn.ErrPanic) {
			t.Fatal(why)
		}
		if heard, _ := session(hello); len(heard) == 0 || frame.Type(heard[0]) != frame.TypeWelcome {
			t.Fatalf("then somebody else hears %x", heard)
		}
	})
}
