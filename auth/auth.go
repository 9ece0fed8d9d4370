// Package auth says who somebody is: accounts with SCRAM keys, bearer tokens,
// application keys, and the back-off that failed logins earn.
//
// A password is never kept, only what RFC 5802 calls StoredKey and ServerKey,
// once for SCRAM-SHA-1 and once for SCRAM-SHA-256. They let XMPP's SASL work,
// and a password sent over TLS is checked against the same keys, so one
// password opens every door.
//
// # Proofs
//
//	password         Verify with User and Password, or SCRAM
//	application key  pha_ and 43 characters, in place of the password or as a
//	                 bearer token; 256 random bits, of which a hash is kept.
//	                 Who has one has RoleApp, whatever the account's role.
//	bearer token     a JWT (RFC 7519) signed with HS256 or EdDSA by a key that
//	                 the operator configured, as a token or in place of the
//	                 password
//	certificate      of a TLS client, signed by an authority that the operator
//	                 configured; it names the account
//
// # What a guesser gets
//
// A login fails with ErrDenied and nothing more: an unknown user costs the
// same hashing as a wrong password, and SCRAM gives an unknown user a salt
// that is always the same. Application keys and tokens cannot be guessed, so
// they never wait and their failures do not count. For passwords:
//
//   - Failures are counted per address (an IPv6 /64 is one) and per account,
//     whether it exists or not. Ten are free. After each further one the next
//     attempt from that address, or at that account, waits: 1 s, 2 s, 4 s, ...
//     up to 60 s for an address and 4 s for an account. One failure is
//     forgotten each minute.
//   - An attempt that would wait longer than 10 s, or for which there is no
//     room to wait, is refused with ErrBusy and not checked. If it is the
//     account that makes it wait, that counts as a failure of the address.
//   - From an address where an account has logged in before, neither count is
//     asked but only that of this account at this address, which begins at zero
//     with each success.
//
// So who attacks an account from everywhere does not keep its owner out: at
// home he does not wait at all; elsewhere he shares with the attackers one
// attempt in 4 s, and whoever is turned away too often by it is held off that
// place for a minute at a time, them like him. His tokens and keys always
// work. A success does not clear the counts of an address or an account, or an
// attacker could clear them with an account of his own. What is counted is
// kept in memory only, in tables of bounded size.
//
// # Records
//
// Everything is in records of the mailbox; user is the bare address:
//
//	auth/secret       32 random bytes, for the salts of users that do not exist
//	auth/user/USER    an account
//	auth/key/HEX      the user whose application key has this SHA-256
//	auth/removed/USER 1: the account is no more, and not all that was its user's is forgotten
//
// An account is, with v for an unsigned varint and s for v bytes:
//
//	1  version, 1
//	1  role
//	1  flags: 1 disabled
//	v  created, Unix milliseconds
//	2× SHA-1, then SHA-256:
//	   v  iterations; 0: there is no password, and nothing follows
//	   s  salt
//	   s  StoredKey
//	   s  ServerKey
//	v  number of application keys; each:
//	   s  label
//	   32 SHA-256 of the key
//	   v  created, Unix milliseconds
package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/address"
	"github.com/posthouse-im/posthouse/mailbox"
)

// Who is somebody who has proved who he is.
type Who struct {
	User    string // canonical bare address, alice@example.org
	Device  string // named by a token; otherwise the door fills it in
	Role    Role
	Expires time.Time // when a token ends; zero means never
}

// Credential is what somebody offers as proof: a user and a password, or a token.
type Credential struct {
	User     string     // as typed, "alice" or "alice@example.org"
	Password string     // or an application key, or a bearer token for User
	Token    string     // a bearer token or application key; then User and Password are empty
	From     netip.Addr // where it comes from, for back-off
	// Certificate is what the connection's TLS has proved. It counts if there
	// is neither password nor token; User may then be empty.
	Certificate *Certificate
}

// Why a login fails. A door tells the peer nothing more than these.
var (
	// ErrDenied: unknown user, wrong password, bad token; never which.
	ErrDenied = errors.New("auth: not authorized")
	// ErrExpired: the token was good once.
	ErrExpired = errors.New("auth: token has expired")
	// ErrBusy: too many failures from there, or too many logins at once.
	ErrBusy = errors.New("auth: too many attempts, try again later")
)

