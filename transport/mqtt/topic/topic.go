// Package topic knows MQTT's topic names and filters: what may stand in them,
// which filter matches which name, and two trees to look them up in. A [Tree]
// finds the subscriptions that match a name; [Names] finds the names that
// match a filter, for retained messages.
//
//	filter            matches                      not
//	a/b               a/b                          a, a/b/c
//	a/+               a/b, a/                      a, a/b/c
//	a/#               a, a/b, a/b/c                b
//	+/+               a/b, /b                      a
//	#, +/b            everything, a/b              $SYS/b
//
// Sections 4.7 and 4.8 of MQTT 5.0.
package topic

import (
	"errors"
	"strings"
)

// MaxLevels is the greatest number of levels in a name or filter. The standard
// has no limit; ours keeps a walk short, and a packet of slashes cheap. It is
// mosquitto's, as is the answer: what has more is malformed.
const MaxLevels = 201

// Errors of Check and Parse.
var (
	ErrEmpty    = errors.New("topic: empty")
	ErrWildcard = errors.New("topic: wildcard where it may not stand")
	ErrLevels   = errors.New("topic: too many levels")
	ErrShare    = errors.New("topic: not a shared subscription")
)

// CheckName says whether s, a UTF-8 string, may be published to.
func CheckName(s []byte) error {
	if len(s) == 0 { // [MQTT-4.7.3-1]
		return ErrEmpty
	}
	levels := 1
	for _, c := range s {
		switch c {
		case '/':
			levels++
		case '+', '#': // [MQTT-3.3.2-2]
			return ErrWildcard
		}
	}
	if levels > MaxLevels {
		return ErrLevels
	}
	return nil
}

// CheckFilter says whether s, a UTF-8 string, may be subscribed to.
func CheckFilter(s string) error {
	if s == "" {
		return ErrEmpty
	}
	levels := 1
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '/':
			levels++
		case '#':
			// "The multi-level wildcard character MUST be specified either on
			// its own or following a topic level separator. In either case it
			// MUST be the last character" [MQTT-4.7.1-1]
			if i != len(s)-1 || i > 0 && s[i-1] != '/' {
				return ErrWildcard
			}
		case '+':
			// "it MUST occupy an entire level of the filter" [MQTT-4.7.1-2]
			if i > 0 && s[i-1] != '/' || i < len(s)-1 && s[i+1] != '/' {
				return ErrWildcard
			}
		}
	}
	if levels > MaxLevels {
		return ErrLevels
	}
	return nil
}

// Parse checks a filter as it stands in SUBSCRIBE, and takes it apart if it is
// $share/{share}/{filter}.
func Parse(s string) (share, filter string, err error) {
	rest, ok := strings.CutPrefix(s, "$share/")
	if !ok {
		if s == "$share" {
			return "", "", ErrShare
		}
		return "", s, CheckFilter(s)
	}
	// "A Shared Subscription's Topic Filter MUST start with $share/ and MUST
	// contain a ShareName that is at least one character long" [MQTT-4.8.2-1]
	// "The ShareName MUST NOT contain the characters "/", "+" or "#", but MUST
	// be followed by a "/" character. This "/" character MUST be followed by a
	// Topic Filter" [MQTT-4.8.2-2]
	share, filter, ok = strings.Cut(rest, "/")
	if !ok || share == "" || strings.ContainsAny(share, "+#") || filter == "" {
		return "", "", ErrShare
	}
	return share, filter, CheckFilter(filter)
}

// HasWildcard reports whether a valid filter has a wildcard.
func HasWildcard(filter string) bool {
	return strings.HasSuffix(filter, "#") || strings.IndexByte(filter, '+') >= 0
}

// Match reports whether a valid filter matches a valid name.
func Match(filter, name string) bool {
	// "The Server MUST NOT match Topic Filters starting with a wildcard
	// character (# or +) with Topic Names beginning with a $ character"
	// [MQTT-4.7.2-1]
	if name != "" && name[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		n, nrest, nmore := strings.Cut(name, "/")
		if f != "+" && f != n {
			return false
		}
		switch {
		case !fmore && !nmore:
			return true
		case fmore && !nmore:
			return frest == "#" // the parent level itself
		case !fmore:
			return false
		}
		filter, name = frest, nrest
	}
}
