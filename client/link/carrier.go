package link

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/posthouse-im/posthouse/client"
)

// handshake begins TLS on nc, with the name in the address unless o says
// another.
func handshake(ctx context.Context, nc net.Conn, o client.Options) (net.Conn, error) {
	cfg := o.TLS
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(o.Addr)
		if err != nil {
			nc.Close()
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// httpClient is for WebSockets. It keeps no connection of its own.
func httpClient(cfg *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg, DisableKeepAlives: true,
		DialContext: (&net.Dialer{KeepAlive: -1}).DialContext}}
}
