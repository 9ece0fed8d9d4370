package auth

import (
	"encoding/binary"
	"errors"
	"time"
)

// account is what is kept of a user. The package comment has its encoding.
type account struct {
	role     Role
	disabled bool
	created  time.Time
	sha1     keys
	sha256   keys
	apps     []appKey
}

// keys are what is kept of a password for one SCRAM mechanism. No iterations
// means that there is no password.
type keys struct {
	iters          int
	salt           []byte
	stored, server []byte
}

// appKey is what is kept of an application key.
type appKey struct {
	label   string
	hash    [32]byte
	created time.Time
}

const (
	recordVersion = 1
	flagDisabled  = 1
	maxIterations = 100_000_000
)

func (a *account) encode() []byte {
	b := []byte{recordVersion, byte(a.role), 0}
	if a.disabled {
		b[2] |= flagDisabled
	}
	b = binary.AppendUvarint(b, uint64(a.created.UnixMilli()))
	for _, k := range []keys{a.sha1, a.sha256} {
		b = binary.AppendUvarint(b, uint64(k.iters))
		if k.iters == 0 {
			continue
		}
		for _, s := range [][]byte{k.salt, k.stored, k.server} {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(a.apps)))
	for _, k := range a.apps {
		b = append(binary.AppendUvarint(b, uint64(len(k.label))), k.label...)
		b = append(b, k.hash[:]...)
		b = binary.AppendUvarint(b, uint64(k.created.UnixMilli()))
	}
	return b
}

var (
	errRecord  = errors.New("record is damaged")
	errVersion = errors.New("record is of a later version")
)

func decodeAccount(b []byte) (*account, error) {
	r := reader{b: b}
	if v := r.byte(); v > recordVersion {
		return nil, errVersion
	} else if v == 0 {
		return nil, errRecord
	}
	a := &account{role: Role(r.byte())}
	flags := r.byte()
	a.disabled = flags&flagDisabled != 0
	a.created = r.time()
	for _, k := range []*keys{&a.sha1, &a.sha256} {
		n := r.uvarint()
		if n > maxIterations {
			return nil, errRecord
		}
		if k.iters = int(n); n != 0 {
			k.salt, k.stored, k.server = r.bytes(), r.bytes(), r.bytes()
		}
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		k := appKey{label: string(r.bytes())}
		copy(k.hash[:], r.take(32))
		k.created = r.time()
		a.apps = append(a.apps, k)
	}
	if r.bad || len(r.b) != 0 || a.role >= roles || flags&^flagDisabled != 0 {
		return nil, errRecord
	}
	return a, nil
}

// reader reads from the front of b. Once something was missing it is bad and
// gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte { return r.take(r.uvarint()) }

func (r *reader) time() time.Time {
	ms := r.uvarint()
	if ms > 1<<53 {
		r.bad = true
	}
	return time.UnixMilli(int64(ms)).UTC()
}
