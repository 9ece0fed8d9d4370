package link_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/internal/dialog"
	"github.com/posthouse-im/posthouse/transport/link/frame"
)

// TestRecorded holds the dialogues of testdata/recorded-1.0 with today's
// server: what clients said before there was anything but version 1.0 without
// further capabilities, and what they were answered, byte for byte. They stay
// as they are for ever. Each line has the bytes and then what they mean.
func TestRecorded(t *testing.T) {
	if flag.Lookup("rewrite").Value.String() == "true" {
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

// Nobody may change what was recorded: it is what devices out there say.
func TestRecordedIsThere(t *testing.T) {
	files, err := filepath.Glob("testdata/recorded-1.0/*.txt")
	if err != nil || len(files) < 19 {
		t.Fatalf("%d recorded dialogues, %v", len(files), err)
	}
}
