package pebble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/mailbox"
)

// Options configures a Store. The zero value works.
type Options struct {
	// Retention says how long entries, ids and cursors are kept. Zero means
	// for ever.
	Retention mailbox.Retention `config:"-"`
	// Sweep is how often the retention is applied. Default 10 minutes;
	// negative means never.
	Sweep time.Duration
	// Queue is how many posts may wait for the committer before Append blocks.
	// Default 65,536.
	Queue int
	// Tail is how many bytes of the newest entries of busy boxes are held in
	// memory. Default 64 MiB.
	Tail int64
	// Boxes is of how many boxes memory knows where they end, about 100 bytes
	// each. It should not be below the number of users online. Default 1,000,000.
	Boxes int
	// Cache is the size of Pebble's block cache in bytes. Default 8 MiB.
	Cache int64
	// MemTable is how many bytes of new entries Pebble collects in memory
	// before it writes them out sorted; memory is taken as they come, and
	// twice as much for short times. Default 64 MiB.
	MemTable uint64
	// Reserve is how many bytes must be free on the disk, or no post is taken.
	// Default 64 MiB; negative means that nobody looks.
	Reserve int64
	// FS is the file system. Nil means the real one.
	FS vfs.FS `config:"-"`
	// Now is the clock. Nil means time.Now.
	Now func() time.Time `config:"-"`
	// Log is told of trouble with the disk and its end. Nil means slog.Default().
	Log *slog.Logger `config:"-"`
}

// Store is the engine; see [Open].
type Store struct {
	o    Options
	dir  string
	lock io.Closer
	q    *queue
	ring func(box string, last mailbox.Seq)
	life atomic.Pointer[life]

	readMu  sync.Mutex // a leaf
	readers int        // who reads the disk now; guarded by readMu
	closed  bool       // nobody may begin to; guarded by readMu
	unread  sync.Cond  // on readMu: readers is zero
	closing atomic.Bool
	closes  sync.Once
	failure error         // of Close; read after ended is closed
	ended   chan struct{} // closed when nothing is left running
	writing chan struct{} // closed when the last finisher has ended
	stop    context.CancelFunc
	sweeps  sync.WaitGroup

	trimming sync.Mutex // one sweep at a time; before everything else

	trouble atomic.Pointer[error] // why the database is being opened again
	roomMu  sync.Mutex            // a leaf
	roomAt  time.Time             // when the disk was last asked; guarded by roomMu
	roomErr error                 // what it said; guarded by roomMu

	posts, duplicates, failed, bytes atomic.Uint64
	commits, hits, misses, trimmed   atomic.Uint64
	maxGroup                         atomic.Uint64
	commitTime                       atomic.Int64
}

var _ mailbox.Store = (*Store)(nil)

// ErrInUse: another process, or another Store of this one, has the directory.
var ErrInUse = errors.New("pebble: directory is in use by another server")

// ErrNewer: the directory was written by a newer program.
var ErrNewer = errors.New("pebble: directory was written by a newer version of this program")

// Open opens the store in dir, which is made if need be. Close it.
func Open(dir string, o Options) (*Store, error) {
	o.Sweep = cmp.Or(o.Sweep, 10*time.Minute)
	o.Queue = cmp.Or(o.Queue, 65536)
	o.Tail = cmp.Or(o.Tail, 64<<20)
	o.Boxes = cmp.Or(o.Boxes, 1000000)
	o.Cache = cmp.Or(o.Cache, 8<<20)
	o.MemTable = cmp.Or(o.MemTable, 64<<20)
	o.Reserve = cmp.Or(o.Reserve, 64<<20)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pebble: open %s: %w", dir, err)
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(dir, "LOCK"))
	var file *fs.PathError
	switch {
	case errors.As(err, &file): // it could not even be made
		return nil, fmt.Errorf("pebble: open %s: %w", dir, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrInUse, dir, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{
		o: o, dir: dir, lock: lock, q: newQueue(o.Queue), stop: stop,
		ring:  func(string, mailbox.Seq) {},
		ended: make(chan struct{}), writing: make(chan struct{}),
	}
	s.unread.L = &s.readMu
	l, err := s.openLife()
	if err != nil {
		stop()
		lock.Close()
		return nil, err
	}
	s.life.Store(l)
	l.start()
	if o.Sweep > 0 {
		s.sweeps.Go(func() { s.sweep(ctx) }) // ends with ctx, which Close cancels
	}
	return s, nil
}

// life is one opening of the database. There is one, unless the disk fails.
type life struct {
	s     *Store
	db    *pebble.DB
	guard *guard
	table *table

	slots  chan struct{} // taken by each group under way
	flight chan *group   // to the finisher, in order; closed by the committer
	syncs  chan *group   // to the syncer, in order; closed by the committer
	groups uint64        // how many there were; the committer's
	known  map[idKey]*mailbox.Post
	key    []byte // the committer's scratch

	// building is held by the committer from where it takes posts to where their
	// group is in flight. It is taken before everything else.
	building sync.Mutex

	old   atomic.Pointer[filter] // the ids that were there at first; nil until they are read
	fresh filter                 // the ids of this life; the committer's
}

// underway is how many groups may be on their way at once: one that syncs, and
// one that is built and applied meanwhile.
const underway = 2

// openLife opens the database and checks its format.
func (s *Store) openLife() (*life, error) {
	g := newGuard(s.o.FS, s.dir)
	opts := &pebble.Options{
		FS:                          g,
		Logger:                      logger{s.o.Log, g},
		CacheSize:                   s.o.Cache,
		MemTableSize:                s.o.MemTable,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		LBaseMaxBytes:               256 << 20,
		L0StopWritesThreshold:       32,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		WALBytesPerSync:             0,
		BytesPerSync:                1 << 20,
		MaxOpenFiles:                500,
		FormatMajorVersion:          pebble.FormatNewest,
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	db, err := pebble.Open(s.dir, opts)
	if err != nil {
		return nil, fmt.Errorf("pebble: open %s: %w", s.dir, err)
	}
	if err := checkFormat(db); err != nil {
		db.Close()
		return nil, fmt.Errorf("%w: %s", err, s.dir)
	}
	g.armed.Store(true)
	return &life{
		s: s, db: db, guard: g, table: newTable(s.o.Boxes, s.o.Tail),
		slots: make(chan struct{}, underway), flight: make(chan *group, underway), syncs: make(chan *group, underway),
		known: map[idKey]*mailbox.Post{},
	}, nil
}

func (l *life) start() {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindID}, UpperBound: []byte{kindID + 1}})
	if err == nil { // else the database is asked for each id
		l.s.readMu.Lock()
		l.s.readers++
		l.s.readMu.Unlock()
		go l.remember(it) // ends when it has read all, or with the store, which waits for its readers
	}
	go l.commit() // ends when the queue is closed and empty, or the guard is dead
	go l.sync()   // ends when syncs is closed, or with the guard
	go l.finish() // ends when flight is closed and all groups are finished, or the disk has failed
}

