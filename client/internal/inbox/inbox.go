// Package inbox is the shelf between a connection and the program that reads
// from it: what was received and not yet given out. The ways share it.
package inbox

import (
	"context"
	"sync"

	"github.com/posthouse-im/posthouse/client"
)

// Inbox holds messages in order. Make one with New. Its methods may be called
// from any goroutine; its lock is a leaf, so they may be called under another.
type Inbox struct {
	news chan struct{} // bell: messages is not empty, or it is over

	mu       sync.Mutex
	messages []client.Message // guarded by mu
	over     error            // guarded by mu; why nothing more will come
}

// New returns an empty Inbox.
func New() *Inbox { return &Inbox{news: make(chan struct{}, 1)} }

// Put adds a message. After Close it does nothing.
func (b *Inbox) Put(m client.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over == nil {
		b.messages = append(b.messages, m)
		b.ring()
	}
}

// End says that nothing more will come, and why. What is there is still
// given. Only the first reason counts.
func (b *Inbox) End(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over == nil {
		b.over = why
	}
	b.ring()
}

// Close ends at once with client.ErrClosed: what is there is not given.
func (b *Inbox) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages, b.over = nil, client.ErrClosed
	b.ring()
}

// Take blocks until there is a message, it is over or ctx ends.
func (b *Inbox) Take(ctx context.Context) (client.Message, error) {
	for {
		if m, ok, err := b.next(); ok {
			return m, err
		}
		select {
		case <-b.news:
		case <-ctx.Done():
			return client.Message{}, ctx.Err()
		}
	}
}

// next is what Take has to return; ok is false while that is nothing.
func (b *Inbox) next() (m client.Message, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.messages) > 0 {
		m, b.messages = b.messages[0], b.messages[1:]
	} else if err = b.over; err == nil {
		return m, false, nil
	}
	if len(b.messages) > 0 || b.over != nil {
		b.ring() // for another who waits
	}
	return m, true, err
}

func (b *Inbox) ring() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}
