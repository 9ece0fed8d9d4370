// Package bench loads a server and says what it did: messages per second,
// processor time of the server per message, delay, memory per connection.
//
// It speaks standard protocols to an address and imports nothing of the
// server, so that it measures any other server in the same way, in the same
// run. What it tells of the server's processor time and memory comes from
// /proc; the load generator's own is not counted.
//
//	pairs   -pairs senders, each to a receiver of its own
//	fan     one sender, -subscribers receivers of the same messages
//	rate    pairs at a fixed rate: the delay of each message
//	idle    -connections that say nothing: memory
//	queue   senders to receivers that are away: what a durable session costs
//
// A sender runs ahead of its receivers by a bounded number of messages, so
// that no server is made to drop any, and the rate is that of deliveries.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what to measure. A zero field means its default.
type Options struct {
	// Target is host:port, which is TCP, or tls://host:port, quic://host:port,
	// ws://host:port/path or wss://host:port/path.
	Target string
	// Scenario is pairs, fan, rate, idle or queue. Default pairs.
	Scenario string
	// QoS of MQTT messages, 0 to 2.
	QoS int
	// N is how many messages are to be delivered in all; 0 means as many as
	// fit into Time.
	N int
	// Time is how long to run when N is 0. Default 5 s.
	Time time.Duration
	// Pairs of sender and receiver. Default 50.
	Pairs int
	// Subscribers of the fan. Default 1,000.
	Subscribers int
	// Connections that idle. Default 15,000.
	Connections int
	// Settle is how long a server with idle connections is watched: one that
	// collects garbage returns memory some time after a burst of logins.
	// Default 30 s.
	Settle time.Duration
	// Window is how many messages a sender runs ahead. Default 64 where
	// messages are acknowledged, else 1,000.
	Window int
	// Rate is messages per second in all, for the scenario rate. Default 5,000.
	Rate int
	// Size of a payload in bytes. Default 64, at least 8.
	Size int
	// PID is the server's process, for its processor time and memory.
	PID Process
	// User and Password are tried at login; %d stands for a number, so that
	// each may have an account of its own: the connection's for MQTT; for
	// link, where accounts are what messages are sent to, twice the lane's for
	// receivers and one more for its sender.
	User, Password string
	// Accounts is how many there are: numbers begin again after it, and
	// connections of one account differ by device. 0 is one for each number.
	Accounts int
}

// account fills number n into the user's name.
func (o *Options) account(n int) string {
	if o.Accounts > 0 {
		n %= o.Accounts
	}
	return strings.ReplaceAll(o.User, "%d", strconv.Itoa(n))
}

func (o *Options) setDefaults(acked bool) {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if o.Scenario == "" {
		o.Scenario = "pairs"
	}
	if o.N == 0 && o.Time == 0 {
		o.Time = 5 * time.Second
	}
	def(&o.Pairs, 50)
	def(&o.Subscribers, 1000)
	def(&o.Connections, 15000)
	if o.Settle == 0 {
		o.Settle = 30 * time.Second
	}
	def(&o.Rate, 5000)
	def(&o.Size, 64)
	o.Size = max(o.Size, stampSize)
	if acked {
		def(&o.Window, 64)
	} else {
		def(&o.Window, 1000)
	}
}

// Result is what was measured. Fields that the scenario does not measure are zero.
type Result struct {
	Target      string        `json:"target"`
	Protocol    string        `json:"protocol"`
	Scenario    string        `json:"scenario"`
	QoS         int           `json:"qos"`
	Connections int           `json:"connections"`
	Messages    int64         `json:"messages"`             // delivered; in queue, acknowledged
	Seconds     float64       `json:"seconds"`              //
	PerSecond   float64       `json:"per_second"`           //
	CPU         time.Duration `json:"cpu_ns"`               // of the server, per message
	P50         time.Duration `json:"p50_ns"`               //
	P99         time.Duration `json:"p99_ns"`               //
	P999        time.Duration `json:"p999_ns"`              //
	PerConn     int64         `json:"bytes_per_connection"` // resident growth
	Resident    int64         `json:"resident_bytes"`
}

// A Protocol is a way to speak to a server.
type Protocol interface {
	Name() string
	// Acked reports whether senders hear when a message has been taken.
	Acked(o *Options) bool
	// Target is the name that the receivers of a lane are sent to by.
	Target(o *Options, lane int) string
	// Dial connects.
	Dial(ctx context.Context, o *Options, s Seat) (Conn, error)
}

// Seat is the place of a connection in the run.
type Seat struct {
	Number int // of the connection, from 0
	Lane   int // of its sender and receivers
	Role   Role
}

// Role is what a connection is for.
type Role int

// The roles.
const (
	Sender Role = iota
	Receiver
	Idle
	Away // a receiver with a durable session that disconnects before the load
)

// Conn is one connection of the load. Send is called from one goroutine,
// Receive from another.
type Conn interface {
	// Subscribe asks for the messages sent to name, and waits until that is so.
	Subscribe(name string) error
	// Send sends one message to name. It may buffer; Flush sends.
	Send(name string, payload []byte) error
	Flush() error
	// Receive reads once and calls got for each message with its payload, and
	// acked with how many of the own messages were acknowledged.
	Receive(got func(payload []byte), acked func(n int)) error
	Close() error
}