// Config says how logins are checked. A zero field means its default.
type Config struct {
	// Domain is the domain of the accounts, in canonical form. Set by the server.
	Domain string `config:"-"`
	// Log is told of wrong passwords. Nil means nobody is.
	Log *slog.Logger `config:"-"`
	// Iterations is how often a new password is hashed (PBKDF2), by us and by
	// each client that uses SCRAM; more is slower for both and for whoever
	// steals the store. At least 4096. Accounts keep the number they were made
	// with until their password is set again, and until then the number tells
	// them from names that nobody has. Default 10000.
	Iterations int
	// Failures is how many wrong passwords are free, per address and per
	// account, before logins are delayed. Default 10.
	Failures int
	// MaxWait is how long a login is delayed at most; one that would have to
	// wait longer is refused. Default 10s.
	MaxWait time.Duration
	// Remember is how long a password that was right is remembered, as a keyed
	// hash in memory, so that a client which sends it with each request is not
	// hashed each time. Default 5m.
	Remember time.Duration
	// Workers is how many logins are worked on at once; half of them may be
	// waiting out a delay. Default 64.
	Workers int
	// Queue is how many more logins may stand in line. Default 16384.
	Queue int
	// CertificateName says where the certificate of a client names its account:
	// cn (the subject's common name, a user with or without the domain), or
	// among the alternative names email (alice@example.org), dns
	// (alice.example.org) or uri (xmpp:, acct: or mailto: and the address). One
	// that names two accounts of this domain is nobody's. Default cn.
	CertificateName string
	// Tokens says which bearer tokens are taken.
	Tokens TokenConfig
}

// Auth knows the accounts. Methods block unless they say otherwise.
type Auth struct {
	cfg    Config
	mail   *mailbox.Mail
	names  *names
	secret []byte // salts of users that do not exist
	macKey []byte // of this process, for what is remembered of passwords
	tokens *tokens
	slow   *backoff

	elsewhere string // a domain of accounts, if none is of ours; fixed after Open
	pool      pool

	hashing chan struct{} // as many as may hash at once: they use up a processor each
	inLine  atomic.Int64  // wait for a place in hashing
	waiting chan struct{} // as many as may wait out a delay

	stats struct{ accepted, denied, busy, failed, hashes, remembered atomic.Uint64 }

	// admin is held while an account is changed, also over the write to the
	// store and what OnRemove was given. It is taken before mu.
	admin sync.Mutex

	onChange atomic.Pointer[func(user string)]
	onRemove atomic.Pointer[func(ctx context.Context, user string) error]

	mu       sync.Mutex
	version  uint64 // counts changes: what was read before one is not remembered after it
	accounts recent[string, *account]
	verified recent[string, remembered]
}

// remembered is a password that was right.
type remembered struct {
	mac   [32]byte
	until time.Time
	role  Role
}

const (
	defaultIterations = 10_000
	minIterations     = 4096

	prefix       = "auth/"
	secretRecord = prefix + "secret"
	userPrefix   = prefix + "user/"
	keyPrefix    = prefix + "key/"

	removedPrefix = prefix + "removed/"
)

