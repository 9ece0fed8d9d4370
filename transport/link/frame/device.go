package frame

// Devices asks for the user's devices, and before that has one removed.
type Devices struct {
	Forget string // empty: none
}

// DeviceList answers Devices. The one seen last comes first.
type DeviceList struct{ Devices []Device }

// Device is one reader of the user's mailbox.
type Device struct {
	Name   string
	Way    Way    // by which it is connected, if it is
	Seen   uint64 // when it was last seen, Unix milliseconds
	Behind uint64 // how many places it has not acknowledged
}

// Way is how a device is connected.
type Way uint64

// The ways of version 1.0.
const (
	WayNone Way = 0 // it is not connected
	WayLink Way = 1
	WayPoll Way = 2
	WayXMPP Way = 3
	WayMQTT Way = 4
)

var wayWords = [...]string{1: "link", "poll", "xmpp", "mqtt"}

// String is the name of the way, empty for none.
func (w Way) String() string {
	if w == WayNone {
		return ""
	}
	return word(wayWords[:], uint64(w))
}

func (f *Devices) Type() Type      { return TypeDevices }
func (f *Devices) lead() byte      { return byte(TypeDevices) }
func (f *Devices) tail() []byte    { return []byte(f.Forget) }
func (f *DeviceList) Type() Type   { return TypeDeviceList }
func (f *DeviceList) lead() byte   { return byte(TypeDeviceList) }
func (f *DeviceList) tail() []byte { return nil }

func (f *Devices) head(b []byte) []byte { return b }

func (f *DeviceList) head(b []byte) []byte {
	for i := range f.Devices {
		b = f.Devices[i].append(b)
	}
	return b
}

func (d *Device) append(b []byte) []byte {
	b = appendString(b, d.Name)
	b = appendUvarint(b, uint64(d.Way))
	b = appendUvarint(b, d.Seen)
	return appendUvarint(b, d.Behind)
}

// Size is how many bytes d takes up in a frame.
func (d *Device) Size() int { return len(d.append(nil)) }

// Decode reads the payload of a frame.
func (f *Devices) Decode(p []byte) error {
	r := reader{p: p}
	f.Forget = r.text(uint64(len(p)))
	return r.end()
}

// Decode reads the payload of a frame.
func (f *DeviceList) Decode(p []byte) error {
	r := reader{p: p}
	f.Devices = nil
	for len(r.p) > 0 && r.err == nil {
		d := Device{Name: r.string(), Way: Way(r.uvarint()), Seen: r.uvarint(), Behind: r.uvarint()}
		if d.Name == "" {
			r.fail("device without a name")
		}
		f.Devices = append(f.Devices, d)
	}
	return r.end()
}
