//go:build unix

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pythonPath is where .ci/run installs clients that Debian has not.
const pythonPath = ".python"

// A sensor is a client of MQTT-SN, driven by lines; see py/sensor.py.
type sensor struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func newSensor(t *testing.T, addr, name string) *sensor {
	t.Helper()
	host, port := hostPort(addr)
	cmd := exec.Command(python, "py/sensor.py", host, port, name)
	path, _ := filepath.Abs(pythonPath)
	cmd.Env, cmd.Stderr = append(cleanEnv(), "PYTHONPATH="+path), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &sensor{t, in, bufio.NewReader(out)}
}

// do has the sensor do something, and checks how it answers.
func (s *sensor) do(what, want string) {
	s.t.Helper()
	fmt.Fprintln(s.in, what)
	got, err := s.out.ReadString('\n')
	if got = strings.TrimSpace(got); got != want {
		s.t.Fatalf("%s: the sensor says %q, %v; want %q", what, got, err, want)
	}
}

// A real client of MQTT-SN against the program: to and from users, asleep, and
// across kill -9.
func TestSensor(t *testing.T) {
	cmd := exec.Command(python, "-c", "import mqttsn12.client.MqttSnClient")
	cmd.Env = append(cleanEnv(), "PYTHONPATH="+pythonPath)
	if cmd.Run() != nil {
		missing(t, "mqtt-sn-12 is not installed: "+python+" -m pip install --target e2e/.python --no-deps --require-hashes -r e2e/py/requirements.txt")
	}
	need(t, "mosquitto_pub", "mosquitto_sub")
	s := &server{t: t, data: filepath.Join(t.TempDir(), "data")}
	options := []string{
		"--set", `mqtt.sn.accounts=[{clients: ["meter-*"], from: [127.0.0.0/8], user: meters}]`,
		"--set", `mqtt.sn.topics=[{id: 7, topic: plant/water}]`,
	}
	doors := []string{"--xmpp", ""}
	for _, name := range []string{"http", "mqtt", "link", "mqtt-sn"} {
		doors = append(doors, "--"+name, free(t, "127.0.0.1"))
	}
	s.run(append(doors, options...)...)
	s.users("bob", "meters")

	m := newSensor(t, s.addr["mqtt-sn"], "meter-1")
	m.do("find", "ok")
	m.do("connect", "ok")
	m.do("subscribe 1 im/inbox/#", "ok")
	m.do("subscribe 1 set/meter-1", "ok")
	for qos := range 3 {
		m.do(fmt.Sprintf("publish %d im/to/bob reading-%d", qos, qos), "ok")
	}
	m.do("predefined 1 7 wet", "ok")
	m.do("publish 1 im/to/nobody x", "error: PUBLISH error: Rejected: not supported (3)")
	bob := mosquittoReceive("311")(t, s, 3)
	for i, body := range bob {
		if want := fmt.Sprintf("reading-%d", i); string(body) != want {
			t.Errorf("bob has %q, want %q", body, want)
		}
	}
	send := func(body string) { t.Helper(); s.send("bob", "meters", body) }
	set := func(body string) {
		t.Helper()
		host, port := hostPort(s.addr["mqtt"])
		feed(t, cleanEnv(), nil, "mosquitto_pub", "-h", host, "-p", port, "-u", "bob", "-P", "secret", "-q", "1", "-t", "set/meter-1", "-m", body)
	}
	send("hello")
	m.do("receive", "im/inbox/bob@localhost hello")

	m.do("sleep 600", "ok")
	set("one")
	set("two")
	m.do("wake", "2")
	m.do("receive", "set/meter-1 one")
	m.do("receive", "set/meter-1 two")
	set("three")
	send("again")
	s.kill()
	s.again(append([]string{"--xmpp", ""}, options...)...)
	m.do("wake", "disconnected")
	m.do("connect", "ok")
	a, b := "set/meter-1 three", "im/inbox/bob@localhost again"
	fmt.Fprintln(m.in, "receive")
	if got, _ := m.out.ReadString('\n'); strings.TrimSpace(got) == b {
		a, b = b, a
	} else if strings.TrimSpace(got) != a {
		t.Fatalf("after kill -9 the sensor has %q", got)
	}
	m.do("receive", b)
	if _, text := s.get("/metrics"); !strings.Contains(text, `posthouse_sensors{state="awake"} 1`) {
		t.Error("the sensor is not counted")
	}
}
