package mqtt

import (
	"strings"
	"testing"
)

// Section 4.11: who is connected when the server stops is told where to go.
func TestRedirectWhileDraining(t *testing.T) {
	dialogue(t, Config{Redirect: Redirect{Server: "b.example.org:8883 c.example.org"}}, `
		five  C: CONNECT 5 clean id=five user=alice
		five  S: CONNACK 0x00 topic*
		small C: CONNECT 5 clean id=small user=alice maximum-packet-size=40
		small S: CONNACK 0x00 *
		three C: CONNECT 4 clean id=three user=alice
		three S: CONNACK 0x00
		drain
		five  S: DISCONNECT 0x9c server-reference=b.example.org:8883 c.example.org
		five  S: --
		# It would be more than the client takes.
		small S: DISCONNECT 0x9c server*
		small S: --
		three S: --
	`)
	dialogue(t, Config{}, `
		five  C: CONNECT 5 clean id=five user=alice
		five  S: CONNACK 0x00 topic*
		drain
		five  S: DISCONNECT 0x8b
		five  S: --
	`)
}

// The reference is left out where it does not fit.
func TestRedirectThatDoesNotFit(t *testing.T) {
	dialogue(t, Config{Redirect: Redirect{Server: strings.Repeat("b", 200)}}, `
		small C: CONNECT 5 clean id=small user=alice maximum-packet-size=40
		small S: CONNACK 0x00 *
		drain
		small S: DISCONNECT 0x9c
		small S: --
	`)
	dialogue(t, Config{Redirect: Redirect{Server: strings.Repeat("b", 200), Moved: true}}, `
		small C: CONNECT 5 clean id=small user=alice maximum-packet-size=40
		small S: CONNACK 0x9d
		small S: --
	`)
}

// A server that has moved lets nobody in, whoever he is.
func TestMoved(t *testing.T) {
	dialogue(t, Config{Redirect: Redirect{Server: "b.example.org", Moved: true}}, `
		five  C: CONNECT 5 clean id=five user=alice pw=wrong
		five  S: CONNACK 0x9d server-reference=b.example.org
		five  S: --
		auth  C: CONNECT 5 clean id=five authentication-method=SCRAM-SHA-256
		auth  S: CONNACK 0x9d server-reference=b.example.org
		auth  S: --
		three C: CONNECT 4 clean id=three user=alice
		three S: CONNACK 0x03
		three S: --
		old   C: CONNECT 3 clean id=old user=alice
		old   S: CONNACK 0x03
		old   S: --
	`)
}
