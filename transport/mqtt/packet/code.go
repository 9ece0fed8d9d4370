package packet

import "fmt"

// Code is a reason code, MQTT 5.0 section 2.4. Values from 0x80 on are failures.
type Code byte

const (
	Success                     Code = 0x00 // also: normal disconnection, granted QoS 0
	GrantedQoS1                 Code = 0x01
	GrantedQoS2                 Code = 0x02
	DisconnectWithWill          Code = 0x04
	NoMatchingSubscribers       Code = 0x10
	NoSubscriptionExisted       Code = 0x11
	ContinueAuthentication      Code = 0x18
	ReAuthenticate              Code = 0x19
	UnspecifiedError            Code = 0x80
	MalformedPacket             Code = 0x81
	ProtocolError               Code = 0x82
	ImplementationSpecificError Code = 0x83
	UnsupportedVersion          Code = 0x84
	ClientIDNotValid            Code = 0x85
	BadUserNameOrPassword       Code = 0x86
	NotAuthorized               Code = 0x87
	ServerUnavailable           Code = 0x88
	ServerBusy                  Code = 0x89
	Banned                      Code = 0x8A
	ServerShuttingDown          Code = 0x8B
	BadAuthenticationMethod     Code = 0x8C
	KeepAliveTimeout            Code = 0x8D
	SessionTakenOver            Code = 0x8E
	TopicFilterInvalid          Code = 0x8F
	TopicNameInvalid            Code = 0x90
	PacketIDInUse               Code = 0x91
	PacketIDNotFound            Code = 0x92
	ReceiveMaximumExceeded      Code = 0x93
	TopicAliasInvalid           Code = 0x94
	PacketTooLarge              Code = 0x95
	MessageRateTooHigh          Code = 0x96
	QuotaExceeded               Code = 0x97
	AdministrativeAction        Code = 0x98
	PayloadFormatInvalid        Code = 0x99
	RetainNotSupported          Code = 0x9A
	QoSNotSupported             Code = 0x9B
	UseAnotherServer            Code = 0x9C
	ServerMoved                 Code = 0x9D
	SharedNotSupported          Code = 0x9E
	ConnectionRateExceeded      Code = 0x9F
	MaximumConnectTime          Code = 0xA0
	SubscriptionIDsNotSupported Code = 0xA1
	WildcardsNotSupported       Code = 0xA2
)

var codeNames = map[Code]string{
	Success: "success", GrantedQoS1: "granted QoS 1", GrantedQoS2: "granted QoS 2",
	DisconnectWithWill: "disconnect with will message", NoMatchingSubscribers: "no matching subscribers",
	NoSubscriptionExisted: "no subscription existed", ContinueAuthentication: "continue authentication",
	ReAuthenticate: "re-authenticate", UnspecifiedError: "unspecified error", MalformedPacket: "malformed packet",
	ProtocolError: "protocol error", ImplementationSpecificError: "implementation specific error",
	UnsupportedVersion: "unsupported protocol version", ClientIDNotValid: "client identifier not valid",
	BadUserNameOrPassword: "bad user name or password", NotAuthorized: "not authorized",
	ServerUnavailable: "server unavailable", ServerBusy: "server busy", Banned: "banned",
	ServerShuttingDown: "server shutting down", BadAuthenticationMethod: "bad authentication method",
	KeepAliveTimeout: "keep alive timeout", SessionTakenOver: "session taken over",
	TopicFilterInvalid: "topic filter invalid", TopicNameInvalid: "topic name invalid",
	PacketIDInUse: "packet identifier in use", PacketIDNotFound: "packet identifier not found",
	ReceiveMaximumExceeded: "receive maximum exceeded", TopicAliasInvalid: "topic alias invalid",
	PacketTooLarge: "packet too large", MessageRateTooHigh: "message rate too high", QuotaExceeded: "quota exceeded",
	AdministrativeAction: "administrative action", PayloadFormatInvalid: "payload format invalid",
	RetainNotSupported: "retain not supported", QoSNotSupported: "QoS not supported",
	UseAnotherServer: "use another server", ServerMoved: "server moved",
	SharedNotSupported: "shared subscriptions not supported", ConnectionRateExceeded: "connection rate exceeded",
	MaximumConnectTime: "maximum connect time", SubscriptionIDsNotSupported: "subscription identifiers not supported",
	WildcardsNotSupported: "wildcard subscriptions not supported",
}

