package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
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
	Via      string  `default:"auto" enum:"auto,poll,mqtt,xmpp,link" help:"By which door: poll, mqtt, xmpp or link; or auto, which is link, and poll where that is closed. Default auto."`
	CA       string  `name:"ca" placeholder:"FILE" env:"POSTHOUSE_CA" help:"Use TLS, and believe the server whose certificate is in the file, or signed by one that is (PEM)."`
	Device   string  `placeholder:"NAME" help:"The device that reads; each has its own place in the mailbox. Default: the door's own, with auto that of link."`
}

// dialers has the four ways.
var dialers = map[string]func(context.Context, client.Options) (client.Mailbox, error){
	"poll": poll.Dial,
	"mqtt": mqtt.Dial,
	"xmpp": xmpp.Dial,
	"link": link.Dial,
}

// dial connects as a says, to the server that s finds. The mailbox outlives
// restarts of the server: it comes back by itself.
func dial(ctx context.Context, p *program, s *settings, a account) (client.Mailbox, error) {
	vias, who, err := find(p, s, a)
	if err != nil {
		return nil, err
	}
	var first error
	for _, v := range vias {
		dial := dialers[v.name]
		if strings.HasPrefix(v.o.Addr, quic.Scheme) {
			dial = quic.Dial
		}
		o := v.o
		o.User, o.Password, o.Token, o.Device, o.Log = who.User, who.Password, who.Token, who.Device, who.Log
		m, err := dial(ctx, o)
		if err == nil {
			return m, nil
		}
		if first == nil {
			first = v.failed(err)
		}
		var no *client.Closed
		if ctx.Err() != nil || errors.As(err, &no) {
			break
		}
	}
	return nil, first
}

// follow is dial for a reader, who besides changes doors when one is closed
// later on. It fails if there is no way in at first.
func follow(ctx context.Context, p *program, s *settings, a account) (client.Mailbox, error) {
	if a.Via != auto {
		return dial(ctx, p, s, a)
	}
	vias, who, err := find(p, s, a)
	if err != nil {
		return nil, err
	}
	var ways []client.Way
	for _, v := range vias {
		switch {
		case v.name == "poll":
			ways = append(ways, poll.Way(poll.Config{Options: v.o}))
		case strings.HasPrefix(v.o.Addr, quic.Scheme):
			ways = append(ways, link.Way(v.name, link.Config{Options: v.o, Dial: quic.Dialer(quic.Config{Options: v.o})}))
		default:
			ways = append(ways, link.Way(v.name, link.Config{Options: v.o}))
		}
	}
	begun := make(chan client.State, 1)
	cfg := client.Config{Ways: ways, User: who.User, Password: who.Password, Token: who.Token, Device: who.Device, Log: who.Log,
		OnState: func(st client.State) {
			if st.Phase == client.Connecting {
				return
			}
			select {
			case begun <- st:
			default: // it is what came first that counts
			}
		}}
	c, err := client.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	select {
	case st := <-begun:
		if st.Phase == client.Online {
			return c, nil
		}
		err = vias[0].failed(st.Err)
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.Close()
	return nil, err
}

// auto is link, and poll where that is closed.
const auto = "auto"

// via is a door and where it is.
type via struct {
	name string
	o    client.Options
	ca   string // the file of --ca
}

// failed says what was tried, and where the words of TLS do not, what helps.
func (v via) failed(err error) error {
	err = fmt.Errorf("%s at %s: %w", v.name, v.o.Addr, err)
	var unknown x509.UnknownAuthorityError
	switch {
	case !errors.As(err, &unknown):
		return err
	case v.ca != "":
		return fmt.Errorf("%w (it is not one of %s)", err, v.ca)
	}
	return fmt.Errorf("%w (--ca FILE says whom to believe)", err)
}

// find says which doors to try, in their order, and who asks.
func find(p *program, s *settings, a account) (vias []via, who client.Options, err error) {
	src, err := s.sources(p)
	if err != nil {
		return nil, who, err
	}
	cfg, err := config.Read(src)
	if err != nil {
		return nil, who, err
	}
	roots, err := authorities(a.CA)
	if err != nil {
		return nil, who, err
	}
	names := []string{a.Via}
	if a.Via == auto {
		names = automatic(cfg)
	}
	for _, name := range names {
		o, e := target(cfg, name, roots)
		if e == nil {
			vias = append(vias, via{name, o, a.CA})
		} else if err == nil {
			err = e
		}
	}
	if len(vias) == 0 {
		return nil, who, err
	}
	who = client.Options{User: a.As, Token: a.Token, Device: a.Device,
		Log: slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if a.Via == auto && who.Device == "" {
		who.Device = "link" // by whichever door: it is one reader
	}
	if who.Token == "" {
		if who.Password, err = password(p, a.Password, false); err != nil {
			return nil, who, err
		}
	}
	return vias, who, nil
}

// automatic says what auto is. Whoever says where link is, and not where HTTP
// is, does not mean whatever listens at HTTP's usual place.
func automatic(cfg *config.Config) []string {
	l, usual := cfg.Listen, config.Default().Listen
	moved := l.Link != usual.Link || l.Links != usual.Links || l.LinkQUIC != usual.LinkQUIC
	if moved && l.HTTP == usual.HTTP && l.HTTPS == usual.HTTPS {
		return []string{"link"}
	}
	return []string{"link", "poll"}
}

// authorities reads the certificates of a file; nil stands for the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("--ca: %s has no certificate in PEM", file)
	}
	return roots, nil
}

// target says where the server listens for a way, as seen from here. TLS is
// used where the plain address is closed, or is on another machine and there
// is a choice, or where there are roots to check it by, and QUIC where the link
// address says quic:// or is the only one.
func target(cfg *config.Config, via string, roots *x509.CertPool) (client.Options, error) {
	l := cfg.Listen
	plain, secure, flag := l.HTTP, l.HTTPS, "https"
	switch via {
	case "mqtt":
		plain, secure, flag = l.MQTT, l.MQTTS, "mqtts"
	case "xmpp":
		plain, secure, flag = l.XMPP, l.XMPPS, "xmpps"
	case "link":
		plain, secure, flag = l.Link, l.Links, "links"
		over := ""
		if at, ok := strings.CutPrefix(plain, quic.Scheme); ok {
			over = at
		} else if plain == "" && secure == "" {
			over = l.LinkQUIC
		}
		if over != "" {
			over = reachable(over)
			return client.Options{Addr: quic.Scheme + over, TLS: clientTLS(over, roots)}, nil
		}
	}
	plain, secure = reachable(plain), reachable(secure)
	addr, encrypted := plain, false
	if plain == "" || secure != "" && (roots != nil || !config.Loopback(plain)) {
		addr, encrypted = secure, true
	}
	if addr == "" {
		return client.Options{}, fmt.Errorf("the %s door is closed: no address for it in the flags, the environment or the file", via)
	}
	o := client.Options{Addr: addr}
	switch {
	case encrypted:
		o.TLS = clientTLS(addr, roots)
	case via == "xmpp":
		o.StartTLS = clientTLS(addr, roots)
	case roots != nil:
		return o, fmt.Errorf("--ca is for TLS, and the %s door at %s has none: give its address with --%s", via, addr, flag)
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

// clientTLS trusts roots, or else what the system trusts. On this machine it then
// also takes the certificate that a server makes for itself: whoever could stand
// between us and a loopback address could read our memory as well.
func clientTLS(addr string, roots *x509.CertPool) *tls.Config {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots, InsecureSkipVerify: roots == nil && config.Loopback(addr)}
}
