package metrics

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt"
)

func get(h http.Handler, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func all() Sources {
	return Sources{
		Version: "v1",
		Store: func() mailbox.StoreStats {
			return mailbox.StoreStats{Posts: 12, Commits: 3, CommitTime: 1500 * time.Millisecond, MaxGroup: 7, TailHits: 5, Trimmed: 2}
		},
		Router: func(d router.Door) router.Stats {
			return router.Stats{Sessions: int64(d) + 1, Posted: 10, Handed: 20}
		},
		Doors: map[router.Door]func() Door{router.MQTT: func() Door {
			var a conn.Account
			a.Conns.Store(2)
			a.BytesIn.Store(100)
			a.Wakeups.Store(8)
			lost := uint64(4)
			return Door{Engine: &a, Dropped: &lost, Errors: map[string]uint64{"protocol": 6}}
		}, router.Poll: func() Door { return Door{Connections: 3} }},
		Auth:     func() auth.Stats { return auth.Stats{Accounts: 9, Denied: 1, Failed: 12} },
		Networks: func() (int, time.Duration) { return 17, 90 * time.Second },
		Sensors:  func() Sensors { return Sensors{Awake: 5, Asleep: 6, Events: map[string]uint64{"lost": 7}} },
		MQTT:     func() map[string]uint64 { return map[string]uint64{"redirected": 8} },
		Costs: func() map[string]cost.Counts {
			return map[string]cost.Counts{"link": {Heartbeats: 11, Connects: 2, Connected: 90_000, Radio: [3]uint64{113_670}}}
		},
		Bridges: func() []mqtt.BridgeStats { return []mqtt.BridgeStats{{Name: "b", Up: true, Out: 3}} },
		Ready:   func() error { return nil },
	}
}

func TestMetrics(t *testing.T) {
	code, text := get(Handler(all()), "/metrics")
	if code != http.StatusOK {
		t.Fatal(code, text)
	}
	for _, line := range []string{
		`posthouse_build_info{version="v1"} 1`,
		`posthouse_ready 1`,
		`posthouse_messages_total{direction="in",door="xmpp"} 10`,
		`posthouse_messages_total{direction="out",door="link"} 20`,
		`posthouse_sessions{door="mqtt"} 3`,
		`posthouse_connections{door="mqtt"} 2`,
		`posthouse_bytes_total{direction="in",door="mqtt"} 100`,
		`posthouse_ephemeral_dropped_total{door="mqtt"} 4`,
		`posthouse_errors_total{door="mqtt",kind="protocol"} 6`,
		`posthouse_wakeups_total{door="mqtt"} 8`,
		`posthouse_connections{door="poll"} 3`,
		`posthouse_device_heartbeats_total{door="link"} 11`,
		`posthouse_device_connects_total{door="link"} 2`,
		`posthouse_device_connected_seconds_total{door="link"} 90`,
		`posthouse_device_joules_total{door="link",radio="lte"} 11.367`,
		`posthouse_sensors{state="asleep"} 6`,
		`posthouse_sensor_events_total{kind="lost"} 7`,
		`posthouse_mqtt_events_total{kind="redirected"} 8`,
		`posthouse_accounts 9`,
		`posthouse_networks 17`,
		`posthouse_network_interval_seconds 90`,
		`posthouse_logins_total{result="denied"} 1`,
		`posthouse_logins_total{result="failed"} 12`,
		`posthouse_store_commit_duration_seconds_sum 1.5`,
		`posthouse_store_commit_duration_seconds_count 3`,
		`posthouse_store_group_posts_sum 12`,
		`posthouse_store_group_posts_max 7`,
		`posthouse_store_tail_reads_total{result="memory"} 5`,
		`posthouse_store_trimmed_total 2`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if !strings.Contains(text, "go_goroutines ") {
		t.Error("nothing of the Go runtime")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Every metric of ours is in docs/operations.md, and nothing else is.
func TestListed(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(posthouse_[a-z_]+)").FindAllStringSubmatch(string(doc), -1) {
		listed[m[1]] = true
	}
	_, text := get(Handler(all()), "/metrics")
	for _, m := range regexp.MustCompile(`(?m)^# HELP (posthouse_[a-z_]+)`).FindAllStringSubmatch(text, -1) {
		if !listed[m[1]] {
			t.Errorf("%s is not in docs/operations.md", m[1])
		}
		delete(listed, m[1])
	}
	for name := range listed {
		t.Errorf("%s is in docs/operations.md and is not a metric", name)
	}
}

func TestHealth(t *testing.T) {
	var why error
	mux := http.NewServeMux()
	Health(mux, func() error { return why })
	if code, text := get(mux, "/readyz"); code != 200 || text != "ready\n" {
		t.Errorf("ready: %d %q", code, text)
	}
	why = errors.New("disk is full")
	if code, text := get(mux, "/readyz"); code != 503 || text != "disk is full\n" {
		t.Errorf("not ready: %d %q", code, text)
	}
	if code, _ := get(mux, "/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, _ := get(mux, "/debug/pprof/"); code != 404 {
		t.Errorf("pprof without having been asked for: %d", code)
	}
	Pprof(mux)
	if code, _ := get(mux, "/debug/pprof/"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
}
