package client_test

import (
	"context"
	"crypto/tls"
	"log"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/link"
	"github.com/posthouse-im/posthouse/client/poll"
)

func fetchToken(context.Context) (string, error) { return "…", nil }

func store(client.Message) error { return nil }

// A program that stores what it receives, by the best way there is.
func ExampleOpen() {
	ctx := context.Background()
	c, err := client.Open(ctx, client.Config{
		Ways: []client.Way{
			link.Way("link", link.Config{Options: client.Options{Addr: "push.example.org:7401", TLS: &tls.Config{}}}),
			link.Way("websocket", link.Config{Options: client.Options{Addr: "wss://push.example.org/link"}}),
			poll.Way(poll.Config{Options: client.Options{Addr: "https://push.example.org"}}),
		},
		Tokens: fetchToken,
		Device: "phone",
		OnState: func(s client.State) {
			log.Print(s.Phase, " ", s.Way)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if err := store(m); err != nil {
			log.Fatal(err)
		}
		if err := c.Ack(ctx, m); err != nil {
			log.Fatal(err)
		}
	}
}

// Send waits for the server's disk, Queue for ours.
func ExampleClient_Send() {
	ctx := context.Background()
	c, err := client.Open(ctx, client.Config{
		Ways: []client.Way{link.Way("link", link.Config{Options: client.Options{Addr: "127.0.0.1:7400"}})},
		User: "alice", Password: "secret", Device: "laptop",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	receipt, err := c.Send(ctx, client.Draft{To: "bob", Body: []byte("hello")})
	if err != nil {
		log.Fatal(err)
	}
	log.Print("number ", receipt.Seq, " in bob's box")
}
