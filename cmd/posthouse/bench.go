package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/bench"
)

// benchCmd loads any server and says what it did.
type benchCmd struct {
	MQTT benchMQTT `cmd:"" help:"Load an MQTT server: this one or any other."`
	Link benchLink `cmd:"" help:"Load a Posthouse server over link."`

	Centrifuge benchCentrifuge `cmd:"" help:"Load a Centrifugo server, or its library, over WebSocket."`
}

// benchFlags are those of bench.Options.
type benchFlags struct {
	Target      string        `required:"" placeholder:"HOST:PORT" help:"The server: HOST:PORT over TCP, or tls://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, quic://HOST:PORT."`
	Scenario    string        `default:"pairs" enum:"pairs,fan,rate,idle,queue" help:"pairs: senders, each to a receiver of its own. fan: one sender to many. rate: pairs at a fixed rate, for the delay. idle: connections that say nothing, for the memory. queue: to receivers that are away. One of ${enum}."`
	N           int           `short:"n" help:"How many messages are to arrive in all; 0 is as many as fit into --time."`
	Time        time.Duration `default:"5s" help:"How long to run when -n is 0."`
	Pairs       int           `default:"50" help:"Pairs of sender and receiver."`
	Subscribers int           `default:"1000" help:"Receivers of the fan."`
	Connections int           `default:"15000" help:"Connections that idle."`
	Window      int           `help:"How many messages a sender runs ahead: by default 64 where they are acknowledged, else 1,000."`
	Rate        int           `default:"5000" help:"Messages a second in all, for --scenario=rate."`
	Size        int           `default:"64" help:"Bytes of a payload, at least 8."`
	PID         int           `name:"pid" help:"The server's process, for its processor time and memory."`
	User        string        `help:"Account to log in as; %%d stands for a number, so that each connection may have its own."`
	Password    string        `help:"Its password."`
	Accounts    int           `help:"How many accounts there are: numbers begin again after it."`
}

type benchMQTT struct {
	benchFlags
	QoS int `name:"qos" help:"Quality of service of the messages, 0 to 2."`
}

type benchLink struct{ benchFlags }

type benchCentrifuge struct{ benchFlags }

// Run measures once.
func (c *benchMQTT) Run(ctx context.Context, p *program) error {
	o := c.options()
	o.QoS = c.QoS
	return runBench(ctx, p, bench.MQTT{}, o)
}

// Run measures once.
func (c *benchLink) Run(ctx context.Context, p *program) error {
	return runBench(ctx, p, bench.Link{}, c.options())
}

// Run measures once.
func (c *benchCentrifuge) Run(ctx context.Context, p *program) error {
	return runBench(ctx, p, bench.Centrifuge{}, c.options())
}

func (f *benchFlags) options() bench.Options {
	return bench.Options{Target: f.Target, Scenario: f.Scenario, N: f.N, Time: f.Time, Pairs: f.Pairs, Subscribers: f.Subscribers,
		Connections: f.Connections, Window: f.Window, Rate: f.Rate, Size: f.Size, PID: bench.Process(f.PID), User: f.User, Password: f.Password, Accounts: f.Accounts}
}

// runBench prints the result as a table, and as a line of JSON for programs.
func runBench(ctx context.Context, p *program, proto bench.Protocol, o bench.Options) error {
	r, err := bench.Run(ctx, proto, o)
	if err != nil {
		return err
	}
	if err := bench.WriteTable(p.out, []bench.Result{r}); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "%s\n", b)
	return nil
}
