package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/posthouse-im/posthouse/internal/certs"
	"github.com/posthouse-im/posthouse/internal/config"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/control"
	"github.com/posthouse-im/posthouse/internal/metrics"
	"github.com/posthouse-im/posthouse/internal/page"
	"github.com/posthouse-im/posthouse/keepalive"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport"
)

type serveCmd struct{ settings }

// Run serves until a signal says stop. A second one ends the process at once.
func (c *serveCmd) Run(ctx context.Context, p *program) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	log := newLog(cfg.Log, p.err)
	slog.SetDefault(log) // for what packages of others log
	for _, name := range config.UnknownEnv(p.environ) {
		log.Warn("environment variable means nothing here", "name", name)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process: the second signal may come late
		sig := <-signals
		log.Info("stopping; the same signal again stops at once", "signal", sig.String())
		cancel()
		sig = <-signals
		log.Warn("stopped at once", "signal", sig.String())
		os.Exit(1)
	}()
	return serve(ctx, cfg, log, p.out)
}

func newLog(c config.Log, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

var errDraining = errors.New("draining: the server is about to stop")

// serve opens everything, says so on out, and serves until ctx is cancelled or
// something fails that it cannot do without. When it returns nothing it
// started is left.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, out io.Writer) (err error) {
	began := time.Now()
	data, err := openData(cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }() // last, when no door is left

	cert, err := certs.Open(certs.Options{Cert: cfg.TLS.Cert, Key: cfg.TLS.Key, Dir: cfg.Data, Domain: cfg.Domain,
		Clients: certs.Clients(cfg.TLS.Clients), ClientCA: cfg.TLS.ClientCA, ClientCRL: cfg.TLS.ClientCRL,
		Refused: func(why error) { log.Warn("client certificate refused", "err", why) }})
	if err != nil {
		return err
	}
	// What belongs to the core outlives the doors.
	inner, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	core := &transport.Core{
		Mail: data.mail, Auth: data.auth, Engine: conn.New(conn.Config{Log: log}), Log: log,
		Router: router.New(inner, data.mail, data.auth, cfg.Domain),
		Costs:  data.costs,
	}
	core.Costs.Watch(core.Meters)
	core.Router.OnForget(core.Costs.Drop)
	table, err := keepalive.Open(ctx, data.mail, cfg.Keepalive)
	if err != nil {
		return err
	}
	core.Keepalive = table

	var background sync.WaitGroup
	var draining atomic.Bool
	ready := func() error {
		if draining.Load() {
			return errDraining
		}
		return data.mail.Ready()
	}
	d := newDoors(core, cfg, cert.Config(), cert.ForClients())
	core.Costs.Watch(d.mqtt.Meters) // clients that use plain topics alone
	data.auth.OnChange(func(user string) {
		core.Router.EndUser(user, router.Removed)
		d.mqtt.EndUser(user) // clients that use plain topics alone
	})
	if err := data.forget(ctx, d.xmpp.Forget, d.mqtt.Forget); err != nil {
		return err
	}
	listeners, err := d.listen(cfg.Listen)
	if err != nil {
		return err
	}
	defer listeners.close() // those that were never served

	// HTTP goes on while the others say goodbye, so that /readyz can say why.
	streams, stopStreams := context.WithCancelCause(inner)
	web, stopWeb := context.WithCancelCause(inner)
	defer stopStreams(nil)
	defer stopWeb(nil)
	d.mount(streams, ready, cfg.Pprof, page.Handler(listeners.site(cfg.Domain)), metrics.Handler(metrics.Sources{
		Version: version(), Ready: ready,
		Store: data.mail.Stats, Router: core.Router.Stats, Auth: data.auth.Stats, Networks: table.Summary, Costs: core.Costs.Totals,
		Doors: d.sources(), MQTT: d.mqttEvents, Bridges: d.mqtt.BridgeStats, Sensors: d.sensors,
	}))

	socket, err := control.Listen(cfg.Data)
	if err != nil {
		return err
	}
	defer socket.Close()
	commands := control.Server{Accounts: data.auth, Rules: d.mqtt.Rules(), Log: log, Status: func() control.Status {
		return listeners.status(control.Status{
			PID: os.Getpid(), Version: version(), Domain: cfg.Domain, Started: began, Accounts: data.auth.Stats().Accounts,
		}, core.Router)
	}}
	failed := make(chan error, len(listeners)+2)
	var streamDoors, webDoors sync.WaitGroup
	background.Go(func() { // ends with inner
		if err := commands.Serve(inner, socket); err != nil {
			failed <- err
		}
	})
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	background.Go(func() { cert.Watch(inner.Done(), hup, time.Minute, log) }) // ends with inner
	background.Go(func() { core.Costs.Run(inner) })                           // ends with inner
	background.Go(func() { giveBack(inner) })                                 // ends with inner
	for _, l := range listeners {
		ctx, wg := streams, &streamDoors
		if l.door == router.Poll {
			ctx, wg = web, &webDoors
		}
		wg.Go(func() { // ends with ctx
			if err := l.serve(ctx); err != nil {
				failed <- fmt.Errorf("%s: %w", l.Name, err)
			}
		})
	}

	streamDoors.Go(func() { // ends with streams
		if err := d.mqtt.Bridges(streams); err != nil {
			failed <- err
		}
	})

	if there := data.auth.Elsewhere(); there != "" {
		log.Warn("no account is of this domain", "domain", cfg.Domain, "accounts at", there)
	}
	listeners.print(out, cfg, cert)
	log.Info("serving", "domain", cfg.Domain, "data", cfg.Data, "accounts", data.auth.Stats().Accounts,
		"version", version(), "took", time.Since(began).Round(time.Millisecond))
	if err := notify("READY=1"); err != nil {
		log.Warn("the supervisor was not told", "err", err)
	}

	select {
	case <-ctx.Done():
	case err = <-failed:
		log.Error("stopping", "err", err)
	}
	draining.Store(true)
	if err := notify("STOPPING=1"); err != nil {
		log.Warn("the supervisor was not told", "err", err)
	}
	stopStreams(nil)
	streamDoors.Wait()
	stopWeb(nil)
	webDoors.Wait()
	err = errors.Join(err, core.Engine.Close())
	end()
	background.Wait()
	log.Info("stopped")
	return err
}

