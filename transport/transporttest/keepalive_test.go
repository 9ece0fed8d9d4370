package transporttest

import (
	"bufio"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/link/frame"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// What a client of link has found on its network, which it has a name for,
// every door knows of the next one that comes from there, and what a door can
// do with it, it does.
func TestWhatIsLearnedReachesEveryDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := build(t, func(m *mailbox.Mail) keepalive.Advisor {
			table, err := keepalive.Open(t.Context(), m, keepalive.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return table
		})
		defer b.close()
		const found, due = 100 * time.Second, 95 * time.Second

		say := func(hello *frame.Hello) *frame.Welcome {
			t.Helper()
			nc := b.dial(router.Link)
			defer nc.Close()
			hello.Major, hello.User, hello.Password = frame.Major, "alice", "secret"
			nc.Write(frame.Append(nil, hello))
			p := make([]byte, 1024)
			n, err := nc.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			raw, _, err := frame.Next(p[:n], n)
			if err != nil {
				t.Fatal(err)
			}
			f, err := frame.Decode(raw)
			w, ok := f.(*frame.Welcome)
			if !ok {
				t.Fatalf("answered %v, %v", f, err)
			}
			return w
		}
		if w := say(&frame.Hello{}); w.Interval != uint64(keepalive.Default.Milliseconds()) {
			t.Errorf("before: link advises %d ms", w.Interval)
		}
		say(&frame.Hello{Network: "carrier 1", Caps: frame.CapProbe, Good: uint64(found.Milliseconds()), Bad: uint64(found.Milliseconds()) + 5000})
		for what, hello := range map[string]*frame.Hello{
			"by its name":             {Network: "carrier 1"},
			"by its address":          {},
			"by a name not yet known": {Network: "carrier one"},
		} {
			hello.Caps = frame.CapProbe
			if w := say(hello); w.Interval != uint64(due.Milliseconds()) || w.Good != uint64(found.Milliseconds()) {
				t.Errorf("%s: link advises %d ms, others found %d ms", what, w.Interval, w.Good)
			}
		}

		nc := b.dial(router.MQTT)
		c := packet.Connect{Version: packet.V5, CleanStart: true, KeepAlive: 600, ClientID: "sensor", HasUser: true, User: "alice", HasPassword: true, Password: []byte("secret")}
		nc.Write(c.Append(nil))
		p := make([]byte, 1024)
		n, err := nc.Read(p)
		var ack packet.Connack
		if err == nil {
			err = ack.Decode(packet.V5, p[0], p[2:n])
		}
		if got := ack.Properties.Num(packet.ServerKeepAlive, 0); err != nil || got != uint32(due.Seconds()) {
			t.Errorf("MQTT: a Server Keep Alive of %d s, %v", got, err)
		}
		nc.Close()

		x := &phone{nc: b.dial(router.XMPP)}
		x.r = bufio.NewReader(x.nc)
		if err := x.loginXMPP(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		stanza, err := x.until("<r xmlns='urn:xmpp:sm:3'/>") // what it says with stream management
		if took := time.Since(begin); err != nil || took != due {
			t.Errorf("XMPP: pinged after %v: %s, %v", took, stanza, err)
		}
		x.nc.Close()

		nc = b.dial(router.Poll)
		begin = time.Now()
		io.WriteString(nc, "GET /v1/inbox?wait=3600 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic "+
			base64.StdEncoding.EncodeToString([]byte("alice:secret"))+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if took := time.Since(begin); err != nil || !strings.Contains(string(body), `"messages":[]`) || took != due {
			t.Errorf("poll: answered %s after %v, %v", body, took, err)
		}
		nc.Close()
	})
}

// What a device spends on finding out about its network is in its account.
func TestProbesAreCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := build(t, func(*mailbox.Mail) keepalive.Advisor { return keepalive.Fixed(0) })
		defer b.close()
		nc := b.dial(router.Link)
		p := make([]byte, 1024)
		nc.Write(frame.Append(nil, &frame.Hello{Major: frame.Major, User: "alice", Password: "secret", Device: "phone", Caps: frame.CapProbe, Probe: 60_000}))
		nc.Read(p)
		time.Sleep(time.Minute)
		nc.Write(frame.Append(nil, &frame.Ping{}))
		if n, err := nc.Read(p); n != 2 || err != nil {
			t.Fatalf("%x, %v", p[:n], err)
		}
		nc.Close()
		synctest.Wait()
		a, err := b.core.Costs.Account(t.Context(), "alice@localhost", "phone")
		if c := a.Total(); err != nil || c.Wakeups != 2 || c.BytesUp < 30 || c.BytesDown < 20 || c.Connects != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}
