package link_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/internal/dialog"
	"github.com/posthouse-im/posthouse/internal/golden"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// TestRecorded holds the dialogues of testdata/recorded-1.0 with today's
// server: what clients said before there was anything but version 1.0 without
// further capabilities, and what they were answered, byte for byte. They stay
// as they are for ever. Each line has the bytes and then what they mean.
func TestRecorded(t *testing.T) {
	if golden.Rewriting() {
		t.Skip("what was recorded is not rewritten")
	}
	holdDialogues(t, "testdata/recorded-1.0/*.txt", func(p *dialog.Peer) {
		p.Encode = encodeRecorded
		p.Decode = decodeRecorded
	})
}

func encodeRecorded(line string) ([]byte, error) {
	digits, text, _ := strings.Cut(line, " ")
	p, err := hex.DecodeString(digits)
	if err != nil {
		return nil, err
	}
	if text == "(bytes)" {
		return p, nil
	}
	f, ack, err := frame.Parse(text)
	if err != nil {
		return nil, err
	}
	if today := hex.EncodeToString(frame.AppendAck(nil, f, ack)); today != digits {
		return nil, fmt.Errorf("%s is written %s today", text, today)
	}
	return p, nil
}

func decodeRecorded(p []byte) (string, int, error) {
	text, n, err := decode(p)
	if err != nil || n == 0 {
		return "", n, err
	}
	return hex.EncodeToString(p[:n]) + " " + text, n, nil
}

// Nobody may change what was recorded: it is what devices out there say. What
// is recorded of a later version goes into a directory of its own.
func TestRecordedStays(t *testing.T) {
	const want = "706f9434d731c8431b13ccf59fc7405b7ffcac46f5741608df67bbdd68bf7e9b"
	sum := sha256.New()
	err := fs.WalkDir(os.DirFS("testdata/recorded-1.0"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join("testdata/recorded-1.0", name))
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		return err
	})
	if got := hex.EncodeToString(sum.Sum(nil)); err != nil || got != want {
		t.Errorf("testdata/recorded-1.0 is another: %s, %v", got, err)
	}
}
