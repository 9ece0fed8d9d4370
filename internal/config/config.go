// Package config is the configuration of the server, from one source: the
// fields of [Config] and the comments on them. From these come the keys of the
// YAML file, the environment variables, the texts of --help and the sample
// file packaging/posthouse.yaml, so that none of them can be out of date.
//
//	field                 key in the file       environment                   flag
//	Data                  data                  POSTHOUSE_DATA                --data
//	Listen.HTTP           listen.http           POSTHOUSE_HTTP                --http
//	MQTT.MaxKeepalive     mqtt.max_keepalive    POSTHOUSE_MQTT_MAX_KEEPALIVE  --set mqtt.max_keepalive=…
//
// A flag goes before the environment, that before the file, and that before
// the default. A key that does not exist is refused with its name and line.
//
// After a change of a field or a comment run go generate in this directory.
package config

//go:generate go test -run TestGenerated -rewrite .

import (
	"log/slog"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/mqtt"
	"github.com/posthouse-im/posthouse/transport/poll"
	"github.com/posthouse-im/posthouse/transport/xmpp"
)

// Config is everything that can be set.
type Config struct {
	// Data is the directory that holds everything the server keeps: messages,
	// accounts, the generated certificate. It is made if it is not there.
	Data string
	// Domain is the part of the users' addresses behind the @.
	Domain string
	// Insecure allows passwords without TLS, for trying things out. It is
	// refused when an address to listen on can be reached from another machine.
	Insecure bool

	// Listen has the addresses to listen on, as host:port. Without a host it
	// is every interface of the machine. Empty turns that one off.
	Listen Listen `config:"inline"`

	// TLS is the certificate for everything that is encrypted.
	TLS TLS

	// Limits bound what a message may hold, and how many devices an account may have.
	Limits mailbox.Limits

	// Retention says how long messages are kept in a box, whether somebody has
	// read them or not.
	Retention mailbox.Retention

	// Store is the engine that keeps the messages.
	Store pebble.Options

	// Auth says how logins are checked.
	Auth auth.Config

	// Keepalive says how silent connections may be, and what is remembered of
	// how long networks allow them to be.
	Keepalive keepalive.Config

	// Poll is the HTTP door.
	Poll poll.Config

	// Link is the long connection.
	Link link.Config

	// MQTT is the door for MQTT clients.
	MQTT mqtt.Config

	// XMPP is the door for XMPP clients.
	XMPP xmpp.Config

	// Log says what is written to standard error.
	Log Log

	// Pprof serves Go's profiles at /debug/pprof/ of the HTTP address. Whoever
	// can reach that address can read them.
	Pprof bool
}

// Listen has an address for each way in.
type Listen struct {
	// HTTP serves the poll door, the WebSockets of the others at /mqtt,
	// /xmpp-websocket and /link, and /metrics, /healthz and /readyz.
	HTTP string
	// HTTPS is the same with TLS, and HTTP/2.
	HTTPS string
	// MQTT is MQTT over TCP.
	MQTT string
	// MQTTS is MQTT over TLS.
	MQTTS string
	// MQTTSN is MQTT-SN over UDP, for sensors. They have no passwords: see
	// mqtt.sn.accounts. Default: none.
	MQTTSN string `config:"mqtt_sn"`
	// XMPP is XMPP with STARTTLS.
	XMPP string
	// XMPPS is XMPP with TLS from the first byte.
	XMPPS string
	// XMPPS2S is where other XMPP servers would come in; it must be empty, since
	// this version does not federate.
	XMPPS2S string `config:"xmpp_s2s"`
	// Link is the long connection over TCP.
	Link string
	// Links is the long connection over TLS.
	Links string
	// LinkQUIC is the long connection over QUIC, on UDP: a phone that changes
	// its network keeps its session. Firewalls must let UDP through to it.
	LinkQUIC string
}

// TLS names the files of a certificate.
type TLS struct {
	// Cert is a file with the certificate and its chain, PEM. It is read again
	// when it changes, and at SIGHUP. Without one the server makes a
	// certificate of its own, signed by nobody, and keeps it in the data
	// directory.
	Cert string
	// Key is the file with the certificate's private key, PEM.
	Key string
	// Clients says whether clients at listen.https, mqtts and links are asked
	// for a certificate of their own: off, optional (one that is given must be
	// good, others log in as always) or required. It names the account that
	// they are: see auth.certificate_name. Default off.
	Clients string
	// ClientCA is a file with the authorities that sign clients' certificates,
	// PEM, read when the server starts. Take one that signs for nothing else:
	// whoever it signs for logs in.
	ClientCA string
	// ClientCRL is a file with the lists of certificates that these authorities
	// have revoked, PEM, one list of each. It is read again when it changes, and
	// at SIGHUP. A client whose certificate is on one is refused, as is each of
	// an authority whose list is out of date. Without a file none is asked for.
	ClientCRL string
}

// Log says what is logged, and how.
type Log struct {
	// Format is text or json.
	Format string
	// Level is debug, info, warn or error. At debug-4 frames are shown, at
	// debug-8 what is in them, too.
	Level slog.Level
}

// Default returns what is in force where nothing else is said.
func Default() Config {
	return Config{
		Data:   "./posthouse-data",
		Domain: "localhost",
		Listen: Listen{
			HTTP: "127.0.0.1:8080",
			MQTT: "127.0.0.1:1883",
			XMPP: "127.0.0.1:5222",
			Link: "127.0.0.1:7400",
		},
		MQTT: mqtt.Config{MaxQoS: new(2), RetainAvailable: new(true)},
		Log:  Log{Format: "text"},
	}
}
