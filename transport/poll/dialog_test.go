package poll

import (
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/mem"
)

func TestSendAndRead(t *testing.T) {
	newHouse(t, Config{}, mem.Options{}).dialog(`
		alice> POST /v1/messages {"to":"bob","id":"m1","body":"hi"}
		200 {"id":"m1","seq":1,"duplicate":false,"time":"*Z"}
		< Content-Type: application/json
		< Cache-Control: no-store
		< X-Content-Type-Options: nosniff
		# The answer was lost, so it is sent again.
		alice> POST /v1/messages {"to":"bob","id":"m1","body":"hi"}
		200 {"id":"m1","seq":1,"duplicate":true,"time":"*Z"}
		alice> POST /v1/messages {"to":"bob@localhost","type":"image/png","body64":"AP8="}
		200 {"id":"*","seq":2,"duplicate":false,"time":"*Z"}
		bob> GET /v1/inbox
		200 {"messages":[{"seq":1,"prev":0,"id":"m1","from":"alice@localhost","device":"http","to":"bob@localhost","time":"*","type":"text/plain; charset=utf-8","body":"hi"},{"seq":2,"prev":1,"id":"*","from":"alice@localhost","device":"http","to":"bob@localhost","time":"*","type":"image/png","body64":"AP8="}],"next":"$next"}
		# Nothing was acknowledged, so there it is again.
		bob> GET /v1/inbox?limit=1
		200 {"messages":[{"seq":1,*}],"next":"$one"}
		bob> GET /v1/inbox?after=$one
		200 {"messages":[{"seq":2,"prev":1,*}],"next":"$next"}
		bob> GET /v1/inbox?after=$next
		200 {"messages":[],"next":"$next"}
		bob> GET /v1/inbox
		200 {"messages":[],"next":"$next"}
		# Another device has a cursor of its own.
		bob> GET /v1/inbox?device=phone&limit=1
		200 {"messages":[{"seq":1,*}],"next":"$one"}
		# The sender's other devices see what he sent; the one that sent it does not.
		alice> GET /v1/inbox?device=laptop
		200 {"messages":[{"seq":1,"prev":0,"id":"m1",*},{"seq":2,*}],"next":"*"}
		alice> GET /v1/inbox
		200 {"messages":[],"next":"*"}
	`)
}

func TestShortPoll(t *testing.T) {
	newHouse(t, Config{}, mem.Options{}).dialog(`
		bob> GET /v1/inbox
		200 {"messages":[],"next":"$next"}
		< ETag: $tag
		< Cache-Control: private, no-cache
		bob> GET /v1/inbox
		+ If-None-Match: $tag
		304
		< ETag: $tag
		alice> POST /v1/messages {"to":"bob","body":"hi"}
		200 *
		bob> GET /v1/inbox?after=$next
		+ If-None-Match: $tag
		200 {"messages":[{*}],"next":"$next2"}
		< ETag: $tag2
		bob> GET /v1/inbox?after=$next
		+ If-None-Match: "x", $tag2
		304
		bob> GET /v1/inbox?after=$next2
		+ If-None-Match: $tag2
		200 {"messages":[],"next":"$next2"}
	`)
}

