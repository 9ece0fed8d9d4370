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
		if _, had := srv.retained.Delete(name, func(*message) bool { return true }); !had {
			return nil, true
		}
		return []mailbox.Record{{Key: retainedKey(name)}}, true
	}
	if srv.retained.Len()-int(srv.sysTopics.Load()) >= srv.cfg.MaxRetained {
		if _, had := srv.retained.Get(name); !had {
			return nil, false
		}
	}
	m := f.own()
	srv.setRetained(m)
	return []mailbox.Record{{Key: retainedKey(name), Value: m.encode("")}}, true
}

// setRetained makes m the retained message of its topic, and returns whether
// there was one.
func (srv *Server) setRetained(m *message) (had bool) {
	m.number = srv.retentions.Add(1)
	_, had = srv.retained.Set(string(m.topic), m)
	return had
}

// expireRetained drops a retained message whose time is over.
func (srv *Server) expireRetained(m *message) {
	srv.retaining.Lock()
	defer srv.retaining.Unlock()
	if _, ok := srv.retained.Delete(string(m.topic), func(now *message) bool { return now == m }); ok {
		srv.write([]mailbox.Record{{Key: retainedKey(string(m.topic))}})
	}
}
