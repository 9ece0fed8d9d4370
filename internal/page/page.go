// Package page is what GET / answers: what this server is, which doors are
// open, and how to try each of them, with the addresses by which the reader
// has come filled in. A browser gets a page, curl and whoever else does not
// ask for HTML gets the same as text.
//
// The page needs nothing from anywhere: no script, no font, no image. Its
// style is in it, and its Content-Security-Policy allows that style by its
// hash and nothing else.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	texttemplate "text/template"
)

// Site is what the page tells of the server.
type Site struct {
	// Domain is the domain of the accounts.
	Domain string
	// Version of the program. May be empty.
	Version string
	// Open are the addresses that are open, in the order to show them.
	Open []Door
	// WebSockets says that /mqtt, /xmpp-websocket and /link are served.
	WebSockets bool
}

// Door is one address that is open.
type Door struct {
	// Name is what the configuration calls it: http, https, mqtt, mqtts, mqtt-sn,
	// xmpp, xmpps, link, links or link-quic.
	Name string
	// Addr is the address it listens on, host:port.
	Addr string
}

// Purpose says what the door of that name is for.
func Purpose(name string) string { return purposes[name] }

var purposes = map[string]string{
	"http":    "HTTP: send, poll, events, and WebSockets",
	"https":   "HTTP with TLS",
	"mqtt":    "MQTT 3.1.1 and 5.0",
	"mqtts":   "MQTT with TLS",
	"mqtt-sn": "MQTT-SN 1.2 over UDP, for sensors",
	"xmpp":    "XMPP with STARTTLS",
	"xmpps":   "XMPP with TLS",
	"link":    "our own long connection",
	"links":   "our own long connection with TLS",

	"link-quic": "our own long connection over QUIC, on UDP",
}

// view is the page for one reader.
type view struct {
	Site
	Style template.CSS
	Host  string // by which the reader has come
	HTTP  string // the same as a URL, without a slash at its end
	Doors []shown
	Ports map[string]string // by name of door
}

// shown is a line of the table.
type shown struct {
	Name, Port, Purpose string
	Local               bool // from this machine alone
}

var (
	//go:embed page.css
	style string
	//go:embed page.html
	htmlText string
	//go:embed page.txt
	plainText string

	htmlPage  = template.Must(template.New("page").Parse(htmlText))
	plainPage = texttemplate.Must(texttemplate.New("page").Parse(plainText))
)

// Handler serves the page of site.
func Handler(site Site) http.Handler {
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := look(site, r)
		var b bytes.Buffer
		h := w.Header()
		var err error
		if html(r) {
			h.Set("Content-Type", "text/html; charset=utf-8")
			err = htmlPage.Execute(&b, v)
		} else {
			h.Set("Content-Type", "text/plain; charset=utf-8")
			err = plainPage.Execute(&b, v)
		}
		if err != nil {
			http.Error(w, "internal", http.StatusInternalServerError)
			return
		}
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("Vary", "Accept, Host")
		h.Set("Content-Length", strconv.Itoa(b.Len()))
		w.Write(b.Bytes()) // an error means that the reader has gone
	})
}

// html reports whether the reader asks for HTML by name, as browsers do.
func html(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, params, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(kind), "text/html") && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// hostName is what may stand in a command line that somebody will paste.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// look fills in what depends on how the reader has come.
func look(site Site, r *http.Request) view {
	v := view{Site: site, Style: template.CSS(style), Ports: map[string]string{}}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = strings.Trim(r.Host, "[]"), ""
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		port = ""
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Zone() == "":
		v.Host = ip.String()
	case hostName.MatchString(host):
		v.Host = host
	default: // whatever it is, nobody shall paste it
		v.Host = site.Domain
	}
	v.HTTP = "http://"
	if r.TLS != nil {
		v.HTTP = "https://"
	}
	switch {
	case port != "":
		v.HTTP += net.JoinHostPort(v.Host, port)
	case ip.Is6():
		v.HTTP += "[" + v.Host + "]"
	default:
		v.HTTP += v.Host
	}
	for _, d := range site.Open {
		h, p, err := net.SplitHostPort(d.Addr)
		if err != nil {
			continue
		}
		ip, err := netip.ParseAddr(h)
		v.Ports[d.Name] = p
		v.Doors = append(v.Doors, shown{d.Name, p, Purpose(d.Name), err == nil && ip.IsLoopback() || h == "localhost"})
	}
	return v
}

// Link is what the examples call the link door's address.
func (v view) Link() string { return net.JoinHostPort(v.Host, v.Ports["link"]) }
