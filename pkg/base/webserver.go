package base

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/web"
)

// webOptions is the web server as the settings want it.
func (rt *Runtime) webOptions(h http.Handler) web.Options {
	s := rt.Settings.Web
	return web.Options{Addr: s.Addr, Handler: h, Log: rt.Log, WithAttrs: logging.With, Trace: rt.Telemetry.Server(), Report: rt.failed("web"), Feedback: rt.feedback,
		Rate: float64(s.Rate), Burst: s.Burst, TrustedProxies: s.Proxies, TLSCertFile: s.TLSCert, TLSKeyFile: s.TLSKey}
}

// feedback logs what people wrote about a failure, and passes it on.
func (rt *Runtime) feedback(ctx context.Context, f web.Feedback) {
	rt.Log.WarnContext(ctx, "feedback", "report_id", f.ReportID, "failed_request_id", f.RequestID, "name", f.Name, "email", f.Email, "comment", f.Comment)
	rt.alerts.Feedback(f)
}

// drainDelay is how long to go on after TERM. Nobody sends work to what has never been ready.
func (rt *Runtime) drainDelay() time.Duration {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if !rt.started {
		return 0
	}
	return rt.Settings.Drain.Delay
}

// scheme is how to call the web server.
func (s *Settings) scheme() string {
	if s.Web.TLSCert != "" {
		return "https"
	}
	return "http"
}

// shown is the certificate that the web server shows.
type shown struct {
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
	SHA256  string    `json:"sha256"` // of the whole certificate
}

func shownOf(c *x509.Certificate) *shown {
	if c == nil {
		return nil
	}
	return &shown{c.Subject.String(), c.NotAfter, fingerprint(c.Raw)}
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// knows makes a probe accept exactly the app's certificate, whatever names stand in it: the probe calls the loopback
// address. It is the one in the file or, while the app has not read that yet or can't, the one that the app names over
// its control socket.
func (s *Settings) knows(ctx context.Context) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // names and chain; VerifyConnection compares the certificate itself
		VerifyConnection: func(c tls.ConnectionState) error {
			have := fingerprint(c.PeerCertificates[0].Raw)
			text, _ := os.ReadFile(s.Web.TLSCert)
			if leaf, _ := pem.Decode(text); leaf != nil && have == fingerprint(leaf.Bytes) {
				return nil
			}
			var app status
			if err := control.NewClient(s.Control.Socket).Get(ctx, "/status", &app); err == nil && app.TLS != nil && have == app.TLS.SHA256 {
				return nil
			}
			return errors.New("its certificate is neither the one in WEB_TLS_CERT_FILE nor the app's")
		},
	}
}
