// Package wire has the JSON shapes of the poll door: what goes over HTTP, as
// values and as bytes, without any I/O.
//
//	POST /v1/messages   draft, [draft, …] or {"messages":[draft, …]}
//	                    → receipt or {"results":[receipt, …]}
//	GET  /v1/inbox      → {"messages":[message, …],"next":"…"}
//	POST /v1/ack        {"seq":n} or {"next":"…"} → {"seq":n}
//	POST /v1/signals    {"to":"…","kind":"…"}
//	PUT  /v1/mqtt/rules {"rules":[rule, …]}
//	any error           problem (RFC 9457)
//
// What comes in is read strictly: UTF-8 only, no unknown field, no field
// twice, nothing behind the end, and every error names the field that it is
// about. A value that is refused in one place refuses the whole request, so a
// sender never has to guess which half of it was taken.
//
// A body that is text and valid UTF-8 travels as "body", any other as base64
// in "body64". Both are the same bytes at every other door.
package wire

import (
	"time"
)

// Draft is a message as its sender writes it.
type Draft struct {
	To   string
	ID   string
	Type string
	// Body is the body, from "body" or "body64".
	Body []byte
	// Binary says that it came, or is to go, as "body64".
	Binary bool
	// TTL and Expires are the two ways to write "expires": from now, or a
	// date. At most one is set.
	TTL     time.Duration
	Expires time.Time
	// Urgency is very-low, low, normal, high or empty (RFC 8030 section 5.3).
	Urgency string
	Attrs   []Attr
}

// Attr is one property of a message. In JSON they are a list of pairs, name
// and value; a draft may have an object instead, in which a name that occurs
// more than once has a list of values.
type Attr struct{ Name, Value string }

// Message is a message in an inbox.
type Message struct {
	Seq, Prev uint64
	ID        string
	From      string
	Device    string
	To        string
	Time      time.Time
	Type      string
	Body      []byte
	Expires   time.Time
	Urgency   string // empty for normal
	Attrs     []Attr
}

// Receipt says where one message is, or why it was refused.
type Receipt struct {
	// ID is the message's id: the sender's own or the one it was given.
	ID string `json:"id,omitempty"`
	// Seq is its place in the recipient's box.
	Seq uint64 `json:"seq,omitempty"`
	// Duplicate says that an earlier request had stored it already.
	Duplicate bool `json:"duplicate,omitempty"`
	// Time is when it was stored, the first time.
	Time time.Time `json:"time,omitzero"`
	// Problem, in the answer to a batch, says why this one was not stored.
	Problem *Problem `json:"problem,omitempty"`
}

// Trimmed is a hole that retention has made: these places are gone.
type Trimmed struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Ack is a device's acknowledgement: by place or by an inbox's "next".
type Ack struct {
	Seq    uint64
	Next   string
	Device string
}

// Signal is a word of the moment as its sender writes it.
type Signal struct {
	To, Kind string
	Body     []byte
}

// Presence is one live session of a user.
type Presence struct {
	Device string    `json:"device"`
	Door   string    `json:"door"`
	Since  time.Time `json:"since"`
}

// PresenceList is the answer of GET /v1/presence.
type PresenceList struct {
	User     string     `json:"user"`
	Sessions []Presence `json:"sessions"`
}

// Network is one network and what its devices found. Its name is a hash, which
// tells nobody where it is.
type Network struct {
	Network  string    `json:"network"`
	Good     float64   `json:"good"`
	Bad      float64   `json:"bad,omitempty"`
	Interval float64   `json:"interval"`
	Reports  int       `json:"reports"`
	At       time.Time `json:"at"`
}

// NetworkList is the answer of GET /v1/networks.
type NetworkList struct {
	Networks []Network `json:"networks"`
}

// Device is one device of a user.
type Device struct {
	Device string `json:"device"`
	Online bool   `json:"online"`
	// Door is by which way it is connected, if it is.
	Door string    `json:"door,omitempty"`
	Seen time.Time `json:"seen"`
	// Behind is how many places of the box lie beyond what it has acknowledged.
	Behind uint64 `json:"behind"`
}

// DeviceList is the answer of GET /v1/devices.
type DeviceList struct {
	User    string   `json:"user"`
	Devices []Device `json:"devices"`
}

// Cost is what a device has cost.
type Cost struct {
	BytesUp     uint64 `json:"bytes_up"`
	BytesDown   uint64 `json:"bytes_down"`
	PacketsUp   uint64 `json:"packets_up"`
	PacketsDown uint64 `json:"packets_down"`
	Wakeups     uint64 `json:"wakeups"`
	Heartbeats  uint64 `json:"heartbeats"`
	Connects    uint64 `json:"connects"`
	// Connected is in seconds.
	Connected float64 `json:"connected"`
	// Joules are an estimate, by the kind of radio: lte, 3g, wifi.
	Joules map[string]float64 `json:"joules"`
}

// Day is what a device has cost on one day, in UTC.
type Day struct {
	Date string `json:"date"`
	Cost
}

// DeviceCost is the answer of GET /v1/devices/{device}/cost.
type DeviceCost struct {
	User   string          `json:"user"`
	Device string          `json:"device"`
	Since  time.Time       `json:"since"`
	Total  Cost            `json:"total"`
	Ways   map[string]Cost `json:"ways"`
	Days   []Day           `json:"days"`
}

// TimeFormat is how times are written: RFC 3339, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// MaxTTL bounds an "expires" that is given in seconds.
const MaxTTL = 100 * 365 * 24 * time.Hour
