// Package prometheus exports metrics to whoever scrapes them: Prometheus, or what speaks its formats. It serves no address: the
// handler is its caller's to serve.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"

	"example.com/base-app/pkg/telemetry/export"
	"example.com/base-app/pkg/warnlimit"
)

const (
	// Prometheus scrapes need milliseconds; more at once than two servers is a mistake.
	scrapeTime  = 10 * time.Second
	scrapesMost = 4
)

// Settings say where it is served.
type Settings struct {
	Addr string `envconfig:"METRICS_ADDR" desc:"host:port where Prometheus finds /metrics, 127.0.0.1:9464 for example; empty or off means nowhere"`
}

// off is what METRICS_ADDR says to mean nowhere, as empty does.
const off = "off"

// Serves returns whether it is served at all.
func (s *Settings) Serves() bool { return s.Addr != "" && s.Addr != off }

// Exporter is whether the handler will be served.
type Exporter bool

// Check has nothing to look at.
func (x Exporter) Check() (on bool, err error) { return bool(x), nil }

// Open makes the handler, which answers GET /metrics.
func (x Exporter) Open(c *export.Core) error {
	registry := prometheus.NewRegistry()
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return err
	}
	c.Read(reader)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{export.NewWarnings(c.Log, "prometheus")}, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesMost, Timeout: scrapeTime, EnableOpenMetrics: true}))
	c.Handler = mux
	return nil
}

// scrapeLog is promhttp's log.
type scrapeLog struct{ *warnlimit.Limiter }

// Println logs a failure.
func (l scrapeLog) Println(v ...any) {
	l.Failed(context.Background(), errors.New(fmt.Sprint(v...)))
}
