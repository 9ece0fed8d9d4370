package poll

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

const (
	pathMessages = "/v1/messages"
	pathInbox    = "/v1/inbox"
	pathAck      = "/v1/ack"
	pathEvents   = "/v1/events"
	pathSignals  = "/v1/signals"
	pathPresence = "/v1/presence"
	pathNetworks = "/v1/networks"
	pathRules    = "/v1/mqtt/rules"
	pathCheck    = "/v1/mqtt/rules/check"
	pathDevices  = "/v1/devices"
	pathDevice   = "/v1/devices/{device}"
	pathCost     = "/v1/devices/{device}/cost"
	pathDocument = "/v1/openapi.json"
)

// The shapes as the document shows them. The codec reads and writes the same
// fields without reflection; a test holds the two together.
type (
	draftShape struct {
		To      string `json:"to" doc:"The recipient: a user, with or without the domain." example:"bob" minLength:"1" maxLength:"1024"`
		ID      string `json:"id,omitempty" doc:"Your own id for this message. Sending it again with the same id stores it once. Without one, a fresh id is made up and a retry is a new message." example:"order-4711-shipped" maxLength:"1024"`
		Type    string `json:"type,omitempty" doc:"The media type of the body. text/plain; charset=utf-8 when the body is text, application/octet-stream when it is base64." example:"text/plain; charset=utf-8"`
		Body    string `json:"body,omitempty" doc:"The body as text. Either this or body64." example:"Your parcel is on its way."`
		Body64  []byte `json:"body64,omitempty" doc:"The body in base64." example:"iVBORw0KGgo="`
		Expires any    `json:"expires,omitempty" doc:"When the message loses its worth: seconds from now, or a time of RFC 3339." example:"3600"`
		Urgency string `json:"urgency,omitempty" doc:"Whether a sleeping device should be woken (RFC 8030)." enum:"very-low,low,normal,high" example:"high"`
		Attrs   any    `json:"attrs,omitempty" doc:"Further properties: an object of strings or lists of strings, or a list of pairs of name and value, which keeps the order of all."`
	}
	batchShape struct {
		Messages []draftShape `json:"messages" doc:"The messages, stored in this order." minItems:"1"`
	}
	receiptShape struct {
		ID        string `json:"id" doc:"The id of the message." example:"order-4711-shipped"`
		Seq       uint64 `json:"seq" doc:"Its place in the recipient's box." example:"42"`
		Duplicate bool   `json:"duplicate" doc:"An earlier request had stored it already; nothing was stored now."`
		Time      string `json:"time" format:"date-time" doc:"When it was stored." example:"2026-01-02T03:04:05.678Z"`
	}
	resultShape struct {
		ID        string        `json:"id" doc:"The id of the message, empty if it had none and was not stored."`
		Seq       uint64        `json:"seq,omitempty" doc:"Its place in the recipient's box." example:"42"`
		Duplicate bool          `json:"duplicate,omitempty" doc:"An earlier request had stored it already."`
		Time      string        `json:"time,omitempty" format:"date-time" doc:"When it was stored."`
		Problem   *wire.Problem `json:"problem,omitempty" doc:"Why this one was not stored."`
	}
	resultsShape struct {
		Results []resultShape `json:"results" doc:"One for each message, in the order of the request."`
	}
	messageShape struct {
		Seq     uint64     `json:"seq" doc:"Its place in the box." example:"42"`
		Prev    uint64     `json:"prev" doc:"The place of the message that this device had before it. If you do not have that one, you have missed something." example:"41"`
		ID      string     `json:"id" doc:"The sender's id." example:"order-4711-shipped"`
		From    string     `json:"from" doc:"The sender." example:"shop@example.org"`
		Device  string     `json:"device,omitempty" doc:"The sender's device." example:"http"`
		To      string     `json:"to" doc:"The recipient as the sender named him." example:"bob@example.org"`
		Time    string     `json:"time" format:"date-time" doc:"When it was stored." example:"2026-01-02T03:04:05.678Z"`
		Type    string     `json:"type" doc:"The media type of the body." example:"text/plain; charset=utf-8"`
		Body    *string    `json:"body,omitempty" doc:"The body, when its type is text and it is UTF-8." example:"Your parcel is on its way."`
		Body64  []byte     `json:"body64,omitempty" doc:"The body in base64, otherwise."`
		Expires string     `json:"expires,omitempty" format:"date-time" doc:"When it loses its worth."`
		Urgency string     `json:"urgency,omitempty" enum:"very-low,low,high" doc:"When it is not normal."`
		Attrs   [][]string `json:"attrs,omitempty" doc:"Further properties: pairs of name and value, in the sender's order."`
	}
	trimmedShape struct {
		From uint64 `json:"from" example:"3"`
		To   uint64 `json:"to" example:"17"`
	}
	inboxShape struct {
		Messages []messageShape `json:"messages" doc:"Oldest first."`
		Next     string         `json:"next" doc:"Opaque. Give it back as after: that acknowledges everything up to here and reads on." example:"AQUe_pem"`
		Trimmed  *trimmedShape  `json:"trimmed,omitempty" doc:"These places were removed by retention before this device had read them."`
	}
	ackShape struct {
		Seq    uint64 `json:"seq,omitempty" doc:"The last message that has arrived. Either this or next." example:"42"`
		Next   string `json:"next,omitempty" doc:"The next of an inbox."`
		Device string `json:"device,omitempty" doc:"The device whose cursor moves; http by default." example:"http"`
	}
	signalShape struct {
		To     string `json:"to" doc:"The recipient: a user, with or without the domain, or one of his devices." example:"bob" minLength:"1" maxLength:"1024"`
		Kind   string `json:"kind" doc:"What is said: composing, paused, active, inactive or gone, which XMPP clients understand; ask; or your own." example:"composing" minLength:"1" maxLength:"64"`
		Body   string `json:"body,omitempty" doc:"What belongs to it, as text of at most 1024 bytes. Either this or body64."`
		Body64 []byte `json:"body64,omitempty" doc:"The same in base64."`
	}
	rulesShape struct {
		Rules []wire.Rule `json:"rules" doc:"All of them, in order. An empty list removes those that there are."`
	}
	ackedShape struct {
		Seq uint64 `json:"seq" doc:"How far the device has acknowledged." example:"42"`
	}
)

