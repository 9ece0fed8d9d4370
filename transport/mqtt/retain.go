package mqtt

import "github.com/posthouse-im/posthouse/mailbox"

// retain stores or clears the retained message of a topic, in memory, and
// returns the record for the disk. Ok is false if there are too many.
//
//	"If the RETAIN flag is set to 1 in a PUBLISH packet sent by a Client to a
//	Server, the Server MUST replace any existing retained message for this
//	topic and store the Application Message" [MQTT-3.3.1-5]
//	"A PUBLISH packet with a RETAIN flag set to 1 and a payload containing zero
//	bytes ... any existing retained message with the same topic name MUST be
//	removed" [MQTT-3.3.1-6]; "A retained message with a payload containing
//	zero bytes MUST NOT be stored" [MQTT-3.3.1-7]
func (srv *Server) retain(f *fanout) (rs []mailbox.Record, ok bool) {
	name := string(f.m.topic)
	if len(f.m.payload) == 0 {
		if !srv.clearRetained(name, func(*message) bool { return true }) {
			return nil, true
		}
		return []mailbox.Record{{Key: retainedKey(name)}}, true
	}
	more, bytes := 1, f.m.size()
	if old, had := srv.retained.Get(name); had {
		more, bytes = 0, bytes-old.size()
	}
	if srv.retained.Len()-int(srv.sysTopics.Load())+more > srv.cfg.MaxRetained ||
		bytes > 0 && int(srv.retainedBytes.Load())+bytes > srv.cfg.MaxRetainedBytes {
		return nil, false
	}
	m := f.own()
	srv.setRetained(m)
	return []mailbox.Record{{Key: retainedKey(name), Value: m.encode("")}}, true
}

// setRetained makes m the retained message of its topic.
func (srv *Server) setRetained(m *message) {
	m.number = srv.retentions.Add(1)
	srv.retainedBytes.Add(int64(m.size()))
	if old, had := srv.retained.Set(string(m.topic), m); had {
		srv.retainedBytes.Add(int64(-old.size()))
	}
}

// clearRetained removes a retained message, if there is one that may be.
func (srv *Server) clearRetained(name string, may func(*message) bool) (had bool) {
	old, had := srv.retained.Delete(name, may)
	if had {
		srv.retainedBytes.Add(int64(-old.size()))
	}
	return had
}

// expireRetained drops a retained message whose time is over.
func (srv *Server) expireRetained(m *message) {
	srv.retaining.Lock()
	defer srv.retaining.Unlock()
	if srv.clearRetained(string(m.topic), func(now *message) bool { return now == m }) {
		srv.write([]mailbox.Record{{Key: retainedKey(string(m.topic))}})
	}
}
