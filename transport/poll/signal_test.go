package poll

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// Words of the moment come as events to a stream that wants them, between the
// messages, and without a place.
func TestSignals(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	e := h.events("bob", "/v1/events?device=pad&signals=true")
	e.want("retry: ", "")
	deaf := h.events("bob", "/v1/events?device=old")
	deaf.want("retry: ", "")
	h.dialog(`
		alice> POST /v1/signals {"to":"bob","kind":"composing"}
		204
		< Cache-Control: no-store
		alice> POST /v1/signals?device=phone {"to":"bob@localhost/pad","kind":"x-poke","body":"line one\nline two"}
		204
		alice> POST /v1/signals {"to":"bob","kind":"x-poke","body64":"AP8="}
		204
		# He is not there. Nobody says so.
		alice> POST /v1/signals {"to":"carol","kind":"composing"}
		204
	`)
	e.want("event: signal", `data: {"from":"alice@localhost","device":"http","kind":"composing"}`)
	e.want("event: signal", `data: {"from":"alice@localhost","device":"phone","kind":"x-poke","body":"line one\nline two"}`)
	e.want("event: signal", `data: {"from":"alice@localhost","device":"http","kind":"x-poke","body64":"AP8="}`)
	h.post("alice", `{"to":"bob","body":"hi"}`)
	e.want("id: ", `|data: {"seq":1,"prev":0,`)
	deaf.want("id: ", `|data: {"seq":1,"prev":0,`)
}

func TestSignalsRefused(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	h.dialog(`
		> POST /v1/signals {"to":"bob","kind":"composing"}
		401 *
		alice> POST /v1/signals {"kind":"composing"}
		400 {"type":"urn:posthouse:problem:missing-field",*"field":"to"}
		alice> POST /v1/signals {"to":"bob"}
		400 {"type":"urn:posthouse:problem:missing-field",*"field":"kind"}
		alice> POST /v1/signals {"to":"bob","kind":"composing","id":"1"}
		400 {"type":"urn:posthouse:problem:unknown-field",*"field":"id"}
		alice> POST /v1/signals {"to":"bob","kind":"x","body":"","body64":""}
		400 {"type":"urn:posthouse:problem:bad-field",*"field":"body64"}
		alice> POST /v1/signals {"to":"bob","kind":"x","kind":"y"}
		400 {"type":"urn:posthouse:problem:bad-json",*"field":"kind"}
		alice> POST /v1/signals {"to":"bob","kind":"online"}
		400 {"type":"urn:posthouse:problem:bad-field",*"field":"kind"}
		alice> POST /v1/signals {"to":"bob","kind":"` + strings.Repeat("x", router.MaxKind+1) + `"}
		400 {"type":"urn:posthouse:problem:bad-field",*"field":"kind"}
		alice> POST /v1/signals {"to":"bob","kind":"x","body":"` + strings.Repeat("x", router.MaxSignal+1) + `"}
		413 {"type":"urn:posthouse:problem:too-large",*"field":"body"}
		alice> POST /v1/signals {"to":"nobody","kind":"x"}
		404 {"type":"urn:posthouse:problem:unknown-recipient",*"field":"to"}
		alice> POST /v1/signals {"to":"bob@example.org","kind":"x"}
		422 {"type":"urn:posthouse:problem:remote-domain",*"field":"to"}
		bob> GET /v1/events?signals=perhaps
		400 {"type":"urn:posthouse:problem:bad-query",*"field":"signals"}
	`)
	// Somebody else is not held up by who says too much.
	for i := 0; i < 100 && h.srv.Stats().Dropped == 0; i++ {
		h.do(h.request("alice", "POST", pathSignals, `{"to":"bob","kind":"x"}`))
	}
	h.dialog(`
		alice> POST /v1/signals {"to":"bob","kind":"x"}
		429 {"type":"urn:posthouse:problem:too-many",*}
		carol> POST /v1/signals {"to":"bob","kind":"x"}
		204
	`)
	e := &ear{s: h.srv, reader: newReader(), words: make([]*router.Signal, maxWords)}
	before := h.srv.Stats().Dropped
	if e.Signal("pad", &router.Signal{}) || h.srv.Stats().Dropped != before+1 {
		t.Error("one too many was taken")
	}
}

// So much in a second is taken, and four seconds' worth at once.
func TestSignalRate(t *testing.T) {
	virtual(t, Config{SignalRate: 2}, nil, func(t *testing.T, h *house, _ *pipes) {
		taken := func() (n int) {
			for {
				a := h.ask(h.request("alice", "POST", pathSignals, `{"to":"bob","kind":"x"}`))
				if a.status != 204 {
					return n
				}
				n++
			}
		}
		if n := taken(); n != 8 {
			t.Errorf("%d at once", n)
		}
		time.Sleep(time.Second)
		if n := taken(); n != 2 {
			t.Errorf("%d a second later", n)
		}
	})
}

// Who has been silent is forgotten, and not looked for at each word.
func TestSpeakers(t *testing.T) {
	var m speakers
	now := time.Unix(1_000_000, 0)
	speak := func(n int) {
		for i := range n {
			if !m.take(fmt.Sprint(now.Unix(), i), 1, now) {
				t.Fatal("refused")
			}
		}
	}
	speak(3 * minSpeakers)
	if len(m.by) != 3*minSpeakers || m.sweep != 4*minSpeakers {
		t.Errorf("%d, next looked through at %d", len(m.by), m.sweep)
	}
	now = now.Add(time.Minute)
	speak(minSpeakers + 1)
	if n := len(m.by); n != minSpeakers+1 {
		t.Errorf("a minute later %d", n)
	}
}

func FuzzDecodeSignal(f *testing.F) {
	f.Add([]byte(`{"to":"bob","kind":"composing"}`))
	f.Add([]byte(`{"to":"bob","kind":"x","body64":"AP8="}`))
	f.Add([]byte(`{"to":"bob","kind":"x","body":"\u0000"} x`))
	f.Fuzz(func(t *testing.T, in []byte) {
		g, p := wire.DecodeSignal(in)
		if p == nil && (g.To == "" || g.Kind == "") {
			t.Errorf("%q is %+v", in, g)
		}
	})
}
