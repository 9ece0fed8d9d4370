package sn

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

var vectors = []struct {
	hex string
	m   Message
}{
	{"05 00 07 0384", Message{Type: Advertise, Gateway: 7, Duration: 900}},
	{"03 01 02", Message{Type: SearchGW, Radius: 2}},
	{"03 02 07", Message{Type: GWInfo, Gateway: 7}},
	{"07 02 07 7f000001", Message{Type: GWInfo, Gateway: 7, Data: []byte{127, 0, 0, 1}}},
	{"08 04 04 01 003c 7331", Message{Type: Connect, Flags: MakeFlags(false, 0, false, false, true, 0), Duration: 60, Name: "s1"}},
	{"03 05 00", Message{Type: Connack}},
	{"02 06", Message{Type: WillTopicReq}},
	{"02 07", Message{Type: WillTopic}},
	{"04 07 20 77", Message{Type: WillTopic, Flags: MakeFlags(false, 1, false, false, false, 0), Name: "w"}},
	{"02 08", Message{Type: WillMsgReq}},
	{"04 09 6279", Message{Type: WillMsg, Data: []byte("by")}},
	{"09 0a 0000 0001 612f62", Message{Type: Register, ID: 1, Name: "a/b"}},
	{"07 0b 0005 0001 00", Message{Type: Regack, TopicID: 5, ID: 1}},
	{"09 0c 22 6162 0003 6869", Message{Type: Publish, Flags: MakeFlags(false, 1, false, false, false, Short), TopicID: 0x6162, ID: 3, Data: []byte("hi")}},
	{"08 0c 61 0001 0000 21", Message{Type: Publish, Flags: MakeFlags(false, QoSNone, false, false, false, Predefined), TopicID: 1, Data: []byte("!")}},
	{"07 0d 0005 0003 02", Message{Type: Puback, TopicID: 5, ID: 3, Code: InvalidTopicID}},
	{"04 0e 0003", Message{Type: Pubcomp, ID: 3}},
	{"04 0f 0003", Message{Type: Pubrec, ID: 3}},
	{"04 10 0003", Message{Type: Pubrel, ID: 3}},
	{"08 12 20 0004 612f23", Message{Type: Subscribe, Flags: MakeFlags(false, 1, false, false, false, Named), ID: 4, Name: "a/#"}},
	{"07 12 01 0004 0009", Message{Type: Subscribe, Flags: MakeFlags(false, 0, false, false, false, Predefined), ID: 4, TopicID: 9}},
	{"08 13 20 0005 0004 00", Message{Type: Suback, Flags: MakeFlags(false, 1, false, false, false, 0), TopicID: 5, ID: 4}},
	{"07 14 02 0004 6162", Message{Type: Unsubscribe, Flags: MakeFlags(false, 0, false, false, false, Short), ID: 4, TopicID: 0x6162}},
	{"04 15 0004", Message{Type: Unsuback, ID: 4}},
	{"02 16", Message{Type: Pingreq}},
	{"04 16 7331", Message{Type: Pingreq, Name: "s1"}},
	{"02 17", Message{Type: Pingresp}},
	{"02 18", Message{Type: Disconnect}},
	{"04 18 0e10", Message{Type: Disconnect, Duration: 3600, HasDuration: true}},
	{"02 1a", Message{Type: WillTopicUpd}},
	{"03 1b 00", Message{Type: WillTopicResp}},
	{"03 1c 78", Message{Type: WillMsgUpd, Data: []byte("x")}},
	{"03 1d 03", Message{Type: WillMsgResp, Code: NotSupported}},
	{"05 fe 01 aabb 0216", Message{Type: Encapsulated, Radius: 1, Data: []byte{0xaa, 0xbb}, Inner: []byte{2, 0x16}}},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same compares two messages; no data and empty data are the same.
func same(a, b Message) bool {
	for _, m := range []*Message{&a, &b} {
		if len(m.Data) == 0 {
			m.Data = nil
		}
		if len(m.Inner) == 0 {
			m.Inner = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		p := unhex(t, v.hex)
		m, err := Decode(p)
		if err != nil || !same(m, v.m) {
			t.Errorf("%s: decoded %+v, %v; want %+v", v.hex, m, err, v.m)
		}
		if got := Append(nil, v.m); !bytes.Equal(got, p) {
			t.Errorf("%v: encoded % x, want %s", v.m, got, v.hex)
		}
	}
}

func TestLongForm(t *testing.T) {
	m := Message{Type: Publish, TopicID: 1, Data: bytes.Repeat([]byte("x"), 1000)}
	p := Append([]byte("before"), m)[len("before"):]
	if p[0] != 1 || len(p) != 1000+9 {
		t.Fatalf("% x…, %d bytes", p[:8], len(p))
	}
	if got, err := Decode(p); err != nil || !same(got, m) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRefuses(t *testing.T) {
	for s, want := range map[string]error{
		"":                     ErrLength,
		"02":                   ErrLength,
		"00 16":                ErrLength,
		"01 16":                ErrLength,
		"01 0003 16":           ErrLength,
		"03 16":                ErrLength, // announces more than there is
		"02 16 16":             ErrLength, // and less
		"02 03":                ErrType,
		"02 0c":                ErrShort,
		"06 0c 00 0001 00":     ErrShort,
		"05 0e 0001 00":        ErrLong,
		"06 04 04 02 003c":     ErrVersion,
		"07 0c 03 0001 0000":   ErrTopic,
		"05 12 03 0001":        ErrTopic,
		"04 16 c328":           ErrUTF8,
		"04 16 6100":           ErrUTF8,
		"06 12 01 0001 00":     ErrShort,
		"04 fe 01 aa":          ErrShort, // nothing inside
		"03 18 00":             ErrShort,
		"08 12 02 0001 616263": ErrLong,
	} {
		if m, err := Decode(unhex(t, s)); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v; want %v", s, m, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(f, v.hex))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := Decode(p)
		if err != nil {
			return
		}
		again, err := Decode(Append(nil, m))
		if err != nil || !same(m, again) {
			t.Fatalf("% x: %+v, and again %+v, %v", p, m, again, err)
		}
		_ = m.String()
	})
}
