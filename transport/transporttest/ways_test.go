package transporttest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/client"
	clientlink "github.com/posthouse-im/posthouse/client/link"
	clientmqtt "github.com/posthouse-im/posthouse/client/mqtt"
	clientpoll "github.com/posthouse-im/posthouse/client/poll"
	clientxmpp "github.com/posthouse-im/posthouse/client/xmpp"
)

// One device comes back by each way in turn, with its store: it reads on where
// it was, and what it queued without a connection is sent.
func TestADeviceComesBackByEveryWay(t *testing.T) {
	h := open(t)
	ways := []client.Way{
		clientpoll.Way(clientpoll.Config{Options: client.Options{Addr: h.Addr["poll"]}}),
		clientlink.Way("link", clientlink.Config{Options: client.Options{Addr: h.Addr["link"]}}),
		clientmqtt.Way(client.Options{Addr: h.Addr["mqtt"]}),
		clientxmpp.Way(client.Options{Addr: h.Addr["xmpp"], StartTLS: &tls.Config{InsecureSkipVerify: true}}),
	}
	nowhere := client.Way{Name: "nowhere", Open: func(context.Context, client.Attempt) (client.Mailbox, error) {
		return nil, errors.New("no network")
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, others := new(client.Memory), new(client.Memory)
	connect := func(way client.Way, user string, store client.Store) *client.Client {
		t.Helper()
		c, err := client.Open(ctx, client.Config{Ways: []client.Way{way}, User: user, Password: "secret", Device: "phone", Store: store})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	receive := func(c *client.Client, way, want string) client.Message {
		t.Helper()
		m, err := c.Receive(ctx)
		if err == nil {
			err = c.Ack(ctx, m)
		}
		if err != nil || string(m.Body) != want {
			t.Fatalf("by %s: %q, %v; want %q; %+v", way, m.Body, err, want, c.State())
		}
		return m
	}
	alice := connect(ways[1], "alice", others)
	defer alice.Close()
	for round := range 2 {
		for _, way := range ways {
			queued := fmt.Sprint("queued for ", way.Name, round)
			c := connect(nowhere, "bob", store)
			if _, err := c.Queue(client.Draft{To: "alice", Body: []byte(queued), Attrs: []client.Attr{{Name: "kept", Value: "too"}}}); err != nil {
				t.Fatal(err)
			}
			c.Close()
			for i := range 3 {
				if _, err := alice.Send(ctx, client.Draft{To: "bob", Body: fmt.Append(nil, way.Name, round, i)}); err != nil {
					t.Fatal(err)
				}
			}
			c = connect(way, "bob", store)
			for i := range 3 {
				receive(c, way.Name, fmt.Sprint(way.Name, round, i))
			}
			if m := receive(alice, "link", queued); len(m.Attrs) != 1 || m.Attrs[0].Value != "too" {
				t.Errorf("by %s: properties of what was queued: %v", way.Name, m.Attrs)
			}
			if err := c.Close(); err != nil {
				t.Errorf("close by %s: %v", way.Name, err)
			}
		}
	}
	for _, way := range ways { // a wrong password is final by every way
		c, err := client.Open(ctx, client.Config{Ways: []client.Way{way}, User: "carol", Password: "wrong"})
		if err != nil {
			t.Fatal(err)
		}
		var no *client.Closed
		if _, err := c.Receive(ctx); !errors.As(err, &no) || no.Code != "denied" {
			t.Errorf("a wrong password by %s: %v", way.Name, err)
		}
		c.Close()
	}
}
