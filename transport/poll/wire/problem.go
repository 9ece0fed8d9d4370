package wire

import "net/http"

// Kind names a problem. It is the last part of the problem's type URI, and
// stable: programs may decide by it.
type Kind string

// The kinds of problem, each with its HTTP status in [Kinds].
const (
	BadJSON       Kind = "bad-json"
	BadUTF8       Kind = "bad-utf8"
	UnknownField  Kind = "unknown-field"
	MissingField  Kind = "missing-field"
	BadField      Kind = "bad-field"
	BadQuery      Kind = "bad-query"
	TokenInURL    Kind = "token-in-url"
	BadRecipient  Kind = "bad-recipient"
	RemoteDomain  Kind = "remote-domain"
	NotAuthorized Kind = "not-authorized"
	TokenExpired  Kind = "token-expired"
	Insecure      Kind = "insecure"
	Forbidden     Kind = "forbidden"
	CrossOrigin   Kind = "cross-origin"
	NoRecipient   Kind = "unknown-recipient"
	NotFound      Kind = "not-found"
	BadMethod     Kind = "method-not-allowed"
	Conflict      Kind = "id-conflict"
	AckBeyond     Kind = "ack-beyond"
	Changed       Kind = "changed-meanwhile"
	MatchNeeded   Kind = "if-match-needed"
	BodySlow      Kind = "body-too-slow"
	TooLarge      Kind = "too-large"
	BadMediaType  Kind = "unsupported-media-type"
	TooMany       Kind = "too-many"
	Internal      Kind = "internal"
	Unavailable   Kind = "unavailable"
	Draining      Kind = "draining"
)

const (
	// ProblemType is the media type of a [Problem].
	ProblemType = "application/problem+json"

	urnPrefix = "urn:posthouse:problem:"
)

// KindInfo is what is the same for every problem of a kind.
type KindInfo struct {
	Kind   Kind
	Status int
	Title  string
	// Retry is what Retry-After says, in seconds; zero means that the same
	// request will not do better later.
	Retry int
}

// Kinds lists every kind of problem.
var Kinds = []KindInfo{
	{BadJSON, http.StatusBadRequest, "The body is not the JSON that is expected here", 0},
	{BadUTF8, http.StatusBadRequest, "The body is not UTF-8", 0},
	{UnknownField, http.StatusBadRequest, "There is no such field", 0},
	{MissingField, http.StatusBadRequest, "A field is missing", 0},
	{BadField, http.StatusBadRequest, "A field has a value that it may not have", 0},
	{BadQuery, http.StatusBadRequest, "A query parameter is unknown or has a value that it may not have", 0},
	{TokenInURL, http.StatusBadRequest, "Tokens are not taken in the URL", 0},
	{BadRecipient, http.StatusBadRequest, "The recipient is not an address", 0},
	{RemoteDomain, http.StatusUnprocessableEntity, "The recipient is at another server", 0},
	{NotAuthorized, http.StatusUnauthorized, "Not authorized", 0},
	{TokenExpired, http.StatusUnauthorized, "The token has expired", 0},
	{Insecure, http.StatusForbidden, "Passwords and tokens are taken only over TLS or from this machine", 0},
	{Forbidden, http.StatusForbidden, "Not allowed", 0},
	{CrossOrigin, http.StatusForbidden, "This web origin may not do that", 0},
	{NoRecipient, http.StatusNotFound, "There is no such recipient", 0},
	{NotFound, http.StatusNotFound, "There is nothing here", 0},
	{BadMethod, http.StatusMethodNotAllowed, "Not with this method", 0},
	{Conflict, http.StatusConflict, "The id was used before for another message", 0},
	{AckBeyond, http.StatusConflict, "That place does not exist yet", 0},
	{Changed, http.StatusPreconditionFailed, "It has been changed by somebody else", 0},
	{MatchNeeded, http.StatusPreconditionRequired, "What you have seen of it must be said", 0},
	{BodySlow, http.StatusRequestTimeout, "The body did not come in time", 0},
	{TooLarge, http.StatusRequestEntityTooLarge, "Too large", 0},
	{BadMediaType, http.StatusUnsupportedMediaType, "The body must be JSON, not compressed", 0},
	{TooMany, http.StatusTooManyRequests, "Too many attempts", 5},
	{Internal, http.StatusInternalServerError, "Internal error", 0},
	{Unavailable, http.StatusServiceUnavailable, "The store cannot write at present", 5},
	{Draining, http.StatusServiceUnavailable, "The server is going down", 1},
}

var kindInfo = func() map[Kind]KindInfo {
	m := make(map[Kind]KindInfo, len(Kinds))
	for _, k := range Kinds {
		m[k.Kind] = k
	}
	return m
}()

// Info returns what is the same for every problem of kind k.
func (k Kind) Info() KindInfo {
	if i, ok := kindInfo[k]; ok {
		return i
	}
	return KindInfo{k, http.StatusInternalServerError, "Internal error", 0}
}

// URI is the problem type of k.
func (k Kind) URI() string { return urnPrefix + string(k) }

// Problem is an error as RFC 9457 has it (section 3.1), with the field that it
// is about.
type Problem struct {
	Type   string `json:"type" doc:"Which kind of problem: urn:posthouse:problem: and a name that stays." example:"urn:posthouse:problem:unknown-recipient"`
	Title  string `json:"title" doc:"The kind in words." example:"There is no such recipient"`
	Status int    `json:"status" doc:"The HTTP status." example:"404"`
	Detail string `json:"detail,omitempty" doc:"What is the matter here." example:"no account bob@example.org"`
	Field  string `json:"field,omitempty" doc:"The field, query parameter or header that it is about." example:"messages[3].to"`
}

// NewProblem returns a problem of kind k.
func NewProblem(k Kind, field, detail string) *Problem {
	i := k.Info()
	return &Problem{Type: k.URI(), Title: i.Title, Status: i.Status, Detail: detail, Field: field}
}

func (p *Problem) Error() string {
	s := p.Title
	if p.Field != "" {
		s += ": " + p.Field
	}
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// Kind is the name at the end of p.Type, empty if it is none of ours.
func (p *Problem) Kind() Kind {
	if len(p.Type) <= len(urnPrefix) || p.Type[:len(urnPrefix)] != urnPrefix {
		return ""
	}
	return Kind(p.Type[len(urnPrefix):])
}