// listener is one address that is open.
type listener struct {
	config.Address
	door  router.Door
	ln    opened
	serve func(context.Context) error // closes ln
}

// opened is a listener, or a socket for datagrams.
type opened interface {
	Addr() net.Addr
	Close() error
}

// datagrams is a socket for them.
type datagrams struct{ *net.UDPConn }

func (d datagrams) Addr() net.Addr { return d.LocalAddr() }

type listeners []listener

func (ls listeners) close() {
	for _, l := range ls {
		l.ln.Close()
	}
}

// status adds to s what is open and who is there.
func (ls listeners) status(s control.Status, r *router.Router) control.Status {
	s.Open, s.Sessions = map[string]string{}, map[string]int64{}
	for _, l := range ls {
		s.Open[l.Name] = l.ln.Addr().String()
	}
	for _, d := range router.Doors() {
		s.Sessions[d.String()] = r.Stats(d).Sessions
	}
	return s
}

// site is what GET / tells.
func (ls listeners) site(domain string) page.Site {
	site := page.Site{Domain: domain, Version: version(), WebSockets: true}
	for _, l := range ls {
		site.Open = append(site.Open, page.Door{Name: l.Name, Addr: l.ln.Addr().String()})
	}
	return site
}

// print says what is open, for a person.
func (ls listeners) print(out io.Writer, cfg *config.Config, cert *certs.Source) {
	fmt.Fprintf(out, "Posthouse %s for the users of %s, data in %s\n\n", version(), cfg.Domain, cfg.Data)
	for _, l := range ls {
		fmt.Fprintf(out, "  %-9s %-22s %s\n", l.Name, l.ln.Addr(), page.Purpose(l.Name))
	}
	fmt.Fprintln(out)
	if file, made := cert.Made(); made {
		fmt.Fprintf(out, "The certificate is self-signed: %s\n", file)
	}
	if cfg.Insecure {
		fmt.Fprintln(out, "Insecure: passwords are taken without TLS.")
	}
	fmt.Fprintln(out, "Ready.")
}
