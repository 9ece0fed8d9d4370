package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/link/quic"
	"github.com/posthouse-im/posthouse/client/mqtt"
	"github.com/posthouse-im/posthouse/client/poll"
	"github.com/posthouse-im/posthouse/client/xmpp"
	"github.com/posthouse-im/posthouse/internal/config"
)

// account says as whom, and by which way, to reach the server.
type account struct {
	As       string  `required:"" placeholder:"USER" help:"Whose mailbox it is."`
	Password *string `placeholder:"PW" env:"POSTHOUSE_PASSWORD" help:"The password; without it somebody at a terminal is asked, otherwise a line is read from standard input."`
	Token    string  `placeholder:"TOKEN" env:"POSTHOUSE_TOKEN" help:"A bearer token in place of a password."`
	Via      string  `default:"link" enum:"poll,mqtt,xmpp,link" help:"By which door: poll, mqtt, xmpp or link. Default link."`
	Device   string  `placeholder:"NAME" help:"The device that reads; each has its own place in the mailbox. Default: the door's own."`
}

// dialers has the four ways.
var dialers = map[string]func(context.Context, client.Options) (client.Mailbox, error){
	"poll": poll.Dial,
	"mqtt": mqtt.Dial,
	"xmpp": xmpp.Dial,
	"link": link.Dial,
}

// dial connects as a says, to the server that s finds.
func dial(ctx context.Context, p *program, s *settings, a account) (client.Mailbox, error) {
	src, err := s.sources(p)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Read(src)
	if err != nil {
		return nil, err
	}
	o, err := target(cfg, a.Via)
	if err != nil {
		return nil, err
	}
	o.User, o.Token, o.Device = a.As, a.Token, a.Device
	if o.Token == "" {
		if o.Password, err = password(p, a.Password, false); err != nil {
			return nil, err
		}
	}
	o.Log = slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	dial := dialers[a.Via]
	if strings.HasPrefix(o.Addr, quic.Scheme) {
		dial = quic.Dial
	}
	m, err := dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", a.Via, o.Addr, err)
	}
	return m, nil
}

// target says where the server listens for a way, as seen from here. TLS is
// used where the plain address is closed, or is on another machine and there
// is a choice, and QUIC where the link address says quic:// or is the only one.
func target(cfg *config.Config, via string) (client.Options, error) {
	l := cfg.Listen
	plain, secure := l.HTTP, l.HTTPS
	switch via {
	case "mqtt":
		plain, secure = l.MQTT, l.MQTTS
	case "xmpp":
		plain, secure = l.XMPP, l.XMPPS
	case "link":
		plain, secure = l.Link, l.Links
		over := ""
		if at, ok := strings.CutPrefix(plain, quic.Scheme); ok {
			over = at
		} else if plain == "" && secure == "" {
			over = l.LinkQUIC
		}
		if over != "" {
			over = reachable(over)
			return client.Options{Addr: quic.Scheme + over, TLS: clientTLS(over)}, nil
		}
	}
	plain, secure = reachable(plain), reachable(secure)
	addr, encrypted := plain, false
	if plain == "" || secure != "" && !config.Loopback(plain) {
		addr, encrypted = secure, true
	}
	if addr == "" {
		return client.Options{}, fmt.Errorf("the %s door is closed: no address for it in the flags, the environment or the file", via)
	}
	o := client.Options{Addr: addr}
	if encrypted {
		o.TLS = clientTLS(addr)
	} else if via == "xmpp" {
		o.StartTLS = clientTLS(addr)
	}
	if via == "poll" {
		scheme := "http"
		if encrypted {
			scheme = "https"
		}
		o.Addr = scheme + "://" + addr
	}
	return o, nil
}

// reachable turns an address to listen on into one to connect to.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// clientTLS trusts what the system trusts. On this machine it also takes the
// certificate that a server makes for itself: whoever could stand between us
// and a loopback address could read our memory as well.
func clientTLS(addr string) *tls.Config {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: config.Loopback(addr)}
}
