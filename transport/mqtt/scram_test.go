package mqtt

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xdg-go/scram"
)

func hexOf(s string) string { return hex.EncodeToString([]byte(s)) }

// Section 4.12: enhanced authentication, and again later [MQTT-4.12.1-1].
func TestSCRAM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{})
		defer func() { h.stop() }()
		step := func(conv *scram.ClientConversation, in string) string {
			out, err := conv.Step(in)
			if err != nil {
				t.Fatal(err)
			}
			return hexOf(out)
		}
		// data finds the authentication data in what the server said.
		data := func(line string) string {
			_, d, _ := strings.Cut(line, "authentication-data=")
			d, _, _ = strings.Cut(d, " ")
			b, _ := hex.DecodeString(d)
			return string(b)
		}
		for _, pw := range []string{"pw", "wrong"} {
			cl, err := scram.SHA256.NewClient("alice", pw, "")
			if err != nil {
				t.Fatal(err)
			}
			conv := cl.NewConversation()
			h.play("a C: CONNECT 5 clean id=a authentication-method=SCRAM-SHA-256 authentication-data=" + step(conv, ""))
			got := h.peers["a"].read()
			if !strings.HasPrefix(got, "AUTH 0x18 authentication-method=SCRAM-SHA-256 ") {
				t.Fatal(got)
			}
			h.play("a C: AUTH 0x18 authentication-method=SCRAM-SHA-256 authentication-data=" + step(conv, data(got)))
			got = h.peers["a"].read()
			if pw == "wrong" {
				if !strings.HasPrefix(got, "CONNACK 0x87") {
					t.Fatal(got)
				}
				return
			}
			if !strings.HasPrefix(got, "CONNACK 0x00") {
				t.Fatal(got)
			}
			if _, err := conv.Step(data(got)); err != nil || !conv.Valid() {
				t.Fatal("server's proof", err)
			}
			conv = cl.NewConversation()
			h.play("a C: AUTH 0x19 authentication-method=SCRAM-SHA-256 authentication-data=" + step(conv, ""))
			got = h.peers["a"].read()
			h.play("a C: PINGREQ\na S: PINGRESP")
			h.play(fmt.Sprintf("a C: AUTH 0x18 authentication-method=SCRAM-SHA-256 authentication-data=%s\na S: AUTH auth*", step(conv, data(got))))
			h.play("a C: DISCONNECT\na S: --")
		}
	})
}
