package pebble

import (
	"time"
)

// patience is how long posts wait for a disk in trouble until they are refused.
const patience = 300 * time.Millisecond

// finish takes groups in order, waits until each is durable, shows it to
// readers, rings, and finishes its posts. While the disk is in trouble it
// gives the posts back with the reason.
func (l *life) finish() {
	var groups []*group // not yet durable
	flight := l.flight
	tick := time.NewTicker(patience)
	defer tick.Stop()
	tick.Stop()
	trouble := false
	for flight != nil || len(groups) > 0 {
		var result chan error
		if len(groups) > 0 {
			result = groups[0].result
		}
		select {
		case g, ok := <-flight:
			if !ok {
				flight = nil
				continue
			}
			groups = append(groups, g)
		case err := <-result:
			if err != nil {
				l.guard.fail(err)
				continue
			}
			l.publish(groups[0])
			groups = groups[1:]
		case <-l.guard.bell:
			if err := l.guard.err(); err != nil && !trouble {
				l.s.o.Log.Error("store takes no posts", "err", err)
				tick.Reset(patience)
				trouble = true
			} else if err == nil && trouble {
				l.s.o.Log.Info("store takes posts again")
				tick.Stop()
				trouble = false
			}
		case <-tick.C:
			err := l.guard.err()
			if err == nil {
				continue
			}
			for _, g := range groups {
				l.giveBack(g, unavailable(err))
			}
			l.s.refuse(l.s.q.drain(), unavailable(err))
			if l.s.closing.Load() {
				for _, g := range l.giveUp() {
					l.giveBack(g, unavailable(err))
				}
				close(l.s.writing)
				return
			}
		case <-l.guard.broken:
			l.s.revive(l, groups)
			return
		}
	}
	close(l.s.writing)
}

// publish shows a durable group to the world.
func (l *life) publish(g *group) {
	s := l.s
	var bytes, trimmed uint64
	rings := make([]effect, 0, len(g.pinned))
	l.table.clock.Add(1)
	for _, e := range g.effects {
		sh := l.table.shard(e.box.name)
		sh.mu.Lock()
		if e.m != nil {
			l.table.appendLocked(sh, e.box, e.seq, e.m)
			bytes += uint64(e.m.Size())
		} else {
			trimmed += uint64(e.seq + 1 - max(e.box.first, 1))
			l.table.trimLocked(sh, e.box, e.seq)
		}
		sh.mu.Unlock()
	}
	for _, b := range g.pinned {
		sh := l.table.shard(b.name)
		sh.mu.Lock()
		b.pins--
		if b.news {
			b.news = false
			rings = append(rings, effect{box: b, seq: b.last})
		}
		sh.mu.Unlock()
	}
	s.bytes.Add(bytes)
	s.trimmed.Add(trimmed)
	l.table.fit()
	for _, r := range rings {
		s.ring(r.box.name, r.seq)
	}
	if !g.given {
		l.count(g)
		for _, p := range g.posts {
			p.Finish()
		}
	}
	for _, tr := range g.trims {
		tr.done <- nil
	}
	g.batch.Close()
	<-l.slots
}

// count counts what became of the posts of g.
func (l *life) count(g *group) {
	s := l.s
	var duplicates, failed uint64
	for _, p := range g.posts {
		if p.Err != nil {
			failed++
		} else if p.Duplicate {
			duplicates++
		}
	}
	s.failed.Add(failed)
	s.duplicates.Add(duplicates)
	s.posts.Add(uint64(len(g.posts)) - failed)
	if len(g.posts) > 0 {
		s.commits.Add(1)
		s.commitTime.Add(int64(time.Since(g.began)))
	}
	if n := uint64(len(g.posts)); n > s.maxGroup.Load() {
		s.maxGroup.Store(n) // only the finisher stores
	}
}

// giveBack finishes the posts of a group whose fate is not known.
func (l *life) giveBack(g *group, err error) {
	if g.given {
		return
	}
	g.given = true
	l.s.failed.Add(uint64(len(g.posts)))
	for _, p := range g.posts {
		if p.Err == nil {
			p.Err = err
		}
		p.Finish()
	}
}

// revive gives up l, whose database is broken, and opens it again as soon as
// the disk allows. Reading from l goes on meanwhile.
func (s *Store) revive(l *life, groups []*group) {
	err := l.guard.err()
	first := err // err changes below
	s.trouble.Store(&first)
	s.o.Log.Error("store takes no posts", "err", err)
	boxes := map[string]bool{}
	for _, g := range append(groups, l.giveUp()...) {
		l.giveBack(g, unavailable(err))
		for _, tr := range g.trims {
			tr.done <- unavailable(err)
		}
		for _, b := range g.pinned {
			boxes[b.name] = true
		}
	}
	for {
		s.refuse(s.q.drain(), unavailable(err))
		if s.closing.Load() {
			close(s.writing)
			return
		}
		next, again := s.openLife()
		if again == nil {
			s.q.moved()
			s.life.Store(next)
			s.trouble.Store(nil)
			s.o.Log.Info("store takes posts again")
			for name := range boxes { // some of what was given back may be there
				if info, err := next.load(name); err == nil && info.Last > 0 {
					s.ring(name, info.Last)
				}
			}
			next.start()
			return
		}
		err = again
		s.trouble.Store(&again)
		time.Sleep(patience)
	}
}
