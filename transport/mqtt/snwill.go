package mqtt

import (
	"slices"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/sn"
)

// setWill changes the will of a sensor that is connected.
func (s *sensor) setWill(w *packet.Will) error {
	if err := s.client.setWill(w); err != nil {
		return err
	}
	s.will = w
	s.keepWill()
	return nil
}

// keepWill has the disk remember the will for as long as the session lasts.
func (s *sensor) keepWill() {
	if s.client.s.kept.Load() == nil {
		return
	}
	rec := mailbox.Record{Key: snWillKey(s.key)}
	if s.will != nil {
		rec.Value = newWill(s.will, s.client).encode([]byte{form})
	}
	s.g.srv.write([]mailbox.Record{rec})
}

func (s *sensor) willTopic(m sn.Message) {
	s.will = nil
	if m.Name == "" {
		s.enter()
		return
	}
	s.will = &packet.Will{Topic: m.Name, QoS: min(m.Flags.QoS(), 2), Retain: m.Flags.Retain()}
	s.ask(snWillMsg)
}

// updateWill is WILLTOPICUPD or WILLMSGUPD, section 6.4.
func (s *sensor) updateWill(m sn.Message) {
	answer := sn.Message{Type: sn.WillTopicResp}
	var w *packet.Will
	switch {
	case m.Type == sn.WillTopicUpd && m.Name == "":
	case m.Type == sn.WillTopicUpd:
		w = &packet.Will{Topic: m.Name, QoS: min(m.Flags.QoS(), 2), Retain: m.Flags.Retain()}
		if s.will != nil {
			w.Payload = s.will.Payload
		}
	case s.will == nil:
		s.say(sn.Message{Type: sn.WillMsgResp, Code: sn.NotSupported})
		return
	default:
		answer.Type = sn.WillMsgResp
		c := *s.will
		w = &c
		w.Payload = slices.Clone(m.Data)
	}
	if err := s.setWill(w); err != nil {
		s.g.srv.count.refused.Add(1)
		answer.Code = sn.NotSupported
	}
	s.say(answer)
}
