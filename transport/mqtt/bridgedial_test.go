package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
)

// pems are files with a certificate, its key, and who has signed it.
type pems struct{ ca, cert, key string }

// pemFiles makes files with a certificate of that name, for servers and clients.
func pemFiles(t *testing.T, a *authority, name string) pems {
	t.Helper()
	dir := t.TempDir()
	f := pems{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(t, a, name)
	return f
}

func (f pems) write(t *testing.T, a *authority, name string) {
	t.Helper()
	pair := a.pair(name, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{
		f.ca:   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		f.cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		f.key:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBridgeAddress(t *testing.T) {
	for address, want := range map[string]remoteAddr{
		"mqtt://a":              {"a:1883", false, ""},
		"mqtt://a:1/":           {"a:1", false, ""},
		"mqtts://[::1]":         {"[::1]:8883", true, ""},
		"ws://a":                {"a:80", false, "ws://a/mqtt"},
		"ws://a:8080/":          {"a:8080", false, "ws://a:8080/"},
		"wss://a/broker/ws?x=1": {"a:443", true, "wss://a/broker/ws?x=1"},
		"http://a":              {},
		"a":                     {},
		"mqtt://":               {},
		"mqtt://user:pw@a":      {},
		"mqtt://a/x":            {},
		"wss://:443/mqtt":       {},
		"mqtt://a:port":         {},
		"\x00":                  {},
	} {
		got, err := (&Bridge{Address: address}).remote()
		if got != want || (err == nil) != (want != remoteAddr{}) {
			t.Errorf("%q: %+v, %v", address, got, err)
		}
	}
}

// Over a WebSocket of this server's own, with TLS, and without; and what stands
// there instead is said.
func TestBridgeWebSocket(t *testing.T) {
	b := newHouse(t, plain())
	defer b.stop()
	serve := func(h http.Handler, cfg *tls.Config) string {
		ws := httptest.NewUnstartedServer(h)
		if ws.TLS = cfg; cfg != nil {
			ws.StartTLS()
		} else {
			ws.Start()
		}
		t.Cleanup(ws.Close)
		return ws.Listener.Addr().String()
	}
	ca := newAuthority(t)
	files := pemFiles(t, ca, "bob")
	pair, err := tls.LoadX509KeyPair(files.cert, files.key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mux := http.NewServeMux()
	mux.Handle("/mqtt", b.srv.WebSocket(ctx))
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			c.CloseNow()
		}
	})
	open := serve(mux, nil)
	secure := serve(mux, &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert})
	bridge := func(address string) Bridge {
		return Bridge{Name: "b", Address: address, Topics: []BridgeTopic{{Filter: "#", Direction: "both", QoS: 1}}}
	}
	shown := bridge("wss://" + secure + "/mqtt")
	shown.CA, shown.Cert, shown.Key, shown.ServerName = files.ca, files.cert, files.key, "localhost"
	hidden := shown
	hidden.Cert, hidden.Key = "", ""
	for _, tt := range []struct {
		Bridge
		log string
	}{
		{bridge("ws://" + open), "bridge is up"},
		{shown, "bridge is up"},
		{hidden, "certificate required"},
		{bridge("ws://" + open + "/other"), "does not speak MQTT"},
		{bridge("ws://" + open + "/nothing"), "404"},
	} {
		t.Log(tt.Address)
		runBridge(t, tt.Bridge, nil).await(t, tt.log)
	}
}

// Certificates are read when they are needed: one that was replaced is shown at
// the next connection.
func TestBridgeCertificateReplaced(t *testing.T) {
	old, now := newAuthority(t), newAuthority(t)
	server := now.pair("b", x509.ExtKeyUsageServerAuth)
	addr := serveTLS(t, server, now.pool())
	files := pemFiles(t, old, "bob")
	log := runBridge(t, Bridge{
		Name: "b", Address: "mqtts://" + addr, CA: files.ca, Cert: files.cert, Key: files.key, ServerName: "localhost",
		Topics: []BridgeTopic{{Filter: "#", Direction: "both", QoS: 1}},
	}, nil)
	log.await(t, "unknown authority")
	files.write(t, now, "bob")
	log.await(t, "bridge is up")
}