// checkFormat reads the format record, or writes it into a new database.
func checkFormat(db *pebble.DB) error {
	v, closer, err := db.Get([]byte(formatKey))
	if errors.Is(err, pebble.ErrNotFound) {
		return db.Set([]byte(formatKey), []byte{formatVersion}, pebble.Sync)
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	if len(v) != 1 || v[0] == 0 {
		return fmt.Errorf("pebble: format record %x is not one of ours", v)
	}
	if v[0] > formatVersion {
		return fmt.Errorf("%w: format %d, this one knows up to %d", ErrNewer, v[0], formatVersion)
	}
	return nil
}

// logger passes on what Pebble has to say.
type logger struct {
	log   *slog.Logger
	guard *guard
}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(f string, args ...any) {
	l.log.Error("pebble", "err", fmt.Sprintf(f, args...))
}

// Fatalf must not return. It gives up the database, not the process.
func (l logger) Fatalf(f string, args ...any) {
	l.guard.fail(fmt.Errorf(f, args...))
	select {}
}

// Watch implements [mailbox.Store].
func (s *Store) Watch(ring func(box string, last mailbox.Seq)) { s.ring = ring }

// Ready implements [mailbox.Store].
func (s *Store) Ready() error {
	if s.closing.Load() {
		return mailbox.ErrClosed
	}
	return s.able(s.life.Load())
}

// able is why nothing can be written at present, wrapped in ErrUnavailable.
func (s *Store) able(l *life) error {
	err := l.guard.err()
	if p := s.trouble.Load(); p != nil {
		err = *p
	}
	if err == nil {
		err = s.space()
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
}

func unavailable(err error) error {
	return fmt.Errorf("pebble: %w: %w", mailbox.ErrUnavailable, err)
}

// space looks whether the disk has room, at most every 20 ms: at the greatest
// speed that is a few megabytes, a small part of the reserve.
func (s *Store) space() error {
	if s.o.Reserve < 0 {
		return nil
	}
	s.roomMu.Lock()
	defer s.roomMu.Unlock()
	now := time.Now() // not the injected clock: this is about the real disk
	if now.Sub(s.roomAt) < 20*time.Millisecond {
		return s.roomErr
	}
	had := s.roomErr
	s.roomAt, s.roomErr = now, nil
	u, err := s.o.FS.GetDiskUsage(s.dir)
	if err == nil && u.AvailBytes < uint64(s.o.Reserve) {
		s.roomErr = fmt.Errorf("disk of %s has %d bytes left, %d are held in reserve", s.dir, u.AvailBytes, s.o.Reserve)
	}
	if (had == nil) != (s.roomErr == nil) {
		if s.roomErr != nil {
			s.o.Log.Error("store takes no posts", "err", s.roomErr)
		} else {
			s.o.Log.Info("store takes posts again")
		}
	}
	return s.roomErr
}

// Stats implements [mailbox.Store].
func (s *Store) Stats() mailbox.StoreStats {
	return mailbox.StoreStats{
		Posts:      s.posts.Load(),
		Duplicates: s.duplicates.Load(),
		Failed:     s.failed.Load(),
		Bytes:      s.bytes.Load(),
		Commits:    s.commits.Load(),
		CommitTime: time.Duration(s.commitTime.Load()),
		MaxGroup:   s.maxGroup.Load(),
		TailHits:   s.hits.Load(),
		TailMisses: s.misses.Load(),
		TailBytes:  uint64(s.life.Load().table.bytes.Load()),
		Trimmed:    s.trimmed.Load(),
	}
}

// Close implements [mailbox.Store]. If the disk does not write, what is queued
// is refused, and Close says so.
func (s *Store) Close() error {
	s.closes.Do(func() {
		defer close(s.ended)
		s.closing.Store(true)
		s.stop()
		s.q.close()
		s.life.Load().guard.ring()
		<-s.writing
		s.sweeps.Wait()
		s.readMu.Lock()
		for s.closed = true; s.readers > 0; {
			s.unread.Wait()
		}
		s.readMu.Unlock()
		l := s.life.Load()
		if err := l.guard.err(); err != nil {
			// Closing would write and so never end; what counts is on the disk.
			l.guard.kill()
			s.failure = unavailable(err)
		} else {
			l.guard.armed.Store(false)
			s.failure = l.db.Close()
		}
		s.failure = errors.Join(s.failure, s.lock.Close())
	})
	<-s.ended
	return s.failure
}
