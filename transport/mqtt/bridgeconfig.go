package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// Bridge is a connection that this server makes, as a client, to another
// broker, and over which plain topics are exchanged. It is not bound by the
// rules of ACL, and never carries a topic under im/.
type Bridge struct {
	// Name is what the bridge is called in logs, metrics and under
	// $SYS/broker/connection/. Its session is kept under this name.
	Name string
	// Address is the other broker: mqtt://host:1883, or mqtts://host:8883
	// with TLS; or over a WebSocket ws://host/mqtt and wss://host/mqtt.
	Address string
	// Version is 5 or 3.1.1; empty tries 5 first. With 3.1.1 the other broker
	// is told in mosquitto's way that this is a bridge, if it knows that.
	Version string
	// ClientID is the client identifier there. Default: made from Name and an
	// identifier of this server, and always the same.
	ClientID string
	// User is the user name there; empty means none.
	User string
	// PasswordFile is a file whose first line is the password.
	PasswordFile string
	// CA is a file with the certificates, PEM, that the other broker's must be
	// signed by. Default: those that the system trusts.
	CA string
	// Cert and Key are files with a client certificate and its private key, PEM.
	Cert, Key string
	// ServerName is the name that must stand in the other broker's certificate.
	// Default: the host in Address.
	ServerName string
	// CleanStart forgets, at each connection, the session at the other broker:
	// what was published there meanwhile is then lost.
	CleanStart bool
	// KeepAlive is how often something is said at least. Default 60s.
	KeepAlive time.Duration
	// Topics says what goes over. A topic T that a filter matches is called
	// local_prefix+T here and remote_prefix+T there. The first entry that fits a
	// message decides what becomes of it.
	Topics []BridgeTopic
}

// BridgeTopic is what goes over a bridge.
type BridgeTopic struct {
	// Filter is an MQTT topic filter.
	Filter string
	// Direction is in, from there to here; out, from here to there; or both.
	Direction string
	// QoS is the greatest QoS that messages go over with: 0, 1 or 2. Those at
	// QoS 0 are lost while the connection is down.
	QoS int `config:"qos"`
	// LocalPrefix stands before the topic here. It ends with a slash, usually.
	LocalPrefix string
	// RemotePrefix stands before the topic there.
	RemotePrefix string
}

func (t *BridgeTopic) in() bool  { return t.Direction != "out" }
func (t *BridgeTopic) out() bool { return t.Direction != "in" }

// CheckBridges finds what cannot be in the configuration of bridges, and the
// mistakes of all of them.
func CheckBridges(bridges []Bridge) error {
	var errs []error
	names := map[string]bool{}
	for i := range bridges {
		b := &bridges[i]
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("bridge %q: "+format, append([]any{b.Name}, args...)...))
		}
		if b.Name == "" || len(b.Name) > 64 || strings.ContainsAny(b.Name, "/+# ") || !packet.ValidText([]byte(b.Name)) {
			bad("a name of 1 to 64 bytes without /, +, # and spaces is wanted")
		}
		if names[b.Name] {
			bad("there are two of this name")
		}
		names[b.Name] = true
		b.check(bad)
	}
	return errors.Join(errs...)
}

func (b *Bridge) check(bad func(format string, args ...any)) {
	t, err := b.remote()
	if err != nil {
		bad("address: %w", err)
	} else if !t.secure && b.CA+b.Cert+b.Key+b.ServerName != "" {
		bad("ca, cert, key and server_name are for an address that begins with mqtts:// or wss://")
	}
	if (b.Cert == "") != (b.Key == "") {
		bad("cert and key belong together")
	}
	if b.Version != "" && b.Version != "5" && b.Version != "3.1.1" {
		bad("version: %q is neither 5 nor 3.1.1", b.Version)
	}
	if b.PasswordFile != "" && b.User == "" {
		bad("password_file without user")
	}
	if b.KeepAlive != 0 && (b.KeepAlive < time.Second || b.KeepAlive > 65535*time.Second) {
		bad("keep_alive: %s is not from 1s to 65535s", b.KeepAlive)
	}
	if !packet.ValidText([]byte(b.ClientID)) || !packet.ValidText([]byte(b.User)) {
		bad("client_id and user must be text without control characters")
	}
	if len(b.Topics) == 0 {
		bad("topics: there are none, so nothing would go over")
	}
	for _, t := range b.Topics {
		if t.Direction != "in" && t.Direction != "out" && t.Direction != "both" {
			bad("topic %q: direction %q is none of in, out and both", t.Filter, t.Direction)
		}
		if t.QoS < 0 || t.QoS > 2 {
			bad("topic %q: QoS %d is none of 0, 1 and 2", t.Filter, t.QoS)
		}
		for _, p := range [...]string{t.LocalPrefix, t.RemotePrefix} {
			if topic.HasWildcard(p) {
				bad("topic %q: prefix %q has a wildcard", t.Filter, p)
			}
			if share, _, err := topic.Parse(p + t.Filter); err != nil {
				bad("topic %q: %q is not a topic filter: %w", t.Filter, p+t.Filter, err)
			} else if share != "" {
				bad("topic %q: a shared subscription cannot go over a bridge", t.Filter)
			}
		}
		if isMail(t.LocalPrefix + t.Filter) {
			bad("topic %q: what is under im/ is users' mail and does not go over a bridge", t.LocalPrefix+t.Filter)
		}
		if t.in() && strings.HasPrefix(t.LocalPrefix+t.Filter, "$") {
			bad("topic %q: nobody publishes to topics that begin with $", t.LocalPrefix+t.Filter)
		}
	}
}

// tls reads the files, at each connection, so that they may be replaced. It is
// nil where there is no TLS.
func (b *Bridge) tls() (*tls.Config, error) {
	t, err := b.remote()
	if err != nil || !t.secure {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(t.addr)
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if b.ServerName != "" {
		c.ServerName = b.ServerName
	}
	if b.CA != "" {
		text, err := os.ReadFile(b.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: %s has no certificate", b.CA)
		}
	}
	if b.Cert != "" {
		cert, err := tls.LoadX509KeyPair(b.Cert, b.Key)
		if err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

func (b *Bridge) password() ([]byte, error) {
	if b.PasswordFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(b.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return []byte(strings.TrimSuffix(line, "\r")), nil
}
