package poll

import (
	"encoding/json"
	"testing"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// A user sees his devices and what they cost, and removes one. Others' are for
// back ends to see, and for administrators to remove.
func TestDevices(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	if err := h.core.Auth.Add(t.Context(), "root", "root-password", auth.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	h.dialog(`
		alice> GET /v1/devices
		200 {"user":"alice@localhost","devices":[]}
		alice> GET /v1/devices/phone/cost
		404 *not-found*
		alice> DELETE /v1/devices/phone
		404 *not-found*
		bob> POST /v1/messages {"to":"alice","body":"hi"}
		200 *
		alice> GET /v1/inbox?device=phone
		200 *"body":"hi"*
		alice> POST /v1/ack {"seq":1,"device":"phone"}
		200 {"seq":1}
		alice> GET /v1/devices
		200 {"user":"alice@localhost","devices":[{"device":"phone","online":false,"seen":"*","behind":0}]}
		bob> GET /v1/devices?user=alice
		403 *forbidden*
		shop> GET /v1/devices?user=alice
		200 *"device":"phone"*
		shop> GET /v1/devices/phone/cost?user=alice
		200 *"ways":{"poll":*
		shop> DELETE /v1/devices/phone?user=alice
		403 *forbidden*
		shop> GET /v1/devices?user=nobody
		404 *unknown-recipient*
		alice> GET /v1/devices?user=a@b@c
		400 *bad-query*
	`)
	cost := func() (c wire.DeviceCost) {
		t.Helper()
		_, body := h.do(h.request("alice", "GET", "/v1/devices/phone/cost", ""))
		if err := json.Unmarshal([]byte(body), &c); err != nil {
			t.Fatal(err, body)
		}
		return c
	}
	c := cost()
	// The request and its answer, and the acknowledgement.
	if c.Total.BytesUp < 200 || c.Total.BytesDown < 200 || c.Total.Wakeups == 0 || c.Total.Connects == 0 || len(c.Days) != 1 ||
		c.Total.Joules["lte"] < 11 || c.Total.Joules["wifi"] > 1 || c.Total.BytesUp != c.Ways["poll"].BytesUp {
		t.Errorf("%+v", c)
	}
	h.do(h.request("alice", "GET", "/v1/inbox?device=phone", ""))
	if more := cost(); more.Total.BytesUp <= c.Total.BytesUp || more.Total.PacketsDown <= c.Total.PacketsDown {
		t.Errorf("%+v after %+v", more.Total, c.Total)
	}
	h.dialog(`
		alice> GET /v1/inbox?device=tablet
		200 *
		root> DELETE /v1/devices/phone?user=alice
		204
		alice> GET /v1/devices/phone/cost
		404 *not-found*
		alice> GET /v1/inbox?device=phone
		200 *"body":"hi"*
	`)
}
