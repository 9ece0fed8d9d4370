package config

import (
	"encoding"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/transport/mqtt"
)

// Address is one address to listen on.
type Address struct {
	// Key is the option that sets it.
	Key string
	// Name is what it is called, "mqtts".
	Name string
	Addr string
}

// All lists the addresses that are not empty, in the order of the fields.
func (l Listen) All() []Address {
	var all []Address
	for _, a := range []Address{
		{"listen.http", "http", l.HTTP}, {"listen.https", "https", l.HTTPS},
		{"listen.mqtt", "mqtt", l.MQTT}, {"listen.mqtts", "mqtts", l.MQTTS},
		{"listen.mqtt_sn", "mqtt-sn", l.MQTTSN},
		{"listen.xmpp", "xmpp", l.XMPP}, {"listen.xmpps", "xmpps", l.XMPPS},
		{"listen.link", "link", l.Link}, {"listen.links", "links", l.Links},
		{"listen.link_quic", "link-quic", l.LinkQUIC},
	} {
		if a.Addr != "" {
			all = append(all, a)
		}
	}
	return all
}

// Check finds what cannot be, before anything is opened.
func (c *Config) Check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("config: "+format, args...))
	}
	if c.Data == "" {
		bad("data: a directory is wanted")
	}
	if _, err := address.ParseDomain(c.Domain); err != nil {
		bad("domain: %q is not a domain", c.Domain)
	}
	for _, o := range Options() {
		// What a number below zero means, if anything, its comment says.
		v := o.value(c)
		_, words := v.Addr().Interface().(encoding.TextUnmarshaler)
		if v.CanInt() && v.Int() < 0 && !words && !strings.Contains(o.Doc, "negative") {
			bad("%s: %s is less than 0", o.Key, show(v))
		}
	}
	if c.Listen.XMPPS2S != "" {
		bad("listen.xmpp_s2s: this version does not federate with other XMPP servers; leave it empty")
	}
	open := c.Listen.All()
	if len(open) == 0 {
		bad("listen: every address is empty, so nobody could come in")
	}
	for _, a := range open {
		if _, _, err := net.SplitHostPort(a.Addr); err != nil {
			bad("%s: %q is not host:port", a.Key, a.Addr)
		} else if c.Insecure && !Loopback(a.Addr) {
			bad("insecure: refused, since %s (%s) can be reached from other machines", a.Addr, a.Key)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls: cert and key belong together")
	}
	if clients, err := certs.ParseClients(c.TLS.Clients); err != nil {
		bad("tls.clients: %q is neither off, optional nor required", c.TLS.Clients)
	} else if (clients == certs.Off) != (c.TLS.ClientCA == "") {
		bad("tls: clients and client_ca belong together")
	}
	if c.TLS.ClientCRL != "" && c.TLS.ClientCA == "" {
		bad("tls.client_crl: whose lists? tls.client_ca is empty")
	}
	if c.MQTT.Redirect.Moved && c.MQTT.Redirect.Server == "" {
		bad("mqtt.redirect.moved: where to? mqtt.redirect.server is empty")
	}
	if q := *c.MQTT.MaxQoS; q < 0 || q > 2 {
		bad("mqtt.max_qos: %d is none of 0, 1 and 2", q)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format: %q is neither text nor json", c.Log.Format)
	}
	if err := acl.Check(c.MQTT.ACL, c.Domain); err != nil {
		bad("mqtt.acl: %w", err)
	}
	if err := mqtt.CheckBridges(c.MQTT.Bridges); err != nil {
		bad("mqtt.bridges: %w", err)
	}
	return errors.Join(errs...)
}

// Loopback reports whether addr, host:port, is reached from this machine alone.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
