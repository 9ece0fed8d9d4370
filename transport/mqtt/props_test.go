package mqtt

import (
	"slices"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// What a message to a user carries arrives in its order, and none of it can be
// taken for the server's word.
func TestMailProperties(t *testing.T) {
	const head = "payload-format-indicator=1 content-type=text/plain; charset=utf-8 "
	many := strings.Repeat("user-property=a:b ", 257)
	dialogue(t, Config{}, strings.NewReplacer("HEAD", head, "MANY", many).Replace(`
		phone C: CONNECT 5 clean id=phone user=alice
		phone S: CONNACK 0x00 *
		phone C: SUBSCRIBE #1 im/inbox/# q1
		phone S: SUBACK #1 0x01
		bob   C: CONNECT 5 clean id=b user=bob
		bob   S: CONNACK 0x00 *
		# A question, and the answer to it.
		bob   C: PUBLISH im/to/alice q1 #1 content-type=application/json response-topic=im/to/bob correlation-data=00ff user-property=id:m1 user-property=zone:b user-property=lang:de user-property=zone:a :{}
		bob   S: PUBACK #1
		phone S: PUBLISH im/inbox/bob@localhost q1 #32768 content-type=application/json response-topic=im/to/bob correlation-data=00ff user-property=id:m1 user-property=seq:1 user-property=prev:0 user-property=from:bob@localhost user-property=to:alice@localhost user-property=time:2000-01-01T00:00:00.000Z user-property=device:b user-property=zone:b user-property=lang:de user-property=zone:a :{}
		# The server's names are the server's; urgency and id are fields; another door's names stay among MQTT clients.
		bob   C: PUBLISH im/to/alice q1 #2 user-property=from:carol user-property=id:m2 user-property=urgency:high user-property=response-topic:x user-property=xmpp:stanza:<x/> user-property=seq:9 :x
		bob   S: PUBACK #2
		phone S: PUBLISH im/inbox/bob@localhost q1 #32769 HEADuser-property=id:m2 user-property=seq:2 user-property=prev:1 user-property=from:bob@localhost user-property=to:alice@localhost user-property=time:2000-01-01T00:00:00.000Z user-property=device:b user-property=urgency:high user-property=xmpp:stanza:<x/> :x
		# The same id with another property is another message.
		bob   C: PUBLISH im/to/alice q1 #3 user-property=id:m2 user-property=urgency:high user-property=mood:good :x
		bob   S: PUBACK #3 0x83 *
		# Too many.
		bob   C: PUBLISH im/to/alice q1 #4 MANY:x
		bob   S: PUBACK #4 0x97 *
	`))
}

func TestTell(t *testing.T) {
	var ps packet.Properties
	tell(&ps, []mailbox.Attr{
		{Name: "a", Value: "1"}, {Name: "from", Value: "carol"}, {Name: "a", Value: "control \x00"}, {Name: "a\n", Value: ""},
		{Name: "link:x", Value: "another door's"}, {Name: "mqtt:mine", Value: "2"}, {Name: "long", Value: strings.Repeat("x", 65536)},
		{Name: mailbox.AttrResponse, Value: "no/+/topic"}, {Name: mailbox.AttrCorrelation64, Value: "no base64"},
		{Name: mailbox.AttrResponse, Value: "answers"}, {Name: mailbox.AttrResponse, Value: "second"},
		{Name: mailbox.AttrCorrelation64, Value: "AP8="}, {Name: mailbox.AttrCorrelation, Value: "second"},
		{Name: "long enough", Value: strings.Repeat("x", 65535)}, {Name: "a", Value: ""},
	})
	want := []packet.Pair{{Name: "a", Value: "1"}, {Name: "mine", Value: "2"}, {Name: "long enough", Value: strings.Repeat("x", 65535)}, {Name: "a", Value: ""}}
	if !slices.Equal(ps.User, want) {
		t.Errorf("user properties %.100q", ps.User)
	}
	if r, c := ps.Text(packet.ResponseTopic), ps.Text(packet.CorrelationData); r != "answers" || c != "\x00\xff" {
		t.Errorf("response topic %q, correlation data %q", r, c)
	}
}
