package mqtt

import (
	"encoding/base64"
	"math"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// taken are the user properties that are fields of a message.
var taken = map[string]bool{"id": true, "urgency": true, "seq": true, "prev": true, "from": true, "to": true, "time": true, "device": true}

// carries reports whether MQTT can say a.
func carries(a client.Attr) bool {
	return !taken[a.Name] && len(a.Name) <= math.MaxUint16 && len(a.Value) <= math.MaxUint16 &&
		packet.ValidText([]byte(a.Name)) && packet.ValidText([]byte(a.Value))
}

// checkAttrs finds a property that cannot be sent.
func checkAttrs(as []client.Attr) error {
	for _, a := range as {
		_, err := base64.StdEncoding.DecodeString(a.Value)
		if !carries(a) || a.Name == client.AttrCorrelation64 && err != nil ||
			a.Name == client.AttrResponse && !packet.ValidTopic([]byte(a.Value)) {
			return &client.Refused{Code: packet.ImplementationSpecificError.String(), Text: "MQTT cannot carry the property " + a.Name}
		}
	}
	return nil
}

// setAttrs adds properties to those of a PUBLISH.
func setAttrs(ps *packet.Properties, as []client.Attr) {
	for _, a := range as {
		switch a.Name {
		case client.AttrResponse:
			ps.SetText(packet.ResponseTopic, a.Value)
		case client.AttrCorrelation:
			ps.SetText(packet.CorrelationData, a.Value)
		case client.AttrCorrelation64:
			data, _ := base64.StdEncoding.DecodeString(a.Value) // see checkAttrs
			ps.SetText(packet.CorrelationData, string(data))
		default:
			ps.User = append(ps.User, packet.Pair(a))
		}
	}
}

// attrsOf reads the properties of a message.
func attrsOf(ps *packet.Properties) (as []client.Attr) {
	if ps.Has(packet.ResponseTopic) {
		as = append(as, client.Attr{Name: client.AttrResponse, Value: ps.Text(packet.ResponseTopic)})
	}
	if ps.Has(packet.CorrelationData) {
		data := ps.Text(packet.CorrelationData)
		if packet.ValidText([]byte(data)) {
			as = append(as, client.Attr{Name: client.AttrCorrelation, Value: data})
		} else {
			as = append(as, client.Attr{Name: client.AttrCorrelation64, Value: base64.StdEncoding.EncodeToString([]byte(data))})
		}
	}
	for _, u := range ps.User {
		if !taken[u.Name] {
			as = append(as, client.Attr(u))
		}
	}
	return as
}
