package xmpp

import (
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// FuzzEntry checks that whatever lies in a box is one well-formed stanza for
// its reader, which says neither more nor less of itself than the server does.
func FuzzEntry(f *testing.F) {
	f.Add("id", "alice@localhost", "phone", "", "hi <you>", "", "", "", "")
	f.Add("id", "alice@localhost", "phone", "image/png", "\x00\xff", "", "", "", "")
	f.Add("id", "alice@localhost", "a/b c", "application/xmpp+xml", "<message xmlns='jabber:client'><x xmlns='y'/></message>", "", "", "", "")
	f.Add("'", "alice@localhost", "", "", "body", "<body xml:lang='de'>x</body><x:y/>", " xmlns:x='urn:x'", "normal", "en")
	f.Add("", "", "", "text/plain", "]]>", "</message>", " '", "'>", "\x00")
	f.Add("", "", "", "text/plain;charset=utf-8", "\ufffe", "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@localhost' id='2'/>", "", "", "")
	s := &Server{domain: "localhost", limits: stream.After}
	f.Fuzz(func(t *testing.T, id, from, device, kind, body, stanza, ns, mtype, lang string) {
		for _, ws := range []bool{false, true} {
			x := &client{s: s, ws: ws, c: new(conn.Conn), resource: &resource{s: s, bare: "bob@localhost", jid: "bob@localhost/pc", since: time.Now()}}
			e := mailbox.Entry{Seq: 7, Message: &mailbox.Message{ID: id, From: from, Device: device, To: "bob@localhost", Type: kind, Body: []byte(body)}}
			for name, v := range map[string]string{attrStanza: stanza, attrNS: ns, attrType: mtype, attrLang: lang} {
				if v != "" {
					e.Attrs = append(e.Attrs, mailbox.Attr{Name: name, Value: v})
				}
			}
			b := append([]byte(nil), "<message"...)
			b = x.appendXMLNS(b)
			b = x.appendMessage(b, &e, x.jid)
			limits := stream.After
			limits.Bytes = 1 << 20
			m, err := stream.Parse(b, limits, stream.NSClient)
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			ids := 0
			for c := range m.Children() {
				if c.Is(nsSID, "stanza-id") {
					if ids++; c.Attr("id") != "7" || c.Attr("by") != "bob@localhost" {
						t.Fatalf("%q: forged", b)
					}
				}
			}
			if ids != 1 {
				t.Fatalf("%q: %d stanza ids", b, ids)
			}
			if isText(kind) && stanza == "" && stream.Carries(body) && len(body) < 1000 {
				if c, ok := m.Child(stream.NSClient, "body"); !ok || c.Text() != body {
					t.Fatalf("%q: the body was %q", b, body)
				}
			}
		}
	})
}

// A connection that does not take what passes by loses it, and nothing else.
func TestQueue(t *testing.T) {
	s := New(&transport.Core{Router: router.New(t.Context(), mailbox.New(mem.New(mem.Options{}), mailbox.Limits{}), nil, "localhost")}, Config{MaxQueue: 100})
	r := &resource{s: s}
	p := []byte(strings.Repeat("x", 40))
	for i, want := range []bool{true, true, false, false} {
		if got := r.pass(p); got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if n := s.stats.dropped.Load(); n != 2 {
		t.Errorf("%d dropped", n)
	}
	if q := r.take(); len(q) != 2 || !r.pass(p) {
		t.Errorf("took %d", len(q))
	}
	r.gone = true
	if r.pass(nil) {
		t.Error("passed to nobody")
	}
}
