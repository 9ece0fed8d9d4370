// Package pebble is the embedded storage engine, the default one: boxes in an
// LSM tree (github.com/cockroachdb/pebble) in one directory.
//
// One committer takes everything that all callers have queued, up to 8,192
// posts, and makes one batch of it, durable by one sync. While that group
// syncs the next is built and applied. A group becomes visible to readers, is
// rung for, and has its posts finished, in that order, once it is durable and
// never before.
//
//	Append ─▶ queue ─▶ commit ──────────────▶ sync ─────▶ finish
//	                   look for duplicates    wait for    show to readers,
//	MoveCursor ─▶ ⤴    give out seqs          the disk    ring, Post.Finish
//	(merged)           apply the batch
//
// Memory knows of the boxes in use where they begin and end, about 100 bytes
// each, and of the busy ones the newest entries, within a budget. So a live
// delivery, and the question whether there is anything new, read no disk. A box
// at rest costs nothing.
//
// # Layout
//
// Integers in keys are big-endian, so that order is theirs. Names hold no zero
// byte, so that none runs into another.
//
//	format                    1 byte: the version of all this, now 1
//	e box 0 seq(8)            an entry: the message, in each of its boxes
//	b box                     seq(8): up to here the box was trimmed or dropped
//	c box 0 device            seq(8) moved(8)
//	i from 0 id               digest(8) time(8) seq(uvarint)…
//	r key                     a record's value
//
// A box's numbers have no holes: it begins behind what b says, else at 1, and
// ends with its last e, or with b. Times are Unix milliseconds.
//
//	message   version(1)=1 flags(1) urgency(1) time(8) [expires(8)]
//	          id from device to type [count {name value}…] body
//	flags     1: expires is there, 2: properties are there
//
// A string is its length as uvarint, then its bytes; a count is a uvarint; the
// body is the rest. A message has one encoding only.
//
// # Trouble with the disk
//
// When little room is left on the disk, when a write fails and when a sync
// fails, posts are refused with mailbox.ErrUnavailable and the reason, reading
// goes on, and posts are taken again as soon as the disk does: see guard.
package pebble