func TestAck(t *testing.T) {
	newHouse(t, Config{}, mem.Options{}).dialog(`
		alice> POST /v1/messages [{"to":"bob","body":"1"},{"to":"bob","body":"2"},{"to":"bob","body":"3"}]
		200 {"results":[{"id":"*","seq":1,*},{"id":"*","seq":2,*},{"id":"*","seq":3,"duplicate":false,"time":"*"}]}
		bob> POST /v1/ack {"seq":1}
		200 {"seq":1}
		bob> GET /v1/inbox?limit=1
		200 {"messages":[{"seq":2,"prev":1,*}],"next":"$two"}
		bob> POST /v1/ack {"next":"$two","device":"http"}
		200 {"seq":2}
		bob> GET /v1/inbox
		200 {"messages":[{"seq":3,"prev":2,*}],"next":"*"}
		# A cursor does not move back.
		# The cursor does not move back; the answer says where it is.
		bob> POST /v1/ack {"seq":1}
		200 {"seq":2}
		bob> GET /v1/inbox
		200 {"messages":[{"seq":3,*}],"next":"*"}
		bob> POST /v1/ack {"seq":4}
		409 {"type":"urn:posthouse:problem:ack-beyond",*,"field":"seq"}
		bob> POST /v1/ack {"seq":-1}
		400 {"type":"urn:posthouse:problem:bad-field",*,"field":"seq"}
		bob> POST /v1/ack {"next":"garbage"}
		400 {"type":"urn:posthouse:problem:bad-field",*,"field":"next"}
		# Somebody else's.
		alice> POST /v1/ack {"next":"$two"}
		400 {"type":"urn:posthouse:problem:bad-field",*,"field":"next"}
		bob> POST /v1/ack {"seq":1,"colour":2}
		400 {"type":"urn:posthouse:problem:unknown-field",*,"field":"colour"}
		bob> POST /v1/ack?device=phone {"seq":3}
		200 {"seq":3}
		bob> GET /v1/inbox?device=phone
		200 {"messages":[],"next":"*"}
	`)
}

// Who reads on without acknowledging gets it again when he begins anew, also
// when there is something between that he sent himself.
func TestReadOnWithoutAck(t *testing.T) {
	newHouse(t, Config{}, mem.Options{}).dialog(`
		alice> POST /v1/messages {"to":"bob","body":"1"}
		200 *
		bob> POST /v1/messages {"to":"alice","body":"2"}
		200 *
		alice> POST /v1/messages {"to":"bob","body":"3"}
		200 *
		bob> GET /v1/inbox?limit=1
		200 {"messages":[{"seq":1,*}],"next":"$one"}
		bob> GET /v1/inbox?after=$one&ack=false
		200 {"messages":[{"seq":3,"prev":1,*}],"next":"$three"}
		bob> GET /v1/inbox?after=$three&ack=false
		200 {"messages":[],"next":"$three"}
		bob> GET /v1/inbox
		200 {"messages":[{"seq":1,*},{"seq":3,*}],"next":"$three"}
		bob> GET /v1/inbox?after=$three
		200 {"messages":[],"next":"$three"}
		bob> GET /v1/inbox
		200 {"messages":[],"next":"$three"}
	`)
}

func TestBatch(t *testing.T) {
	h := newHouse(t, Config{MaxBatch: 3}, mem.Options{})
	h.dialog(`
		alice> POST /v1/messages {"messages":[{"to":"bob","id":"1","body":"1"},{"to":"nobody","id":"2","body":"2"},{"to":"bob","id":"1","body":"3"}]}
		207 {"results":[{"id":"1","seq":1,*},{"id":"2","problem":{"type":"urn:posthouse:problem:unknown-recipient",*"status":404,*"field":"messages[1].to"}},{"id":"1","problem":{"type":"urn:posthouse:problem:id-conflict",*"status":409,*"field":"messages[2].id"}}]}
		alice> POST /v1/messages [{"to":"bob","id":"3","body":"3"},{"to":"bob"}]
		400 {"type":"urn:posthouse:problem:missing-field",*,"field":"messages[1].body"}
		alice> POST /v1/messages [{"to":"bob","id":"3","body":"3"},{"to":"bob","body":"","type":"nonsense"}]
		400 {"type":"urn:posthouse:problem:bad-field",*,"field":"messages[1].type"}
		alice> POST /v1/messages [{"to":"bob","body":""},{"to":"bob","body":""},{"to":"bob","body":""},{"to":"bob","body":""}]
		413 {"type":"urn:posthouse:problem:too-large",*,"field":"messages"}
		alice> POST /v1/messages [{"to":"bob","body":""}]
		+ Idempotency-Key: k
		400 {"type":"urn:posthouse:problem:bad-field",*,"field":"Idempotency-Key"}
		bob> GET /v1/inbox
		200 {"messages":[{"seq":1,*}],"next":"*"}
	`)
	if got := h.last("bob"); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
}