// Open reads the names of all accounts from mail and returns an Auth, to be
// ended by Close. It fails if the configuration makes no sense.
func Open(ctx context.Context, mail *mailbox.Mail, cfg Config) (*Auth, error) {
	if d, err := address.ParseDomain(cfg.Domain); err != nil || d != cfg.Domain {
		return nil, fmt.Errorf("auth: %q is not a canonical domain", cfg.Domain)
	}
	setDefault(&cfg.Iterations, defaultIterations)
	setDefault(&cfg.Failures, 10)
	setDefault(&cfg.MaxWait, 10*time.Second)
	setDefault(&cfg.Remember, 5*time.Minute)
	setDefault(&cfg.Workers, 64)
	setDefault(&cfg.CertificateName, nameCN)
	setDefault(&cfg.Queue, 16384)
	// "servers SHOULD announce a hash iteration-count of at least 4096"
	// RFC 5802 section 5.1
	if cfg.Iterations < minIterations {
		return nil, fmt.Errorf("auth: %d iterations, at least %d", cfg.Iterations, minIterations)
	}
	if cfg.Workers < 2 || cfg.Queue < 1 || cfg.Failures < 1 || cfg.MaxWait < 0 || cfg.Remember < 0 {
		return nil, errors.New("auth: workers, queue, failures, max wait or remember out of range")
	}
	if err := checkCertificateName(cfg.CertificateName); err != nil {
		return nil, err
	}
	tk, err := newTokens(cfg.Tokens)
	if err != nil {
		return nil, err
	}
	a := &Auth{
		cfg:     cfg,
		mail:    mail,
		names:   newNames(),
		macKey:  make([]byte, 32),
		tokens:  tk,
		slow:    newBackoff(cfg.Failures, cfg.MaxWait),
		hashing: make(chan struct{}, runtime.GOMAXPROCS(0)),
		waiting: make(chan struct{}, cfg.Workers/2),
	}
	a.accounts.max = 4096
	a.verified.max = 4096
	a.pool.workers, a.pool.most = cfg.Workers, cfg.Queue
	rand.Read(a.macKey)
	if a.secret, err = openSecret(ctx, mail); err != nil {
		return nil, fmt.Errorf("auth: read secret: %w", err)
	}
	if a.cfg.Log == nil {
		a.cfg.Log = slog.New(slog.DiscardHandler)
	}
	ours := false
	err = mail.Scan(ctx, userPrefix, func(key string, _ []byte) bool {
		user := strings.TrimPrefix(key, userPrefix)
		a.names.add(user)
		if _, domain, _ := strings.Cut(user, "@"); domain == cfg.Domain {
			ours = true
		} else {
			a.elsewhere = domain
		}
		return true
	})
	if ours {
		a.elsewhere = ""
	}
	if err != nil {
		return nil, fmt.Errorf("auth: read accounts: %w", err)
	}
	return a, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func openSecret(ctx context.Context, mail *mailbox.Mail) ([]byte, error) {
	secret, err := mail.Get(ctx, secretRecord)
	if err != nil || len(secret) == 32 {
		return secret, err
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	return secret, mail.Put(ctx, mailbox.Record{Key: secretRecord, Value: secret})
}

// Close waits for what Go runs to end; what has not begun is dropped. The
// contexts given to Verify should be cancelled before.
func (a *Auth) Close() { a.pool.close() }

// Exists reports whether user, a canonical bare address, is an account. It
// does not block.
func (a *Auth) Exists(user string) bool { return a.names.has(user) }

// Elsewhere names a domain that had accounts when Auth was opened while ours had
// none, which looks like a domain that was forgotten to be said.
func (a *Auth) Elsewhere() string { return a.elsewhere }

// Go runs check, which may block, on one of a bounded number of goroutines, and
// then with the error that it returned; or with one of ours if it panicked, so
// that nothing but what waits for it ends. It does not block itself; false means
// that too many wait already (ErrBusy), or that Auth is closed.
func (a *Auth) Go(check func() error, then func(error)) bool {
	return a.pool.run(func() { then(a.try(check)) })
}

func (a *Auth) try(check func() error) (err error) {
	returned := false
	defer func() {
		if !returned {
			a.stats.failed.Add(1)
		}
	}()
	defer contain(&err)
	err = check()
	returned = true
	return err
}

// OnChange has f called whenever the sessions of a user should end: after his
// password, role or keys were changed, he was disabled or removed. Call it
// once, before accounts are changed.
func (a *Auth) OnChange(f func(user string)) { a.onChange.Store(&f) }

// OnRemove has f called when an account was removed and its sessions were told
// to end: what others keep of its user must not fall to the next one of that
// name. F may block, and must not change accounts; its error is Remove's. Until it
// has no error it is called again, by ForgetRemoved and by Add for that name.
// Call OnRemove once, before accounts are changed.
func (a *Auth) OnRemove(f func(ctx context.Context, user string) error) { a.onRemove.Store(&f) }

// Stats counts since Open.
type Stats struct {
	Accounts   int    // accounts now
	Accepted   uint64 // logins, or requests with a credential, that were right
	Denied     uint64 // that were wrong or expired
	Busy       uint64 // that were refused unchecked
	Failed     uint64 // that could not be checked, or gone on with: a fault of ours
	Hashes     uint64 // passwords hashed in order to check them
	Remembered uint64 // passwords known to be right without that
}

// Stats returns the counters.
func (a *Auth) Stats() Stats {
	return Stats{
		Accounts:   a.names.len(),
		Accepted:   a.stats.accepted.Load(),
		Denied:     a.stats.denied.Load(),
		Busy:       a.stats.busy.Load(),
		Failed:     a.stats.failed.Load(),
		Hashes:     a.stats.hashes.Load(),
		Remembered: a.stats.remembered.Load(),
	}
}

// userName reads the name of a user as typed and returns the bare address.
func (a *Auth) userName(s string) (string, error) {
	ad, err := address.Parse(s, a.cfg.Domain)
	switch {
	case err != nil:
		return "", err
	case ad.Domain != a.cfg.Domain:
		return "", fmt.Errorf("%w: %s is not at %s", ErrName, ad.Bare(), a.cfg.Domain)
	case ad.Device != "":
		return "", fmt.Errorf("%w: %s names a device", ErrName, ad)
	}
	return ad.Bare(), nil
}

// load returns the account of user, nil if there is none. It is shared and
// must not be changed.
func (a *Auth) load(ctx context.Context, user string) (*account, error) {
	if !a.names.has(user) {
		return nil, nil
	}
	a.mu.Lock()
	acc, ok := a.accounts.get(user)
	version := a.version
	a.mu.Unlock()
	if ok {
		return acc, nil
	}
	acc, err := a.read(ctx, user)
	if err != nil || acc == nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if version == a.version {
		a.accounts.put(user, acc)
	}
	return acc, nil
}

func (a *Auth) read(ctx context.Context, user string) (*account, error) {
	b, err := a.mail.Get(ctx, userPrefix+user)
	if err != nil || b == nil {
		return nil, err
	}
	acc, err := decodeAccount(b)
	if err != nil {
		return nil, fmt.Errorf("auth: account %s: %w", user, err)
	}
	return acc, nil
}

// changed forgets what is remembered of user.
func (a *Auth) changed(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.accounts.del(user)
	a.verified.del(user)
}
