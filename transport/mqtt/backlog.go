package mqtt

import (
	"sync/atomic"

	"github.com/posthouse-im/posthouse/mailbox"
)

// backlog is how much waits in the queue of a kept session, as far as it was
// published or found since the server began: bytes that an earlier run left
// behind are not known, and count nothing. Publishers add to it, the session's
// client takes from it.
type backlog struct{ messages, bytes atomic.Int64 }

// full reports whether nothing more may be queued. What is on its way from
// several publishers at once may go beyond the limits by a message each.
func (b *backlog) full(cfg *Config) bool {
	return b.messages.Load() >= int64(cfg.MaxKeptMessages) || b.bytes.Load() >= int64(cfg.MaxKeptBytes)
}

func (b *backlog) add(messages, bytes int) {
	b.messages.Add(int64(messages))
	b.bytes.Add(int64(bytes))
}

// done takes off what the client has acknowledged, or what is gone.
func (b *backlog) done(messages, bytes int) {
	take(&b.messages, int64(messages))
	take(&b.bytes, int64(bytes))
}

// take subtracts n, but not below zero.
func take(v *atomic.Int64, n int64) {
	for {
		old := v.Load()
		if v.CompareAndSwap(old, max(old-n, 0)) {
			return
		}
	}
}

// empty is called when the client has everything. It makes up for posts that
// failed. A message that is just being posted is then not counted.
func (b *backlog) empty() {
	b.messages.Store(0)
	b.bytes.Store(0)
}

// found counts what an earlier run of the server left behind.
func (b *backlog) found(info mailbox.BoxInfo, acked mailbox.Seq) {
	if from := max(acked, info.First-1); info.Last > from && info.First > 0 {
		b.messages.Store(int64(info.Last - from))
	}
}
