// Package stream is the restricted XML of XMPP (RFC 6120, section 11.1) as a
// pure codec: a [Scanner] finds and checks the next whole stanza in the
// caller's buffer, an [Element] looks into bytes that were checked, and the
// Append functions write.
//
//	bytes ──▶ Scanner.Next ──▶ Skip, Open, Stanza, Close
//	                              │
//	                   Element ◀──┘   views, no tree, no copies
//
// Bytes are passed on as they came: tokens are never parsed and written anew,
// since that is where injected elements come from. So the scanner must refuse
// everything that any reader's parser would refuse, in one pass, without
// recursion, and within limits that are counted as bytes arrive.
//
// What is refused, beyond what is not well-formed XML with namespaces:
// comments, processing instructions, document types and their entities;
// character references to what is no XML character; encodings other than
// UTF-8; names outside ASCII, on which the editions of XML disagree; prefixes
// declared in the stream header, which would be unbound at the next reader.
package stream

// Condition is a stream error in the words of RFC 6120, section 4.9.3.
type Condition string

// The conditions that the scanner and its callers use.
const (
	BadFormat           Condition = "bad-format"
	BadNamespacePrefix  Condition = "bad-namespace-prefix"
	Conflict            Condition = "conflict"
	ConnectionTimeout   Condition = "connection-timeout"
	HostUnknown         Condition = "host-unknown"
	InternalServerError Condition = "internal-server-error"
	InvalidFrom         Condition = "invalid-from"
	InvalidNamespace    Condition = "invalid-namespace"
	InvalidXML          Condition = "invalid-xml"
	NotAuthorized       Condition = "not-authorized"
	NotWellFormed       Condition = "not-well-formed"
	PolicyViolation     Condition = "policy-violation"
	ResourceConstraint  Condition = "resource-constraint"
	RestrictedXML       Condition = "restricted-xml"
	SystemShutdown      Condition = "system-shutdown"
	UnsupportedEncoding Condition = "unsupported-encoding"
	UnsupportedStanza   Condition = "unsupported-stanza-type"
	UnsupportedVersion  Condition = "unsupported-version"
)

func (c Condition) Error() string { return "xmpp: " + string(c) }

// Limits bounds what a stream may hold. They are counted as bytes arrive.
type Limits struct {
	Bytes    int // of one stanza
	Elements int // in one stanza
	Depth    int // of nested elements, the stanza itself being the first
	Attrs    int // of one element, namespace declarations included
	// Sum makes Bytes and Elements count over all stanzas together: what
	// somebody may send who has not logged in yet.
	Sum bool
}

// The limits before and after authentication.
var (
	Before = Limits{Bytes: 8 << 10, Elements: 32, Depth: 16, Attrs: 32, Sum: true}
	After  = Limits{Bytes: 256 << 10, Elements: 10000, Depth: 64, Attrs: 64}
)

// Names of namespaces that the codec itself must know.
const (
	NSXML     = "http://www.w3.org/XML/1998/namespace"
	NSXMLNS   = "http://www.w3.org/2000/xmlns/"
	NSStreams = "http://etherx.jabber.org/streams"
	NSClient  = "jabber:client"
	NSFraming = "urn:ietf:params:xml:ns:xmpp-framing"
)
