package link

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/store/mem"
)

func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, mem.Options{})
		phone := h.login(t, "alice", "phone")
		time.Sleep(time.Second)
		web := h.login(t, "alice", "web")
		send(t, h.login(t, "bob", "pad"), "alice", "hi")
		show := func(ds []Device, err error) string {
			s := ""
			for _, d := range ds {
				s += fmt.Sprintf("%s %s %s %d; ", d.Name, d.Way, d.Seen.Format("05"), d.Behind)
			}
			if err != nil {
				return err.Error()
			}
			return s
		}
		expect := func(got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		expect(show(phone.Devices(t.Context())), "web link 01 1; phone link 00 1; ")
		// Two questions at once are asked one after the other.
		both := make(chan string, 2)
		for range 2 {
			go func() { both <- show(web.Devices(t.Context())) }()
		}
		for range 2 {
			expect(<-both, "web link 01 1; phone link 00 1; ")
		}
		expect(show(phone.Forget(t.Context(), "web")), "phone link 00 1; ")
		synctest.Wait()
		var why *Closed
		if _, err := web.Receive(t.Context()); err != nil {
			t.Fatal(err) // what it had is still given
		}
		if _, err := web.Receive(t.Context()); !errors.As(err, &why) || why.Code != "removed" {
			t.Errorf("the device that was removed: %v", err)
		}
		if _, err := web.Devices(t.Context()); !errors.As(err, &why) {
			t.Errorf("it asks: %v", err)
		}
		// No answer: an error, and not a wait.
		wire := h.conns[0]
		wire.hole.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := phone.Devices(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go wire.Close()
		if _, err := phone.Devices(t.Context()); !errors.Is(err, ErrOffline) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if ds, err := phone.Devices(t.Context()); err != nil || len(ds) != 1 {
			t.Error(ds, err)
		}
		phone.Close()
		if _, err := phone.Devices(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
	})
}
