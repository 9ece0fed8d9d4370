package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/posthouse-im/posthouse/keepalive/learn"
)

// Findings keeps what was learned about networks. Its methods may be called
// from any goroutine, and should not take long.
type Findings interface {
	// Load returns what was kept for a network, or zero.
	Load(network string) (learn.Finding, error)
	Save(network string, f learn.Finding) error
}

// MemoryFindings are forgotten when the program ends. The zero value is ready,
// and mailboxes may share one.
type MemoryFindings struct {
	mu sync.Mutex
	m  map[string]learn.Finding // guarded by mu
}

// Load implements Findings.
func (k *MemoryFindings) Load(network string) (learn.Finding, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.m[network], nil
}

// Save implements Findings.
func (k *MemoryFindings) Save(network string, f learn.Finding) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil {
		k.m = map[string]learn.Finding{}
	}
	k.m[network] = f
	return nil
}

// FileFindings are kept in a file of JSON, which one program uses at a time.
// The value is its path.
type FileFindings string

var fileFindings sync.Mutex

func (path FileFindings) read() (map[string]learn.Finding, error) {
	m := map[string]learn.Finding{}
	b, err := os.ReadFile(string(path))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("link: findings: %w", err)
	}
	return m, nil
}

// Load implements Findings.
func (path FileFindings) Load(network string) (learn.Finding, error) {
	fileFindings.Lock()
	defer fileFindings.Unlock()
	m, err := path.read()
	return m[network], err
}

// Save implements Findings. A crash leaves the old file or the new one.
func (path FileFindings) Save(network string, f learn.Finding) error {
	fileFindings.Lock()
	defer fileFindings.Unlock()
	m, err := path.read()
	if err != nil {
		m = map[string]learn.Finding{} // it is learned again
	}
	m[network] = f
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("link: findings: %w", err)
	}
	t, err := os.CreateTemp(filepath.Dir(string(path)), ".findings-")
	if err != nil {
		return fmt.Errorf("link: findings: %w", err)
	}
	defer os.Remove(t.Name()) // of no effect once it is renamed
	_, err = t.Write(b)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(t.Name(), string(path))
	}
	if err != nil {
		return fmt.Errorf("link: findings: %w", err)
	}
	return nil
}
