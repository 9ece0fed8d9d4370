package mqtt

import (
	"encoding/base64"
	"math"
	"strings"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/router"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
	"github.com/posthouse-im/posthouse/transport/mqtt/topic"
)

// The properties of mail as MQTT has them:
//
//	user property              property of the message, in the same order
//	Response Topic             response-topic
//	Correlation Data           correlation-data, or correlation-data64
//	user properties id, from…  fields of the message

// serverSays reports whether a user property of mail is the server's: what a
// client says there is passed over, and what another door let in under such a
// name is not shown, since a reader would take it for the server's word.
func serverSays(name string) bool {
	switch name {
	case "id", "urgency", "seq", "prev", "from", "to", "time", "device",
		mailbox.AttrResponse, mailbox.AttrCorrelation, mailbox.AttrCorrelation64:
		return true
	}
	return false
}

// attrName is how a user property is called in a message.
func attrName(name string) string {
	if router.Private(name) {
		return mailAttr + name
	}
	return name
}

// request appends what makes a PUBLISH a request.
func request(as []mailbox.Attr, ps *packet.Properties) []mailbox.Attr {
	if ps.Has(packet.ResponseTopic) {
		as = append(as, mailbox.Attr{Name: mailbox.AttrResponse, Value: ps.Text(packet.ResponseTopic)})
	}
	if ps.Has(packet.CorrelationData) {
		data := ps.Text(packet.CorrelationData)
		a := mailbox.Attr{Name: mailbox.AttrCorrelation, Value: data}
		if !packet.ValidText([]byte(data)) {
			a = mailbox.Attr{Name: mailbox.AttrCorrelation64, Value: base64.StdEncoding.EncodeToString([]byte(data))}
		}
		as = append(as, a)
	}
	return as
}

// tell adds the properties of a message to those of its PUBLISH. Left out is
// what MQTT cannot carry, above all control characters: "a Client or Server
// which receives an MQTT Control Packet containing any of them MAY treat it as
// a Malformed Packet" (MQTT 5.0 section 1.5.4), and it would come again for ever.
func tell(ps *packet.Properties, as []mailbox.Attr) {
	for _, a := range as {
		switch {
		case len(a.Name) > math.MaxUint16 || len(a.Value) > math.MaxUint16:
			continue
		case a.Name == mailbox.AttrResponse && !ps.Has(packet.ResponseTopic) && topic.CheckName([]byte(a.Value)) == nil:
			ps.SetText(packet.ResponseTopic, a.Value)
			continue
		case a.Name == mailbox.AttrCorrelation && !ps.Has(packet.CorrelationData):
			ps.SetText(packet.CorrelationData, a.Value)
			continue
		case a.Name == mailbox.AttrCorrelation64 && !ps.Has(packet.CorrelationData):
			if data, err := base64.StdEncoding.DecodeString(a.Value); err == nil {
				ps.SetText(packet.CorrelationData, string(data))
				continue
			}
		}
		name, ours := strings.CutPrefix(a.Name, mailAttr)
		if !ours && (router.Private(name) || serverSays(name)) ||
			!packet.ValidText([]byte(name)) || !packet.ValidText([]byte(a.Value)) {
			continue
		}
		ps.User = append(ps.User, packet.Pair{Name: name, Value: a.Value})
	}
}
