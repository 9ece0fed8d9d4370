package mqtt

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthouse-im/posthouse/store/mem"
	"github.com/posthouse-im/posthouse/transport/mqtt/packet"
)

// logs is a log for reading.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the log has a text.
func (l *logs) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(l.String(), want); {
		if time.Now().After(end) {
			t.Fatalf("no %q in the log: %s", want, l)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A wrong password is said in the log, and the state is 0.
func TestBridgeWrongPassword(t *testing.T) {
	pw := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"5", "3.1.1"} {
		synctest.Test(t, func(t *testing.T) {
			a := toB(version, BridgeTopic{Filter: "#", Direction: "both", QoS: 1})
			a.Bridges[0].User, a.Bridges[0].PasswordFile = "bob", pw
			hs := newHouses(t, map[string]Config{"a": a, "b": {}})
			hs.log = new(logs)
			defer hs.close()
			hs.play(`
				open b
				open a
				~ 5s
				a anna C: CONNECT 5 clean id=anna
				a anna S: CONNACK*
				a anna C: SUBSCRIBE #1 $SYS/broker/connection/# q0
				a anna S: SUBACK*
				a anna S: PUBLISH $SYS/broker/connection/b/state q0 retain :0
				a anna S: (nothing)
			`)
			if !strings.Contains(hs.log.String(), "the other broker refuses: not authorized") {
				t.Errorf("%s: the log does not say it: %s", version, hs.log)
			}
			if st := hs.all["a"].srv.BridgeStats(); len(st) != 1 || st[0].Up || st[0].Failed == 0 || st[0].Connected != 0 {
				t.Errorf("%s: %+v", version, st)
			}
		})
	}
}

// Over TLS with a CA, a server name and a client certificate; and not if one of
// them is wrong.
func TestBridgeTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	selfSigned(t, certFile, keyFile, "b.example.org")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	text, _ := os.ReadFile(certFile)
	pool.AppendCertsFromPEM(text)

	addr := serveTLS(t, pair, pool)

	good := Bridge{
		Name: "b", Address: "mqtts://" + addr, CA: certFile, Cert: certFile, Key: keyFile, ServerName: "b.example.org",
		Topics: []BridgeTopic{{Filter: "#", Direction: "both", QoS: 1}},
	}
	noName, noCert, noCA := good, good, good
	noName.ServerName = ""
	noCert.Cert, noCert.Key = "", ""
	noCA.CA = ""
	for name, c := range map[string]struct {
		Bridge
		log string
	}{
		"good":           {good, "bridge is up"},
		"no server name": {noName, "certificate"},
		"no certificate": {noCert, "certificate required"},
		"no CA":          {noCA, "unknown authority"},
	} {
		t.Log(name)
		runBridge(t, c.Bridge, nil).await(t, c.log)
	}
}

// serveTLS runs a house, until the end of the test, that asks for a certificate
// of one of the authorities, and returns its address.
func serveTLS(t *testing.T, cert tls.Certificate, clients *x509.CertPool) string {
	t.Helper()
	b := newHouse(t, plain())
	t.Cleanup(func() { b.stop() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() {
		over <- b.srv.ServeTLS(ctx, ln, &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert})
	}()
	t.Cleanup(func() { cancel(); <-over })
	return ln.Addr().String()
}

// runBridge runs a house with a bridge until the end of the test.
func runBridge(t *testing.T, b Bridge, to **house) *logs {
	log := new(logs)
	cfg := plain()
	cfg.Bridges = []Bridge{b}
	h := &house{t: t, cfg: cfg, store: mem.New(mem.Options{}), peers: map[string]*peer{}, real: true}
	h.opened = func() func() {
		for _, b := range h.srv.bridges {
			b.log = slog.New(slog.NewTextHandler(log, nil))
		}
		ctx, stop := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- h.srv.Bridges(ctx) }()
		return func() { stop(); <-over }
	}
	h.open(true)
	t.Cleanup(func() { h.stop() })
	if to != nil {
		*to = h
	}
	return log
}