const about = `Send and receive messages over HTTP. What is sent here is received through every other door of the server
(XMPP, MQTT, the link protocol) and the other way round, in the same order, each once.

A message is stored durably when its request is answered. A device reads from its own cursor; giving the "next" of an
answer back as "after" acknowledges what that answer held. Whoever loses an answer asks again and gets it again.

Every error is a problem document (RFC 9457); its "type" is "urn:posthouse:problem:" and one of the names listed with
each status below, and does not change.`

func apiConfig() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Posthouse", Version: "1", Description: about,
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"basic":  {Type: "http", Scheme: "basic", Description: "The account's name, and its password or an application key."},
					"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "A token signed with a key that the operator has configured, or an application key. Never in the URL."},
				},
			},
			Tags: []*huma.Tag{{Name: "messages", Description: "Sending, receiving, acknowledging."}, {Name: "devices", Description: "What belongs to one of your devices."}, {Name: "server", Description: "About the server."}},
		},
		Formats:       huma.DefaultFormats,
		DefaultFormat: "application/json",
	}
}

var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[draftShape]():        "Draft",
	reflect.TypeFor[batchShape]():        "Batch",
	reflect.TypeFor[receiptShape]():      "Receipt",
	reflect.TypeFor[resultShape]():       "Result",
	reflect.TypeFor[resultsShape]():      "Results",
	reflect.TypeFor[messageShape]():      "Message",
	reflect.TypeFor[trimmedShape]():      "Trimmed",
	reflect.TypeFor[inboxShape]():        "Inbox",
	reflect.TypeFor[ackShape]():          "Ack",
	reflect.TypeFor[ackedShape]():        "Acked",
	reflect.TypeFor[signalShape]():       "Signal",
	reflect.TypeFor[wire.Problem]():      "Problem",
	reflect.TypeFor[wire.Presence]():     "Presence",
	reflect.TypeFor[wire.PresenceList](): "PresenceList",
	reflect.TypeFor[wire.Network]():      "Network",
	reflect.TypeFor[wire.NetworkList]():  "NetworkList",
	reflect.TypeFor[rulesShape]():        "Rules",
	reflect.TypeFor[wire.Rule]():         "Rule",
	reflect.TypeFor[wire.RuleList]():     "RuleList",
	reflect.TypeFor[wire.AppliedRule]():  "AppliedRule",
	reflect.TypeFor[wire.Access]():       "Access",
	reflect.TypeFor[wire.Device]():       "Device",
	reflect.TypeFor[wire.DeviceList]():   "DeviceList",
	reflect.TypeFor[wire.Cost]():         "Cost",
	reflect.TypeFor[wire.Day]():          "CostOfDay",
	reflect.TypeFor[wire.DeviceCost]():   "DeviceCost",
}