func TestIdempotencyKey(t *testing.T) {
	newHouse(t, Config{}, mem.Options{}).dialog(`
		alice> POST /v1/messages {"to":"bob","body":"hi"}
		+ Idempotency-Key: "8e03978e"
		200 {"id":"8e03978e","seq":1,"duplicate":false,"time":"$t*"}
		alice> POST /v1/messages {"to":"bob","body":"hi"}
		+ Idempotency-Key: 8e03978e
		200 {"id":"8e03978e","seq":1,"duplicate":true,"time":"*"}
		alice> POST /v1/messages {"to":"bob","body":"other"}
		+ Idempotency-Key: 8e03978e
		409 {"type":"urn:posthouse:problem:id-conflict",*
		alice> POST /v1/messages {"to":"bob","id":"m1","body":"other"}
		+ Idempotency-Key: 8e03978e
		400 {"type":"urn:posthouse:problem:bad-field",*,"field":"Idempotency-Key"}
		# A relative time is another date each time, and the same message all the same.
		alice> POST /v1/messages {"to":"bob","id":"m2","body":"hi","expires":60.5}
		200 {"id":"m2","seq":2,"duplicate":false,*
		alice> POST /v1/messages {"to":"bob","id":"m2","body":"hi","expires":60.5}
		200 {"id":"m2","seq":2,"duplicate":true,*
	`)
}

func TestProperties(t *testing.T) {
	newHouse(t, Config{}, mem.Options{}).dialog(`
		alice> POST /v1/messages?device=phone {"to":"bob","id":"m1","type":"application/json","body":"{\"a\":1}","urgency":"very-low","expires":"2100-01-01T00:00:00Z","attrs":{"x":"1","y":["2","3"]}}
		200 *
		bob> GET /v1/inbox
		200 {"messages":[{*"device":"phone",*"type":"application/json","body":"{\"a\":1}","expires":"2100-01-01T00:00:00.000Z","urgency":"very-low","attrs":[["x","1"],["y","2"],["y","3"]]}],"next":"*"}
	`)
}

// Every bad input has its name, and nothing of it is stored.
func TestBadPosts(t *testing.T) {
	h := newHouse(t, Config{MaxRequest: 200_000}, mem.Options{})
	long := strings.Repeat("x", 2000)
	for _, c := range []struct{ body, want string }{
		{`{"to":"nobody","body":"hi"}`, `404 *unknown-recipient*"field":"to"}`},
		{`{"to":"bob@elsewhere.example","body":"hi"}`, `422 *remote-domain*"field":"to"}`},
		{`{"to":"@","body":"hi"}`, `400 *bad-recipient*"field":"to"}`},
		{`{"to":"localhost@localhost@localhost","body":"hi"}`, `40* *"field":"to"}`},
		{`{"to":"` + long + `","body":"hi"}`, `400 *bad-field*"field":"to"}`},
		{`{"to":"bob","body":"hi"`, `400 *bad-json*`},
		{`to=bob&body=hi`, `400 *bad-json*`},
		{"{\"to\":\"bob\",\"body\":\"\xc3\x28\"}", `400 *bad-utf8*`},
		{`{"to":"bob","body":"hi","subject":"x"}`, `400 *unknown-field*"field":"subject"}`},
		{`{"to":"bob","body":"hi","body64":"aGk="}`, `400 *bad-field*"field":"body64"}`},
		{`{"to":"bob","body":"` + strings.Repeat("x", 100_001) + `"}`, `413 *too-large*"field":"body"}`},
		{`{"to":"bob","body":"` + strings.Repeat("x", 200_000) + `"}`, `413 *too-large*`},
		{`{"to":"bob","body":"hi","attrs":{"a":"` + long + `"}}`, `413 *too-large*"field":"attrs"}`},
		{`{"to":"bob","body":"hi","attrs":[` + strings.Repeat(`["a","b"],`, 256) + `["a","b"]]}`, `413 *too-large*"field":"attrs"}`},
		{`{"to":"bob","body":"hi","attrs":{"a\u0000":"1"}}`, `400 *bad-field*"field":"attrs"}`},
		{`{"to":"bob","body":"hi","attrs":{"xmpp:x":"1"}}`, `400 *bad-field*"field":"attrs"}`},
		{`{"to":"bob","body":"hi","id":"` + long + `"}`, `400 *bad-field*"field":"id"}`},
		{`{"to":"bob","body":"hi","id":"a\u0000b"}`, `400 *bad-field*"field":"id"}`},
		{`{"to":"bob","body":"hi","urgency":"asap"}`, `400 *bad-field*"field":"urgency"}`},
		{`{"to":"bob","body":"hi","expires":"2001-01-01T00:00:00Z"}`, `400 *bad-field*"field":"expires"}`},
		{`{"to":"bob","body":"hi","type":"\r\nX: y"}`, `400 *bad-field*"field":"type"}`},
		{strings.Repeat("[", 100_000), `400 *bad-json*`},
		{strings.Repeat(`{"attrs":`, 10_000), `400 *bad-json*`},
	} {
		resp, body := h.do(h.request("alice", "POST", pathMessages, c.body))
		h.match(c.body[:min(len(c.body), 80)], c.want, itoa(resp.StatusCode)+" "+body, map[string]string{})
		if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%.80s: %s", c.body, ct)
		}
	}
	if n := h.last("bob") + h.last("alice"); n != 0 {
		t.Errorf("%d messages stored", n)
	}
	// The connection and the server are as good as before.
	h.post("alice", `{"to":"bob","body":"hi"}`)
}

