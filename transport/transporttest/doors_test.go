package transporttest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/client"
	clientlink "github.com/posthouse-im/posthouse/client/link"
	clientmqtt "github.com/posthouse-im/posthouse/client/mqtt"
	clientpoll "github.com/posthouse-im/posthouse/client/poll"
	clientxmpp "github.com/posthouse-im/posthouse/client/xmpp"
	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/coretest"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/link/frame"
	"github.com/posthouse-im/posthouse/transport/mqtt"
	"github.com/posthouse-im/posthouse/transport/poll"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
	. "github.com/posthouse-im/posthouse/transport/transporttest"
	"github.com/posthouse-im/posthouse/transport/xmpp"
)

// open opens a house on a store in memory with all four doors.
func open(t *testing.T) *House {
	t.Helper()
	return openWith(t, coretest.Config{})
}

func openWith(t *testing.T, c coretest.Config) *House {
	t.Helper()
	var later atomic.Int64 // by how much the store's clock is ahead
	c.Store = mem.Options{
		Retention: mailbox.Retention{Age: time.Hour},
		Now:       func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
	}
	core := coretest.New(t, c)
	cert, err := certs.Open(certs.Options{Dir: t.TempDir(), Domain: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	h := &House{Core: core, Addr: map[string]string{}}
	serving, drain := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for name, s := range map[string]transport.Server{
		"poll": poll.New(core.Core, poll.Config{}),
		"link": link.New(core.Core, link.Config{}),
		"mqtt": mqtt.New(core.Core, mqtt.Config{}),
		"xmpp": xmpp.New(core.Core, xmpp.Config{TLS: cert.Config()}),
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.Addr[name] = ln.Addr().String()
		wg.Go(func() {
			err := s.Serve(serving, ln)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	h.Trim = func() error {
		later.Store(int64(2 * time.Hour))
		defer later.Store(0)
		return core.Store.Trim(t.Context())
	}
	h.Cursor = func(user, device string) uint64 {
		c, _, err := core.Mail.Cursor(t.Context(), user+"@"+coretest.Domain, device)
		if err != nil {
			t.Error(err)
		}
		return uint64(c.Seq)
	}
	h.Drain = func() error {
		drain()
		wg.Wait()
		return errors.Join(errs...)
	}
	t.Cleanup(func() {
		if err := h.Drain(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		core.Close()
	})
	return h
}

// dial returns the Dial of a door. The house's certificate is its own.
func dial(name string, dial func(context.Context, client.Options) (client.Mailbox, error)) func(context.Context, *House, string, string) (client.Mailbox, error) {
	return func(ctx context.Context, h *House, user, device string) (client.Mailbox, error) {
		o := client.Options{Addr: h.Addr[name], User: user, Password: "secret", Device: device}
		switch name {
		case "poll":
			o.Addr = "http://" + o.Addr
		case "xmpp":
			o.StartTLS = &tls.Config{InsecureSkipVerify: true}
		}
		return dial(ctx, o)
	}
}

var doors = []Door{
	{Name: "poll", Dial: dial("poll", clientpoll.Dial)},
	{Name: "link", Dial: dial("link", clientlink.Dial)},
	{Name: "mqtt", Dial: dial("mqtt", clientmqtt.Dial), NoSeq: true},
	{Name: "xmpp", Dial: dial("xmpp", clientxmpp.Dial), NoSeq: true, NoWorth: true},
}

func TestDoors(t *testing.T) {
	for _, d := range doors {
		t.Run(d.Name, func(t *testing.T) { Run(t, d, open) })
	}
}

func TestMatrix(t *testing.T) { Matrix(t, doors, open) }

// enter connects alice by a door, as a device of its name.
func enter(t *testing.T, h *House, d Door) client.Mailbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	mb, err := d.Dial(ctx, h, "alice", d.Name)
	if err != nil {
		t.Fatalf("%s: %v", d.Name, err)
	}
	return mb
}

// What one door says to stay alive is its own business; that everything ends
// when the server does is not.
func TestDrainWithEveryDoorInUse(t *testing.T) {
	h := open(t)
	for _, d := range doors {
		mb := enter(t, h, d)
		defer mb.Close()
	}
	if err := h.Drain(); err != nil {
		t.Error(err)
	}
}

// A session is a line of the log when it begins and one when it ends, whatever
// the door. A poll is none: it is a session for as long as it is held.
func TestSessionsAreLogged(t *testing.T) {
	var log bytes.Buffer // slog writes one line at a time, and it is read when all has ended
	h := openWith(t, coretest.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, d := range doors {
		mb := enter(t, h, d)
		mb.Close()
	}
	if err := h.Drain(); err != nil {
		t.Error(err)
	}
	for _, d := range doors {
		who := " door=" + d.Name + " user=alice@localhost device=" + d.Name
		began, ended := strings.Count(log.String(), `"session began"`+who+" from=127.0.0.1"), strings.Count(log.String(), `"session ended"`+who+" reason=")
		if want := map[bool]int{true: 0, false: 1}[d.Name == "poll"]; began != want || ended != want {
			t.Errorf("%s: %d began, %d ended; want %d", d.Name, began, ended, want)
		}
	}
	if t.Failed() {
		t.Log(log.String())
	}
}

// An account has so many devices. One more is refused in the door's own words
// while all are connected, and otherwise takes the place of the one that was there
// least lately.
func TestDevicesAreBounded(t *testing.T) {
	said := map[string]string{"poll": "the account has 2 devices, and all are connected", "link": "busy", "mqtt": "too many devices (quota exceeded)", "xmpp": "resource-constraint"}
	for _, d := range doors {
		t.Run(d.Name, func(t *testing.T) {
			var log bytes.Buffer
			h := openWith(t, coretest.Config{Limits: mailbox.Limits{Devices: 2}, Log: slog.New(slog.NewTextHandler(&log, nil))})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			devices := func(want ...string) {
				t.Helper()
				ds, err := h.Core.Router.Devices(ctx, "bob@localhost")
				var got []string
				for _, d := range ds {
					got = append(got, d.Name)
				}
				slices.Sort(got)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("devices %q, %v, want %q", got, err, want)
				}
			}
			alice := enter(t, h, d)
			if _, err := alice.Send(ctx, client.Draft{To: "bob", ID: "1", Body: []byte("one")}); err != nil {
				t.Fatal(err)
			}
			alice.Close()
			// Two that are connected, and stay so while a third one comes.
			var there []*router.Session
			for _, device := range []string{"first", "second"} {
				h.Core.Mail.MoveCursor("bob@localhost", device, 1)
				s, err := h.Core.Router.Attach(ctx, router.Poll, auth.Who{User: "bob@localhost", Device: device}, nobody{})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				there = append(there, s)
			}
			third := func(patience time.Duration) error {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				mb, err := d.Dial(ctx, h, "bob", "third")
				if err != nil {
					return err
				}
				defer mb.Close()
				m, err := mb.Receive(ctx)
				if err == nil {
					err = mb.Ack(ctx, m)
				}
				return err
			}
			refused := third(time.Second)
			if d.Name == "poll" { // its client asks again by itself
				refused = errors.New(answer(t, h, http.MethodGet, "/v1/inbox?device=third", ""))
			}
			devices("first", "second")
			there[0].Close()
			if err := third(10 * time.Second); err != nil {
				t.Errorf("when there is room: %v", err)
			}
			if err := h.Drain(); err != nil { // and what was acknowledged is known
				t.Error(err)
			}
			devices("second", "third")
			if refused == nil || !strings.Contains(refused.Error()+log.String(), said[d.Name]) {
				t.Errorf("one more than there may be hears %v\n%s", refused, &log)
			}
		})
	}
}

// Nor does a device come in that says itself where it stands.
func TestDevicesWithAPlaceAreBounded(t *testing.T) {
	h := openWith(t, coretest.Config{Limits: mailbox.Limits{Devices: 1}})
	answer(t, h, http.MethodPost, "/v1/messages", `{"to":"bob","body":"to himself"}`)
	s := h.Core.Router.AttachAt(router.Poll, auth.Who{User: "bob@localhost", Device: "first"}, nobody{}, 0)
	defer s.Close()
	for _, got := range []string{
		answer(t, h, http.MethodPost, "/v1/ack", `{"seq":1,"device":"second"}`),
		answer(t, h, http.MethodGet, "/v1/inbox?device=second&after="+string(wire.AppendNext(nil, "bob@localhost", 1)), ""),
	} {
		if !strings.Contains(got, "the account has 1 devices, and all are connected") {
			t.Error("poll: ", got)
		}
	}
	nc, err := net.Dial("tcp", h.Addr["link"])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	after := uint64(1)
	nc.Write(frame.Append(nil, &frame.Hello{Major: frame.Major, User: "bob", Password: "secret", Device: "second", After: &after}))
	if got, err := io.ReadAll(nc); err != nil || !strings.Contains(string(got), "too many devices") {
		t.Errorf("link: %q, %v", got, err)
	}
}

// answer is what the HTTP door answers to bob.
func answer(t *testing.T, h *House, method, path, body string) string {
	t.Helper()
	resp := request(t, h, "bob", method, path, body)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// nobody is a device that does nothing.
type nobody struct{}

func (nobody) Wake()             {}
func (nobody) End(router.Reason) {}

// cursed is a store that has a bug, which one device meets.
type cursed struct{ *mem.Store }

func (c cursed) Cursor(ctx context.Context, box, device string) (mailbox.Cursor, bool, error) {
	if device == "cursed" {
		panic("a bug")
	}
	return c.Store.Cursor(ctx, box, device)
}

// A panic on a goroutine of no connection, while a device is let in, is logged
// and ends that device's connection alone.
func TestAPanicEndsOneConnection(t *testing.T) {
	for _, d := range doors {
		if d.Name == "poll" || d.Name == "mqtt" {
			continue // have tests of their own: there it is not the login that reads the cursor
		}
		t.Run(d.Name, func(t *testing.T) {
			var log bytes.Buffer
			h := openWith(t, coretest.Config{
				Log:    slog.New(slog.NewTextHandler(&log, nil)),
				Engine: func(s *mem.Store) mailbox.Store { return cursed{s} },
			})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := d.Dial(ctx, h, "bob", "cursed"); err == nil || !strings.Contains(err.Error(), "internal") {
				t.Errorf("dialled: %v", err)
			}
			enter(t, h, d).Close()
			if err := h.Drain(); err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.String(), "a bug"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, &log)
			}
		})
	}
}
