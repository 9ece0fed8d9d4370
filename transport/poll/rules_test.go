package poll

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// newRuled is a house with rules, and root, who is an administrator.
func newRuled(t *testing.T, file ...acl.Rule) *house {
	core, store := newCore(t, mem.Options{})
	if err := core.Auth.Add(t.Context(), "root", "root-password", auth.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	rules := acl.New(core.Mail, core.Auth, acl.Config{Domain: "localhost", File: file, MaxRules: 3})
	return serve(t, core, store, Config{Rules: rules})
}

// The rules are read, replaced as a whole by who has seen them, and asked.
func TestRules(t *testing.T) {
	h := newRuled(t, acl.Rule{Deny: true, Publish: []string{"lock"}})
	h.dialog(`
		root> GET /v1/mqtt/rules
		200 {"file":[{"deny":true,"publish":["lock"]}],"rules":[]}
		< ETag: "$first"
		< Cache-Control: no-store
		root> PUT /v1/mqtt/rules {"rules":[{"users":["alice","bob"],"roles":["user"],"publish":["home/%u/#"],"subscribe":["#"]},{"deny":false,"publish":["lock"]}]}
		428 {"type":"urn:posthouse:problem:if-match-needed",*"field":"If-Match"}
		root> PUT /v1/mqtt/rules {"rules":[{"users":["alice","bob"],"roles":["user"],"publish":["home/%u/#"],"subscribe":["#"]},{"deny":false,"publish":["lock"]}]}
		+ If-Match: "$first"
		200 {"file":[{"deny":true,"publish":["lock"]}],"rules":[{"users":["alice","bob"],"roles":["user"],"publish":["home/%u/#"],"subscribe":["#"]},{"publish":["lock"]}]}
		< ETag: "$second"
		# Somebody who has not seen that changes nothing.
		root> PUT /v1/mqtt/rules {"rules":[]}
		+ If-Match: "$first"
		412 {"type":"urn:posthouse:problem:changed-meanwhile",*
		root> PUT /v1/mqtt/rules {"rules":[]}
		+ If-Match: W/"$second"
		412 *
		root> GET /v1/mqtt/rules
		200 *"users":["alice","bob"]*
		< ETag: "$second"

		root> GET /v1/mqtt/rules/check?user=alice&client=phone&publish=home/alice/x
		200 {"user":"alice@localhost","role":"user","client":"phone","publish":"home/alice/x","allowed":true,"why":"rule","by":{"from":"api","number":1,"users":["alice","bob"],"roles":["user"],"publish":["home/alice/#"],"subscribe":["#"]}}
		root> GET /v1/mqtt/rules/check?user=alice&publish=lock
		200 {"user":"alice@localhost","role":"user","publish":"lock","allowed":false,"why":"rule","by":{"from":"file","number":1,"deny":true,"publish":["lock"]}}
		root> GET /v1/mqtt/rules/check?user=root&subscribe=home/%23
		200 {"user":"root@localhost","role":"admin","subscribe":"home/#","allowed":false,"why":"no-rule-fits"}
		root> GET /v1/mqtt/rules/check?user=root
		200 {"user":"root@localhost","role":"admin","rules":[{"from":"file","number":1,"deny":true,"publish":["lock"]},{"from":"api","number":2,"publish":["lock"]}]}
		root> GET /v1/mqtt/rules/check?publish=x
		200 {"publish":"x","allowed":false,"why":"anonymous-off"}
		root> GET /v1/mqtt/rules/check?user=nobody
		404 *not-found*"field":"user"}
		root> GET /v1/mqtt/rules/check?user=alice&publish=im/to/bob
		400 *bad-query*whatever the rules*
		root> GET /v1/mqtt/rules/check?user=alice&topic=x
		400 *bad-query*"field":"topic"}

		root> PUT /v1/mqtt/rules {"rules":[]}
		+ If-Match: *
		200 *"rules":[]}
		< ETag: "$first"
	`)
}

// Others than administrators neither see nor change them.
func TestRulesAreForAdministrators(t *testing.T) {
	h := newRuled(t)
	for _, user := range []string{"alice", "shop", ""} {
		want := "403 *forbidden*"
		if user == "" {
			want = "401 *"
		}
		h.dialog(user + "> GET /v1/mqtt/rules\n" + want)
		h.dialog(user + "> GET /v1/mqtt/rules/check?user=alice\n" + want)
		h.dialog(user + "> PUT /v1/mqtt/rules {\"rules\":[]}\n+ If-Match: *\n" + want)
	}
	newHouse(t, Config{}, mem.Options{}).dialog(`
		root> GET /v1/mqtt/rules
		401 *
	`)
}

// What is wrong is named, and changes nothing.
func TestBadRules(t *testing.T) {
	h := newRuled(t)
	h.dialog(`
		root> PUT /v1/mqtt/rules {"rules":[{"publish":["a"]}]}
		+ If-Match: *
		200 *
		< ETag: "$tag"
	`)
	put := func(body string) string {
		resp, text := h.do(h.request("root", "PUT", "/v1/mqtt/rules", body, "If-Match: *"))
		return fmt.Sprint(resp.StatusCode, " ", text)
	}
	for body, want := range map[string]string{
		``:                                `bad-json`,
		`[]`:                              `bad-json`,
		`{}`:                              `missing-field*"field":"rules"`,
		`{"rules":{}}`:                    `bad-json*"field":"rules"`,
		`{"rules":[]} x`:                  `bad-json`,
		`{"rules":[],"x":1}`:              `unknown-field*"field":"x"`,
		`{"file":[]}`:                     `unknown-field*of the configuration*"field":"file"`,
		`{"rules":[],"rules":[]}`:         `bad-json*"field":"rules"`,
		`{"rules":[1]}`:                   `bad-json*"field":"rules[0]"`,
		`{"rules":[{"publish":"a"}]}`:     `bad-json*"field":"rules[0].publish"`,
		`{"rules":[{"publish":["a",1]}]}`: `bad-json*"field":"rules[0].publish[1]"`,
		`{"rules":[{"publish":["a"],"publish":["b"]}]}`:                                                 `bad-json*twice*"field":"rules[0].publish"`,
		`{"rules":[{"publish":["a"]},{"pubish":["a"]}]}`:                                                `unknown-field*"field":"rules[1].pubish"`,
		`{"rules":[{"deny":1,"publish":["a"]}]}`:                                                        `bad-json*true or false*"field":"rules[0].deny"`,
		`{"rules":[{"deny":tru`:                                                                         `bad-json*"field":"rules[0].deny"`,
		`{"rules":[{}]}`:                                                                                `bad-field*about nothing*"field":"rules[0]"`,
		`{"rules":[{"publish":["a"]},{"publish":["a","b/#/c"]}]}`:                                       `bad-field*"field":"rules[1].publish[1]"`,
		`{"rules":[{"roles":["king"],"publish":["a"]}]}`:                                                `bad-field*"field":"rules[0].roles[0]"`,
		`{"rules":[{"users":["a@b.example"],"subscribe":["a"]}]}`:                                       `bad-field*"field":"rules[0].users[0]"`,
		`{"rules":[{"subscribe":["im/inbox/+"]}]}`:                                                      `bad-field*"field":"rules[0].subscribe[0]"`,
		`{"rules":[` + strings.Repeat(`{"publish":["a"]},`, 3) + `{"publish":["a"]}]}`:                  `too-large*more than 3 rules*"field":"rules"`,
		`{"rules":[{"publish":[` + strings.Repeat(`"`+strings.Repeat("a", 50_000)+`",`, 21) + `"a"]}]}`: `too-large*at most 1048576*"field":"rules"`,
		"{\"rules\":[{\"publish\":[\"\xff\"]}]}":                                                        `bad-utf8`,
	} {
		h.match(body, "4* {\"type\":\"urn:posthouse:problem:"+want+"*", put(body), map[string]string{})
	}
	h.store.Fail(errors.New("disk full"))
	h.match("PUT", `503 *unavailable*`, put(`{"rules":[]}`), map[string]string{})
	h.store.Fail(nil)
	h.dialog(`
		root> PUT /v1/mqtt/rules {"rules":[]}
		+ If-Match: *
		+ Content-Type: text/xml
		415 *
		root> GET /v1/mqtt/rules
		200 *"rules":[{"publish":["a"]}]}
	`)
}

// Of many who have seen the same rules one replaces them.
func TestRulesAtOnce(t *testing.T) {
	h := newRuled(t)
	resp, _ := h.do(h.request("root", "GET", "/v1/mqtt/rules", ""))
	tag := resp.Header.Get("ETag")
	var status [600]atomic.Int32
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			resp, err := h.client.Do(h.request("root", "PUT", "/v1/mqtt/rules", fmt.Sprintf(`{"rules":[{"publish":["%d"]}]}`, i), "If-Match: "+tag))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			status[resp.StatusCode].Add(1)
		})
	}
	wg.Wait()
	if status[200].Load() != 1 || status[412].Load() != 9 {
		t.Errorf("%d replaced them, %d were told", status[200].Load(), status[412].Load())
	}
}

// The document shows the fields that the codec reads.
func TestRuleFields(t *testing.T) {
	for _, name := range jsonFields(wire.Rule{}) {
		if _, p := wire.DecodeRules([]byte(`{"rules":[{"`+name+`":`), 1); p.Kind() == wire.UnknownField {
			t.Errorf("the codec does not know %s", name)
		}
	}
}
