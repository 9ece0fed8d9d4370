package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/transport/coretest"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/mqtt"
)

// serve runs the link and mqtt doors with accounts bench0 to bench5 and
// returns their addresses.
func serve(t *testing.T) (linkAddr, mqttAddr string) {
	t.Helper()
	targets := serveAll(t)
	return targets["tcp"], targets["mqtt"]
}

// serveAll is serve with link over each of its carriers.
func serveAll(t *testing.T) (targets map[string]string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	users := make([]string, 6)
	for i := range users {
		users[i] = fmt.Sprint("bench", i)
	}
	core := coretest.New(t, coretest.Config{Users: users})
	var wg sync.WaitGroup
	run := func(serve func(net.Listener) error, ln net.Listener) string {
		wg.Go(func() {
			if err := serve(ln); err != nil {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	l, m := link.New(core.Core, link.Config{}), mqtt.New(core.Core, mqtt.Config{})
	plain := httptest.NewServer(l.WebSocket(ctx))
	secure := httptest.NewTLSServer(l.WebSocket(ctx))
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quic, err := l.QUIC(pc, secure.TLS)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(ln net.Listener) error { return l.Serve(ctx, ln) }
	targets = map[string]string{
		"tcp":  run(serve, listen()),
		"tls":  "tls://" + run(func(ln net.Listener) error { return l.ServeTLS(ctx, ln, secure.TLS) }, listen()),
		"ws":   "ws" + strings.TrimPrefix(plain.URL, "http") + "/link",
		"wss":  "wss" + strings.TrimPrefix(secure.URL, "https") + "/link",
		"quic": "quic://" + run(serve, quic),
		"mqtt": run(func(ln net.Listener) error { return m.Serve(ctx, ln) }, listen()),
	}
	t.Cleanup(func() {
		stop()
		wg.Wait()
		plain.Close()
		secure.Close()
		core.Close()
	})
	return targets
}

// Link is measured over each of its carriers, with a load and without.
func TestCarriers(t *testing.T) {
	for carrier, target := range serveAll(t) {
		if carrier == "mqtt" {
			continue
		}
		for _, o := range []Options{{Scenario: "pairs", N: 300, Pairs: 2}, {Scenario: "idle", Connections: 20, Settle: time.Millisecond}} {
			t.Run(carrier+" "+o.Scenario, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				o.Target, o.User, o.Password, o.Accounts, o.PID = target, "bench%d", "secret", 6, Process(os.Getpid())
				r, err := Run(ctx, Link{}, o)
				if err != nil {
					t.Fatal(err)
				}
				if r.Resident <= 0 || o.Scenario == "pairs" && r.Messages < 300 || o.Scenario == "idle" && r.Connections != 20 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestScenarios(t *testing.T) {
	linkAddr, mqttAddr := serve(t)
	for _, c := range []struct {
		p Protocol
		o Options
	}{
		{MQTT{}, Options{Scenario: "pairs"}},
		{MQTT{}, Options{Scenario: "pairs", QoS: 1}},
		{MQTT{}, Options{Scenario: "pairs", QoS: 2}},
		{MQTT{}, Options{Scenario: "fan", Subscribers: 20}},
		{MQTT{}, Options{Scenario: "rate", Rate: 2000}},
		{MQTT{}, Options{Scenario: "queue", QoS: 1}},
		{Link{}, Options{Scenario: "pairs"}},
		{Link{}, Options{Scenario: "fan", Subscribers: 5}},
		{Link{}, Options{Scenario: "queue"}},
	} {
		o := c.o
		o.Target, o.User, o.Password, o.Accounts, o.N, o.Pairs = mqttAddr, "bench%d", "secret", 6, 500, 3
		if c.p.Name() == "link" {
			o.Target = linkAddr
		}
		t.Run(fmt.Sprint(c.p.Name(), o.Scenario, o.QoS), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			o.PID = Process(os.Getpid())
			r, err := Run(ctx, c.p, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Messages < 500 || r.PerSecond <= 0 || r.Resident <= 0 {
				t.Errorf("%+v", r)
			}
			if o.Scenario == "rate" && (r.P50 <= 0 || r.P999 < r.P50) {
				t.Errorf("delays %v, %v, %v", r.P50, r.P99, r.P999)
			}
		})
	}
}

func TestRefusesWhatItCannotMeasure(t *testing.T) {
	for want, o := range map[string]Options{
		"no scenario":          {Scenario: "dance"},
		"connect by pigeon":    {Target: "pigeon://127.0.0.1:1"},
		"needs the server's":   {Scenario: "idle"},
		"connection 0: dial":   {Target: "127.0.0.1:1"},
		"processor time of th": {Target: "", Scenario: "pairs", PID: 1 << 30, Pairs: 1},
	} {
		if o.PID != 0 {
			_, o.Target = serve(t)
			o.User, o.Password = "bench0", "secret"
		}
		if _, err := Run(t.Context(), MQTT{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// dead is a server that goes when the load begins: everything fails at once.
type dead struct{ ready sync.WaitGroup }

func (d *dead) Name() string                { return "dead" }
func (d *dead) Acked(*Options) bool         { return false }
func (d *dead) Target(*Options, int) string { return "" }
func (d *dead) Dial(context.Context, *Options, Seat) (Conn, error) {
	return &deadConn{d, make(chan struct{}), sync.Once{}}, nil
}

type deadConn struct {
	d      *dead
	closed chan struct{}
	once   sync.Once
}

var errDead = errors.New("dead")

func (c *deadConn) Subscribe(string) error { return nil }
func (c *deadConn) Flush() error           { return nil }
func (c *deadConn) Close() error           { c.once.Do(func() { close(c.closed) }); return nil }

func (c *deadConn) Send(string, []byte) error {
	c.d.ready.Done()
	c.d.ready.Wait() // until all are here
	return errDead
}

func (c *deadConn) Receive(func([]byte), func(int)) error {
	c.d.ready.Wait()
	return errDead
}

// However many fail at once, the run ends.
func TestServerGoes(t *testing.T) {
	const pairs = 20
	d := new(dead)
	d.ready.Add(pairs)
	if _, err := Run(t.Context(), d, Options{Pairs: pairs}); !errors.Is(err, errDead) {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, []Result{{Target: "x", Scenario: "rate", PerSecond: 12345.6, CPU: 1500 * time.Nanosecond, P50: time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12346", "1.50 µs", "1.00 ms", "–"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
