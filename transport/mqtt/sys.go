package mqtt

import (
	"runtime/debug"
	"strconv"
	"time"
)

// publishSys publishes statistics under $SYS/broker, by the names that other
// brokers use. They are sent and retained in memory only.
func (srv *Server) publishSys() {
	st := srv.Stats()
	now := time.Now()
	for _, v := range [...]struct {
		name  string
		value string
	}{
		{"version", "posthouse " + version()},
		{"uptime", strconv.FormatInt(int64(now.Sub(srv.started)/time.Second), 10) + " seconds"},
		{"clients/connected", strconv.FormatInt(st.Clients, 10)},
		{"clients/total", strconv.FormatInt(st.Clients+st.Away, 10)},
		{"clients/disconnected", strconv.FormatInt(st.Away, 10)},
		{"subscriptions/count", strconv.Itoa(st.Subscriptions)},
		{"retained messages/count", strconv.Itoa(st.Retained)},
		{"publish/messages/received", strconv.FormatUint(st.Received, 10)},
		{"publish/messages/sent", strconv.FormatUint(st.Sent, 10)},
		{"publish/messages/dropped", strconv.FormatUint(st.Dropped, 10)},
	} {
		srv.publishSysTopic("$SYS/broker/"+v.name, v.value, now)
	}
}

func (srv *Server) publishSysTopic(name, value string, now time.Time) {
	f := srv.borrow(now)
	defer srv.giveBack(f)
	f.m = message{topic: []byte(name), payload: []byte(value), retain: true}
	if _, had := srv.retained.Set(name, f.own()); !had {
		srv.sysTopics.Add(1)
	}
	srv.deliver(f)
}

// version is that of the module that the program was built from.
func version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}
