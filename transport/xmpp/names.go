package xmpp

// Namespaces, by the standard that defines them.
const (
	nsTLS        = "urn:ietf:params:xml:ns:xmpp-tls"        // RFC 6120, section 5
	nsSASL       = "urn:ietf:params:xml:ns:xmpp-sasl"       // RFC 6120, section 6
	nsBind       = "urn:ietf:params:xml:ns:xmpp-bind"       // RFC 6120, section 7
	nsSession    = "urn:ietf:params:xml:ns:xmpp-session"    // RFC 3921, section 3
	nsStreamErr  = "urn:ietf:params:xml:ns:xmpp-streams"    // RFC 6120, section 4.9
	nsStanzaErr  = "urn:ietf:params:xml:ns:xmpp-stanzas"    // RFC 6120, section 8.3
	nsRoster     = "jabber:iq:roster"                       // RFC 6121, section 2
	nsRosterVer  = "urn:xmpp:features:rosterver"            // RFC 6121, section 2.6
	nsDiscoInfo  = "http://jabber.org/protocol/disco#info"  // XEP-0030
	nsDiscoItems = "http://jabber.org/protocol/disco#items" // XEP-0030
	nsPrivate    = "jabber:iq:private"                      // XEP-0049
	nsVCard      = "vcard-temp"                             // XEP-0054
	nsChatStates = "http://jabber.org/protocol/chatstates"  // XEP-0085
	nsVersion    = "jabber:iq:version"                      // XEP-0092
	nsSHIM       = "http://jabber.org/protocol/shim"        // XEP-0131
	nsSM         = "urn:xmpp:sm:3"                          // XEP-0198
	nsPing       = "urn:xmpp:ping"                          // XEP-0199
	nsTime       = "urn:xmpp:time"                          // XEP-0202
	nsDelay      = "urn:xmpp:delay"                         // XEP-0203
	nsBoB        = "urn:xmpp:bob"                           // XEP-0231
	nsCarbons    = "urn:xmpp:carbons:2"                     // XEP-0280
	nsForward    = "urn:xmpp:forward:0"                     // XEP-0297
	nsHints      = "urn:xmpp:hints"                         // XEP-0334
	nsSID        = "urn:xmpp:sid:0"                         // XEP-0359
	nsBinding    = "urn:xmpp:sasl-cb:0"                     // XEP-0440
	nsLimits     = "urn:xmpp:stream-limits:0"               // XEP-0478
)