// Run measures once.
func Run(ctx context.Context, p Protocol, o Options) (Result, error) {
	o.setDefaults(p.Acked(&o))
	r := &run{Options: o, p: p}
	res := Result{Target: o.Target, Protocol: p.Name(), Scenario: o.Scenario, QoS: o.QoS}
	var err error
	switch o.Scenario {
	case "pairs":
		err = r.flow(ctx, &res, o.Pairs, 1)
	case "fan":
		err = r.flow(ctx, &res, 1, o.Subscribers)
	case "rate":
		err = r.flow(ctx, &res, o.Pairs, 1)
	case "queue":
		err = r.flow(ctx, &res, o.Pairs, 0)
	case "idle":
		err = r.idle(ctx, &res)
	default:
		err = fmt.Errorf("bench: no scenario %q", o.Scenario)
	}
	if err != nil {
		return res, err
	}
	res.Resident, err = o.PID.Resident()
	return res, err
}

// run is one measurement under way.
type run struct {
	Options
	p Protocol

	conns     []Conn
	delivered atomic.Int64
	mu        sync.Mutex
	delays    []time.Duration // guarded by mu; rate only
}

func (r *run) dial(ctx context.Context, lane int, role Role) (Conn, error) {
	c, err := r.p.Dial(ctx, &r.Options, Seat{len(r.conns), lane, role})
	if err != nil {
		return nil, fmt.Errorf("bench: connection %d: %w", len(r.conns), err)
	}
	r.conns = append(r.conns, c)
	return c, nil
}

func (r *run) closeAll() {
	for _, c := range r.conns {
		c.Close()
	}
}

// flow has senders send, each to fan receivers of its own; fan 0 means that
// its one receiver is away and what counts is the acknowledgement.
func (r *run) flow(ctx context.Context, res *Result, senders, fan int) error {
	defer r.closeAll()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lanes := make([]*lane, senders)
	for i := range lanes {
		l := &lane{r: r, name: r.p.Target(&r.Options, i), room: make(chan struct{}, 1), fan: int64(max(fan, 1)), counted: fan > 0}
		lanes[i] = l
		for range max(fan, 1) {
			role := Receiver
			if fan == 0 {
				role = Away
			}
			c, err := r.dial(ctx, i, role)
			if err != nil {
				return err
			}
			if err := c.Subscribe(l.name); err != nil {
				return fmt.Errorf("bench: subscribe: %w", err)
			}
			if role == Away {
				c.Close()
				continue
			}
			l.receivers = append(l.receivers, c)
		}
		var err error
		if l.sender, err = r.dial(ctx, i, Sender); err != nil {
			return err
		}
	}
	cpu, err := r.PID.CPU()
	if err != nil {
		return err
	}
	start := time.Now()
	var wg sync.WaitGroup
	// Room for what all say that read, and all that send: nobody may wait to say it.
	errs := make(chan error, len(r.conns)+len(lanes))
	go func() { // ends with ctx
		<-ctx.Done()
		r.closeAll() // unblocks readers
	}()
	for i, l := range lanes {
		for _, c := range l.receivers {
			wg.Go(func() { errs <- l.receive(ctx, c) })
		}
		wg.Go(func() { errs <- l.listen(ctx) })
		wg.Go(func() {
			if err := l.send(ctx, start.Add(r.phase(i))); err != nil {
				errs <- err
				cancel()
			}
		})
	}
	err = r.wait(ctx, start, errs)
	took, n := time.Since(start), r.delivered.Load()
	cpu2, cpuErr := r.PID.CPU()
	cancel()
	wg.Wait()
	if err = errors.Join(err, cpuErr); err != nil {
		return err
	}
	if n == 0 {
		return errors.New("bench: nothing was delivered")
	}
	res.Connections, res.Messages, res.Seconds = len(r.conns), n, took.Seconds()
	res.PerSecond, res.CPU = float64(n)/took.Seconds(), (cpu2-cpu)/time.Duration(n)
	if len(r.delays) > 0 {
		slices.Sort(r.delays)
		at := func(q float64) time.Duration { return r.delays[int(q*float64(len(r.delays)-1))] }
		res.P50, res.P99, res.P999 = at(.5), at(.99), at(.999)
	}
	return nil
}

// wait returns when enough was delivered, the time is over, or a connection failed.
func (r *run) wait(ctx context.Context, start time.Time, errs <-chan error) error {
	check := time.NewTicker(time.Millisecond)
	defer check.Stop()
	last, moved := int64(0), start
	for {
		select {
		case err := <-errs:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case now := <-check.C:
			n := r.delivered.Load()
			if r.N > 0 && n >= int64(r.N) || r.N == 0 && now.Sub(start) >= r.Time {
				return nil
			}
			if n > last {
				last, moved = n, now
			} else if now.Sub(moved) > 30*time.Second {
				return fmt.Errorf("bench: nothing delivered for 30 s, after %d messages", n)
			}
		}
	}
}

// idle opens connections that say nothing and weighs the server before and after.
func (r *run) idle(ctx context.Context, res *Result) error {
	if r.PID == 0 {
		return errors.New("bench: the scenario idle needs the server's pid")
	}
	defer r.closeAll()
	// One connection first, so that what the server allocates once is not counted.
	if c, err := r.dial(ctx, 0, Idle); err != nil {
		return err
	} else if err := c.Subscribe(r.p.Target(&r.Options, 0)); err != nil {
		return err
	}
	before, err := r.PID.Resident()
	if err != nil {
		return err
	}
	for i := range r.Connections {
		c, err := r.dial(ctx, i+1, Idle)
		if err != nil {
			return err
		}
		if err := c.Subscribe(r.p.Target(&r.Options, i+1)); err != nil {
			return err
		}
	}
	least := int64(1) << 62
	for end := time.Now().Add(r.Settle); time.Now().Before(end); {
		now, err := r.PID.Resident()
		if err != nil {
			return err
		}
		least = min(least, now)
		select {
		case <-time.After(min(500*time.Millisecond, r.Settle)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	res.Connections = r.Connections
	res.PerConn = (least - before) / int64(r.Connections)
	return nil
}