// selfSigned makes a certificate that serves as a server's of that name, as its
// authority, and as that of the client bob.
func selfSigned(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bob"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// With mosquitto at the other end, in both versions and over each carrier, with
// a client certificate where there is TLS: each direction, each QoS, RETAIN as
// published, prefixes, and nothing comes back.
func TestBridgeMosquitto(t *testing.T) {
	program := mosquitto(t)
	pems := pemFiles(t, newAuthority(t), "bob")
	for _, version := range []string{"mqtt 5", "mqtt 3.1.1", "mqtts 5", "ws 5", "wss 3.1.1"} {
		t.Run(version, func(t *testing.T) {
			scheme, version, _ := strings.Cut(version, " ")
			addr, bridged := vacant(t), vacant(t)
			_, port, _ := net.SplitHostPort(addr)
			_, bridgedPort, _ := net.SplitHostPort(bridged)
			text := "user root\nallow_anonymous true\nlistener " + port + " 127.0.0.1\nlistener " + bridgedPort + " 127.0.0.1\n"
			if strings.HasPrefix(scheme, "ws") {
				text += "protocol websockets\n"
			}
			b := Bridge{Name: "m", Address: scheme + "://" + bridged, Version: version, Topics: []BridgeTopic{
				{Filter: "#", Direction: "both", QoS: 2, LocalPrefix: "here/", RemotePrefix: "there/"},
			}}
			if strings.HasSuffix(scheme, "s") && scheme != "ws" {
				b.CA, b.Cert, b.Key, b.ServerName = pems.ca, pems.cert, pems.key, "localhost"
				text += "cafile " + pems.ca + "\ncertfile " + pems.cert + "\nkeyfile " + pems.key + "\nrequire_certificate true\n"
			}
			conf := filepath.Join(t.TempDir(), "mosquitto.conf")
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-c", conf)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			var h *house
			log := runBridge(t, b, &h)
			log.await(t, "bridge is up")
			m := &careful{user: "bob", id: "m"}
			if err := m.connect(addr); err != nil {
				t.Fatal(err)
			}
			if err := m.subscribe("#", 2); err != nil {
				t.Fatal(err)
			}
			h.play(`
				anna C: CONNECT 5 clean id=anna
				anna S: CONNACK*
				anna C: SUBSCRIBE #1 # 0x0a
				anna S: SUBACK*
			`)
			for qos := range byte(3) {
				body := fmt.Sprintf("down %d", qos)
				if qos == 0 {
					m.nc.Write(publishText("there/x", body, 0, false))
				} else {
					m.publish("there/x", body, qos)
				}
				hear(t, m, body)
				id := ""
				h.play("anna S: PUBLISH here/x q" + string('0'+qos) + "*")
				body = fmt.Sprintf("up %d", qos)
				if qos > 0 {
					id = fmt.Sprintf(" #%d", 10+qos)
				}
				h.play(fmt.Sprintf("anna C: PUBLISH here/y q%d%s :%s", qos, id, body))
				// An answer waits for the disk, where the bridge's copy goes, and
				// her own does not: which comes first is open.
				want := [][]string{{"PUBLISH"}, {"PUBACK", "PUBLISH"}, {"PUBLISH", "PUBREC"}}[qos]
				var got []string
				for range want {
					kind, _, _ := strings.Cut(h.peers["anna"].read(), " ")
					got = append(got, kind)
				}
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Fatalf("anna has %q, not %q", got, want)
				}
				hear(t, m, body)
			}
			m.nc.Write(publishText("there/r", "kept", 0, true))
			hear(t, m, "kept")
			h.play(`
				anna S: PUBLISH here/r q0 retain :kept
				anna C: PUBLISH here/s q0 retain :too
				anna S: PUBLISH here/s q0 retain :too
				anna S: (nothing)
			`)
			hear(t, m, "too")
			late := &careful{user: "bob", id: "late"}
			if err := late.connect(addr); err != nil {
				t.Fatal(err)
			}
			if err := late.subscribe("there/s", 0); err != nil {
				t.Fatal(err)
			}
			first, _, err := late.packet(5 * time.Second)
			if err != nil || first != 0x31 {
				t.Errorf("not retained there: %x, %v", first, err)
			}
			if got, fresh, err := m.step(300 * time.Millisecond); err == nil && fresh {
				t.Errorf("%s came back", got)
			}
		})
	}
}

func publishText(topic, body string, qos byte, retain bool) []byte {
	return (&packet.Publish{Topic: []byte(topic), Payload: []byte(body), QoS: qos, Retain: retain}).Append(nil, packet.V311)
}

// hear waits until c receives body as the next message.
func hear(t *testing.T, c *careful, body string) {
	t.Helper()
	for {
		got, fresh, err := c.step(5 * time.Second)
		if err != nil {
			t.Fatalf("%s does not come: %v", body, err)
		}
		if !fresh && got == "" {
			continue
		}
		if got != body {
			t.Fatalf("got %s, want %s", got, body)
		}
		return
	}
}

// A broker that knows neither 5.0 nor mosquitto's way is spoken to in plain
// 3.1.1, and first told to forget what it knows.
func TestBridgeDialects(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	said := make(chan string, 16)
	go func() { // ends with the listener
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			p := make([]byte, 1024)
			n, _ := nc.Read(p)
			if n < 10 {
				nc.Close()
				continue
			}
			said <- fmt.Sprintf("%#x %t", p[8], p[9]&2 != 0)
			if p[8] != 4 {
				nc.Write([]byte{0x20, 2, 0, 1})
				nc.Close()
				continue
			}
			nc.Write([]byte{0x20, 2, 0, 0})
		}
	}()
	runBridge(t, Bridge{Name: "old", Address: "mqtt://" + ln.Addr().String(), Topics: []BridgeTopic{{Filter: "x", Direction: "out"}}}, nil)
	for _, want := range []string{"0x5 true", "0x84 true", "0x4 true", "0x4 false"} {
		if got := <-said; got != want {
			t.Fatalf("CONNECT with %s, want %s", got, want)
		}
	}
}
