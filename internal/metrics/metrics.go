// Package metrics shows the server's counters to Prometheus, and to whoever
// asks whether it is alive and ready.
//
// Nothing is counted here. The counters belong to the packages that count;
// they give a snapshot, a plain struct, whenever somebody asks. The names are
// listed in docs/operations.md; a test compares.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/conn"
	"github.com/posthouse-im/posthouse/internal/cost"
	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt"
)

// Sources are where snapshots come from. A nil one is left out.
type Sources struct {
	// Version is that of the program.
	Version string
	Store   func() mailbox.StoreStats
	Router  func(router.Door) router.Stats
	Auth    func() auth.Stats
	// Doors has the counters of each door that is open.
	Doors map[router.Door]func() Door
	// Networks has how many networks the server knows the heartbeat of, and
	// the median of those.
	Networks func() (int, time.Duration)
	// Sensors has the account of the gateway for MQTT-SN.
	Sensors func() Sensors
	// MQTT counts what happens at the MQTT door alone, by kind.
	MQTT func() map[string]uint64
	// Bridges has the counters of each MQTT bridge.
	Bridges func() []mqtt.BridgeStats
	// Costs has what devices have cost, by door; a little late.
	Costs func() map[string]cost.Counts
	// Ready is nil while the server can do its work.
	Ready func() error
}

// Door is the account of one door.
type Door struct {
	Connections uint64 // open now
	// BytesIn and BytesOut are of sockets, or for poll of the API's bodies.
	BytesIn, BytesOut uint64
	// Engine has what internal/conn counts; nil for poll, which does without.
	Engine *conn.Account
	// Dropped is how many messages that may be lost were, since somebody did
	// not read them in time; nil for a door that has none such.
	Dropped *uint64
	// Errors counts what went wrong, by kind.
	Errors map[string]uint64
}

// Sensors is the account of the gateway for sensors.
type Sensors struct {
	Awake, Asleep int64             // connected now
	Events        map[string]uint64 // what happened, by kind
}

