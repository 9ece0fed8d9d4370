package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"github.com/posthouse-im/posthouse/internal/config"
	"github.com/posthouse-im/posthouse/internal/metrics"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/link"
	"github.com/posthouse-im/posthouse/transport/mqtt"
	"github.com/posthouse-im/posthouse/transport/poll"
	"github.com/posthouse-im/posthouse/transport/xmpp"
)

// doors has the four of them.
type doors struct {
	tls  *tls.Config
	poll *poll.Server
	link *link.Server
	mqtt *mqtt.Server
	xmpp *xmpp.Server
}

// newDoors makes the doors. The listeners whose clients may log in by a
// certificate have asking, the others cert.
func newDoors(core *transport.Core, cfg *config.Config, cert, asking *tls.Config) *doors {
	x := cfg.XMPP
	x.TLS, x.Insecure = cert, cfg.Insecure
	m := cfg.MQTT
	m.Insecure = cfg.Insecure
	broker := mqtt.New(core, m)
	p := cfg.Poll
	p.Rules = broker.Rules()
	return &doors{
		tls:  asking,
		poll: poll.New(core, p),
		link: link.New(core, cfg.Link),
		mqtt: broker,
		xmpp: xmpp.New(core, x),
	}
}

// serve says which door is behind an address, and how it is served.
func (d *doors) serve(name string) (router.Door, func(context.Context, net.Listener) error) {
	with := func(serve func(context.Context, net.Listener, *tls.Config) error) func(context.Context, net.Listener) error {
		return func(ctx context.Context, ln net.Listener) error { return serve(ctx, ln, d.tls) }
	}
	switch name {
	case "http":
		return router.Poll, d.poll.Serve
	case "https":
		return router.Poll, with(d.poll.ServeTLS)
	case "mqtt":
		return router.MQTT, d.mqtt.Serve
	case "mqtts":
		return router.MQTT, with(d.mqtt.ServeTLS)
	case "xmpp":
		return router.XMPP, d.xmpp.Serve
	case "xmpps":
		return router.XMPP, d.xmpp.ServeTLS
	case "link", "link-quic":
		return router.Link, d.link.Serve
	case "links":
		return router.Link, with(d.link.ServeTLS)
	}
	panic("no door is called " + name)
}

// listen opens every address that is configured, or none.
func (d *doors) listen(l config.Listen) (listeners, error) {
	var ls listeners
	for _, a := range l.All() {
		l, err := d.open(a)
		if err != nil {
			ls.close()
			return nil, fmt.Errorf("%s: %w", a.Key, err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func (d *doors) open(a config.Address) (listener, error) {
	if a.Name == "mqtt-sn" {
		addr, err := net.ResolveUDPAddr("udp", a.Addr)
		if err != nil {
			return listener{}, err
		}
		pc, err := net.ListenUDP("udp", addr)
		if err != nil {
			return listener{}, err
		}
		pc.SetReadBuffer(4 << 20) // for many sensors at once; less will do, too
		serve := func(ctx context.Context) error { return d.mqtt.ServeSN(ctx, pc) }
		return listener{a, router.MQTT, datagrams{pc}, serve}, nil
	}
	ln, err := d.stream(a)
	if err != nil {
		return listener{}, err
	}
	door, serve := d.serve(a.Name)
	return listener{a, door, ln, func(ctx context.Context) error { return serve(ctx, ln) }}, nil
}

// stream listens for connections, over TCP or QUIC.
func (d *doors) stream(a config.Address) (net.Listener, error) {
	if a.Name != "link-quic" {
		return net.Listen("tcp", a.Addr)
	}
	pc, err := net.ListenPacket("udp", a.Addr)
	if err != nil {
		return nil, err
	}
	return d.link.QUIC(pc, d.tls)
}

// mount adds to HTTP what it serves beside the poll door. The WebSockets end
// with streams.
func (d *doors) mount(streams context.Context, ready func() error, pprof bool, front, counters http.Handler) {
	d.poll.Handle("GET /{$}", front)
	d.poll.Handle("GET /link", d.link.WebSocket(streams))
	d.poll.Handle("GET /mqtt", d.mqtt.WebSocket(streams))
	d.poll.Handle("GET /xmpp-websocket", d.xmpp.WebSocket(streams))
	d.poll.Handle("GET /metrics", counters)
	mux := http.NewServeMux()
	metrics.Health(mux, ready)
	d.poll.Handle("GET /healthz", mux)
	d.poll.Handle("GET /readyz", mux)
	if pprof {
		metrics.Pprof(mux)
		d.poll.Handle("/debug/pprof/", mux)
	}
}

// mqttEvents counts what happens at the MQTT door alone.
func (d *doors) mqttEvents() map[string]uint64 {
	st := d.mqtt.Stats()
	return map[string]uint64{"redirected": st.Redirected}
}

// sensors is the account of the gateway for MQTT-SN.
func (d *doors) sensors() metrics.Sensors {
	st := d.mqtt.Stats().SN
	return metrics.Sensors{Awake: st.Clients - st.Asleep, Asleep: st.Asleep, Events: map[string]uint64{
		"malformed": st.Malformed, "congested": st.Congested, "repeated": st.Repeated, "lost": st.Lost, "open": st.Open,
	}}
}

// sources says where the counters of the doors are.
func (d *doors) sources() map[router.Door]func() metrics.Door {
	return map[router.Door]func() metrics.Door{
		router.Poll: func() metrics.Door {
			st := d.poll.Stats()
			var refused, internal uint64
			for _, r := range st.Requests {
				refused += r.Class[4]
				internal += r.Class[5]
			}
			return metrics.Door{
				Connections: uint64(max(0, st.Conns)), BytesIn: st.BytesIn, BytesOut: st.BytesOut, Dropped: &st.Dropped,
				Errors: map[string]uint64{"refused": refused, "internal": internal},
			}
		},
		router.Link: func() metrics.Door {
			st := d.link.Stats()
			return metrics.Door{
				Engine: d.link.Account(), Dropped: &st.Dropped,
				Errors: map[string]uint64{"login": st.Denied, "refused": st.Refused, "protocol": st.Broken},
			}
		},
		router.MQTT: func() metrics.Door {
			st := d.mqtt.Stats()
			return metrics.Door{
				Engine: d.mqtt.Account(), Dropped: &st.Dropped,
				Errors: map[string]uint64{"refused": st.Refused},
			}
		},
		router.XMPP: func() metrics.Door {
			st := d.xmpp.Stats()
			return metrics.Door{
				Engine: d.xmpp.Account(), Dropped: &st.Dropped,
				Errors: map[string]uint64{"login": st.Failed, "protocol": st.StreamErrors},
			}
		},
	}
}
