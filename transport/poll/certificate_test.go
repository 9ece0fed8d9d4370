package poll

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http/httptest"
	"testing"

	"github.com/posthouse-im/posthouse/store/mem"
)

// The certificate of a connection counts where a request says nothing of its
// own; one that nobody has checked never does.
func TestClientCertificate(t *testing.T) {
	h := newHouse(t, Config{}, mem.Options{})
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}}
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
	r := httptest.NewRequest("GET", "/v1/inbox", nil)
	r.TLS = state
	if who, err := h.srv.login(r); err != nil || who.User != "alice@localhost" {
		t.Error(who, err)
	}
	r.SetBasicAuth("bob", "bob-password")
	if who, err := h.srv.login(r); err != nil || who.User != "bob@localhost" {
		t.Error(who, err)
	}
	r.SetBasicAuth("alice", "wrong")
	if who, err := h.srv.login(r); err == nil {
		t.Error(who)
	}
	r.Header.Set("Authorization", "Digest x")
	if who, err := h.srv.login(r); err == nil {
		t.Error(who)
	}
	r.Header.Del("Authorization")
	r.TLS = &tls.ConnectionState{PeerCertificates: state.PeerCertificates}
	if who, err := h.srv.login(r); err == nil {
		t.Error(who)
	}
}