func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n, ok := schemaNames[t]; ok {
		return n
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// register declares the routes.
func (s *Server) register() {
	login := []map[string][]string{{"basic": {}}, {"bearer": {}}}
	deviceParam := &huma.Param{Name: "device", In: "query", Schema: text(mailbox.MaxName), Example: "phone",
		Description: "Which of your devices this is. Each has its own cursor. http by default, or the one that the token names."}
	after := &huma.Param{Name: "after", In: "query", Schema: &huma.Schema{Type: "string", MinLength: new(1)}, Example: "AQUe_pem",
		Description: "The next of the answer before: acknowledges what that held, and reads on behind it. Without it, reading starts at the device's cursor; a new device's stands before the oldest message kept."}

	user := &huma.Param{Name: "user", In: "query", Schema: text(mailbox.MaxName), Example: "bob", Description: "Whose."}
	ofPath := &huma.Param{Name: "device", In: "path", Required: true, Schema: text(mailbox.MaxName), Example: "phone", Description: "The device's name."}

	s.handle(&route{serve: s.post, op: &huma.Operation{
		Method: http.MethodPost, Path: pathMessages, OperationID: "send", Tags: []string{"messages"}, Security: login,
		Summary: "Send one message or a batch",
		Description: "One message is an object; a batch is a list of them, or {\"messages\": list}. A batch is stored in its order. " +
			"If anything in the request is malformed, nothing of it is stored. If a message of a batch can not be stored for a reason of its own, " +
			"the others are, and the answer is 207 with a problem in that one's result.",
		Parameters: []*huma.Param{deviceParam, {Name: "Idempotency-Key", In: "header", Schema: text(mailbox.MaxName),
			Description: "The id of a single message that has none in its body."}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
			Schema: &huma.Schema{OneOf: []*huma.Schema{s.schema(draftShape{}), s.schema([]draftShape{}), s.schema(batchShape{})}},
			Examples: map[string]*huma.Example{
				"one":    {Summary: "One message", Value: map[string]any{"to": "bob", "id": "m1", "body": "hi"}},
				"binary": {Summary: "Bytes", Value: map[string]any{"to": "bob", "type": "image/png", "body64": "iVBORw0KGgo="}},
				"batch":  {Summary: "A batch", Value: []any{map[string]any{"to": "bob", "body": "hi"}, map[string]any{"to": "carol", "body": "hi", "expires": 3600}}},
			},
		}}},
		Responses: s.responses(map[string]*huma.Response{
			"200": s.json("Stored, all of it.", &huma.Schema{OneOf: []*huma.Schema{s.schema(receiptShape{}), s.schema(resultsShape{})}}),
			"207": s.json("Of the batch, those without a problem are stored.", s.schema(resultsShape{})),
		}, wire.BadJSON, wire.BadUTF8, wire.UnknownField, wire.MissingField, wire.BadField, wire.BadRecipient, wire.RemoteDomain,
			wire.NoRecipient, wire.Conflict, wire.TooLarge, wire.BadMediaType, wire.BodySlow, wire.Unavailable, wire.Draining),
	}})
	s.handle(&route{serve: s.inbox, op: &huma.Operation{
		Method: http.MethodGet, Path: pathInbox, OperationID: "inbox", Tags: []string{"messages"}, Security: login,
		Summary: "Read messages",
		Description: "Without wait the answer comes at once (short poll), and is 304 when the ETag of the answer before is given and nothing is new. " +
			"With wait it is held until there is a message or the time is over (long poll); then it may be empty. " +
			"A newer poll or stream of the same device ends an older one, which is answered empty.",
		Parameters: []*huma.Param{after,
			{Name: "ack", In: "query", Schema: &huma.Schema{Type: "boolean", Default: true}, Description: "With false, after is only where to read on, and acknowledges nothing: for a reader who acknowledges by POST /v1/ack."},
			{Name: "wait", In: "query", Schema: &huma.Schema{Type: "string", Pattern: `^(\d+(\.\d+)?|(\d+(\.\d+)?(h|m|s|ms))+)$`}, Example: "60", Description: "How long to hold the request: seconds, or a duration like 1m30s. The server may hold it shorter, at most " + s.cfg.MaxWait.String() + "."},
			{Name: "limit", In: "query", Schema: &huma.Schema{Type: "integer", Minimum: new(float64(1)), Maximum: new(float64(s.cfg.MaxLimit)), Default: s.cfg.Limit}, Description: "How many messages to answer with at most."},
			deviceParam,
			{Name: "If-None-Match", In: "header", Schema: text(256), Description: "The ETag of the answer before."}},
		Responses: s.responses(map[string]*huma.Response{
			"200": s.json("What there is, possibly nothing.", s.schema(inboxShape{})),
			"304": {Description: "Nothing is new."},
		}, wire.BadQuery, wire.TokenInURL, wire.AckBeyond),
	}})
	s.handle(&route{serve: s.ack, op: &huma.Operation{
		Method: http.MethodPost, Path: pathAck, OperationID: "ack", Tags: []string{"messages"}, Security: login,
		Summary:     "Acknowledge messages",
		Description: "Moves the device's cursor: everything up to there has arrived and will not be given to it again. The cursor never moves back.",
		Parameters:  []*huma.Param{deviceParam},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
			Schema: s.schema(ackShape{}), Example: map[string]any{"seq": 42, "device": "http"}}}},
		Responses: s.responses(map[string]*huma.Response{"200": s.json("Acknowledged.", s.schema(ackedShape{}))},
			wire.BadJSON, wire.BadUTF8, wire.UnknownField, wire.MissingField, wire.BadField, wire.AckBeyond, wire.BadMediaType, wire.TooLarge, wire.BodySlow),
	}})
	s.handle(&route{serve: s.events, op: &huma.Operation{
		Method: http.MethodGet, Path: pathEvents, OperationID: "events", Tags: []string{"messages"}, Security: login,
		Summary: "Read messages as a stream of events",
		Description: "Server-Sent Events. The data of an event is a message as in the inbox, its id a next. Reconnecting with Last-Event-ID acknowledges up to there. " +
			"An event \"trimmed\" tells which places are gone; an event \"close\" says why the server ends the stream: replaced, draining, expired, removed.",
		Parameters: []*huma.Param{after, deviceParam,
			{Name: "signals", In: "query", Schema: &huma.Schema{Type: "boolean", Default: false}, Description: "With true, words of the moment come too, as events \"signal\" without an id: from, device, kind, and body or body64 if there is any."},
			{Name: "Last-Event-ID", In: "header", Schema: text(64), Description: "The id of the last event that has arrived; goes before after."}},
		Responses: s.responses(map[string]*huma.Response{"200": {Description: "The stream.", Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema: &huma.Schema{Type: "string"}, Example: "id: AQUe_pem\ndata: {\"seq\":5,\"prev\":4,…}\n\n"}}}},
			wire.BadQuery, wire.TokenInURL, wire.AckBeyond),
	}})
	s.handle(&route{serve: s.signal, op: &huma.Operation{
		Method: http.MethodPost, Path: pathSignals, OperationID: "signal", Tags: []string{"messages"}, Security: login,
		Summary: "Say a word of the moment",
		Description: "Typing, and what an application likes. It is told to who is connected now and takes such words, is kept nowhere and not repeated. " +
			"Who heard it is not told. A user may say a few in a second.",
		Parameters: []*huma.Param{deviceParam},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
			Schema: s.schema(signalShape{}), Example: map[string]any{"to": "bob", "kind": "composing"}}}},
		Responses: s.responses(map[string]*huma.Response{"204": {Description: "Said."}},
			wire.BadJSON, wire.BadUTF8, wire.UnknownField, wire.MissingField, wire.BadField, wire.BadRecipient, wire.RemoteDomain, wire.NoRecipient,
			wire.BadMediaType, wire.TooLarge, wire.BodySlow),
	}})
	s.handle(&route{serve: s.presence, op: &huma.Operation{
		Method: http.MethodGet, Path: pathPresence, OperationID: "presence", Tags: []string{"messages"}, Security: login,
		Summary:     "Which devices are connected",
		Description: "Your own, by which door and since when. Back ends and administrators may ask for anybody's.",
		Parameters:  []*huma.Param{user},
		Responses: s.responses(map[string]*huma.Response{"200": s.json("The sessions that are live now.", s.schema(wire.PresenceList{}))},
			wire.BadQuery, wire.TokenInURL, wire.Forbidden, wire.NoRecipient),
	}})
	s.handle(&route{serve: s.devices, op: &huma.Operation{
		Method: http.MethodGet, Path: pathDevices, OperationID: "devices", Tags: []string{"devices"}, Security: login,
		Summary:     "Your devices",
		Description: "Those that have a place in the mailbox, and those that are connected; the one seen last comes first. Back ends and administrators may ask for anybody's.",
		Parameters:  []*huma.Param{user},
		Responses: s.responses(map[string]*huma.Response{"200": s.json("The devices.", s.schema(wire.DeviceList{}))},
			wire.BadQuery, wire.TokenInURL, wire.Forbidden, wire.NoRecipient),
	}})
	s.handle(&route{serve: s.forget, op: &huma.Operation{
		Method: http.MethodDelete, Path: pathDevice, OperationID: "forget", Tags: []string{"devices"}, Security: login,
		Summary: "Remove a device",
		Description: "Its session ends, and its place in the mailbox and what it has cost are forgotten. If it comes back it is a new device. " +
			"Administrators may remove anybody's.",
		Parameters: []*huma.Param{ofPath, user},
		Responses: s.responses(map[string]*huma.Response{"204": {Description: "Removed."}},
			wire.BadQuery, wire.TokenInURL, wire.Forbidden, wire.NoRecipient, wire.NotFound, wire.CrossOrigin),
	}})
	s.handle(&route{serve: s.cost, op: &huma.Operation{
		Method: http.MethodGet, Path: pathCost, OperationID: "cost", Tags: []string{"devices"}, Security: login,
		Summary: "What a device has cost",
		Description: "Bytes, packets, wake-ups of the radio, heartbeats, connections and an estimate of the energy, since the device was first seen: in all, by way, " +
			"and for each of the last seven days on which there was something. Back ends and administrators may ask for anybody's.",
		Parameters: []*huma.Param{ofPath, user},
		Responses: s.responses(map[string]*huma.Response{"200": s.json("The account.", s.schema(wire.DeviceCost{}))},
			wire.BadQuery, wire.TokenInURL, wire.Forbidden, wire.NoRecipient, wire.NotFound),
	}})
	s.handle(&route{serve: s.networks, op: &huma.Operation{
		Method: http.MethodGet, Path: pathNetworks, OperationID: "networks", Tags: []string{"server"}, Security: login,
		Summary: "What devices found about their networks",
		Description: "For administrators. For each network the longest silence that a connection survived and the shortest that it did not, and how often a device " +
			"there is advised to speak, in seconds; the one heard of last comes first. A network is named by a hash of what its devices call it, or of the prefix of their addresses.",
		Responses: s.responses(map[string]*huma.Response{"200": s.json("The networks that are known.", s.schema(wire.NetworkList{}))}, wire.Forbidden),
	}})
	tagged := func(description string) *huma.Response {
		r := s.json(description, s.schema(wire.RuleList{}))
		r.Headers = map[string]*huma.Header{"ETag": {Description: "Names the rules as they are.", Schema: &huma.Schema{Type: "string"}}}
		return r
	}
	s.handle(&route{serve: s.rules, op: &huma.Operation{
		Method: http.MethodGet, Path: pathRules, OperationID: "rules", Tags: []string{"server"}, Security: login,
		Summary: "Who may use which MQTT topics",
		Description: "For administrators. The first rule that fits decides; those of the configuration come first. What no rule allows is refused, " +
			"but without any rule an account may use every plain topic.",
		Responses: s.responses(map[string]*huma.Response{"200": tagged("The rules in force.")}, wire.Forbidden, wire.NotFound),
	}})
	s.handle(&route{serve: s.setRules, op: &huma.Operation{
		Method: http.MethodPut, Path: pathRules, OperationID: "setRules", Tags: []string{"server"}, Security: login,
		Summary: "Replace the rules",
		Description: "For administrators. The whole list behind that of the configuration is replaced, or nothing is. With the answer the new rules are on disk and in force: " +
			"for what is published, and for what is subscribed to, before as well. Subscriptions that they do not allow end.",
		Parameters: []*huma.Param{{Name: "If-Match", In: "header", Required: true, Schema: text(256), Example: "\"1f0c94a3b27d5e88\"",
			Description: "The ETag of the rules that you have seen. If they are others now nothing is done. * replaces them whatever they are."}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
			Schema: s.schema(rulesShape{}), Example: map[string]any{"rules": []any{map[string]any{"users": []any{"meter"}, "publish": []any{"home/%u/%c/#"}}}}}}},
		Responses: s.responses(map[string]*huma.Response{"200": tagged("The rules now in force.")},
			wire.BadJSON, wire.BadUTF8, wire.UnknownField, wire.MissingField, wire.BadField, wire.Forbidden, wire.NotFound, wire.Changed, wire.MatchNeeded,
			wire.BadMediaType, wire.TooLarge, wire.BodySlow, wire.Unavailable),
	}})
	s.handle(&route{serve: s.checkRules, op: &huma.Operation{
		Method: http.MethodGet, Path: pathCheck, OperationID: "checkRules", Tags: []string{"server"}, Security: login,
		Summary: "What a client may do, and which rule says so",
		Description: "For administrators. About one topic or filter, or without either all rules for a client. The role is that of the account. " +
			"Topics under im/ are the user's own mail, and no rule is about them.",
		Parameters: []*huma.Param{
			{Name: "user", In: "query", Schema: text(mailbox.MaxName), Example: "meter", Description: "The account. Without one: a client that gives no user name."},
			{Name: "client", In: "query", Schema: text(mailbox.MaxName), Example: "7", Description: "The client identifier."},
			{Name: "publish", In: "query", Schema: text(65535), Example: "home/meter/7/power", Description: "A topic: may the client publish to it?"},
			{Name: "subscribe", In: "query", Schema: text(65535), Example: "home/#", Description: "A filter: may the client subscribe to it? Either this or publish."}},
		Responses: s.responses(map[string]*huma.Response{"200": s.json("The answer.", s.schema(wire.Access{}))},
			wire.BadQuery, wire.TokenInURL, wire.Forbidden, wire.NotFound),
	}})
	doc := &route{open: true, op: &huma.Operation{
		Method: http.MethodGet, Path: pathDocument, OperationID: "openapi", Tags: []string{"server"}, Security: []map[string][]string{},
		Summary: "This document",
		Responses: map[string]*huma.Response{"200": {Description: "OpenAPI 3.1.",
			Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: "object"}}}}},
	}}
	s.handle(doc)
	shapes := s.api.OpenAPI().Components.Schemas.Map()
	one := func(names ...string) (schemas []*huma.Schema) {
		for _, n := range names {
			schemas = append(schemas, &huma.Schema{Required: []string{n}})
		}
		return schemas
	}
	shapes["Draft"].OneOf = one("body", "body64")
	shapes["Ack"].OneOf = one("seq", "next")
	shapes["Signal"].Not = &huma.Schema{Required: []string{"body", "body64"}}
	doc.serve = s.document() // after all routes, so that it has itself too
}

