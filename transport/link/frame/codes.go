package frame

import (
	"strconv"
	"strings"
)

// CloseCode says why a side closes.
type CloseCode uint64

// The reasons of version 1.0.
const (
	CloseDone     CloseCode = 1  // the client is done; it goes of its own will
	CloseProtocol CloseCode = 2  // the peer broke the protocol
	CloseVersion  CloseCode = 3  // the other side does not speak this version: upgrade
	CloseDenied   CloseCode = 4  // the credentials are not good
	CloseBusy     CloseCode = 5  // too many attempts, or too much to do
	CloseExpired  CloseCode = 6  // the token has ended: bring a fresh one
	CloseReplaced CloseCode = 7  // the same device has connected again
	CloseRemoved  CloseCode = 8  // the account was removed, or its password changed
	CloseDraining CloseCode = 9  // the server restarts
	CloseIdle     CloseCode = 10 // nothing was heard for too long
	CloseTooLong  CloseCode = 11 // a frame over the agreed size
	CloseBadAck   CloseCode = 12 // an acknowledgement of what was never sent
	CloseInternal CloseCode = 13 // the server failed
	CloseInsecure CloseCode = 14 // a password on a connection that others can read
	CloseTimeout  CloseCode = 15 // no Hello in time
)

var closeWords = [...]string{1: "done", "protocol", "upgrade-required", "denied", "busy", "expired", "replaced", "removed", "draining",
	"idle", "frame-too-long", "bad-ack", "internal", "insecure", "timeout"}

// RefusedCode says why a send was refused.
type RefusedCode uint64

// The refusals of version 1.0.
const (
	RefusedRecipient   RefusedCode = 1 // there is no such recipient
	RefusedTooLarge    RefusedCode = 2 // the message is too large
	RefusedConflict    RefusedCode = 3 // the id was used before, for another message
	RefusedUnavailable RefusedCode = 4 // the server cannot store at present; try again later
	RefusedInvalid     RefusedCode = 5 // the message holds what it may not
	RefusedForbidden   RefusedCode = 6 // the sender may not write there
	RefusedRemote      RefusedCode = 7 // the recipient is at another server
	RefusedInternal    RefusedCode = 8 // the server failed; try again later
)

var refusedWords = [...]string{1: "unknown-recipient", "too-large", "conflict", "unavailable", "invalid", "forbidden", "remote", "internal"}

// Again reports whether the same message may be stored when it is sent later.
func (c RefusedCode) Again() bool { return c == RefusedUnavailable || c == RefusedInternal }

func (c CloseCode) String() string   { return word(closeWords[:], uint64(c)) }
func (c RefusedCode) String() string { return word(refusedWords[:], uint64(c)) }

func word(words []string, n uint64) string {
	if n > 0 && n < uint64(len(words)) {
		return words[n]
	}
	return "code-" + strconv.FormatUint(n, 10)
}

func unword(words []string, s string) (uint64, error) {
	for i, w := range words {
		if w == s && w != "" {
			return uint64(i), nil
		}
	}
	n, ok := strings.CutPrefix(s, "code-")
	if !ok {
		return 0, malformed("no such reason %q", s)
	}
	return strconv.ParseUint(n, 10, 64)
}
