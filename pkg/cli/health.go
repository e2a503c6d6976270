package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/web"
)

type healthCommand struct {
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
}

// Run asks the running app how it is.
func (c *healthCommand) Run(p *program) error {
	s, err := p.load()
	if err != nil { // a probe knows only healthy and not
		return errors.New("the settings are wrong, app config says more")
	}
	return p.probe(context.Background(), s, c.Timeout)
}

// maxHealth bounds the answer that a probe reads.
const maxHealth = 1 << 20

// probe asks /healthz, as an outside observer would.
func (p *program) probe(ctx context.Context, s *base.Settings, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addr := s.Web.Addr
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Scheme()+"://"+reachable(addr)+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	dialer := net.Dialer{Timeout: timeout}
	client := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext,
		TLSClientConfig: onlyTheApps(ctx, s)}}
	answer, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the app does not answer: %w", err)
	}
	defer answer.Body.Close()
	var h base.Health
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxHealth)).Decode(&h); err != nil {
		return fmt.Errorf("something that is not this app answers at %s: %w", addr, err)
	}
	if answer.StatusCode != http.StatusOK || h.Status == "degraded" {
		return fmt.Errorf("the app is %s: %s", h.Status, strings.Join(h.Problems, "; "))
	}
	fmt.Fprintf(p.out, "%s, up %v\n", h.Status, time.Duration(h.Uptime*float64(time.Second)).Round(time.Second))
	return nil
}

// reachable turns an address to listen on into one to call: all addresses include the loopback one.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// onlyTheApps makes a probe accept exactly the app's certificate, whatever names stand in it: the probe calls the loopback
// address. It is the one in the file or, while the app has not read that yet or can't, the one that the app names over
// its control socket.
func onlyTheApps(ctx context.Context, s *base.Settings) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // names and chain; VerifyConnection compares the certificate itself
		VerifyConnection: func(c tls.ConnectionState) error {
			have := web.Fingerprint(c.PeerCertificates[0].Raw)
			text, _ := os.ReadFile(s.Web.TLSCert)
			if leaf, _ := pem.Decode(text); leaf != nil && have == web.Fingerprint(leaf.Bytes) {
				return nil
			}
			var app base.Status
			if err := control.NewClient(s.Control.Socket).Get(ctx, "/status", &app); err == nil && app.TLS != nil && have == app.TLS.SHA256 {
				return nil
			}
			return errors.New("its certificate is neither the one in WEB_TLS_CERT_FILE nor the app's")
		},
	}
}
