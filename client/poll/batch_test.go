package poll

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/poll/wire"
)

// store answers posts as the server does. Bodies beginning with "bad" are
// malformed, with "late" cannot be stored the first time, "no" never.
type store struct {
	requests, most int
	bodies         []string
	late           map[string]bool
}

func (s *store) serve(w http.ResponseWriter, r *http.Request) {
	time.Sleep(100 * time.Millisecond) // the way there and back
	var in []struct{ ID, Body string }
	text, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(text, &in); err != nil {
		panic(err)
	}
	s.requests++
	s.most = max(s.most, len(in))
	problem := func(k wire.Kind) *wire.Problem { return wire.NewProblem(k, "", "") }
	for _, d := range in {
		if strings.HasPrefix(d.Body, "bad") {
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(problem(wire.BadField))
			return
		}
	}
	var out struct {
		Results []wire.Receipt `json:"results"`
	}
	for _, d := range in {
		rc := wire.Receipt{ID: d.ID}
		switch {
		case strings.HasPrefix(d.Body, "no"):
			rc.Problem = problem(wire.NoRecipient)
		case strings.HasPrefix(d.Body, "late") && !s.late[d.ID]:
			s.late[d.ID] = true
			rc.Problem = problem(wire.Unavailable)
		default:
			s.bodies = append(s.bodies, d.Body)
			rc.Seq = uint64(len(s.bodies))
		}
		out.Results = append(out.Results, rc)
	}
	json.NewEncoder(w).Encode(out)
}

// What is queued while a request is under way goes together, in order; each
// message has its own answer.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{late: map[string]bool{}}
		m := newMailbox(t, s.serve)
		defer m.Close()
		begin, answered, wrong := time.Now(), 0, 0
		var want []string
		for i := range 1000 {
			body := fmt.Sprint(i)
			want = append(want, body)
			err := m.SendAsync(client.Draft{To: "bob", Body: []byte(body)}, func(r client.Receipt, err error) {
				if answered++; err != nil || r.Seq != uint64(answered) || r.ID == "" {
					wrong++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if answered != 1000 || wrong != 0 || !slices.Equal(s.bodies, want) {
			t.Errorf("%d answered, %d of them wrong", answered, wrong)
		}
		if s.requests > 5 || s.most > maxBatch {
			t.Errorf("%d requests, the longest of %d, in %v", s.requests, s.most, time.Since(begin))
		}
	})
}

// One that is refused does not hold up the others, whether the server says so
// of it alone or of the whole request.
func TestBatchRefused(t *testing.T) {
	for _, once := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &store{late: map[string]bool{}}
			m := newMailbox(t, s.serve)
			m.once = once
			defer m.Close()
			said := map[string]string{}
			for _, body := range []string{"one", "two", "bad", "three", "no", "four", "late", "five"} {
				err := m.SendAsync(client.Draft{To: "bob", Body: []byte(body)}, func(r client.Receipt, err error) {
					var no *client.Refused
					if said[body] = "stored"; errors.As(err, &no) {
						said[body] = no.Code
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // the first is under way, and the others go together
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			want := map[string]string{"one": "stored", "two": "stored", "three": "stored", "four": "stored", "five": "stored",
				"no": "unknown-recipient", "bad": "bad-field", "late": "stored"}
			order := []string{"one", "two", "three", "four", "late", "five"}
			if once { // the client sends it again by itself
				want["bad"], want["late"] = "invalid", "unavailable"
				order = []string{"one", "two", "three", "four", "five"}
			}
			if fmt.Sprint(said) != fmt.Sprint(want) || !slices.Equal(s.bodies, order) {
				t.Errorf("once=%v: %v, stored %v", once, said, s.bodies)
			}
			// What was not posted when the mailbox is closed is told so.
			var end [2]error
			for i := range end {
				m.SendAsync(client.Draft{To: "bob"}, func(_ client.Receipt, err error) { end[i] = err })
				synctest.Wait()
			}
			m.Close()
			if end[0] != nil || !errors.Is(end[1], client.ErrClosed) {
				t.Errorf("closed: %v", end)
			}
		})
	}
}
