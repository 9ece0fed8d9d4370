package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// name is the socket's in the data directory.
const name = "control.sock"

// maxPath is how long a path may be in a socket's address: 104 bytes on macOS
// and BSD and 108 on Linux, with a zero at the end.
const maxPath = 103

// Listen opens the socket in dir. One that a dead server left is replaced; if
// a server answers on it the error is ErrInUse. Closing the listener removes
// the socket.
func Listen(dir string) (net.Listener, error) {
	if c, err := connect(dir); err == nil {
		c.Close()
		return nil, ErrInUse
	} else if !errors.Is(err, ErrNotRunning) {
		return nil, err
	}
	// It is made in a directory that only we may enter and moved when it has
	// its mode, so at no time can somebody else connect; the move also
	// replaces an old one in one step.
	tmp, err := os.MkdirTemp(dir, ".control-")
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	defer os.RemoveAll(tmp)
	ln, err := at(tmp, "s", func(path string) (*net.UnixListener, error) {
		return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	ln.SetUnlinkOnClose(false) // it has moved
	made, path := filepath.Join(tmp, "s"), filepath.Join(dir, name)
	err = os.Chmod(made, 0o600)
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	return &listener{ln, path}, nil
}

// listener removes its socket when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if err == nil { // the first time only: by the second it may be another's
		err = os.Remove(l.path)
	}
	return err
}

// connect opens a connection to the server of dir. The error is ErrNotRunning
// if there is none.
func connect(dir string) (net.Conn, error) {
	c, err := at(dir, name, func(path string) (*net.UnixConn, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	})
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNotRunning
	}
	return nil, fmt.Errorf("control: %w", err)
}

// at calls f with a path to the file in dir that is short enough for a
// socket's address.
func at[T any](dir, file string, f func(path string) (T, error)) (T, error) {
	var none T
	path := filepath.Join(dir, file)
	if len(path) <= maxPath {
		return f(path)
	}
	if wd, err := os.Getwd(); err == nil {
		if abs, err := filepath.Abs(path); err == nil {
			if rel, err := filepath.Rel(wd, abs); err == nil && len(rel) <= maxPath {
				return f(rel)
			}
		}
	}
	// Linux has a short name for every open directory.
	d, err := os.Open(dir)
	if err != nil {
		return none, err
	}
	defer d.Close()
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())))
	if _, err := os.Stat(short); err != nil {
		return none, fmt.Errorf("%s is longer than the %d bytes that a socket may have; choose a shorter data directory", path, maxPath)
	}
	return f(filepath.Join(short, file))
}
