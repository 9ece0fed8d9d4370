package router

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Device is what is known of one device of a user.
type Device struct {
	Name   string
	Online bool
	Door   Door // by which it is connected, if Online
	// Seen is when it last acknowledged or attached, or, if Online, when it
	// connected, whichever is later.
	Seen time.Time
	// Behind is how many places of the box lie beyond its cursor.
	Behind uint64
}

// Devices lists the devices of user, a canonical bare address: those that have
// a cursor, and those that are connected. The one seen last comes first. It
// may read the disk.
func (r *Router) Devices(ctx context.Context, user string) ([]Device, error) {
	info, err := r.mail.Info(ctx, user)
	if err != nil {
		return nil, err
	}
	cursors, err := r.mail.Cursors(ctx, user)
	if err != nil {
		return nil, err
	}
	behind := func(at mailbox.Seq) uint64 {
		if info.First > 0 {
			at = max(at, info.First-1)
		}
		return uint64(info.Last - min(at, info.Last))
	}
	ds := make([]Device, 0, len(cursors))
	index := make(map[string]int, len(cursors))
	for _, c := range cursors {
		index[c.Device] = len(ds)
		ds = append(ds, Device{Name: c.Device, Seen: c.Moved, Behind: behind(c.Seq)})
	}
	for _, p := range r.Presence(user) {
		i, ok := index[p.Device]
		if !ok {
			i = len(ds)
			index[p.Device] = i
			ds = append(ds, Device{Name: p.Device, Behind: behind(0)})
		}
		d := &ds[i]
		d.Online, d.Door = true, p.Door
		if p.Since.After(d.Seen) {
			d.Seen = p.Since
		}
	}
	slices.SortFunc(ds, func(a, b Device) int {
		return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.Name, b.Name))
	})
	return ds, nil
}

// ErrDevices says that an account has as many devices as it may, and that all of
// them are connected.
var ErrDevices = errors.New("router: too many devices")

// Admit makes room for a device of user, see [mailbox.Limits]. There is always
// room for one that has a place in the box, or is connected. The error may be
// ErrDevices. It may read the disk. Devices that come at the same moment do not
// see each other.
func (r *Router) Admit(ctx context.Context, user, device string) error {
	_, ok, err := r.mail.Cursor(ctx, user, device)
	if err != nil || ok {
		return err
	}
	return r.admit(ctx, user, device)
}

// admit is Admit for a device without a place in the box.
func (r *Router) admit(ctx context.Context, user, device string) error {
	sh, limit := r.shard(user), r.mail.Limits().Devices
	if sh.another(user, limit) {
		return nil
	}
	ds, err := r.Devices(ctx, user)
	if err != nil {
		return err
	}
	n := len(ds)
	if !slices.ContainsFunc(ds, func(d Device) bool { return d.Name == device }) {
		n++
	}
	if n > limit {
		// A client may call itself by another name each time: those are what piles
		// up. Some more of them make room for some time.
		over := n - limit + limit/64
		for _, d := range slices.Backward(ds) {
			if over > 0 && !d.Online {
				r.Forget(user, d.Name)
				over--
				n--
			}
		}
	}
	if n > limit {
		return ErrDevices
	}
	sh.mu.Lock()
	sh.devices[user] = n
	sh.mu.Unlock()
	return nil
}

// another counts one device more of user. It reports false if they have to be
// counted anew: for the first time, or since those that were forgotten
// meanwhile would make room.
func (sh *shard) another(user string, limit int) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n, ok := sh.devices[user]
	if !ok || n >= limit {
		return false
	}
	sh.devices[user] = n + 1
	return true
}

// Forget removes a device of user: its place in the box is forgotten, and if
// it is connected its session is ended with Removed. If it comes back, it is a
// new device. It does not block.
func (r *Router) Forget(user, device string) {
	sh := r.shard(user)
	sh.mu.RLock()
	for s := sh.live[user]; s != nil; s = s.peer {
		if s.who.Device == device {
			s.forgotten.Store(true) // so its Close forgets once more what it acknowledges until then
			s.client.End(Removed)
		}
	}
	sh.mu.RUnlock()
	r.mail.DropCursor(user, device)
	if r.forgot != nil {
		r.forgot(user, device)
	}
}

// OnForget has f called with each device that is forgotten, from many goroutines.
// It must not block. Call it before any session is opened.
func (r *Router) OnForget(f func(user, device string)) { r.forgot = f }