func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("0x%02x", byte(c))
}

// Failed reports whether c says no.
func (c Code) Failed() bool { return c >= 0x80 }

// Code3 is a return code of CONNACK in 3.1 and 3.1.1, section 3.2.2.3.
type Code3 byte

const (
	Accepted3            Code3 = 0
	UnacceptableVersion3 Code3 = 1
	IdentifierRejected3  Code3 = 2
	ServerUnavailable3   Code3 = 3
	BadUserOrPassword3   Code3 = 4
	NotAuthorized3       Code3 = 5
)

func (c Code3) String() string {
	switch c {
	case Accepted3:
		return Success.String()
	case UnacceptableVersion3:
		return UnsupportedVersion.String()
	case IdentifierRejected3:
		return ClientIDNotValid.String()
	case ServerUnavailable3:
		return ServerUnavailable.String()
	case BadUserOrPassword3:
		return BadUserNameOrPassword.String()
	case NotAuthorized3:
		return NotAuthorized.String()
	}
	return fmt.Sprintf("0x%02x", byte(c))
}

// For3 translates a reason code of CONNACK. What 3.1.1 has no code for is
// ok false: the connection is then closed without a word.
func (c Code) For3() (c3 Code3, ok bool) {
	switch c {
	case Success:
		return Accepted3, true
	case UnsupportedVersion:
		return UnacceptableVersion3, true
	case ClientIDNotValid:
		return IdentifierRejected3, true
	case ServerUnavailable, ServerBusy, ServerShuttingDown, ConnectionRateExceeded, QuotaExceeded, UseAnotherServer, ServerMoved:
		return ServerUnavailable3, true
	case BadUserNameOrPassword:
		return BadUserOrPassword3, true
	case NotAuthorized, Banned:
		return NotAuthorized3, true
	}
	return 0, false
}

// valid lists the reason codes that a type of packet may carry, from either side.
//
//	"sending the ... packet MUST use one of the ... Reason Codes" [MQTT-3.4.2-1]
//	and its like for the other packets.
func (c Code) valid(t Type) bool {
	switch t {
	case CONNACK:
		switch c {
		case Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError,
			UnsupportedVersion, ClientIDNotValid, BadUserNameOrPassword, NotAuthorized, ServerUnavailable,
			ServerBusy, Banned, BadAuthenticationMethod, TopicNameInvalid, PacketTooLarge, QuotaExceeded,
			PayloadFormatInvalid, RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved,
			ConnectionRateExceeded:
			return true
		}
	case PUBACK, PUBREC:
		switch c {
		case Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicNameInvalid, PacketIDInUse, QuotaExceeded, PayloadFormatInvalid:
			return true
		}
	case PUBREL, PUBCOMP:
		return c == Success || c == PacketIDNotFound
	case SUBACK:
		switch c {
		case Success, GrantedQoS1, GrantedQoS2, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicFilterInvalid, PacketIDInUse, QuotaExceeded, SharedNotSupported, SubscriptionIDsNotSupported,
			WildcardsNotSupported:
			return true
		}
	case UNSUBACK:
		switch c {
		case Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicFilterInvalid, PacketIDInUse:
			return true
		}
	case DISCONNECT:
		switch c {
		case Success, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError,
			ImplementationSpecificError, NotAuthorized, ServerBusy, ServerShuttingDown, KeepAliveTimeout,
			SessionTakenOver, TopicFilterInvalid, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid,
			PacketTooLarge, MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid,
			RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved, SharedNotSupported,
			ConnectionRateExceeded, MaximumConnectTime, SubscriptionIDsNotSupported, WildcardsNotSupported:
			return true
		}
	case AUTH:
		return c == Success || c == ContinueAuthentication || c == ReAuthenticate
	}
	return false
}