func TestBadQueries(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	for path, want := range map[string]string{
		"/v1/inbox?wiat=10":                       `400 *bad-query*"field":"wiat"}`,
		"/v1/inbox?wait=-1":                       `400 *bad-query*"field":"wait"}`,
		"/v1/inbox?wait=soon":                     `400 *bad-query*"field":"wait"}`,
		"/v1/inbox?wait=NaN":                      `400 *bad-query*"field":"wait"}`,
		"/v1/inbox?ack=maybe":                     `400 *bad-query*"field":"ack"}`,
		"/v1/inbox?limit=0":                       `400 *bad-query*"field":"limit"}`,
		"/v1/inbox?limit=-1":                      `400 *bad-query*"field":"limit"}`,
		"/v1/inbox?limit=many":                    `400 *bad-query*"field":"limit"}`,
		"/v1/inbox?limit=1&limit=2":               `400 *bad-query*"field":"limit"}`,
		"/v1/inbox?after=":                        `400 *bad-query*"field":"after"}`,
		"/v1/inbox?after=12":                      `400 *bad-query*"field":"after"}`,
		"/v1/inbox?after=%00%ff":                  `400 *bad-query*"field":"after"}`,
		"/v1/inbox?%zz":                           `400 *bad-query*`,
		"/v1/inbox?device=a%0Ab":                  `400 *bad-field*"field":"device"}`,
		"/v1/inbox?access_token=secret":           `400 *token-in-url*"field":"access_token"}`,
		"/v1/events?token=secret":                 `400 *token-in-url*"field":"token"}`,
		"/v1/events?after=garbage":                `400 *bad-query*"field":"after"}`,
		"/v1/presence?user=a@b@c":                 `400 *bad-query*"field":"user"}`,
		"/v1/inbox?limit=99999999999999999999999": `200 {"messages":[],*`,
		"/v1/inbox?limit=18446744073709551615":    `200 {"messages":[],*`,
		"/v1/nothing":                             `404 *not-found*`,
		"/v1/../../etc/passwd":                    `404 *not-found*`,
	} {
		r := h.request("bob", "GET", path, "")
		resp, body := h.do(r)
		h.match(path, want, itoa(resp.StatusCode)+" "+body, map[string]string{})
		if strings.Contains(body, "secret") {
			t.Errorf("%s: the token is in the answer: %s", path, body)
		}
	}
	h.dialog(`
		bob> DELETE /v1/inbox
		405 {"type":"urn:posthouse:problem:method-not-allowed",*
		< Allow: GET
		> DELETE /v1/openapi.json
		405 {"type":"urn:posthouse:problem:method-not-allowed",*
		< Allow: GET, HEAD
		bob> HEAD /v1/inbox
		405
		< Allow: GET
		bob> GET /v1/messages
		405 {"type":"urn:posthouse:problem:method-not-allowed",*
		< Allow: POST
	`)
}

