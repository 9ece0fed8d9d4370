package mqtt

import (
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/internal/acl"
)

// sys is what the statistics remember from one round to the next.
type sys struct {
	at      time.Time
	maximum int64 // clients connected at once, as far as rounds have seen
	before  [len(sysLoads)]uint64
	load    [len(sysLoads)][len(sysMinutes)]float64
}

// sysLoads are the counters of which moving averages are told, per minute.
var sysLoads = [...]string{"publish/received", "publish/sent", "publish/dropped", "bytes/received", "bytes/sent", "sockets", "connections"}

// sysMinutes are what the averages are over.
var sysMinutes = [...]int{1, 5, 15}

// publishSys publishes statistics under $SYS/broker, by the names that other
// brokers use. They are sent and retained in memory only. The clock calls it.
func (srv *Server) publishSys() {
	st, acc, now := srv.Stats(), &srv.account, time.Now()
	in, out := acc.BytesIn.Load(), acc.BytesOut.Load()
	srv.sys.maximum = max(srv.sys.maximum, st.Clients)
	for _, v := range [...]struct{ name, value string }{
		{"version", "posthouse " + version()},
		{"uptime", strconv.FormatInt(int64(now.Sub(srv.started)/time.Second), 10) + " seconds"},
		{"clients/connected", strconv.FormatInt(st.Clients, 10)},
		{"clients/disconnected", strconv.FormatInt(st.Away, 10)},
		{"clients/total", strconv.FormatInt(st.Clients+st.Away, 10)},
		{"clients/maximum", strconv.FormatInt(srv.sys.maximum, 10)},
		{"clients/expired", strconv.FormatUint(st.Expired, 10)},
		{"subscriptions/count", strconv.Itoa(st.Subscriptions)},
		{"retained messages/count", strconv.Itoa(st.Retained)},
		{"publish/messages/received", strconv.FormatUint(st.Received, 10)},
		{"publish/messages/sent", strconv.FormatUint(st.Sent, 10)},
		{"publish/messages/dropped", strconv.FormatUint(st.Dropped, 10)},
		{"bytes/received", strconv.FormatUint(in, 10)},
		{"bytes/sent", strconv.FormatUint(out, 10)},
	} {
		srv.publishSysTopic("$SYS/broker/"+v.name, v.value, now)
	}
	srv.publishLoad([...]uint64{st.Received, st.Sent, st.Dropped, in, out, acc.Accepted.Load(), st.Connected}, now)
}

// publishLoad publishes how much each of sysLoads moved per minute, as an
// exponential average: an old minute counts 1/e of what the present one does
// after as many minutes as the topic says.
func (srv *Server) publishLoad(counts [len(sysLoads)]uint64, now time.Time) {
	s := &srv.sys
	since := now.Sub(s.at).Minutes()
	for i, name := range sysLoads {
		perMinute := float64(counts[i]-s.before[i]) / since
		for j, minutes := range sysMinutes {
			if s.at.IsZero() || since <= 0 {
				continue
			}
			s.load[i][j] = perMinute + math.Exp(-since/float64(minutes))*(s.load[i][j]-perMinute)
			srv.publishSysTopic("$SYS/broker/load/"+name+"/"+strconv.Itoa(minutes)+"min", strconv.FormatFloat(s.load[i][j], 'f', 2, 64), now)
		}
	}
	s.at, s.before = now, counts
}

// ownState reports whether name is for the state of a bridge of ours, which is
// ours to say.
func (srv *Server) ownState(name []byte) bool {
	if name[0] != '$' {
		return false
	}
	bridge, ok := acl.BridgeState(string(name))
	return ok && slices.ContainsFunc(srv.cfg.Bridges, func(b Bridge) bool { return b.Name == bridge })
}

func (srv *Server) publishSysTopic(name, value string, now time.Time) {
	f := srv.borrow(now)
	defer srv.giveBack(f)
	f.m = message{topic: []byte(name), payload: []byte(value), retain: srv.cfg.retains()}
	if f.m.retain {
		m := f.own()
		m.number = srv.retentions.Add(1)
		if _, had := srv.retained.Set(name, m); !had {
			srv.sysTopics.Add(1)
		}
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
