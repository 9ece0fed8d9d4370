package nat

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/link/quic"
	"github.com/posthouse-im/posthouse/keepalive/learn"
)

// The test's binary runs itself as a program in a namespace: a device that
// tells on its standard output what happens to it, a line of JSON each, and
// sends what it reads on its standard input, a message a line. Or it is the
// radio of a lab.

// role is what the program is to be, in the environment variable roleEnv.
type role struct {
	Addr, User, Device string
	To                 string // whom it writes to
	Echo               bool   // it sends what it receives back to To
	Heartbeat          time.Duration
	Min, Max           time.Duration // of what it learns
	QUIC               bool
	Node               bool // it is phone.mjs
	Air                *air // it is no device but the radio
}

const roleEnv = "NAT_LAB_ROLE"

// event is a line of its output.
type event struct {
	What string // open, got, stored, stats, error
	At   time.Time
	Text string     `json:",omitempty"`
	Took string     `json:",omitempty"`
	St   link.Stats `json:",omitzero"`
}

// carrier is what the network is called.
const carrier = "carrier"

// moved begins a line that is not a message but says that the device is on
// another network now.
const moved = "network: "

func phone(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	if r.Air != nil {
		return r.Air.run()
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(e event) {
		e.At = time.Now()
		mu.Lock()
		defer mu.Unlock()
		out.Encode(e)
	}
	ctx := context.Background()
	cfg := link.Config{
		Options: client.Options{Addr: r.Addr, User: r.User, Password: "secret", Device: r.Device,
			TLS: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}, // the lab has no way out
		Network: carrier, Heartbeat: r.Heartbeat, Learn: learn.Config{Min: r.Min, Max: r.Max},
	}
	if r.QUIC {
		cfg.Dial = quic.Dialer(quic.Config{Options: cfg.Options})
	}
	box, err := link.Open(ctx, cfg)
	if err != nil {
		return err
	}
	tell(event{What: "open"})
	send := func(text string) {
		begin := time.Now()
		err := box.SendAsync(client.Draft{To: r.To, Body: []byte(text)}, func(_ client.Receipt, err error) {
			if err != nil {
				tell(event{What: "error", Text: err.Error()})
				return
			}
			tell(event{What: "stored", Text: text, Took: time.Since(begin).String()})
		})
		if err != nil {
			tell(event{What: "error", Text: err.Error()})
		}
	}
	go func() { // ends with the process
		for range time.Tick(told) {
			tell(event{What: "stats", St: box.Stats()})
		}
	}()
	go func() { // ends with the process
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if network, ok := strings.CutPrefix(in.Text(), moved); ok {
				box.NetworkChanged(network)
				continue
			}
			send(in.Text())
		}
		box.Close()
		os.Exit(0)
	}()
	for {
		m, err := box.Receive(ctx)
		if errors.Is(err, client.ErrClosed) {
			select {} // the other goroutine ends the process
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		tell(event{What: "got", Text: string(m.Body)})
		if err := box.Ack(ctx, m); err != nil && !errors.Is(err, client.ErrClosed) {
			return err
		}
		if r.Echo {
			send("re " + strings.TrimSpace(string(m.Body)))
		}
	}
}