func TestTrimmed(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{Retention: mailbox.Retention{Count: 2}, Tail: 1})
	h.dialog(`
		alice> POST /v1/messages {"to":"bob","body":"1"}
		200 *
		bob> GET /v1/inbox
		200 {"messages":[{"seq":1,*}],"next":"$one"}
		bob> POST /v1/ack {"next":"$one"}
		200 {"seq":1}
		alice> POST /v1/messages [{"to":"bob","body":"2"},{"to":"bob","body":"3"},{"to":"bob","body":"4"},{"to":"bob","body":"5"}]
		200 *
		# Two were kept, and a reader is told of the two that were not.
		bob> GET /v1/inbox
		200 {"messages":[{"seq":4,"prev":3,*},{"seq":5,"prev":4,*}],"next":"$five","trimmed":{"from":2,"to":3}}
		bob> GET /v1/inbox?after=$one&limit=1
		200 {"messages":[{"seq":4,*}],"next":"$four","trimmed":{"from":2,"to":3}}
		bob> GET /v1/inbox?after=$four
		200 {"messages":[{"seq":5,"prev":4,*}],"next":"$five"}
		# A device never seen begins with the oldest that there is.
		bob> GET /v1/inbox?device=new
		200 {"messages":[{"seq":4,*},{"seq":5,*}],"next":"$five"}
	`)
}

// A box that is longer than what memory holds is read to its end.
func TestReadsFromDisk(t *testing.T) {
	h := newHouse(t, Config{MaxBatch: 1000}, mem.Options{Tail: 2})
	h.post("alice", `[`+strings.Repeat(`{"to":"bob","body":"x"},`, 599)+`{"to":"bob","body":"x"}]`)
	_, body := h.do(h.request("bob", "GET", "/v1/inbox?limit=1000", ""))
	if n := strings.Count(body, `"seq":`); n != 600 {
		t.Errorf("%d messages in one answer, want 600", n)
	}
	_, body = h.do(h.request("bob", "GET", "/v1/inbox", ""))
	if n := strings.Count(body, `"seq":`); n != 100 {
		t.Errorf("%d messages without a limit, want 100", n)
	}
}

// Limits of an answer bite.
func TestAnswerLimits(t *testing.T) {
	h := newHouse(t, Config{Limit: 2, MaxLimit: 3, MaxAnswer: 1000}, mem.Options{})
	h.post("alice", `[`+strings.Repeat(`{"to":"bob","body":"x"},`, 4)+`{"to":"bob","body":"`+strings.Repeat("x", 900)+`"}]`)
	count := func(path string) int {
		_, body := h.do(h.request("bob", "GET", path, ""))
		return strings.Count(body, `"seq":`)
	}
	if n := count("/v1/inbox"); n != 2 {
		t.Errorf("Limit: %d", n)
	}
	if n := count("/v1/inbox?limit=10"); n != 3 {
		t.Errorf("MaxLimit: %d", n)
	}
	h.dialog(`
		bob> POST /v1/ack {"seq":3}
		200 *
		bob> GET /v1/inbox?limit=3
		200 {"messages":[{"seq":4,*},{"seq":5,*}],"next":"$n"}
		alice> POST /v1/messages {"to":"bob","body":"y"}
		200 *
		# The answer was full with 5; what is behind it comes next.
		bob> GET /v1/inbox?limit=3
		200 {"messages":[{"seq":4,*},{"seq":5,*}],"next":"$n"}
		bob> GET /v1/inbox?after=$n
		200 {"messages":[{"seq":6,"prev":5,*}],"next":"*"}
	`)
}
