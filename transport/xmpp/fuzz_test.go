package xmpp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// panics is a log that remembers how a connection panicked.
type panics struct {
	slog.Handler
	last atomic.Pointer[string]
}

func (p *panics) Enabled(context.Context, slog.Level) bool { return true }

func (p *panics) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panic") {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += "\n" + a.String()
			return true
		})
		p.last.Store(&text)
	}
	return nil
}

// FuzzClient says anything at all to the server, behind a login. It must not
// panic, and whatever it answers must be XML.
func FuzzClient(f *testing.F) {
	for _, s := range []string{
		"<presence/>", "<message to='alice@localhost' id='1'><body>x</body></message><r xmlns='urn:xmpp:sm:3'/>",
		"<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>", "<enable xmlns='urn:xmpp:sm:3' resume='1'/><presence/><a xmlns='urn:xmpp:sm:3' h='7'/>",
		"<presence to='bob@localhost' type='subscribe'/>", "<message><data xmlns='urn:xmpp:bob' cid='1'>AA==</data></message>",
		"<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='bob@localhost'><group>x</group></item></query></iq>",
		"<iq type='get' id='1' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq></stream:stream>",
		"<iq type='set' id='1'><vCard xmlns='vcard-temp'><FN>x</FN></vCard></iq>", "<stream:error/>", "<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>",
	} {
		f.Add(s)
	}
	log := &panics{Handler: slog.DiscardHandler}
	h := newHouseWithLog(f, Config{Insecure: true}, mem.Options{}, -1, slog.New(log))
	f.Cleanup(h.close)
	f.Fuzz(func(t *testing.T, said string) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.serve(theirs)
		}()
		go func() { // ends with the connection
			p, _ := h.encode("LOGIN alice phone")
			ours.Write(p)
			io.WriteString(ours, said)
			io.WriteString(ours, "'\">'>\">\x00") // ends a tag in whatever quotes, and is wrong
		}()
		ours.SetReadDeadline(time.Now().Add(5 * time.Second))
		var heard []byte
		buf := make([]byte, 4096)
		for !strings.HasSuffix(string(heard), "</stream:stream>") {
			n, err := ours.Read(buf)
			heard = append(heard, buf[:n]...)
			if err != nil {
				break
			}
		}
		ours.Close()
		<-done
		if text := log.last.Load(); text != nil {
			t.Fatalf("said %q: %s", said, *text)
		}
		for {
			i := strings.LastIndex(string(heard), "<?xml version='1.0'?>")
			if i < 0 {
				break
			}
			s := stream.Scanner{Limits: stream.Limits{Bytes: 1 << 20, Elements: 10000, Depth: 100, Attrs: 100}}
			for p := heard[i:]; len(p) > 0; {
				k, n, err := s.Next(p)
				if err != nil {
					t.Fatalf("said %q: heard %q: %v", said, p, err)
				}
				if k == stream.More {
					break
				}
				p = p[n:]
			}
			heard = heard[:i]
		}
	})
}