// Handler answers at /metrics.
func Handler(s Sources) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{s},
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("posthouse_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// descs has every metric of ours.
var descs []*prometheus.Desc

var (
	buildInfo = desc("build_info", "Always 1; the label says which version this is.", "version")
	ready     = desc("ready", "1 while /readyz says so, else 0.")

	messages = desc("messages_total", "Messages that came in by a door, and that went out by one.", "door", "direction")
	sessions = desc("sessions", "Devices with a live session.", "door")

	connections = desc("connections", "Open connections, logged in or not.", "door")
	accepted    = desc("connections_accepted_total", "Connections ever accepted.", "door")
	bytes       = desc("bytes_total", "Bytes read from and written to sockets; for poll those of the API's bodies.", "door", "direction")
	packets     = desc("packets_total", "Reads and writes of sockets.", "door", "direction")
	wakeups     = desc("wakeups_total", "Bursts of traffic after a silence: each wakes a radio.", "door")
	dropped     = desc("ephemeral_dropped_total", "Messages that may be lost, and were, since a receiver was slow.", "door")
	errs        = desc("errors_total", "What went wrong, by kind.", "door", "kind")

	sensors      = desc("sensors", "Sensors connected by MQTT-SN, by whether they are awake or asleep.", "state")
	mqttEvents   = desc("mqtt_events_total", "What happened at the MQTT door alone, by kind.", "kind")
	sensorEvents = desc("sensor_events_total", "What happened at the gateway for MQTT-SN, by kind.", "kind")

	heartbeats = desc("device_heartbeats_total", "What devices sent, or were sent, for the connection's sake alone; up to two minutes late.", "door")
	connects   = desc("device_connects_total", "Connections of devices that logged in; up to two minutes late.", "door")
	deviceTime = desc("device_connected_seconds_total", "For how long devices were connected; up to two minutes late.", "door")
	joules     = desc("device_joules_total", "Estimate of the energy that devices' radios spent on their connections, had all of them this radio; up to two minutes late.", "door", "radio")

	accounts = desc("accounts", "Accounts.")
	logins   = desc("logins_total", "Logins, and requests with a credential, by what became of them; busy were refused unchecked, failed by a fault of ours.", "result")
	hashes   = desc("password_hashes_total", "Passwords hashed in order to check them.")

	networks  = desc("networks", "Networks whose devices found out how long a connection may be silent.")
	heartbeat = desc("network_interval_seconds", "The median of how often devices on those networks are advised to speak.")

	bridgeUp        = desc("mqtt_bridge_up", "1 while the bridge is connected, else 0.", "bridge")
	bridgeMessages  = desc("mqtt_bridge_messages_total", "Messages that the bridge passed on, in from the other broker and out to it; repetitions too.", "bridge", "direction")
	bridgeConnected = desc("mqtt_bridge_connects_total", "How often the bridge was connected.", "bridge")
	bridgeFailed    = desc("mqtt_bridge_failures_total", "How often the bridge could not be connected, or broke off.", "bridge")
	bridgeRefused   = desc("mqtt_bridge_refused_total", "Messages and subscriptions that one of the two brokers refused.", "bridge")
	bridgeQueue     = desc("mqtt_bridge_queue", "Messages that wait for the other broker.", "bridge")

	commitSeconds = desc("store_commit_duration_seconds", "Time to make a group of posts durable.")
	groupPosts    = desc("store_group_posts", "Posts made durable by one commit.")
	groupMax      = desc("store_group_posts_max", "Most posts made durable by one commit since the start.")
	duplicates    = desc("store_duplicates_total", "Posts that were there already.")
	failed        = desc("store_failed_total", "Posts that could not be stored, or were refused.")
	storeBytes    = desc("store_bytes_total", "Bytes of messages stored, each box counted.")
	tailReads     = desc("store_tail_reads_total", "Reads of the end of a box, by whether memory had it.", "result")
	tailBytes     = desc("store_tail_bytes", "Bytes of messages held in memory.")
	trimmed       = desc("store_trimmed_total", "Entries removed by retention.")
)

type collector struct{ s Sources }

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(buildInfo, 1, c.s.Version)
	if c.s.Ready != nil {
		if c.s.Ready() == nil {
			gauge(ready, 1)
		} else {
			gauge(ready, 0)
		}
	}
	if c.s.Router != nil {
		for _, door := range router.Doors() {
			st, name := c.s.Router(door), door.String()
			count(messages, st.Posted, name, "in")
			count(messages, st.Handed, name, "out")
			gauge(sessions, float64(st.Sessions), name)
		}
	}
	for door, snapshot := range c.s.Doors {
		st, name := snapshot(), door.String()
		if a := st.Engine; a != nil {
			st.Connections, st.BytesIn, st.BytesOut = uint64(max(0, a.Conns.Load())), a.BytesIn.Load(), a.BytesOut.Load()
			count(accepted, a.Accepted.Load(), name)
			count(packets, a.PacketsIn.Load(), name, "in")
			count(packets, a.PacketsOut.Load(), name, "out")
			count(wakeups, a.Wakeups.Load(), name)
		}
		gauge(connections, float64(st.Connections), name)
		count(bytes, st.BytesIn, name, "in")
		count(bytes, st.BytesOut, name, "out")
		if st.Dropped != nil {
			count(dropped, *st.Dropped, name)
		}
		for kind, n := range st.Errors {
			count(errs, n, name, kind)
		}
	}
	if c.s.Sensors != nil {
		st := c.s.Sensors()
		gauge(sensors, float64(st.Awake), "awake")
		gauge(sensors, float64(st.Asleep), "asleep")
		for kind, n := range st.Events {
			count(sensorEvents, n, kind)
		}
	}
	if c.s.MQTT != nil {
		for kind, n := range c.s.MQTT() {
			count(mqttEvents, n, kind)
		}
	}
	if c.s.Auth != nil {
		st := c.s.Auth()
		gauge(accounts, float64(st.Accounts))
		count(logins, st.Accepted, "accepted")
		count(logins, st.Denied, "denied")
		count(logins, st.Busy, "busy")
		count(logins, st.Failed, "failed")
		count(hashes, st.Hashes)
	}
	if c.s.Networks != nil {
		n, median := c.s.Networks()
		gauge(networks, float64(n))
		gauge(heartbeat, median.Seconds())
	}
	if c.s.Costs != nil {
		for door, n := range c.s.Costs() {
			count(heartbeats, n.Heartbeats, door)
			count(connects, n.Connects, door)
			ch <- prometheus.MustNewConstMetric(deviceTime, prometheus.CounterValue, float64(n.Connected)/1000, door)
			for _, p := range cost.Profiles() {
				ch <- prometheus.MustNewConstMetric(joules, prometheus.CounterValue, n.Joules(p), door, p.String())
			}
		}
	}
	if c.s.Bridges != nil {
		for _, b := range c.s.Bridges() {
			up := 0.0
			if b.Up {
				up = 1
			}
			gauge(bridgeUp, up, b.Name)
			count(bridgeMessages, b.In, b.Name, "in")
			count(bridgeMessages, b.Out, b.Name, "out")
			count(bridgeConnected, b.Connected, b.Name)
			count(bridgeFailed, b.Failed, b.Name)
			count(bridgeRefused, b.Refused, b.Name)
			gauge(bridgeQueue, float64(b.Queue), b.Name)
		}
	}
	if c.s.Store != nil {
		st := c.s.Store()
		ch <- prometheus.MustNewConstSummary(commitSeconds, st.Commits, st.CommitTime.Seconds(), nil)
		ch <- prometheus.MustNewConstSummary(groupPosts, st.Commits, float64(st.Posts), nil)
		gauge(groupMax, float64(st.MaxGroup))
		count(duplicates, st.Duplicates)
		count(failed, st.Failed)
		count(storeBytes, st.Bytes)
		count(tailReads, st.TailHits, "memory")
		count(tailReads, st.TailMisses, "disk")
		gauge(tailBytes, float64(st.TailBytes))
		count(trimmed, st.Trimmed)
	}
}