func text(most int) *huma.Schema { return &huma.Schema{Type: "string", MaxLength: &most} }

// schema returns the schema of v's type, registered by its name.
func (s *Server) schema(v any) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v), true, "")
}

func (s *Server) json(description string, schema *huma.Schema) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
}

// responses adds to good the problems that a route may answer with, and those
// that every route may.
func (s *Server) responses(good map[string]*huma.Response, kinds ...wire.Kind) map[string]*huma.Response {
	kinds = append(kinds, wire.NotAuthorized, wire.TokenExpired, wire.Insecure, wire.CrossOrigin, wire.TooMany, wire.Internal)
	problem := s.schema(wire.Problem{})
	for _, k := range kinds {
		i := k.Info()
		status := itoa(i.Status)
		line := "`" + string(k) + "`: " + i.Title + "."
		if r := good[status]; r != nil {
			if !strings.Contains(r.Description, "`"+string(k)+"`") {
				r.Description += "\n" + line
			}
			continue
		}
		r := &huma.Response{Description: line, Content: map[string]*huma.MediaType{wire.ProblemType: {
			Schema: problem, Example: wire.NewProblem(k, "", "")}}}
		header := func(name, about string) {
			if r.Headers == nil {
				r.Headers = map[string]*huma.Header{}
			}
			r.Headers[name] = &huma.Param{Description: about, Schema: &huma.Schema{Type: "string"}}
		}
		switch {
		case i.Status == http.StatusUnauthorized:
			header("WWW-Authenticate", "Basic and Bearer; error=\"invalid_token\" when a token has expired.")
		case i.Retry > 0:
			header("Retry-After", "Seconds.")
		}
		good[status] = r
	}
	return good
}

// document is GET /v1/openapi.json.
func (s *Server) document() func(http.ResponseWriter, *http.Request) error {
	doc, err := s.api.OpenAPI().MarshalJSON()
	if err != nil {
		panic(err) // it is made of our own constants
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		ct := "application/openapi+json;version=3.1"
		if !strings.Contains(r.Header.Get("Accept"), "application/openapi+json") {
			ct = "application/json"
		}
		w.Header().Set("Content-Type", ct)
		w.Header().Set("Cache-Control", "no-cache")
		write(w, http.StatusOK, doc)
		return nil
	}
}
