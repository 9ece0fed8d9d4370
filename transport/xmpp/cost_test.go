package xmpp

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/internal/ledger"
	"github.com/posthouse-im/posthouse/store/mem"
)

// What a device's connections cost is all in its account, when one takes the
// stream of another over, too.
func TestCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Config{Insecure: true}, mem.Options{}, -1)
		defer h.close()
		h.core.Costs = ledger.New(h.core.Mail, slog.New(slog.DiscardHandler))
		h.core.Costs.Watch(h.core.Meters)
		connect := func(say ...string) (nc net.Conn, heard *strings.Builder) {
			ours, theirs := net.Pipe()
			heard = new(strings.Builder)
			go h.serve(theirs) // ends with the connection
			go func() {        // ends with the connection
				buf := make([]byte, 4096)
				for {
					n, err := ours.Read(buf)
					heard.Write(buf[:n])
					if err != nil {
						return
					}
				}
			}()
			for _, s := range say {
				p, err := h.encode(s)
				if err != nil {
					t.Fatal(err)
				}
				ours.Write(p)
				synctest.Wait()
				if m := previd.FindStringSubmatch(heard.String()); m != nil {
					h.previd = m[1]
				}
			}
			return ours, heard
		}
		first, _ := connect("SM bob pc")
		time.Sleep(time.Minute)
		second, heard := connect("OPEN", "AUTH bob", "OPEN", "<resume xmlns='urn:xmpp:sm:3' previd='$previd' h='0'/>")
		if !strings.Contains(heard.String(), "<resumed") {
			t.Fatal(heard)
		}
		time.Sleep(time.Minute)
		second.Close()
		first.Close()
		synctest.Wait()
		a, err := h.core.Costs.Account(t.Context(), "bob@localhost", "pc")
		if err != nil {
			t.Fatal(err)
		}
		c, up, down := a.Total(), h.server.Account().BytesIn.Load(), h.server.Account().BytesOut.Load()
		const lastWords = 200 // what a connection is told behind its end is nobody's
		if c.Connects != 2 || c.Connected != 120_000 || c.BytesUp != up || c.BytesDown > down || c.BytesDown < down-lastWords {
			t.Errorf("%+v, of %d bytes up and %d down", c, up, down)
		}
	})
}
